// Package sim plays whole servers in one goroutine, under a virtual clock, from one seed:
// engine shards over store/memstore with the commit pipeline of package runner, workers,
// clients and operators, and faults: crashes that lose what was not durable, failed commits,
// lost, late, repeated and disordered messages and reports, dead workers, jumping clocks.
// After every step the invariants of the engine are checked, and what was acknowledged is
// compared with a model. The same seed plays the same game, byte for byte.
//
// It is for tests. It may import the engine and its test dialect, dialects, store and
// memstore, and starts no goroutine.
package sim
