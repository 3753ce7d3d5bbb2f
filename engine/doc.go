// Package engine is the kernel of the orchestrator: it decides what each event means for
// the runs of one shard and which rows and effects follow.
//
// It is pure. It imports the root package, value and the wire primitives of protobuf, and
// nothing that reads a clock, starts a goroutine or touches a disk. The caller (package
// runner) gives it commands, the time, and a transaction; it writes rows to the
// transaction and returns effects. The caller must make the rows durable before it acts on
// any effect (invariant I2), and must throw the Shard away when a commit fails.
//
// What a row holds and when it exists is a function of the records: derived rows (wake-ups,
// ready queue, search index) are computed from a record as it was loaded and as it is when
// the batch ends, and only the difference is written. So no code path can forget one.
package engine
