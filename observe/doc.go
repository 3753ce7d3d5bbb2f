// Package observe makes the server visible: Prometheus metrics, OpenTelemetry traces and a
// log of what happens to runs, all fed by the notifications of durable batches.
//
// It may import the root package, engine, store, runner and the libraries of Prometheus and
// OpenTelemetry. Its invariant: it never holds up a shard. What it is told is counted in
// memory or handed to a goroutine through a bounded queue; over the bound it is dropped, and
// counted as dropped. What is switched off costs nothing.
package observe
