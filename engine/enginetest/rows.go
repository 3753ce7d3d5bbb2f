package enginetest

import (
	"bytes"
	"fmt"

	"github.com/tidwall/btree"
)

// Rows is the key space of one shard: a sorted map. It counts what is read and written, so
// that tests can hold the cost of a step to a bound.
type Rows struct {
	m btree.Map[string, []byte]

	Gets, Scans, Scanned int // calls of Get and Scan, and rows that Scan visited
	Written              int // operations applied
	WrittenBytes         int
}

// Get implements engine.Rows.
func (r *Rows) Get(key []byte) ([]byte, bool, error) {
	r.Gets++
	v, ok := r.m.Get(string(key))
	return bytes.Clone(v), ok, nil
}

// Scan implements engine.Rows.
func (r *Rows) Scan(lo, hi []byte, reverse bool, fn func(k, v []byte) bool) error {
	r.Scans++
	visit := func(k string, v []byte) bool {
		r.Scanned++
		return fn([]byte(k), v)
	}
	if !reverse {
		r.m.Ascend(string(lo), func(k string, v []byte) bool {
			return (hi == nil || k < string(hi)) && visit(k, v)
		})
		return nil
	}
	down := func(k string, v []byte) bool {
		if hi != nil && k >= string(hi) {
			return true
		}
		return k >= string(lo) && visit(k, v)
	}
	if hi == nil {
		r.m.Reverse(down)
	} else {
		r.m.Descend(string(hi), down)
	}
	return nil
}

// Set changes a row behind the engine's back.
func (r *Rows) Set(key, val []byte) { r.m.Set(string(key), bytes.Clone(val)) }

// Delete removes a row behind the engine's back and reports whether it was there.
func (r *Rows) Delete(key []byte) bool {
	_, ok := r.m.Delete(string(key))
	return ok
}

// Keys lists the keys that begin with a prefix.
func (r *Rows) Keys(prefix string) (keys [][]byte) {
	r.m.Ascend(prefix, func(k string, _ []byte) bool {
		if len(k) < len(prefix) || k[:len(prefix)] != prefix {
			return false
		}
		keys = append(keys, []byte(k))
		return true
	})
	return keys
}

// Len is the number of rows.
func (r *Rows) Len() int { return r.m.Len() }

// opKind is a kind of operation of a batch.
type opKind uint8

const (
	opSet opKind = iota
	opDelete
	opAppend
	opDeleteRange
)

// op is one operation of a batch.
type op struct {
	kind opKind
	key  string
	val  string
}

func (o op) String() string {
	kind := [...]string{"set", "del", "append", "delrange"}[o.kind]
	return fmt.Sprintf("%s %q %q", kind, o.key, o.val)
}

// writes is an engine.Writes that waits to be applied.
type writes struct{ ops []op }

func (w *writes) Set(key, val []byte) { w.ops = append(w.ops, op{opSet, string(key), string(val)}) }
func (w *writes) Delete(key []byte)   { w.ops = append(w.ops, op{opDelete, string(key), ""}) }
func (w *writes) Append(key, suffix []byte) {
	w.ops = append(w.ops, op{opAppend, string(key), string(suffix)})
}

func (w *writes) DeleteRange(lo, hi []byte) {
	w.ops = append(w.ops, op{opDeleteRange, string(lo), string(hi)})
}

// apply makes the operations part of the rows.
func (w *writes) apply(r *Rows) {
	for _, o := range w.ops {
		r.Written++
		r.WrittenBytes += len(o.key) + len(o.val)
		switch o.kind {
		case opSet:
			r.m.Set(o.key, []byte(o.val))
		case opDelete:
			r.m.Delete(o.key)
		case opAppend:
			old, _ := r.m.Get(o.key)
			r.m.Set(o.key, append(bytes.Clone(old), o.val...))
		case opDeleteRange:
			var keys []string
			r.m.Ascend(o.key, func(k string, _ []byte) bool {
				if k >= o.val {
					return false
				}
				keys = append(keys, k)
				return true
			})
			for _, k := range keys {
				r.m.Delete(k)
			}
		}
	}
}
