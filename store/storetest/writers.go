package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/tutti-run/tutti/store"
)

func snapshots(t *testing.T, w *world) {
	w.wait(w.set("a", "1", "b", "1"))
	w.set("c", "1") // in flight
	before := w.shard.Snapshot()
	w.wait(w.commit(func(b *store.Batch) {
		b.Append([]byte("a"), []byte("2"))
		b.Delete([]byte("b"))
		b.Set([]byte("d"), []byte("2"))
	}))
	after := w.shard.Snapshot()
	w.wait(w.commit(func(b *store.Batch) { b.DeleteRange(nil, nil) }))

	wantAll(t, before, "a=1", "b=1", "c=1")
	wantGet(t, before, "d", "-")
	wantAll(t, after, "a=12", "c=1", "d=2")
	wantGet(t, after, "b", "-")
	wantAll(t, w.shard)
	w.shard = w.claim(0)
	wantAll(t, before, "a=1", "b=1", "c=1")
	for _, s := range []store.Snapshot{before, after, before} {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// snapshotsSeeWholeBatches reads, from other goroutines, while the writer moves a sum around.
func snapshotsSeeWholeBatches(t *testing.T, w *world) {
	const total, moves = 100, 500
	put := func(x int) store.Ticket {
		return w.set("a", strconv.Itoa(x), "b", strconv.Itoa(total-x))
	}
	w.wait(put(0))
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if sum := snapshotSum(t, w.shard); sum != total {
					t.Errorf("a snapshot shows the sum %d, want %d", sum, total)
					return
				}
			}
		})
	}
	for i := range moves {
		ticket := put(i % total)
		if i%50 == 0 {
			w.wait(ticket)
		}
	}
	close(done)
	readers.Wait()
}

func snapshotSum(t testing.TB, sh store.Shard) int {
	snap := sh.Snapshot()
	defer snap.Close()
	sum := 0
	for kv, err := range snap.Scan(nil, nil, store.ScanOptions{}) {
		if err != nil {
			t.Errorf("Scan: %v", err)
			return -1
		}
		n, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			t.Errorf("value %q: %v", kv.Value, err)
		}
		sum += n
	}
	return sum
}

func fencing(t *testing.T, w *world) {
	old := w.shard
	w.wait(w.set("a", "1"))
	other := w.claim(1)
	w.shard = w.claim(0)
	wantDead(t, old, store.ErrFenced)
	w.wait(w.set("b", "1"))
	wantAll(t, w.shard, "a=1", "b=1")
	w.wait(commit(other, func(b *store.Batch) { b.Set([]byte("c"), nil) }))
}

// fencingInFlight: what the old writer had in flight is there for the new one, or was refused.
func fencingInFlight(t *testing.T, w *world) {
	old := w.shard
	ticket := w.set("a", "1")
	w.shard = w.claim(0)
	err := ticket.Wait()
	value, ok, getErr := w.shard.Get([]byte("a"))
	switch {
	case getErr != nil:
		t.Fatal(getErr)
	case err == nil && (!ok || string(value) != "1"):
		t.Errorf("an acknowledged batch is missing after the next claim")
	case err != nil && (ok || !errors.Is(err, store.ErrFenced)):
		t.Errorf("the batch in flight: error %v, in the data: %v", err, ok)
	}
	wantDead(t, old, store.ErrFenced)
}

func epochsGrow(t *testing.T, w *world) {
	last := w.shard.Epoch()
	if last == 0 {
		t.Errorf("the first epoch is 0, want more")
	}
	next := func(how string) {
		t.Helper()
		if e := w.shard.Epoch(); e <= last {
			t.Errorf("epoch %d after %d by %s, want it to grow", e, last, how)
		} else {
			last = e
		}
	}
	w.shard = w.claim(0)
	next("a claim")
	w.reopen()
	next("reopening")
	if w.Crash != nil {
		w.Store = w.Crash(t, w.Store)
		w.shard = w.claim(0)
		next("a crash")
	}
}

func noSuchShard(t *testing.T, w *world) {
	_, err := w.Store.Claim(t.Context(), store.ShardID(w.Store.Shards()))
	wantErr(t, "Claim past the last shard", err, store.ErrNoShard)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Store.Claim(ctx, 0)
	wantErr(t, "Claim with a context that is over", err, context.Canceled)
	wantAll(t, w.shard)
}

func reopen(t *testing.T, w *world) {
	shards := w.Store.Shards()
	var want []string
	for i := range 100 {
		key := fmt.Sprintf("key%03d", i)
		w.wait(w.set(key, "v"))
		want = append(want, key+"=v")
	}
	for range 3 {
		w.reopen()
		wantAll(t, w.shard, want...)
	}
	if got := w.Store.Shards(); got != shards {
		t.Errorf("%d shards after reopening, want %d", got, shards)
	}
}

func closeFinishesCommits(t *testing.T, w *world) {
	var tickets []store.Ticket
	for i := range 20 {
		tickets = append(tickets, w.set(fmt.Sprintf("%02d", i), ""))
	}
	w.reopen()
	for i, ticket := range tickets {
		if err := ticket.Wait(); err != nil {
			t.Errorf("ticket %d after Close: %v", i, err)
		}
	}
	if got := dump(t, w.shard, "", "", store.ScanOptions{}); len(got) != len(tickets) {
		t.Errorf("%d records after reopening, want %d", len(got), len(tickets))
	}
}

func closed(t *testing.T, w *world) {
	if err := w.Store.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	wantDead(t, w.shard, store.ErrClosed)
	_, err := w.Store.Claim(t.Context(), 0)
	wantErr(t, "Claim", err, store.ErrClosed)
	wantErr(t, "second Close", w.Store.Close(), store.ErrClosed)
}

func shardsAreApart(t *testing.T, w *world) {
	other := w.claim(1)
	w.wait(w.set("k", "0"))
	wantAll(t, other)
	w.wait(commit(other, func(b *store.Batch) { b.Set([]byte("k"), []byte("1")) }))
	wantAll(t, w.shard, "k=0")
	wantAll(t, other, "k=1")
	if w.shard.Epoch() != other.Epoch() {
		t.Errorf("first epochs %d and %d, want the same", w.shard.Epoch(), other.Epoch())
	}
}

// concurrentShards runs a writer on every shard, each with a counter that must not skip.
func concurrentShards(t *testing.T, w *world) {
	const rounds, depth = 200, 4
	var writers sync.WaitGroup
	for s := range w.Store.Shards() {
		sh := w.claim(store.ShardID(s))
		writers.Go(func() {
			var flying []store.Ticket
			for i := range rounds {
				if err := counterIs(sh, uint64(i)); err != nil {
					t.Errorf("shard %d: %v", s, err)
					return
				}
				flying = append(flying, commit(sh, func(b *store.Batch) {
					b.Set([]byte("n"), binary.BigEndian.AppendUint64(nil, uint64(i+1)))
					b.Append([]byte("log"), []byte{byte(s)})
				}))
				if len(flying) == depth {
					if err := flying[0].Wait(); err != nil {
						t.Errorf("shard %d: %v", s, err)
						return
					}
					flying = flying[1:]
				}
			}
		})
	}
	writers.Wait()
	shards := w.Store.Shards()
	w.reopen()
	for s := range shards {
		sh := w.claim(store.ShardID(s))
		if err := counterIs(sh, rounds); err != nil {
			t.Errorf("shard %d after reopening: %v", s, err)
		}
		log, _, err := sh.Get([]byte("log"))
		if err != nil || len(log) != rounds || log[rounds-1] != byte(s) {
			t.Errorf("shard %d: log of %d bytes, %v, want %d", s, len(log), err, rounds)
		}
	}
}

// counterIs checks that the counter of a shard stands at want.
func counterIs(sh store.Shard, want uint64) error {
	value, ok, err := sh.Get([]byte("n"))
	if err != nil {
		return err
	}
	var n uint64
	if ok {
		n = binary.BigEndian.Uint64(value)
	}
	if n != want {
		return fmt.Errorf("the counter is %d, want %d", n, want)
	}
	return nil
}
