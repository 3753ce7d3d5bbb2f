package storetest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti/store"
)

func readYourWrites(t *testing.T, w *world) {
	ticket := w.set("a", "1", "empty", "")
	wantGet(t, w.shard, "a", "1")
	wantGet(t, w.shard, "empty", "")
	wantGet(t, w.shard, "none", "-")
	last := w.commit(func(b *store.Batch) {
		b.Delete([]byte("empty"))
		b.Append([]byte("a"), []byte("2"))
	})
	wantAll(t, w.shard, "a=12")
	w.wait(last)
	w.wait(ticket)
	w.wait(ticket)
	wantAll(t, w.shard, "a=12")
}

func order(t *testing.T, w *world) {
	var last store.Ticket
	for _, v := range []string{"1", "2", "3", "4", "5"} {
		last = w.set("k", v)
		wantGet(t, w.shard, "k", v)
	}
	w.wait(last)
	wantGet(t, w.shard, "k", "5")
}

func opsInOneBatch(t *testing.T, w *world) {
	w.set("x1", "old", "x2", "old", "x3", "old", "y", "old")
	w.wait(w.commit(func(b *store.Batch) {
		b.Set([]byte("a"), []byte("1"))
		b.Set([]byte("a"), []byte("2"))
		b.Append([]byte("a"), []byte("3"))
		b.Append([]byte("b"), []byte("1"))
		b.Append([]byte("b"), []byte("2"))
		b.Set([]byte("c"), []byte("1"))
		b.Delete([]byte("c"))
		b.Delete([]byte("d"))
		b.Append([]byte("d"), []byte("1"))
		b.Set([]byte("x0"), []byte("before"))
		b.DeleteRange([]byte("x"), []byte("y"))
		b.Set([]byte("x2"), []byte("after"))
		b.Append([]byte("x3"), []byte("after"))
	}))
	wantAll(t, w.shard, "a=23", "b=12", "d=1", "x2=after", "x3=after", "y=old")
}

func appendValues(t *testing.T, w *world) {
	want := strings.Builder{}
	for i := range 300 {
		piece := strings.Repeat(string(rune('a'+i%26)), i%7)
		want.WriteString(piece)
		ticket := w.commit(func(b *store.Batch) { b.Append([]byte("log"), []byte(piece)) })
		if i%50 == 0 {
			w.wait(ticket)
		}
	}
	wantGet(t, w.shard, "log", want.String())
	w.reopen()
	wantGet(t, w.shard, "log", want.String())
	w.wait(w.commit(func(b *store.Batch) { b.Append([]byte("nothing"), nil) }))
	wantGet(t, w.shard, "nothing", "")
}

func ranges(t *testing.T, w *world) {
	w.wait(w.set("a", "1", "b", "1", "b\x00", "1", "b\xff", "1", "c", "1", "\xff\xff", "1"))
	w.set("bb", "2", "", "2") // in flight
	type scan struct{ lo, hi string }
	tests := map[scan][]string{
		{"", ""}: {
			"=2", "a=1", "b=1", "b\x00=1", "bb=2", "b\xff=1", "c=1", "\xff\xff=1",
		},
		{"b", "c"}:       {"b=1", "b\x00=1", "bb=2", "b\xff=1"},
		{"b\x00", "bb"}:  {"b\x00=1"},
		{"", "b"}:        {"=2", "a=1"},
		{"c", ""}:        {"c=1", "\xff\xff=1"},
		{"c", "a"}:       {},
		{"b", "b"}:       {},
		{"bc", "b\xff"}:  {},
		{"\xff\xff", ""}: {"\xff\xff=1"},
	}
	for s, want := range tests {
		got := dump(t, w.shard, s.lo, s.hi, store.ScanOptions{})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Scan(%q, %q) (-want +got):\n%s", s.lo, s.hi, diff)
		}
		var back []string
		for _, kv := range dump(t, w.shard, s.lo, s.hi, store.ScanOptions{Reverse: true}) {
			back = append([]string{kv}, back...)
		}
		if diff := cmp.Diff(want, append([]string{}, back...)); diff != "" {
			t.Errorf("reverse Scan(%q, %q) (-want +got):\n%s", s.lo, s.hi, diff)
		}
	}
}

func scanLimits(t *testing.T, w *world) {
	w.wait(w.set("a", "1", "c", "1", "e", "1"))
	w.commit(func(b *store.Batch) {
		b.Set([]byte("b"), []byte("2"))
		b.Delete([]byte("c"))
	})
	tests := []struct {
		opts store.ScanOptions
		want []string
	}{
		{store.ScanOptions{Limit: 1}, []string{"a=1"}},
		{store.ScanOptions{Limit: 2}, []string{"a=1", "b=2"}},
		{store.ScanOptions{Limit: 3}, []string{"a=1", "b=2", "e=1"}},
		{store.ScanOptions{Limit: 9}, []string{"a=1", "b=2", "e=1"}},
		{store.ScanOptions{Limit: 2, Reverse: true}, []string{"e=1", "b=2"}},
	}
	for _, test := range tests {
		got := dump(t, w.shard, "", "", test.opts)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("Scan %+v (-want +got):\n%s", test.opts, diff)
		}
	}
	for kv := range w.shard.Scan(nil, nil, store.ScanOptions{}) {
		if string(kv.Key) == "b" {
			break
		}
	}
}

func scanIsFixed(t *testing.T, w *world) {
	w.wait(w.set("a", "1", "b", "1", "c", "1"))
	scan := w.shard.Scan(nil, nil, store.ScanOptions{})
	w.set("b", "2") // before the loop: seen
	var got []string
	for kv, err := range scan {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(kv.Key)+"="+string(kv.Value))
		w.wait(w.commit(func(b *store.Batch) { b.DeleteRange(nil, nil) }))
		w.set("d", "1")
	}
	if diff := cmp.Diff([]string{"a=1", "b=2", "c=1"}, got); diff != "" {
		t.Errorf("scan with commits in the loop (-want +got):\n%s", diff)
	}
	wantAll(t, w.shard, "d=1")
}

func deleteRange(t *testing.T, w *world) {
	all := []string{"a", "1", "b", "1", "b\xff\xff", "1", "c", "1", "\xff", "1"}
	tests := []struct {
		lo, hi string
		want   []string
	}{
		{"b", "c", []string{"a=1", "c=1", "\xff=1"}},
		{"b", "", []string{"a=1"}},
		{"", "b", []string{"b=1", "b\xff\xff=1", "c=1", "\xff=1"}},
		{"", "", nil},
		{"c", "b", []string{"a=1", "b=1", "b\xff\xff=1", "c=1", "\xff=1"}},
		{"b", "b", []string{"a=1", "b=1", "b\xff\xff=1", "c=1", "\xff=1"}},
	}
	other := w.claim(1)
	w.wait(commit(other, func(b *store.Batch) { b.Set(nil, []byte("kept")) }))
	for _, test := range tests {
		for _, durable := range []bool{true, false} {
			ticket := w.set(all...)
			if durable {
				w.wait(ticket)
			}
			ticket = w.commit(func(b *store.Batch) {
				b.DeleteRange([]byte(test.lo), []byte(test.hi))
			})
			wantAll(t, w.shard, test.want...)
			w.wait(ticket)
			wantAll(t, w.shard, test.want...)
		}
	}
	wantAll(t, other, "=kept")
}

// ownership: batches copy what they are given, and what Get returns is the caller's.
func ownership(t *testing.T, w *world) {
	key, value := []byte("key"), []byte("value")
	var b store.Batch
	b.Set(key, value)
	copy(key, "XXX")
	copy(value, "XXXXX")
	ticket := w.shard.Commit(&b)
	b.Reset()
	b.Set([]byte("kex"), []byte("wrong"))
	for range 2 {
		got, _, err := w.shard.Get([]byte("key"))
		if err != nil || string(got) != "value" {
			t.Fatalf("Get = %q, %v, want %q", got, err, "value")
		}
		copy(got, "YYYYY")
		w.wait(ticket)
	}
	wantAll(t, w.shard, "key=value")
}

func emptyBatch(t *testing.T, w *world) {
	w.wait(w.shard.Commit(new(store.Batch)))
	w.set("a", "1")
	w.wait(w.shard.Commit(new(store.Batch)))
	if w.Crash != nil {
		w.Store = w.Crash(t, w.Store)
		w.shard = w.claim(0)
	}
	wantAll(t, w.shard, "a=1")
}

func limits(t *testing.T, w *world) {
	longest := bytes.Repeat([]byte("k"), store.MaxKeyBytes)
	w.wait(w.commit(func(b *store.Batch) { b.Set(longest, []byte("1")) }))
	wantGet(t, w.shard, string(longest), "1")
	tests := map[string]func(b *store.Batch){
		"key":       func(b *store.Batch) { b.Set(append(longest, 'k'), nil) },
		"range end": func(b *store.Batch) { b.DeleteRange(nil, append(longest, 'k')) },
		"value":     func(b *store.Batch) { b.Set(nil, make([]byte, store.MaxValueBytes+1)) },
		"operations": func(b *store.Batch) {
			for range store.MaxBatchOps + 1 {
				b.Delete(nil)
			}
		},
	}
	for name, over := range tests {
		ticket := w.commit(func(b *store.Batch) {
			b.Set([]byte("part"), nil)
			over(b)
		})
		wantErr(t, name, ticket.Wait(), store.ErrTooLarge)
		wantDead(t, w.shard, store.ErrTooLarge)
		w.shard = w.claim(0)
		wantGet(t, w.shard, "part", "-")
	}
}

func bigValues(t *testing.T, w *world) {
	big := strings.Repeat("0123456789abcdef", 5<<16) // 5 MiB
	w.set("big", big, "small", "1")
	wantGet(t, w.shard, "big", big)
	w.wait(w.commit(func(b *store.Batch) { b.Append([]byte("big"), []byte(big)) }))
	w.reopen()
	wantGet(t, w.shard, "big", big+big)
	wantGet(t, w.shard, "small", "1")
}
