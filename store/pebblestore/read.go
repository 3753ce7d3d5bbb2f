package pebblestore

import (
	"encoding/binary"
	"errors"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tutti-run/tutti/store"
)

// view reads the keys of one shard from the database or a snapshot of it.
type view struct {
	db     pebble.Reader
	gate   *gate
	usable func() error
	prefix []byte
}

// Get returns a copy of the value of a key.
func (v *view) Get(key []byte) ([]byte, bool, error) {
	if err := v.enter(); err != nil {
		return nil, false, err
	}
	defer v.gate.leave()
	var buf [64]byte
	return get(v.db, append(append(buf[:0], v.prefix...), key...))
}

func (v *view) enter() error {
	if err := v.gate.enter(); err != nil {
		return err
	}
	if err := v.usable(); err != nil {
		v.gate.leave()
		return err
	}
	return nil
}

func get(db pebble.Reader, key []byte) ([]byte, bool, error) {
	value, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, ioError(err)
	}
	own := append([]byte{}, value...)
	if err := closer.Close(); err != nil {
		return nil, false, ioError(err)
	}
	return own, true, nil
}

// Scan yields the records of a range without copying them.
func (v *view) Scan(lo, hi []byte, opts store.ScanOptions) iter.Seq2[store.KV, error] {
	return func(yield func(store.KV, error) bool) {
		if err := v.enter(); err != nil {
			yield(store.KV{}, err)
			return
		}
		defer v.gate.leave()
		it, err := v.db.NewIter(&pebble.IterOptions{
			LowerBound: append(v.prefix[:prefixLen:prefixLen], lo...), UpperBound: v.upper(hi),
		})
		if err != nil {
			yield(store.KV{}, ioError(err))
			return
		}
		more := walk(it, opts, yield)
		if err := errors.Join(it.Error(), it.Close()); err != nil && more {
			yield(store.KV{}, ioError(err))
		}
	}
}

// upper is the end of a range; the shard ends where the next one starts.
func (v *view) upper(hi []byte) []byte {
	if len(hi) > 0 {
		return append(v.prefix[:prefixLen:prefixLen], hi...)
	}
	return binary.BigEndian.AppendUint16(nil, binary.BigEndian.Uint16(v.prefix)+1)
}

// walk yields records; false means that the loop is over for the caller.
func walk(it *pebble.Iterator, o store.ScanOptions, yield func(store.KV, error) bool) bool {
	first, next := it.First, it.Next
	if o.Reverse {
		first, next = it.Last, it.Prev
	}
	count := 0
	for ok := first(); ok; ok = next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return true // the iterator keeps it
		}
		if !yield(store.KV{Key: it.Key()[prefixLen:], Value: value}, nil) {
			return false
		}
		if count++; count == o.Limit {
			return true
		}
	}
	return true
}
