// Package store is the contract between the engine and a database: an ordered key-value space
// cut into shards, each with one writer at a time and atomic, durable, fenced batches.
//
// It holds the contract ([Store], [Shard], [Snapshot]), the portable [Batch], the [Overlay] for
// drivers whose reads see durable data only, and the sentinel errors. It imports the standard
// library only and knows no driver; package storetest is the test that every driver passes.
//
// The invariant it keeps: the batches of a shard form one sequence, and what survives a crash is
// a prefix of it that contains every batch whose ticket was answered with nil.
package store

import (
	"context"
	"iter"
)

// Limits that hold for every driver. A batch over a limit is refused with [ErrTooLarge].
const (
	// MaxKeyBytes bounds a key.
	MaxKeyBytes = 1 << 10
	// MaxValueBytes bounds a value and the suffix of one append. A value grown by appends must
	// stay under it too; drivers do not read it to check, so the writer keeps count.
	MaxValueBytes = 64 << 20
	// MaxBatchBytes bounds the keys and values of one batch together.
	MaxBatchBytes = 256 << 20
	// MaxBatchOps bounds the operations in one batch.
	MaxBatchOps = 1 << 20
	// MaxShards bounds the shards of one data space.
	MaxShards = 1 << 12
)

// ShardID names one shard, counted from 0.
type ShardID uint16

// Store is one opened data space. It is safe for concurrent use.
type Store interface {
	// Shards is the number of shards, fixed when the data space was created.
	Shards() int
	// Claim makes the caller the only writer of a shard and waits until that is durable. It
	// raises the shard's epoch; every older handle answers [ErrFenced] from then on. The new
	// handle sees every batch that an older one committed and that was not refused.
	Claim(ctx context.Context, s ShardID) (Shard, error)
	// Close waits for the batches in flight, then releases the data space. All handles answer
	// [ErrClosed] afterwards. Snapshots and scans must have ended before.
	Close() error
}

// Shard is the claimed writer of one slice. Get, Scan and Commit belong to one goroutine, the
// shard's loop; Epoch and Snapshot may be called by any.
type Shard interface {
	// Reader sees every batch that was committed through this handle, durable or not.
	Reader
	// Epoch grows with every claim of the shard, also over restarts.
	Epoch() uint64
	// Commit applies the batch atomically, in the order of calls, visible to this handle at
	// once, and does not wait for durability. The batch may be reset and reused as soon as
	// Commit returns.
	Commit(b *Batch) Ticket
	// Snapshot is a consistent view over everything committed so far, durable or not. It
	// never shows a part of a batch. It must be closed.
	Snapshot() Snapshot
}

// Ticket is the promise that a batch becomes durable.
type Ticket interface {
	// Wait returns nil once the batch and all earlier ones of its shard are durable. It may be
	// called any number of times by any goroutine. After an error ([ErrFenced], [ErrDiskFull],
	// [ErrTooLarge], [ErrIO], [ErrClosed]) the handle is dead: all its later calls fail with
	// the same error and the shard must be claimed again. A batch that failed with [ErrIO] or
	// [ErrClosed] may still turn out to be in the data after that claim; one that failed with
	// another error is not.
	Wait() error
}

// KV is one record. In a scan both slices belong to the driver: read only, and valid until the
// next step of the loop.
type KV struct {
	Key, Value []byte
}

// ScanOptions refines a scan. The zero value scans everything, ascending.
type ScanOptions struct {
	// Reverse yields the records in descending order of keys.
	Reverse bool
	// Limit ends the scan after that many records; 0 means no limit.
	Limit int
}

// Reader reads one shard.
type Reader interface {
	// Get returns the value of a key and whether there is one. The result is the caller's; it
	// is non-nil when the key exists, also when it is empty.
	Get(key []byte) ([]byte, bool, error)
	// Scan yields the records with lo ≤ key < hi in order. A nil or empty hi means no upper
	// end. The view is fixed when the loop starts, so commits in the loop are safe and not
	// seen by it. An error is yielded once, last, with a zero KV.
	Scan(lo, hi []byte, opts ScanOptions) iter.Seq2[KV, error]
}

// Snapshot is a fixed view of one shard, safe for concurrent use. Keep it for as long as one
// answer takes: it holds on to disk space that would otherwise be freed.
type Snapshot interface {
	Reader
	// Close releases the view; a second call does nothing.
	Close() error
}

// Inspector is the ability of a driver to report on itself, found by type assertion.
type Inspector interface {
	// Healthy returns nil, or what is wrong and what to do about it.
	Healthy() error
	// Stats returns figures for metrics; it is cheap enough to call every few seconds.
	Stats() Stats
}

// Checkpointer is the ability of a driver to copy itself while in use, found by type assertion.
type Checkpointer interface {
	// Checkpoint writes a consistent copy of everything durable into the folder dir, which
	// must not exist yet. The copy can be opened as a data space.
	Checkpoint(dir string) error
}

// Stats are the figures of a data space since it was opened. A driver leaves zero what it does
// not know.
type Stats struct {
	// Commits counts the batches that were applied, Ops their operations, Bytes their size.
	Commits, Ops, Bytes uint64
	// Refused counts the batches that were refused or failed.
	Refused uint64
	// WALBytes is the size of the live write-ahead log, MemTableBytes of the data held in
	// memory until it is flushed, CacheBytes of the block cache in use.
	WALBytes, MemTableBytes, CacheBytes uint64
	// DiskBytes is the disk space in use, DiskFreeBytes what the file system has left.
	DiskBytes, DiskFreeBytes uint64
	// Flushes and Compactions count background jobs, CompactionDebtBytes is the work ahead.
	Flushes, Compactions, CompactionDebtBytes uint64
	// WriteStalls counts the times commits had to wait for background work.
	WriteStalls uint64
}
