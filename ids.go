package tutti

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/fnv"
)

// seqBits is the width of the task number inside a task identifier.
const seqBits = 28

// MaxTasks is the largest number of task attempts one run may create (2^28 - 1). A run that
// would pass it ends as failed with an Exhausted error.
const MaxTasks = 1<<seqBits - 1

// seqMask covers the low bits of an identifier that carry the task number.
const seqMask = uint64(1)<<seqBits - 1

// Seq numbers the task attempts of one run, from 1 in creation order.
type Seq uint32

// FrameID numbers the frames of one run; 0 is the root frame.
type FrameID uint32

// RunID identifies a run. It is a 128-bit value with the layout of a UUID version 7
// (RFC 9562): 48 bits of start time in milliseconds, then entropy. The low 28 bits are a
// function of the others, so that a run and its tasks share one identifier space: the
// identifier of task n is the run's identifier with n mixed into those bits. Either can be
// told from the other, and a task's run is found without an index.
type RunID [16]byte

// NewRunID builds the identifier of a run started at the given Unix time in milliseconds
// from 64 random bits. Equal arguments give equal identifiers.
func NewRunID(startMs int64, entropy uint64) RunID {
	var id RunID
	hi := uint64(startMs)<<16 | 0x7000 | entropy>>52
	lo := 1<<63 | (entropy<<10)>>2&^seqMask
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	return id.withSeq(0)
}

// ChildRunID derives the identifier of the run that task seq of a parent starts, so that a
// repeated turn names the same child.
func ChildRunID(parent RunID, seq Seq, startMs int64) RunID {
	h := fnv.New64a()
	_, _ = h.Write(parent[:])
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(seq))
	_, _ = h.Write(b[:])
	return NewRunID(startMs, mix(h.Sum64()))
}

// OnShard returns the identifier changed so that Shard(shards) is the given shard. Callers
// use it to place a run beside the row that must be unique for it.
func (id RunID) OnShard(shard, shards int) RunID {
	lo := binary.BigEndian.Uint64(id[8:])
	tag := (lo >> seqBits) & 0xffff
	tag = tag - tag%uint64(shards) + uint64(shard)
	if tag > 0xffff {
		tag -= uint64(shards)
	}
	lo = lo&^(uint64(0xffff)<<seqBits) | tag<<seqBits
	binary.BigEndian.PutUint64(id[8:], lo)
	return id.withSeq(0)
}

// Shard returns the shard, below shards, that owns the run.
func (id RunID) Shard(shards int) int {
	lo := binary.BigEndian.Uint64(id[8:])
	return int((lo >> seqBits) & 0xffff % uint64(shards))
}

// StartMs returns the start time in Unix milliseconds that the identifier carries.
func (id RunID) StartMs() int64 { return int64(binary.BigEndian.Uint64(id[:8]) >> 16) }

// IsZero reports whether the identifier is unset.
func (id RunID) IsZero() bool { return id == RunID{} }

// String formats the identifier as a lower-case UUID.
func (id RunID) String() string {
	var b [36]byte
	hex.Encode(b[0:8], id[0:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:36], id[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// TaskID returns the identifier of the run's task attempt seq as a lower-case UUID.
func (id RunID) TaskID(seq Seq) string { return id.withSeq(seq).String() }

// ParseRunID reads a run identifier. Text that is no identifier of a run is a NotFound
// error, since no run can have that name.
func ParseRunID(s string) (RunID, error) {
	id, seq, err := ParseTaskID(s)
	if err == nil && seq != 0 {
		err = fmt.Errorf("%q names a task, not a run", s)
	}
	if err != nil {
		return RunID{}, &Error{Kind: NotFound, Op: "parse run id", Code: "RunNotFound", Err: err}
	}
	return id, nil
}

// ParseTaskID splits a task identifier into its run and number. The number is 0 when s is
// the identifier of a run.
func ParseTaskID(s string) (RunID, Seq, error) {
	var id RunID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return RunID{}, 0, badID(s)
	}
	at := 0
	for _, part := range []string{s[0:8], s[9:13], s[14:18], s[19:23], s[24:36]} {
		n, err := hex.Decode(id[at:], []byte(part))
		if err != nil {
			return RunID{}, 0, badID(s)
		}
		at += n
	}
	if id[6]>>4 != 7 || id[8]>>6 != 2 {
		return RunID{}, 0, badID(s)
	}
	lo := binary.BigEndian.Uint64(id[8:])
	seq := Seq((lo ^ id.pad()) & seqMask)
	return id.withSeq(0), seq, nil
}

func badID(s string) error {
	return &Error{
		Kind: NotFound, Op: "parse id", Code: "MalformedID",
		Err:  fmt.Errorf("%q is not an identifier of a run or task", s),
		Hint: "identifiers are UUIDs as returned when the run was started",
	}
}

// withSeq returns the identifier with its low bits set for the given task number.
func (id RunID) withSeq(seq Seq) RunID {
	lo := binary.BigEndian.Uint64(id[8:])
	lo = lo&^seqMask | (id.pad()^uint64(seq))&seqMask
	binary.BigEndian.PutUint64(id[8:], lo)
	return id
}

// pad is what the low bits hold for task number 0: a hash of all other bits.
func (id RunID) pad() uint64 {
	hi := binary.BigEndian.Uint64(id[:8])
	lo := binary.BigEndian.Uint64(id[8:]) &^ seqMask
	return mix(hi^mix(lo)) & seqMask
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection with good
// avalanche.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
