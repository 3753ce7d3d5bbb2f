package memstore

import (
	"iter"
	"slices"

	"github.com/tidwall/btree"

	"github.com/tutti-run/tutti/store"
)

// tree reads and writes the durable data of one shard. Values in it never change in place.
type tree struct {
	m *btree.Map[string, []byte]
}

func (t tree) Get(key []byte) ([]byte, bool, error) {
	value, ok := t.m.Get(string(key))
	if !ok {
		return nil, false, nil
	}
	return append([]byte{}, value...), true, nil
}

func (t tree) Scan(lo, hi []byte, opts store.ScanOptions) iter.Seq2[store.KV, error] {
	return func(yield func(store.KV, error) bool) {
		count := 0
		visit := func(key string, value []byte) bool {
			count++
			return yield(store.KV{Key: []byte(key), Value: value}, nil) && count != opts.Limit
		}
		if opts.Reverse {
			t.descend(string(lo), string(hi), visit)
			return
		}
		t.ascend(string(lo), string(hi), visit)
	}
}

func (t tree) ascend(lo, hi string, visit func(string, []byte) bool) {
	t.m.Ascend(lo, func(key string, value []byte) bool {
		return (hi == "" || key < hi) && visit(key, value)
	})
}

func (t tree) descend(lo, hi string, visit func(string, []byte) bool) {
	down := func(key string, value []byte) bool {
		return key == hi && hi != "" || key >= lo && visit(key, value)
	}
	if hi == "" {
		t.m.Reverse(down)
		return
	}
	t.m.Descend(hi, down)
}

// apply makes the net effect of a batch part of the tree.
func (t tree) apply(d *store.Delta) {
	for _, r := range d.Ranges {
		t.deleteRange(string(r.Lo), string(r.Hi))
	}
	for _, op := range d.Points {
		key := string(op.Key)
		switch op.Kind {
		case store.OpSet:
			t.m.Set(key, op.Value)
		case store.OpDelete:
			t.m.Delete(key)
		case store.OpAppend:
			old, _ := t.m.Get(key)
			t.m.Set(key, append(slices.Clip(old), op.Value...))
		}
	}
}

func (t tree) deleteRange(lo, hi string) {
	var keys []string
	t.ascend(lo, hi, func(key string, _ []byte) bool {
		keys = append(keys, key)
		return true
	})
	for _, key := range keys {
		t.m.Delete(key)
	}
}
