package store

import (
	"bytes"
	"cmp"
	"slices"
)

// Delta is the net effect of a batch: first the ranges are deleted, then each point is applied.
// It owns its memory, never changes, and is what a driver with bulk statements writes.
type Delta struct {
	// Ranges to delete first.
	Ranges []Range
	// Points in ascending order, each key once: OpSet, OpDelete or OpAppend.
	Points []Op
}

// Range is the keys with Lo ≤ key < Hi; an empty Hi means no upper end.
type Range struct {
	Lo, Hi []byte
}

func (r Range) contains(key []byte) bool {
	return bytes.Compare(r.Lo, key) <= 0 && (len(r.Hi) == 0 || bytes.Compare(key, r.Hi) < 0)
}

// Delta folds the operations of the batch into their net effect.
func (b *Batch) Delta() *Delta {
	own := Batch{arena: slices.Clone(b.arena)}
	f := folder{points: make([]step, 0, len(b.ops))}
	for i, r := range b.ops {
		op := own.op(r)
		if op.Kind == OpDeleteRange {
			f.ranges = append(f.ranges, Range{op.Key, op.Value})
			f.rangeAt = append(f.rangeAt, i)
			continue
		}
		f.points = append(f.points, step{op, i})
	}
	return f.fold()
}

// folder turns operations in the order of calls into points in the order of keys.
type folder struct {
	points  []step
	ranges  []Range
	rangeAt []int // where in the batch each range stands
}

type step struct {
	Op
	at int
}

func (f *folder) fold() *Delta {
	slices.SortFunc(f.points, func(x, y step) int {
		return cmp.Or(bytes.Compare(x.Key, y.Key), cmp.Compare(x.at, y.at))
	})
	d := &Delta{Ranges: f.ranges}
	for rest := f.points; len(rest) > 0; {
		n := 1
		for n < len(rest) && bytes.Equal(rest[n].Key, rest[0].Key) {
			n++
		}
		if op, ok := f.foldKey(rest[:n]); ok {
			d.Points = append(d.Points, op)
		}
		rest = rest[n:]
	}
	return d
}

// foldKey combines the operations on one key; false means that the ranges say it all.
func (f *folder) foldKey(steps []step) (Op, bool) {
	cleared := f.clearedAt(steps[0].Key)
	net := Op{Key: steps[0].Key}
	if cleared >= 0 {
		net.Kind = OpDelete
	}
	for _, s := range steps {
		if s.at > cleared {
			net = net.then(s.Op)
		}
	}
	return net, cleared < 0 || net.Kind != OpDelete
}

// clearedAt is the place of the last range that covers key, or -1.
func (f *folder) clearedAt(key []byte) int {
	for i := len(f.ranges) - 1; i >= 0; i-- {
		if f.ranges[i].contains(key) {
			return f.rangeAt[i]
		}
	}
	return -1
}

// then is the operation that does what op and next do one after the other.
func (op Op) then(next Op) Op {
	switch {
	case next.Kind != OpAppend || op.Kind == 0:
		return next
	case op.Kind == OpDelete:
		next.Kind = OpSet
		return next
	default: // Later suffixes share the spare capacity that the first one made.
		op.Value = append(op.Value, next.Value...)
		return op
	}
}

// point finds the operation on key, if there is one.
func (d *Delta) point(key []byte) (Op, bool) {
	i, ok := slices.BinarySearchFunc(d.Points, key, func(op Op, key []byte) int {
		return bytes.Compare(op.Key, key)
	})
	if !ok {
		return Op{}, false
	}
	return d.Points[i], true
}

// within is the points with lo ≤ key < hi.
func (d *Delta) within(lo, hi []byte) []Op {
	from := func(key []byte) int {
		i, _ := slices.BinarySearchFunc(d.Points, key, func(op Op, key []byte) int {
			return bytes.Compare(op.Key, key)
		})
		return i
	}
	end := len(d.Points)
	if len(hi) > 0 {
		end = from(hi)
	}
	return d.Points[min(from(lo), end):end]
}

func (d *Delta) clears(key []byte) bool {
	return slices.ContainsFunc(d.Ranges, func(r Range) bool { return r.contains(key) })
}

// decides tells whether the state of key after d does not depend on the state before.
func (d *Delta) decides(key []byte) bool {
	if op, ok := d.point(key); ok && op.Kind != OpAppend {
		return true
	}
	return d.clears(key)
}

// apply is the state of key after d, given the state before.
func (d *Delta) apply(key, value []byte, exists bool) ([]byte, bool) {
	if exists && d.clears(key) {
		value, exists = nil, false
	}
	switch op, _ := d.point(key); op.Kind {
	case OpSet:
		return op.Value, true
	case OpDelete:
		return nil, false
	case OpAppend:
		return append(slices.Clip(value), op.Value...), true
	default:
		return value, exists
	}
}
