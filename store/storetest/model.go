package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tutti-run/tutti/store"
)

// crash: what survives is a prefix of the batches with all that were acknowledged, none in part.
func crash(t *testing.T, w *world) {
	if w.Crash == nil {
		t.Skip("this driver has no crash in its harness")
	}
	next := 0
	for round := range 8 {
		acked := next
		for i := range 20 {
			key := fmt.Sprintf("%04d", next)
			ticket := w.set(key+"a", "1", key+"b", "2")
			next++
			if i == round*2 {
				w.wait(ticket)
				acked = next
			}
		}
		w.Store = w.Crash(t, w.Store)
		w.shard = w.claim(0)
		got := dump(t, w.shard, "", "", store.ScanOptions{})
		if len(got)%2 != 0 || len(got) < 2*acked || len(got) > 2*next {
			t.Fatalf("round %d: %d records survived, want an even number from %d to %d",
				round, len(got), 2*acked, 2*next)
		}
		next = len(got) / 2
		for i, kv := range got {
			want := fmt.Sprintf("%04da=1", i/2)
			if i%2 == 1 {
				want = fmt.Sprintf("%04db=2", i/2)
			}
			if kv != want {
				t.Fatalf("round %d: record %d is %q, want %q", round, i, kv, want)
			}
		}
	}
}

// model compares random work on one shard with a map.
func model(t *testing.T, w *world) {
	rapid.Check(t, func(r *rapid.T) {
		m := &machine{world: newWorld(t, w.open), states: []state{{}}}
		defer func() {
			m.closeSnapshots(r)
			if err := m.Store.Close(); err != nil {
				r.Fatalf("Close: %v", err)
			}
		}()
		actions := map[string]func(*rapid.T){
			"commit":   m.commitBatch,
			"wait":     m.waitBatch,
			"get":      m.get,
			"scan":     m.scan,
			"snapshot": m.snapshot,
			"claim":    func(*rapid.T) { m.claimed() },
			"reopen": func(r *rapid.T) {
				m.closeSnapshots(r)
				m.Store = m.Reopen(t, m.Store)
				m.claimed()
			},
		}
		if m.Crash != nil {
			actions["crash"] = m.crash
		}
		r.Repeat(actions)
	})
}

// state is the records of the shard after some batch.
type state map[string]string

func (s state) list() []string {
	list := []string{}
	for _, key := range slices.Sorted(maps.Keys(s)) {
		list = append(list, fmt.Sprintf("%s=%s", key, s[key]))
	}
	return list
}

// machine is a shard and what it must contain.
type machine struct {
	*world
	states  []state // after each batch since the last claim
	tickets []store.Ticket
	acked   int // the first state that may be what a crash leaves
	views   []fixedView
}

type fixedView struct {
	snap store.Snapshot
	want state
}

func (m *machine) now() state { return m.states[len(m.states)-1] }

// claimed claims the shard anew: what was committed is settled.
func (m *machine) claimed() {
	m.shard = m.claim(0)
	m.states, m.tickets, m.acked = []state{m.now()}, nil, 0
}

var (
	genKey = rapid.Custom(func(r *rapid.T) string {
		return string(rapid.SliceOfN(rapid.SampledFrom([]byte("\x00ab\xff")), 0, 3).Draw(r, "key"))
	})
	genValue = rapid.StringN(0, 3, 8)
	genKind  = rapid.SampledFrom([]store.OpKind{
		store.OpSet, store.OpSet, store.OpAppend, store.OpAppend, store.OpDelete,
		store.OpDeleteRange,
	})
)

func (m *machine) commitBatch(r *rapid.T) {
	next := maps.Clone(m.now())
	var b store.Batch
	for range rapid.IntRange(0, 8).Draw(r, "ops") {
		key, kind := genKey.Draw(r, "key"), genKind.Draw(r, "kind")
		switch kind {
		case store.OpSet:
			value := genValue.Draw(r, "value")
			b.Set([]byte(key), []byte(value))
			next[key] = value
		case store.OpAppend:
			value := genValue.Draw(r, "value")
			b.Append([]byte(key), []byte(value))
			next[key] += value
		case store.OpDelete:
			b.Delete([]byte(key))
			delete(next, key)
		case store.OpDeleteRange:
			hi := genKey.Draw(r, "hi")
			b.DeleteRange([]byte(key), []byte(hi))
			maps.DeleteFunc(next, func(k, _ string) bool { return inRange(k, key, hi) })
		}
	}
	m.tickets = append(m.tickets, m.shard.Commit(&b))
	m.states = append(m.states, next)
}

func inRange(key, lo, hi string) bool { return key >= lo && (hi == "" || key < hi) }

func (m *machine) waitBatch(r *rapid.T) {
	if len(m.tickets) == 0 {
		r.Skip("nothing in flight")
	}
	i := rapid.IntRange(0, len(m.tickets)-1).Draw(r, "ticket")
	if err := m.tickets[i].Wait(); err != nil {
		r.Fatalf("Wait: %v", err)
	}
	m.acked = max(m.acked, i+1)
}

func (m *machine) get(r *rapid.T) {
	key := genKey.Draw(r, "key")
	want, ok := m.now()[key]
	if !ok {
		want = "-"
	}
	wantGet(m, m.shard, key, want)
}

func (m *machine) scan(r *rapid.T) {
	lo, hi := genKey.Draw(r, "lo"), genKey.Draw(r, "hi")
	opts := store.ScanOptions{
		Reverse: rapid.Bool().Draw(r, "reverse"), Limit: rapid.IntRange(0, 4).Draw(r, "limit"),
	}
	part := maps.Clone(m.now())
	maps.DeleteFunc(part, func(k, _ string) bool { return !inRange(k, lo, hi) })
	want := part.list()
	if opts.Reverse {
		slices.Reverse(want)
	}
	if opts.Limit > 0 && len(want) > opts.Limit {
		want = want[:opts.Limit]
	}
	if diff := cmp.Diff(want, dump(m, m.shard, lo, hi, opts)); diff != "" {
		r.Fatalf("Scan(%q, %q, %+v) (-want +got):\n%s", lo, hi, opts, diff)
	}
}

func (m *machine) snapshot(r *rapid.T) {
	if len(m.views) == 3 {
		m.closeSnapshots(r)
	}
	m.views = append(m.views, fixedView{m.shard.Snapshot(), m.now()})
}

func (m *machine) closeSnapshots(r *rapid.T) {
	for _, v := range m.views {
		if diff := cmp.Diff(v.want.list(), dump(m, v.snap, "", "", store.ScanOptions{})); diff != "" {
			r.Fatalf("snapshot (-want +got):\n%s", diff)
		}
		if err := v.snap.Close(); err != nil {
			r.Fatalf("Snapshot.Close: %v", err)
		}
	}
	m.views = nil
}

func (m *machine) crash(r *rapid.T) {
	m.closeSnapshots(r)
	m.Store = m.Crash(m, m.Store)
	for _, ticket := range m.tickets {
		if err := ticket.Wait(); err != nil && !errors.Is(err, store.ErrClosed) {
			r.Fatalf("ticket in flight: %v", err)
		}
	}
	m.shard = m.claim(0)
	got := dump(m, m.shard, "", "", store.ScanOptions{})
	for i := m.acked; i < len(m.states); i++ {
		if slices.Equal(got, m.states[i].list()) {
			m.states, m.tickets, m.acked = []state{m.states[i]}, nil, 0
			return
		}
	}
	r.Fatalf("after a crash with batches %d to %d in flight the records are\n%q",
		m.acked, len(m.states)-1, got)
}
