package memstore

import (
	"fmt"
	"iter"

	"github.com/tutti-run/tutti/store"
)

// shard is the handle of one claim. Its fields are guarded by the store's lock.
type shard struct {
	st      *Store
	id      store.ShardID
	epoch   uint64
	seq     uint64 // number of the last batch that was accepted
	dead    error
	overlay store.Overlay
}

func (sh *shard) Epoch() uint64 { return sh.epoch }

func (sh *shard) usable() error {
	if sh.st.closed != nil {
		return sh.st.closed
	}
	return sh.dead
}

// reader combines the durable data with what waits, both as of now. The store must be locked,
// and for a tree that is not a copy stay so while the reader is in use.
func (sh *shard) reader(t tree) store.Reader {
	return sh.overlay.Layers().Over(t, sh.st.spaces[sh.id].applied)
}

func (sh *shard) Get(key []byte) ([]byte, bool, error) {
	sh.st.mu.Lock()
	defer sh.st.mu.Unlock()
	if err := sh.usable(); err != nil {
		return nil, false, err
	}
	return sh.reader(tree{sh.st.spaces[sh.id].data}).Get(key)
}

func (sh *shard) Scan(lo, hi []byte, opts store.ScanOptions) iter.Seq2[store.KV, error] {
	return func(yield func(store.KV, error) bool) {
		sh.Snapshot().Scan(lo, hi, opts)(yield)
	}
}

func (sh *shard) Snapshot() store.Snapshot {
	sh.st.mu.Lock()
	defer sh.st.mu.Unlock()
	if err := sh.usable(); err != nil {
		return snapshot{failed{err}}
	}
	return snapshot{sh.reader(tree{sh.st.spaces[sh.id].data.Copy()})}
}

func (sh *shard) Commit(b *store.Batch) store.Ticket {
	st := sh.st
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := sh.usable(); err != nil {
		return store.Failed(err)
	}
	if err := b.Err(); err != nil {
		return sh.fail(err)
	}
	outcome := Sync
	if st.faults != nil {
		outcome = st.faults.Commit(sh.id, sh.seq+1, b)
	}
	if outcome == Refuse {
		return sh.fail(fmt.Errorf("memstore: shard %d: batch refused: %w", sh.id, store.ErrIO))
	}
	sh.seq++
	st.stats.Commits++
	st.stats.Ops += uint64(b.Len())
	st.stats.Bytes += uint64(b.Bytes())
	c := &commit{
		shard: sh, seq: sh.seq, delta: b.Delta(),
		onWait: outcome == SyncOnWait, done: make(chan struct{}),
	}
	sh.overlay.Push(c.seq, c.delta)
	st.pending = append(st.pending, c)
	if outcome == Sync || outcome == Unknown {
		st.sync(len(st.pending))
	}
	if outcome == Unknown {
		return sh.fail(fmt.Errorf("memstore: shard %d: answer lost: %w", sh.id, store.ErrIO))
	}
	return c
}

// fail kills the handle.
func (sh *shard) fail(err error) store.Ticket {
	sh.dead = err
	sh.st.stats.Refused++
	return store.Failed(err)
}

// Wait implements store.Ticket.
func (c *commit) Wait() error {
	if c.onWait {
		c.shard.st.syncThrough(c)
	}
	<-c.done
	return c.err
}

// syncThrough makes c, if it is in flight, and all batches before it durable.
func (st *Store) syncThrough(c *commit) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for i, p := range st.pending {
		if p == c {
			st.sync(i + 1)
			return
		}
	}
}

// snapshot needs no release: the copied tree is garbage when nobody holds it.
type snapshot struct{ store.Reader }

func (snapshot) Close() error { return nil }

// failed is the reader of a dead handle.
type failed struct{ err error }

func (f failed) Get([]byte) ([]byte, bool, error) { return nil, false, f.err }

func (f failed) Scan([]byte, []byte, store.ScanOptions) iter.Seq2[store.KV, error] {
	return func(yield func(store.KV, error) bool) { yield(store.KV{}, f.err) }
}
