// Package textindex finds runs by the words in their input, output and reason: an inverted
// index in memory over the newest runs.
//
// It is fed with the names of runs that changed and reads them later, in one goroutine and at
// a bounded rate, so that it never holds up the engine. It therefore lags, and says by how
// much. Its size is bounded; it says from which start time on it is complete, and whoever
// searches reads older runs from their rows.
//
// It may import the root package, value and engine. Its invariant: what Find says about runs
// that started at or after the time it returns is complete but for the lag.
package textindex
