package pebblestore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tutti-run/tutti/store"
)

const prefixLen = 2

// shard is the handle of one claim.
type shard struct {
	view
	st    *Store
	slot  *slot
	id    store.ShardID
	epoch uint64
	dead  atomic.Pointer[error]
	last  store.Ticket // of the latest batch; guarded by slot.mu
}

func newShard(st *Store, sl *slot, id store.ShardID, epoch uint64) *shard {
	sh := &shard{st: st, slot: sl, id: id, epoch: epoch, last: store.Durable()}
	sh.view = view{
		db: st.db, gate: &st.gate, usable: sh.usable,
		prefix: binary.BigEndian.AppendUint16(nil, uint16(id)),
	}
	return sh
}

func (sh *shard) Epoch() uint64 { return sh.epoch }

// usable is nil while this is the handle of the last claim and no batch of it has failed.
func (sh *shard) usable() error {
	if err := sh.dead.Load(); err != nil {
		return *err
	}
	if sh.slot.owner.Load() != sh {
		return fmt.Errorf("pebblestore: shard %d, epoch %d: %w", sh.id, sh.epoch, store.ErrFenced)
	}
	return nil
}

// kill makes err the answer of every later call and returns the first such error.
func (sh *shard) kill(err error) error {
	err = fmt.Errorf("pebblestore: shard %d, epoch %d: %w", sh.id, sh.epoch, err)
	sh.dead.CompareAndSwap(nil, &err)
	sh.st.count.refused.Add(1)
	return err
}

// Commit applies the batch and leaves the wait for the log to the ticket.
func (sh *shard) Commit(b *store.Batch) store.Ticket {
	if err := sh.st.gate.enter(); err != nil {
		return store.Failed(err)
	}
	defer sh.st.gate.leave()
	sh.slot.mu.Lock()
	defer sh.slot.mu.Unlock()
	if err := sh.usable(); err != nil {
		return store.Failed(err)
	}
	if err := sh.admit(b); err != nil {
		return store.Failed(sh.kill(err))
	}
	if b.Len() > 0 {
		sh.last = sh.apply(b)
	}
	return sh.last
}

// admit refuses a batch that must not reach Pebble.
func (sh *shard) admit(b *store.Batch) error {
	if err := b.Err(); err != nil {
		return err
	}
	if err := sh.st.health.broken(); err != nil {
		return err
	}
	return sh.st.space.admit(b.Bytes())
}

func (sh *shard) apply(b *store.Batch) store.Ticket {
	pb := sh.st.db.NewBatchWithSize(b.Bytes() + b.Len()*16)
	err := sh.fill(pb, b)
	if err == nil {
		err = sh.st.db.ApplyNoSyncWait(pb, pebble.Sync)
	}
	if err != nil {
		return store.Failed(sh.kill(sh.st.health.breakWith(err)))
	}
	c := &sh.st.count
	c.commits.Add(1)
	c.ops.Add(uint64(b.Len()))
	c.bytes.Add(uint64(b.Bytes()))
	return &ticket{shard: sh, batch: pb}
}

// fill writes the operations straight into Pebble's batch, behind the shard's prefix.
func (sh *shard) fill(pb *pebble.Batch, b *store.Batch) error {
	for op := range b.Ops() {
		var d *pebble.DeferredBatchOp
		n := prefixLen + len(op.Key)
		switch op.Kind {
		case store.OpSet:
			d = pb.SetDeferred(n, len(op.Value))
			copy(d.Value, op.Value)
		case store.OpAppend:
			d = pb.MergeDeferred(n, len(op.Value))
			copy(d.Value, op.Value)
		case store.OpDelete:
			d = pb.DeleteDeferred(n)
		case store.OpDeleteRange:
			hi := sh.upper(op.Value)
			d = pb.DeleteRangeDeferred(n, len(hi))
			copy(d.Value, hi)
		}
		copy(d.Key[copy(d.Key, sh.prefix):], op.Key)
		if err := d.Finish(); err != nil {
			return err
		}
	}
	return nil
}

// Snapshot is a view over what is committed now.
func (sh *shard) Snapshot() store.Snapshot {
	if err := sh.st.gate.enter(); err != nil {
		return refused{err}
	}
	defer sh.st.gate.leave()
	if err := sh.usable(); err != nil {
		return refused{err}
	}
	snap := sh.st.db.NewSnapshot()
	return &snapshot{
		view: view{
			db: snap, gate: &sh.st.gate, prefix: sh.prefix, usable: func() error { return nil },
		},
		close: sync.OnceValue(snap.Close),
	}
}

// ticket waits for the log.
type ticket struct {
	shard *shard
	once  sync.Once
	batch *pebble.Batch
	err   error
}

func (t *ticket) Wait() error {
	t.once.Do(func() {
		err := t.batch.SyncWait()
		if err == nil {
			err = t.batch.Close()
		}
		if err != nil {
			t.err = t.shard.kill(t.shard.st.health.breakWith(err))
		}
		t.batch, t.shard = nil, nil
	})
	return t.err
}

type snapshot struct {
	view
	close func() error
}

func (s *snapshot) Close() error {
	if err := s.close(); err != nil && !errors.Is(err, pebble.ErrClosed) {
		return ioError(err)
	}
	return nil
}

// refused is the snapshot of a dead handle.
type refused struct{ err error }

func (r refused) Get([]byte) ([]byte, bool, error) { return nil, false, r.err }

func (r refused) Scan([]byte, []byte, store.ScanOptions) iter.Seq2[store.KV, error] {
	return func(yield func(store.KV, error) bool) { yield(store.KV{}, r.err) }
}

func (refused) Close() error { return nil }
