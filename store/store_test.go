package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/tutti-run/tutti/store"
)

func TestBatch(t *testing.T) {
	var b store.Batch
	for range 2 {
		b.Set([]byte("a"), []byte("1"))
		b.Append([]byte("a"), []byte("23"))
		b.Delete([]byte("b"))
		b.DeleteRange([]byte("c"), []byte("d"))
		b.DeleteRange([]byte("d"), nil)
		b.DeleteRange([]byte("e"), []byte("e")) // covers nothing
		b.Set(nil, nil)
		var got []string
		for op := range b.Ops() {
			got = append(got, fmt.Sprintf("%d %s %s", op.Kind, op.Key, op.Value))
		}
		want := []string{"1 a 1", "3 a 23", "2 b ", "4 c d", "4 d ", "1  "}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("operations (-want +got):\n%s", diff)
		}
		if b.Len() != 6 || b.Bytes() != 9 || b.Err() != nil {
			t.Errorf("Len %d, Bytes %d, Err %v, want 6, 9 and nil", b.Len(), b.Bytes(), b.Err())
		}
		b.Reset()
		if b.Len() != 0 || b.Bytes() != 0 {
			t.Errorf("after Reset: Len %d, Bytes %d, want 0", b.Len(), b.Bytes())
		}
	}
}

func TestBatchLimits(t *testing.T) {
	half := make([]byte, store.MaxValueBytes)
	tests := map[string]func(b *store.Batch){
		"key":       func(b *store.Batch) { b.Delete(make([]byte, store.MaxKeyBytes+1)) },
		"range end": func(b *store.Batch) { b.DeleteRange(nil, make([]byte, store.MaxKeyBytes+1)) },
		"value":     func(b *store.Batch) { b.Append(nil, append(half, 0)) },
		"bytes": func(b *store.Batch) {
			for range store.MaxBatchBytes/store.MaxValueBytes + 1 {
				b.Set([]byte("k"), half)
			}
		},
	}
	for name, over := range tests {
		var b store.Batch
		over(&b)
		over(&b)
		n := b.Len()
		b.Set([]byte("later"), nil)
		if err := b.Err(); !errors.Is(err, store.ErrTooLarge) || b.Len() != n {
			t.Errorf("%s: error %v, %d operations more, want %v and none",
				name, err, b.Len()-n, store.ErrTooLarge)
		}
		b.Reset()
		if err := b.Err(); err != nil {
			t.Errorf("%s: error %v after Reset", name, err)
		}
	}
}

func TestBatchDoesNotAllocate(t *testing.T) {
	var b store.Batch
	key, value := []byte("key"), make([]byte, 100)
	n := testing.AllocsPerRun(100, func() {
		b.Reset()
		for range 64 {
			b.Set(key, value)
		}
	})
	if n > 0 {
		t.Errorf("filling a batch again allocates %v times, want 0", n)
	}
}

// records is a reader over sorted records.
type records []store.KV

func (r records) Get(key []byte) ([]byte, bool, error) {
	for _, kv := range r {
		if bytes.Equal(kv.Key, key) {
			return kv.Value, true, nil
		}
	}
	return nil, false, nil
}

func (r records) Scan(lo, hi []byte, o store.ScanOptions) iter.Seq2[store.KV, error] {
	return func(yield func(store.KV, error) bool) {
		list := slices.Clone(r)
		if o.Reverse {
			slices.Reverse(list)
		}
		for _, kv := range list {
			in := bytes.Compare(kv.Key, lo) >= 0 && (len(hi) == 0 || bytes.Compare(kv.Key, hi) < 0)
			if in && !yield(kv, nil) {
				return
			}
		}
	}
}

// run applies the operations one by one: what a delta and an overlay must agree with.
func run(base map[string]string, b *store.Batch) {
	for op := range b.Ops() {
		key, value := string(op.Key), string(op.Value)
		switch op.Kind {
		case store.OpSet:
			base[key] = value
		case store.OpAppend:
			base[key] += value
		case store.OpDelete:
			delete(base, key)
		case store.OpDeleteRange:
			for k := range base {
				if k >= key && (value == "" || k < value) {
					delete(base, k)
				}
			}
		}
	}
}

func sorted(m map[string]string) records {
	r := records{}
	for k, v := range m {
		r = append(r, store.KV{Key: []byte(k), Value: []byte(v)})
	}
	slices.SortFunc(r, func(x, y store.KV) int { return bytes.Compare(x.Key, y.Key) })
	return r
}

func drawBatch(r *rapid.T) *store.Batch {
	key := rapid.SliceOfN(rapid.SampledFrom([]byte("\x00ab")), 0, 2)
	value := rapid.SliceOfN(rapid.SampledFrom([]byte("xyz")), 0, 2)
	b := new(store.Batch)
	for range rapid.IntRange(0, 10).Draw(r, "ops") {
		k := key.Draw(r, "key")
		switch rapid.IntRange(1, 4).Draw(r, "kind") {
		case 1:
			b.Set(k, value.Draw(r, "value"))
		case 2:
			b.Append(k, value.Draw(r, "suffix"))
		case 3:
			b.Delete(k)
		case 4:
			b.DeleteRange(k, key.Draw(r, "hi"))
		}
	}
	return b
}

func TestDelta(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		start, b := drawBatch(r), drawBatch(r)
		want := map[string]string{}
		run(want, start)
		d := b.Delta()
		var folded store.Batch
		for _, x := range d.Ranges {
			folded.DeleteRange(x.Lo, x.Hi)
		}
		for i, op := range d.Points {
			if i > 0 && bytes.Compare(d.Points[i-1].Key, op.Key) >= 0 {
				r.Fatalf("points %d and %d are out of order", i-1, i)
			}
			switch op.Kind {
			case store.OpSet:
				folded.Set(op.Key, op.Value)
			case store.OpAppend:
				folded.Append(op.Key, op.Value)
			case store.OpDelete:
				folded.Delete(op.Key)
			default:
				r.Fatalf("point %d is of kind %d", i, op.Kind)
			}
		}
		got := map[string]string{}
		run(got, start)
		run(want, b)
		run(got, &folded)
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("a delta and its batch (-want +got):\n%s", diff)
		}
	})
}

func TestDeltaOwnsItsMemory(t *testing.T) {
	var b store.Batch
	b.Set([]byte("key"), []byte("value"))
	d := b.Delta()
	b.Reset()
	b.Set([]byte("XXX"), []byte("YYYYY"))
	if op := d.Points[0]; string(op.Key) != "key" || string(op.Value) != "value" {
		t.Errorf("the delta changed with its batch: %s=%s", op.Key, op.Value)
	}
}

// TestOverlay lays random batches over a base that already has some of them.
func TestOverlay(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var o store.Overlay
		want, base := map[string]string{}, map[string]string{}
		n := uint64(rapid.IntRange(0, 4).Draw(r, "batches"))
		applied := rapid.Uint64Range(0, n).Draw(r, "applied")
		for seq := uint64(1); seq <= n; seq++ {
			b := drawBatch(r)
			run(want, b)
			if seq <= applied {
				run(base, b)
			}
			o.Push(seq, b.Delta())
		}
		o.Drop(rapid.Uint64Range(0, applied).Draw(r, "dropped"))
		layers := o.Layers()
		o.Drop(n)
		o.Push(n+1, drawBatch(r).Delta()) // what was taken before does not change
		view := layers.Over(sorted(base), applied)

		got := map[string]string{}
		for kv, err := range view.Scan(nil, nil, store.ScanOptions{}) {
			if err != nil {
				r.Fatal(err)
			}
			got[string(kv.Key)] = string(kv.Value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			r.Fatalf("scan (-want +got):\n%s", diff)
		}
		for k, v := range want {
			if value, ok, err := view.Get([]byte(k)); string(value) != v || !ok || err != nil {
				r.Fatalf("Get(%q) = %q, %v, %v, want %q", k, value, ok, err, v)
			}
		}
	})
}

func TestOverlayPassesErrorsOn(t *testing.T) {
	var o store.Overlay
	var b store.Batch
	b.Append([]byte("k"), []byte("v"))
	o.Push(1, b.Delta())
	view := o.Layers().Over(broken{}, 0)
	if _, _, err := view.Get([]byte("k")); !errors.Is(err, store.ErrIO) {
		t.Errorf("Get: %v, want %v", err, store.ErrIO)
	}
	var got []error
	for _, err := range view.Scan(nil, nil, store.ScanOptions{}) {
		got = append(got, err)
	}
	if len(got) != 1 || !errors.Is(got[0], store.ErrIO) {
		t.Errorf("Scan: %v, want %v once", got, store.ErrIO)
	}
}

type broken struct{}

func (broken) Get([]byte) ([]byte, bool, error) { return nil, false, store.ErrIO }

func (broken) Scan([]byte, []byte, store.ScanOptions) iter.Seq2[store.KV, error] {
	return func(yield func(store.KV, error) bool) { yield(store.KV{}, store.ErrIO) }
}
