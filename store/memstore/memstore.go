// Package memstore is the store driver for tests and simulation: data in memory, durability and
// faults decided by the test.
//
// It may import the standard library, store and a B-tree. It starts no goroutine, reads no clock
// and draws no random number, so a simulation over it is as deterministic as its driver.
//
// The invariant it keeps: a batch enters the base only when it becomes durable, in the order of
// commits over all shards, and what was not durable is seen through a [store.Overlay] alone. So
// it behaves like a database whose reads show durable data only, and [Store.Crash] is exact.
package memstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/tidwall/btree"

	"github.com/tutti-run/tutti/store"
)

// DefaultShards is the number of shards when Options leave it open.
const DefaultShards = 4

// Options adjust a data space. The zero value works: everything is durable at once.
type Options struct {
	// Shards is the number of shards, at most [store.MaxShards]; 0 means [DefaultShards].
	Shards int
	// Faults decides the fate of every claim and batch; nil means that all succeed at once.
	Faults Faults
}

// Faults decides what the disk does. It is called with the store locked, so it must not call
// back; a seed that drives it makes a run repeatable.
type Faults interface {
	// Claim returns nil, or the error that a claim of the shard fails with.
	Claim(s store.ShardID) error
	// Commit decides the fate of the batch with number seq of the shard. The batch is only
	// lent for the call.
	Commit(s store.ShardID, seq uint64, b *store.Batch) Outcome
}

// Outcome is the fate of one batch.
type Outcome uint8

const (
	// Sync makes the batch, and every one before it, durable at once.
	Sync Outcome = iota
	// SyncOnWait makes the batch, and every one before it, durable when somebody waits for
	// its ticket: group commit, without a clock.
	SyncOnWait
	// Hold keeps the batch in flight until [Store.Sync], [Store.Lose], [Store.Crash] or
	// Close decides. Waiting for its ticket blocks until then.
	Hold
	// Refuse fails the batch and applies nothing of it.
	Refuse
	// Unknown makes the batch durable but fails its ticket, as when the answer of a database
	// gets lost.
	Unknown
)

// Store is a data space in memory. Open makes one.
type Store struct {
	faults Faults

	mu      sync.Mutex
	closed  error
	spaces  []space
	pending []*commit // not durable, in the order of commits over all shards
	stats   store.Stats
}

var (
	_ store.Store     = (*Store)(nil)
	_ store.Inspector = (*Store)(nil)
)

// space is what survives of one shard, and its writer.
type space struct {
	data    *btree.Map[string, []byte]
	epoch   uint64
	applied uint64 // number of the last durable batch
	owner   *shard
}

// commit is a batch in flight and the ticket for it.
type commit struct {
	shard  *shard
	seq    uint64
	delta  *store.Delta
	onWait bool
	done   chan struct{} // closed when err holds the answer
	err    error
}

// Open makes an empty data space.
func Open(opts Options) (*Store, error) {
	shards := opts.Shards
	if shards == 0 {
		shards = DefaultShards
	}
	if shards < 0 || shards > store.MaxShards {
		return nil, fmt.Errorf("memstore: %d shards asked for, from 1 to %d are possible",
			shards, store.MaxShards)
	}
	st := &Store{faults: opts.Faults, spaces: make([]space, shards)}
	for i := range st.spaces {
		st.spaces[i].data = new(btree.Map[string, []byte])
	}
	return st, nil
}

// Shards is the number of shards.
func (st *Store) Shards() int { return len(st.spaces) }

// Claim makes the caller the writer of a shard. Like an fsync it makes all batches in flight
// durable, of every shard.
func (st *Store) Claim(ctx context.Context, s store.ShardID) (store.Shard, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.CheckShard(s, len(st.spaces)); err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed != nil {
		return nil, st.closed
	}
	if st.faults != nil {
		if err := st.faults.Claim(s); err != nil {
			return nil, fmt.Errorf("memstore: claim shard %d: %w", s, err)
		}
	}
	st.sync(len(st.pending))
	sp := &st.spaces[s]
	if sp.owner != nil && sp.owner.dead == nil {
		sp.owner.dead = fmt.Errorf("memstore: shard %d, epoch %d: %w", s, sp.epoch, store.ErrFenced)
	}
	sp.epoch++
	sp.owner = &shard{st: st, id: s, epoch: sp.epoch, seq: sp.applied}
	return sp.owner, nil
}

// Pending is the number of batches in flight.
func (st *Store) Pending() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.pending)
}

// Sync makes the oldest n batches in flight durable, or all when there are fewer, and returns
// how many.
func (st *Store) Sync(n int) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sync(n)
}

func (st *Store) sync(n int) int {
	n = min(n, len(st.pending))
	for _, c := range st.pending[:n] {
		st.apply(c.shard, c.seq, c.delta)
		close(c.done)
	}
	st.pending = st.pending[n:]
	return n
}

// apply makes a batch part of the durable data.
func (st *Store) apply(sh *shard, seq uint64, d *store.Delta) {
	sp := &st.spaces[sh.id]
	tree{sp.data}.apply(d)
	sp.applied = seq
	sh.overlay.Drop(seq)
}

// Lose fails every batch in flight with err: none of them is in the data, and the handles that
// committed them are dead.
func (st *Store) Lose(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.lose(err)
}

func (st *Store) lose(err error) {
	for _, c := range st.pending {
		if c.shard.dead == nil {
			c.shard.dead = err
		}
		st.stats.Refused++
		c.err = err
		close(c.done)
	}
	st.pending = nil
}

// Crash is a loss of power: it returns a store with the durable data and the oldest keep batches
// in flight, of which nobody was told. This store is closed; tickets in flight fail with
// [store.ErrClosed]. After Close it returns what was closed.
func (st *Store) Crash(keep int) *Store {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, c := range st.pending[:min(keep, len(st.pending))] {
		st.apply(c.shard, c.seq, c.delta)
	}
	st.close()
	next := &Store{faults: st.faults, spaces: make([]space, len(st.spaces))}
	for i := range st.spaces {
		sp := &st.spaces[i]
		next.spaces[i] = space{data: sp.data.Copy(), epoch: sp.epoch, applied: sp.applied}
	}
	return next
}

// Close makes the batches in flight durable and closes the store.
func (st *Store) Close() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.closed != nil {
		return st.closed
	}
	st.sync(len(st.pending))
	st.close()
	return nil
}

func (st *Store) close() {
	if st.closed == nil {
		st.closed = fmt.Errorf("memstore: %w", store.ErrClosed)
	}
	st.lose(st.closed)
}

// Healthy returns nil as long as the store is open.
func (st *Store) Healthy() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.closed
}

// Stats counts commits.
func (st *Store) Stats() store.Stats {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.stats
}
