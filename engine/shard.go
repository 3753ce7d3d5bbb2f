// Package engine is the kernel of the orchestrator: it decides what each event means for
// the runs of one shard and which rows and effects follow.
//
// It is pure. It imports the root package, value and the wire primitives of protobuf, and
// nothing that reads a clock, starts a goroutine or touches a disk. The caller (package
// runner) gives it commands, the time, and a transaction; it writes rows to the
// transaction and returns effects. The caller must make the rows durable before it acts on
// any effect (invariant I2), and must throw the Shard away when a commit fails.
//
// What a row holds and when it exists is a function of the records: derived rows (wake-ups,
// ready queue, search index) are computed from a record as it was loaded and as it is when
// the batch ends, and only the difference is written. So no code path can forget one.
package engine

import (
	"container/list"

	"github.com/tutti-run/tutti"
)

// Rows is the read side of a shard's key space: everything committed so far.
type Rows interface {
	// Get returns the value of a key. The caller owns the result.
	Get(key []byte) ([]byte, bool, error)
	// Scan calls fn for the rows in [lo, hi), in order or in reverse, until it returns
	// false. The slices are valid only within the call.
	Scan(lo, hi []byte, reverse bool, fn func(k, v []byte) bool) error
}

// Writes collects the rows of one batch. Implementations copy keys and values.
type Writes interface {
	Set(key, val []byte)
	Delete(key []byte)
	Append(key, suffix []byte)
	DeleteRange(lo, hi []byte)
}

// Matcher knows the workers that are waiting. The engine asks it while it forms a batch, so
// that a task that becomes ready and finds a worker is stored once, already handed out.
type Matcher interface {
	// Reserve takes a waiting worker for a task of the queue, unless none waits or older
	// tasks of the queue do. The reservation lasts until the effect is delivered.
	Reserve(queue string) (Slot, bool)
	// LastPoll is when a worker last asked for tasks of the queue (Unix ms), 0 for never.
	LastPoll(queue string) int64
}

// Slot is a worker's request for one task.
type Slot struct {
	Poll    uint64 // names the request
	Worker  string
	LeaseMs int64 // length of the lease that the worker keeps alive; 0 = the task's own
}

// Resolver finds definitions that are started by name from within a run.
type Resolver func(namespace, dialect, name string, version int) (*tutti.Source, error)

// Options are what a shard needs from outside. Dialects, Resolve and Matcher are
// required.
type Options struct {
	Dialects map[string]tutti.Dialect
	Resolve  Resolver
	Matcher  Matcher
	// Documents shows programs the catalogue of a namespace and dialect; nil = empty.
	Documents func(namespace, dialect string) tutti.Documents
	CacheRuns int // runs kept in memory, 4,096 when zero; an idle run costs none
	// Unobserved leaves out notifications, when nobody looks at them.
	Unobserved bool
}

// Shard is one slice of all runs, with the caches of its single writer. It is used by one
// goroutine. After a failed commit it must be replaced by a new one.
type Shard struct {
	id     int
	shards int
	opts   Options

	runs     map[tutti.RunID]*list.Element // of *runState
	lru      *list.List
	programs map[tutti.Hash]tutti.Program
	sources  map[tutti.Hash]bool // known to be stored
	limits   map[string]*limitState
	sent     map[uint16]uint64
	applied  map[uint16]uint64
	mail     map[string]box
}

// NewShard returns shard id of shards.
func NewShard(id, shards int, opts Options) *Shard {
	if opts.CacheRuns == 0 {
		opts.CacheRuns = 4096
	}
	return &Shard{
		id: id, shards: shards, opts: opts,
		runs: map[tutti.RunID]*list.Element{}, lru: list.New(),
		programs: map[tutti.Hash]tutti.Program{}, sources: map[tutti.Hash]bool{},
		limits: map[string]*limitState{},
		sent:   map[uint16]uint64{}, applied: map[uint16]uint64{}, mail: map[string]box{},
	}
}

// Begin opens a batch at a time. Only one batch may be open.
func (s *Shard) Begin(rows Rows, w Writes, nowMs int64) *Batch {
	return &Batch{s: s, rows: rows, w: w, now: nowMs, over: map[string][]byte{}}
}

// remember puts a run into the cache, or to its front.
func (s *Shard) remember(r *runState) {
	if el, ok := s.runs[r.ID]; ok {
		s.lru.MoveToFront(el)
		return
	}
	s.runs[r.ID] = s.lru.PushFront(r)
}

func (s *Shard) forget(id tutti.RunID) {
	if el, ok := s.runs[id]; ok {
		s.lru.Remove(el)
		delete(s.runs, id)
	}
}

// shrink drops the runs used longest ago. Nothing in the cache is dirty between batches.
func (s *Shard) shrink() {
	for s.lru.Len() > s.opts.CacheRuns {
		s.forget(s.lru.Back().Value.(*runState).ID)
	}
}

// maxPrograms bounds the compiled definitions a shard keeps; over it all are dropped, as
// compiling again is cheap beside bookkeeping on every use.
const maxPrograms = 2048

// program returns the compiled form of a stored source.
func (b *Batch) program(dialect string, hash tutti.Hash) (tutti.Program, error) {
	if p, ok := b.s.programs[hash]; ok {
		return p, nil
	}
	raw, ok := b.get(sourceKey(hash))
	if !ok {
		return nil, tutti.E(tutti.Internal, "load program", "SourceMissing",
			"the definition that the run is pinned to is not in the store")
	}
	src, err := decodeSource(raw)
	if err != nil {
		return nil, err
	}
	return b.s.compile(hash, src)
}

func (s *Shard) compile(hash tutti.Hash, src *tutti.Source) (tutti.Program, error) {
	d, ok := s.opts.Dialects[src.Dialect]
	if !ok {
		return nil, tutti.E(tutti.Unsupported, "compile", "UnknownDialect",
			"this server has no dialect "+src.Dialect)
	}
	p, diags := d.Compile(src)
	if p == nil {
		return nil, tutti.E(tutti.Invalid, "compile "+src.Name, "InvalidDefinition",
			diags.Error())
	}
	if len(s.programs) >= maxPrograms {
		clear(s.programs)
	}
	s.programs[hash] = p
	return p, nil
}

func sourceKey(h tutti.Hash) []byte { return append([]byte{tableSource}, h[:]...) }

// SourceHash names a source by what it means: its dialect and body.
func SourceHash(src *tutti.Source) tutti.Hash {
	return HashOf(append([]byte(src.Dialect+"\x00"), src.Body...))
}

func encodeSource(src *tutti.Source) []byte {
	var e enc
	e.str(1, src.Dialect)
	e.str(2, src.Name)
	e.u(3, uint64(src.Version))
	e.bytes(4, src.Body)
	return e.b
}

func decodeSource(b []byte) (*tutti.Source, error) {
	src := new(tutti.Source)
	err := decode(b, func(f field) error {
		switch f.num {
		case 1:
			src.Dialect = f.s()
		case 2:
			src.Name = f.s()
		case 3:
			src.Version = int(f.v)
		case 4:
			src.Body = f.own()
		}
		return nil
	})
	return src, err
}

// keepSource stores a source that the shard does not have and returns its name.
// The name is computed when it is zero.
func (b *Batch) keepSource(
	src *tutti.Source, hash tutti.Hash,
) (tutti.Hash, tutti.Program, error) {
	if hash == (tutti.Hash{}) {
		hash = SourceHash(src)
	}
	p, ok := b.s.programs[hash]
	if !ok {
		var err error
		if p, err = b.s.compile(hash, src); err != nil {
			return hash, nil, err
		}
	}
	if !b.s.sources[hash] {
		if _, ok := b.get(sourceKey(hash)); !ok {
			b.set(sourceKey(hash), encodeSource(src))
		}
		if len(b.s.sources) >= maxPrograms {
			clear(b.s.sources)
		}
		b.s.sources[hash] = true
	}
	return hash, p, nil
}
