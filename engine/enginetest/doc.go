// Package enginetest drives shards of package engine in memory, in one goroutine, under a
// fake clock: commands, messages between shards, timers and workers happen when a test says
// so. It also holds Toy, a small dialect, so that tests of the engine need no real one.
//
// It is for tests only. It may import the root package, value, engine and testing, and no
// store. The invariant it keeps: after every batch all that the harness holds in memory
// could be rebuilt from the rows, and with Options.CrashEverywhere it is.
package enginetest
