package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tutti-run/tutti"
)

// The tables of a shard: the first byte of a key. Rows of a run share the prefix
// 'r' + run, so that they lie side by side and are removed as one range.
const (
	tableRun      = 'r' // run(16) part(1) …
	tableIndex    = 'i' // namespace 0 status(1) definition 0 start(8) run(16) → end(8)
	tableCorr     = 'j' // namespace 0 correlation 0 start(8) run(16) → status
	tableLabel    = 'l' // namespace 0 name 0 value 0 start(8) run(16) → status
	tableWake     = 'w' // due(8) run(16) seq(4)
	tableReady    = 'q' // queue 0 99-priority(1) ready(8) run(16) seq(4) → fairness hash(4)
	tableOutbox   = 'm' // destination(2) number(8) → message
	tableSent     = 'M' // destination(2) → last number used
	tableApplied  = 'n' // source(2) → last number applied
	tableSource   = 's' // hash(16) → Source
	tableStartKey = 'x' // namespace 0 definition 0 key → run(16)
	tableDoc      = 'd' // namespace 0 dialect 0 kind 0 name 0 version(4) → document
	tableLimit    = 'L' // key 0 part …
	tableLimitID  = 'N' // hash(16) → key of the limit that a wake row stands for
	tableCache    = 'C' // hash(16) → output and its end; nothing → number of outputs
	tableMail     = 'E' // box 0 number(8) → letter
)

// Parts of a run.
const (
	partHead    = 'h' // what does not change after the start
	partHot     = 'k' // what changes with every turn, the root frame included
	partTask    = 't' // seq(4)
	partFrame   = 'f' // frame(4)
	partCell    = 'c' // name
	partOpen    = 'o' // seq(4): an open task beyond those listed in the hot row
	partPayload = 'p' // hash(16)
	partHistory = 'y' // segment(4)
	partLog     = 'g' // seq(4): log lines of a task
)

// Forever is the due time of what only a signal or message can end.
const Forever = int64(math.MaxInt64)

// Numbers in the place of a task in wake rows.
const (
	wakeRunTimeout = tutti.Seq(0)
	wakePosts      = tutti.Seq(math.MaxUint32)
	wakeLimit      = tutti.Seq(math.MaxUint32 - 1)
	wakeCache      = tutti.Seq(math.MaxUint32 - 2)
)

func be16(b []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(b, v) }
func be32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }
func be64(b []byte, v int64) []byte  { return binary.BigEndian.AppendUint64(b, uint64(v)) }

func runKey(id tutti.RunID, part byte) []byte {
	b := make([]byte, 0, 34)
	b = append(b, tableRun)
	b = append(b, id[:]...)
	return append(b, part)
}

func taskKey(id tutti.RunID, seq tutti.Seq) []byte {
	return be32(runKey(id, partTask), uint32(seq))
}

func numberedKey(id tutti.RunID, part byte, n uint32) []byte {
	return be32(runKey(id, part), n)
}

func cellKey(id tutti.RunID, name string) []byte {
	return append(runKey(id, partCell), name...)
}

// runRange is the range of every row of a run.
func runRange(id tutti.RunID) (lo, hi []byte) {
	lo = append([]byte{tableRun}, id[:]...)
	return lo, prefixEnd(lo)
}

// prefixEnd is the first key after all keys that begin with p.
func prefixEnd(p []byte) []byte {
	end := append([]byte(nil), p...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

func wakeKey(due int64, id tutti.RunID, seq tutti.Seq) []byte {
	b := be64(append(make([]byte, 0, 29), tableWake), due)
	return be32(append(b, id[:]...), uint32(seq))
}

func decodeWake(k []byte) (due int64, id tutti.RunID, seq tutti.Seq, ok bool) {
	if len(k) != 29 || k[0] != tableWake {
		return 0, id, 0, false
	}
	copy(id[:], k[9:25])
	return int64(binary.BigEndian.Uint64(k[1:9])), id, tutti.Seq(binary.BigEndian.Uint32(k[25:])), true
}

// text appends strings that end with a zero byte each. Zero bytes within them are written
// so that no string can look like two, or like the beginning of another.
func text(b []byte, parts ...string) []byte {
	for _, p := range parts {
		if strings.IndexByte(p, 0) >= 0 || strings.IndexByte(p, 1) >= 0 {
			p = escapeZero.Replace(p)
		}
		b = append(append(b, p...), 0)
	}
	return b
}

var (
	escapeZero   = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02")
	unescapeZero = strings.NewReplacer("\x01\x01", "\x00", "\x01\x02", "\x01")
)

// splitText reads up to n strings that text wrote.
func splitText(b []byte, n int) (parts []string, tail []byte) {
	at := 0
	for i := 0; i < len(b) && len(parts) < n; i++ {
		if b[i] == 0 {
			parts = append(parts, unescape(b[at:i]))
			at = i + 1
		}
	}
	return parts, b[at:]
}

func unescape(b []byte) string {
	if bytes.IndexByte(b, 1) < 0 {
		return string(b)
	}
	return unescapeZero.Replace(string(b))
}

func readyKey(queue string, priority int, readyMs int64, id tutti.RunID, seq tutti.Seq) []byte {
	b := text(append(make([]byte, 0, len(queue)+31), tableReady), queue)
	b = be64(append(b, byte(99-clampPriority(priority))), readyMs)
	return be32(append(b, id[:]...), uint32(seq))
}

func clampPriority(p int) int { return min(max(p, 0), 99) }

func decodeReady(k []byte) (r Ready, ok bool) {
	const tail = 1 + 8 + 16 + 4
	if len(k) < 2+tail || k[0] != tableReady {
		return r, false
	}
	at := len(k) - tail
	r.Queue = unescape(k[1 : at-1])
	r.Priority = 99 - int(k[at])
	r.ReadyMs = int64(binary.BigEndian.Uint64(k[at+1:]))
	copy(r.Run[:], k[at+9:])
	r.Seq = tutti.Seq(binary.BigEndian.Uint32(k[at+25:]))
	return r, true
}

func indexKey(ns string, st tutti.RunStatus, def string, startMs int64, id tutti.RunID) []byte {
	b := text([]byte{tableIndex}, ns)
	b = text(append(b, byte(st)), def)
	return append(be64(b, startMs), id[:]...)
}

func labelKey(table byte, ns string, names []string, startMs int64, id tutti.RunID) []byte {
	b := text(text([]byte{table}, ns), names...)
	return append(be64(b, startMs), id[:]...)
}

// tailRun reads the start time and run that end an index key.
func tailRun(k []byte) (startMs int64, id tutti.RunID) {
	at := len(k) - 24
	copy(id[:], k[at+8:])
	return int64(binary.BigEndian.Uint64(k[at:])), id
}

func docKey(ns, dialect, kind, name string, version int) []byte {
	return be32(text([]byte{tableDoc}, ns, dialect, kind, name), uint32(version))
}

func startKeyKey(ns, def, key string) []byte {
	return append(text([]byte{tableStartKey}, ns, def), key...)
}

func outboxKey(dst uint16, n uint64) []byte {
	return be64(be16([]byte{tableOutbox}, dst), int64(n))
}

// QueueKey is the stored name of a queue: unique over namespaces.
func QueueKey(namespace, queue string) string { return namespace + "/" + queue }

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
