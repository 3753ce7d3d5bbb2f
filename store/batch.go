package store

import (
	"bytes"
	"fmt"
	"iter"
)

// OpKind is what an operation of a batch does.
type OpKind uint8

// The operations of a batch.
const (
	// OpSet writes Value at Key.
	OpSet OpKind = iota + 1
	// OpDelete removes Key if it is there.
	OpDelete
	// OpAppend adds Value to the end of what is at Key, or writes it if there is nothing.
	OpAppend
	// OpDeleteRange removes every key from Key up to, not including, Value; an empty Value
	// means no upper end.
	OpDeleteRange
)

// Op is one operation of a batch. Its slices alias the batch and are valid until it is reset.
type Op struct {
	Kind       OpKind
	Key, Value []byte
}

// Batch collects operations to be applied together, in order: a later one sees the effect of an
// earlier one. It copies keys and values, so callers may reuse their buffers. The zero value is
// empty and ready; a batch is not safe for concurrent use.
//
// An operation over the limits is not added; the first such error is kept for [Batch.Err], and a
// commit of that batch is refused as a whole.
type Batch struct {
	arena []byte
	ops   []opRef
	err   error
}

// opRef finds an operation in the arena: its key starts at off, its value follows.
type opRef struct {
	off, value uint32
	key        uint16
	kind       OpKind
}

// retainBytes is the largest arena that Reset keeps for reuse.
const retainBytes = 4 << 20

// Set writes value at key.
func (b *Batch) Set(key, value []byte) { b.add(OpSet, key, value) }

// Delete removes key if it is there.
func (b *Batch) Delete(key []byte) { b.add(OpDelete, key, nil) }

// Append adds suffix to the end of the value at key, or writes it if there is none. It does not
// read, so it costs the same however long the value is.
func (b *Batch) Append(key, suffix []byte) { b.add(OpAppend, key, suffix) }

// DeleteRange removes every key with lo ≤ key < hi. A nil or empty hi means no upper end.
func (b *Batch) DeleteRange(lo, hi []byte) {
	if len(hi) > 0 && bytes.Compare(lo, hi) >= 0 {
		return
	}
	if len(hi) > MaxKeyBytes {
		b.fail("the upper end of a range has %d bytes, the limit is %d", len(hi), MaxKeyBytes)
		return
	}
	b.add(OpDeleteRange, lo, hi)
}

func (b *Batch) add(kind OpKind, key, value []byte) {
	switch {
	case b.err != nil:
		return
	case len(key) > MaxKeyBytes:
		b.fail("a key has %d bytes, the limit is %d", len(key), MaxKeyBytes)
	case len(value) > MaxValueBytes:
		b.fail("the value of key %q has %d bytes, the limit is %d", key, len(value), MaxValueBytes)
	case len(b.arena)+len(key)+len(value) > MaxBatchBytes:
		b.fail("a batch has more than %d bytes", MaxBatchBytes)
	case len(b.ops) == MaxBatchOps:
		b.fail("a batch has more than %d operations", MaxBatchOps)
	default:
		b.ops = append(b.ops, opRef{
			off: uint32(len(b.arena)), value: uint32(len(value)), key: uint16(len(key)), kind: kind,
		})
		b.arena = append(append(b.arena, key...), value...)
	}
}

func (b *Batch) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("store: "+format+": %w", append(args, ErrTooLarge)...)
	}
}

// Err is nil, or the [ErrTooLarge] of the first operation that was over a limit.
func (b *Batch) Err() error { return b.err }

// Len is the number of operations.
func (b *Batch) Len() int { return len(b.ops) }

// Bytes is the size of the keys and values, in bytes.
func (b *Batch) Bytes() int { return len(b.arena) }

// Reset empties the batch for reuse. It keeps the memory unless that is unusually much.
func (b *Batch) Reset() {
	if cap(b.arena) > retainBytes {
		b.arena, b.ops = nil, nil
	}
	b.arena, b.ops, b.err = b.arena[:0], b.ops[:0], nil
}

// Ops yields the operations in order.
func (b *Batch) Ops() iter.Seq[Op] {
	return func(yield func(Op) bool) {
		for _, r := range b.ops {
			if !yield(b.op(r)) {
				return
			}
		}
	}
}

func (b *Batch) op(r opRef) Op {
	key := r.off + uint32(r.key)
	end := key + r.value
	return Op{Kind: r.kind, Key: b.arena[r.off:key:key], Value: b.arena[key:end:end]}
}
