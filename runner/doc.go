// Package runner is the impure shell of the engine: it owns the shards' goroutines, the
// commit pipeline, the timers, the queues and the workers that wait at them.
//
// A shard is one loop. It takes all commands that wait, lets the engine turn them into one
// batch, hands the batch to the store and starts on the next one while that becomes
// durable. A second goroutine, the shard's releaser, waits for durability in order and only
// then answers callers, hands out tasks and sends messages (invariant I2). When a commit
// fails, nothing of it or of what came after leaves the shard: the shard is claimed again
// and rebuilt from the store.
//
// It may import the root package, engine, store and observability libraries; it must not
// import wire APIs, connectors or dialects, which are given to it.
package runner
