package store

import (
	"bytes"
	"iter"
	"slices"
	"sync"
)

// Overlay holds the batches of one shard that are committed and not yet durable. It is for
// drivers whose reads see durable data only: laid over such a read it shows the shard as its
// writer must see it. It is safe for concurrent use.
//
// A read must not meet a batch both in the base and in the overlay, since an append would count
// twice. So take [Overlay.Layers] first, then read the base together with the number of the last
// batch it contains, in one statement, transaction or lock, and combine the two by
// [Layers.Over].
type Overlay struct {
	mu     sync.Mutex
	layers Layers
}

// Layers are the waiting batches at one moment, oldest first. They never change.
type Layers []layer

type layer struct {
	seq   uint64
	delta *Delta
}

// Push adds the next batch. Numbers must grow.
func (o *Overlay) Push(seq uint64, d *Delta) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.layers = append(o.layers, layer{seq, d})
}

// Drop forgets the batches up to and including seq, once the base shows them.
func (o *Overlay) Drop(seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.layers = o.layers.after(seq)
}

// Layers returns what is waiting now.
func (o *Overlay) Layers() Layers {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.layers
}

func (l Layers) after(seq uint64) Layers {
	for len(l) > 0 && l[0].seq <= seq {
		l = l[1:]
	}
	return l
}

// Over lays the layers over a base that contains the batches up to and including seq applied.
func (l Layers) Over(base Reader, applied uint64) Reader {
	return view{l.after(applied), base}
}

type view struct {
	layers Layers
	base   Reader
}

func (v view) Get(key []byte) ([]byte, bool, error) {
	layers := v.layers
	for i := len(layers) - 1; i >= 0; i-- {
		if layers[i].delta.decides(key) {
			value, ok := layers[i:].apply(key, nil, false)
			return own(value, ok), ok, nil
		}
	}
	value, ok, err := v.base.Get(key)
	if err != nil {
		return nil, false, err
	}
	value, ok = layers.apply(key, value, ok)
	return own(value, ok), ok, nil
}

// own copies a value for the caller, non-nil when the key exists.
func own(value []byte, exists bool) []byte {
	if !exists {
		return nil
	}
	return append([]byte{}, value...)
}

func (l Layers) apply(key, value []byte, exists bool) ([]byte, bool) {
	for _, x := range l {
		value, exists = x.delta.apply(key, value, exists)
	}
	return value, exists
}

func (v view) Scan(lo, hi []byte, opts ScanOptions) iter.Seq2[KV, error] {
	if len(v.layers) == 0 {
		return v.base.Scan(lo, hi, opts)
	}
	return func(yield func(KV, error) bool) {
		m := merge{layers: v.layers, keys: v.layers.keys(lo, hi), opts: opts, yield: yield}
		if opts.Reverse {
			slices.Reverse(m.keys)
		}
		for kv, err := range v.base.Scan(lo, hi, ScanOptions{Reverse: opts.Reverse}) {
			if err != nil {
				yield(KV{}, err)
				return
			}
			if !m.record(kv) {
				return
			}
		}
		m.rest()
	}
}

// keys are the keys with lo ≤ key < hi that the layers touch one by one, ascending.
func (l Layers) keys(lo, hi []byte) [][]byte {
	var keys [][]byte
	for _, x := range l {
		for _, op := range x.delta.within(lo, hi) {
			keys = append(keys, op.Key)
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

// merge walks the records of the base and the keys of the layers together.
type merge struct {
	layers Layers
	keys   [][]byte // not yet passed, in the direction of the scan
	opts   ScanOptions
	count  int
	yield  func(KV, error) bool
}

// record passes a record of the base and all keys before it; false ends the scan.
func (m *merge) record(kv KV) bool {
	for len(m.keys) > 0 && m.less(m.keys[0], kv.Key) {
		if !m.emit(m.next(), nil, false) {
			return false
		}
	}
	if len(m.keys) > 0 && bytes.Equal(m.keys[0], kv.Key) {
		m.next()
	}
	return m.emit(kv.Key, kv.Value, true)
}

// rest passes the keys after the last record of the base.
func (m *merge) rest() {
	for len(m.keys) > 0 && m.emit(m.next(), nil, false) {
	}
}

func (m *merge) next() []byte {
	key := m.keys[0]
	m.keys = m.keys[1:]
	return key
}

func (m *merge) less(x, y []byte) bool {
	if m.opts.Reverse {
		x, y = y, x
	}
	return bytes.Compare(x, y) < 0
}

// emit yields the record of key as the layers leave it, if they do.
func (m *merge) emit(key, value []byte, exists bool) bool {
	value, exists = m.layers.apply(key, value, exists)
	if !exists {
		return true
	}
	m.count++
	return m.yield(KV{key, value}, nil) && m.count != m.opts.Limit
}
