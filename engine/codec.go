package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// enc writes records in the protobuf wire format, fields in ascending order, zero values
// left out: compact, readable by standard tools, and open to new fields.
type enc struct{ b []byte }

func (e *enc) u(num protowire.Number, v uint64) {
	if v != 0 {
		e.b = protowire.AppendVarint(protowire.AppendTag(e.b, num, protowire.VarintType), v)
	}
}

func (e *enc) i(num protowire.Number, v int64) { e.u(num, protowire.EncodeZigZag(v)) }

func (e *enc) flag(num protowire.Number, v bool) {
	if v {
		e.u(num, 1)
	}
}

func (e *enc) bytes(num protowire.Number, v []byte) {
	if len(v) != 0 {
		e.b = protowire.AppendBytes(protowire.AppendTag(e.b, num, protowire.BytesType), v)
	}
}

func (e *enc) str(num protowire.Number, v string) {
	if v != "" {
		e.b = protowire.AppendString(protowire.AppendTag(e.b, num, protowire.BytesType), v)
	}
}

// strs writes a map as repeated pairs in key order.
func (e *enc) strs(num protowire.Number, m map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		var pair enc
		pair.str(1, k)
		pair.str(2, m[k])
		e.b = protowire.AppendTag(e.b, num, protowire.BytesType)
		e.b = protowire.AppendBytes(e.b, pair.b)
	}
}

// msg writes a nested record, also when it is empty.
func (e *enc) msg(num protowire.Number, f func(*enc)) {
	var in enc
	f(&in)
	e.b = protowire.AppendBytes(protowire.AppendTag(e.b, num, protowire.BytesType), in.b)
}

// field is one decoded field: v for numbers, b (aliasing the input) for bytes.
type field struct {
	num protowire.Number
	v   uint64
	b   []byte
}

func (f field) i() int64  { return protowire.DecodeZigZag(f.v) }
func (f field) s() string { return string(f.b) }
func (f field) flag() bool {
	return f.v != 0
}

// own returns a copy of the field's bytes.
func (f field) own() []byte { return append([]byte(nil), f.b...) }

// pair reads one entry that enc.strs wrote.
func (f field) pair(m map[string]string) error {
	var k, v string
	err := decode(f.b, func(g field) error {
		switch g.num {
		case 1:
			k = g.s()
		case 2:
			v = g.s()
		}
		return nil
	})
	m[k] = v
	return err
}

var errCorrupt = errors.New("stored record is corrupt")

// decode calls fn for every field of a record. Unknown fields are the callee's to ignore.
func decode(b []byte, fn func(field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: %w", errCorrupt, protowire.ParseError(n))
		}
		b = b[n:]
		f := field{num: num}
		switch typ {
		case protowire.VarintType:
			f.v, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.b, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", errCorrupt, num, protowire.ParseError(n))
		}
		b = b[n:]
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}
