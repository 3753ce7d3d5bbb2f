package enginetest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// Options adjust a harness. The zero value is one shard that never crashes, with Toy.
type Options struct {
	Shards    int
	Dialects  map[string]tutti.Dialect // Toy is added
	CacheRuns int
	NowMs     int64 // the first time; by default some moment of 2026
	// Unobserved leaves notifications out.
	Unobserved bool
	// CrashEverywhere drops the shard's memory after every batch, and forms every batch
	// twice, each time from the rows alone: both must be equal byte for byte.
	CrashEverywhere bool
	// HoldMail leaves messages between shards to the test, which calls DeliverMail.
	HoldMail bool
	// DuplicateMail delivers every message twice and loses the first acknowledgement.
	DuplicateMail bool
	// Alter and Lose break the engine on purpose, to prove that a test can fail: Alter
	// changes commands on their way in, Lose loses writes on their way out.
	Alter func(cmd engine.Command) engine.Command
	Lose  func(del bool, key []byte) bool
	// SkipFinalCheck leaves out the check of the invariants when the test ends.
	SkipFinalCheck bool
}

// Harness is a set of shards with everything around them under the test's control. It is
// used by one goroutine.
type Harness struct {
	t      testing.TB
	opts   Options
	now    int64
	shards []*shard
	defs   map[string]*tutti.Source
	names  uint64 // entropy of identifiers
	match  *matcher

	timers []Timer // in no order
	ready  map[string][]engine.Ready
	handed map[uint64]*engine.HandOut // hand-outs that nobody has fetched, by poll

	// What the effects said, for tests to look at and to clear.
	Ended   []tutti.Run
	Revoked []engine.Revoked
	Freed   []uint64
	Docs    []engine.DocChange
	Letters []string
	Notes   []engine.Notification
	Batches int
	// ReadyEffects counts the tasks that effects told of as waiting for a worker.
	ReadyEffects int
}

// Timer is a wake-up of a shard.
type Timer struct {
	Shard int
	engine.Timer
}

type shard struct {
	id    int
	rows  *Rows
	eng   *engine.Shard
	mail  []engine.Send // outgoing, not known to be applied, in order for each receiver
	acked map[int]uint64
}

// startMs is the first time of a harness that is not given one.
const startMs = 1_790_000_000_000

// New returns a harness. When the test ends the invariants are checked once more.
func New(t testing.TB, opts Options) *Harness {
	t.Helper()
	opts.Shards = max(opts.Shards, 1)
	dialects := map[string]tutti.Dialect{"toy": Toy{}}
	for name, d := range opts.Dialects {
		dialects[name] = d
	}
	opts.Dialects = dialects
	h := &Harness{
		t: t, opts: opts, now: opts.NowMs, defs: map[string]*tutti.Source{},
		ready: map[string][]engine.Ready{}, handed: map[uint64]*engine.HandOut{},
	}
	if h.now == 0 {
		h.now = startMs
	}
	h.match = &matcher{h: h, polls: map[string]int64{}}
	for i := range opts.Shards {
		s := &shard{id: i, rows: new(Rows), acked: map[int]uint64{}}
		s.eng = h.newShard(i)
		h.shards = append(h.shards, s)
	}
	t.Cleanup(func() {
		if !t.Failed() && !opts.SkipFinalCheck {
			h.CheckInvariants()
		}
	})
	return h
}

func (h *Harness) newShard(id int) *engine.Shard {
	return engine.NewShard(id, h.opts.Shards, engine.Options{
		Dialects: h.opts.Dialects, Resolve: h.resolve, Matcher: h.match,
		CacheRuns: h.opts.CacheRuns, Unobserved: h.opts.Unobserved,
	})
}

func (h *Harness) resolve(_, _, name string, _ int) (*tutti.Source, error) {
	if src, ok := h.defs[name]; ok {
		return src, nil
	}
	return nil, tutti.E(tutti.NotFound, "resolve", "NoSuchDefinition", "no definition "+name)
}

// Define registers a Toy definition for starts by name.
func (h *Harness) Define(name, body string) *tutti.Source {
	return h.DefineSource(&tutti.Source{
		Dialect: "toy", Name: name, Version: 1, Body: value.Raw(body),
	})
}

// DefineSource registers a definition of any dialect.
func (h *Harness) DefineSource(src *tutti.Source) *tutti.Source {
	h.defs[src.Name] = src
	return src
}

// Now is the time.
func (h *Harness) Now() int64 { return h.now }

// View reads a shard.
func (h *Harness) View(shard int) engine.View { return engine.NewView(h.shards[shard].rows) }

// Rows are the rows of a shard.
func (h *Harness) Rows(shard int) *Rows { return h.shards[shard].rows }

// ViewOf reads the shard of a run.
func (h *Harness) ViewOf(id tutti.RunID) engine.View { return h.View(id.Shard(h.opts.Shards)) }

// StartError starts a run of a registered definition, on the shard where its idempotency
// key or run limit lives if it has one.
func (h *Harness) StartError(spec tutti.RunSpec) (engine.Started, error) {
	h.t.Helper()
	src := spec.Source
	if src == nil {
		var err error
		if src, err = h.resolve("", "", spec.Definition, spec.Version); err != nil {
			return engine.Started{}, err
		}
	}
	h.names++
	id := tutti.NewRunID(h.now, h.names*0x9e3779b97f4a7c15)
	switch {
	case spec.IdempotencyKey != "":
		on := engine.StartKeyShard(
			spec.Namespace, spec.Definition, spec.IdempotencyKey, h.opts.Shards)
		id = id.OnShard(on, h.opts.Shards)
	case spec.Limit != nil:
		on := engine.RunLimitShard(spec.Namespace, spec.Limit.Key, h.opts.Shards)
		id = id.OnShard(on, h.opts.Shards)
	}
	res, err := h.Do(engine.Start{ID: id, Spec: spec, Source: src})
	st, _ := res.(engine.Started)
	return st, err
}

// Start starts a run and fails the test when that is refused.
func (h *Harness) Start(spec tutti.RunSpec) tutti.RunID {
	h.t.Helper()
	st, err := h.StartError(spec)
	if err != nil {
		h.t.Fatalf("start %s: %v", spec.Definition, err)
	}
	return st.ID
}

// StartToy registers a Toy definition under a name of its own and starts it.
func (h *Harness) StartToy(body string) tutti.RunID {
	h.t.Helper()
	name := fmt.Sprintf("toy%d", len(h.defs))
	h.Define(name, body)
	return h.Start(tutti.RunSpec{Definition: name})
}

// Do applies a command in a batch of its own, on the shard that it is for, and everything
// that follows from it at once.
func (h *Harness) Do(cmd engine.Command) (any, error) {
	h.t.Helper()
	res := h.DoAll(h.shardOf(cmd), cmd)
	h.settle()
	return res[0].Value, res[0].Err
}

// MustDo is Do for commands that must not be refused.
func (h *Harness) MustDo(cmd engine.Command) any {
	h.t.Helper()
	res, err := h.Do(cmd)
	if err != nil {
		h.t.Fatalf("%T: %v", cmd, err)
	}
	return res
}

func (h *Harness) shardOf(cmd engine.Command) int {
	run := func(id tutti.RunID) int { return id.Shard(h.opts.Shards) }
	switch c := cmd.(type) {
	case engine.Start:
		return run(c.ID)
	case engine.Within:
		return run(c.Run)
	case engine.Lease:
		return run(c.Run)
	case engine.Complete:
		return run(c.Run)
	case engine.ReturnLease:
		return run(c.Run)
	case engine.Extend:
		return run(c.Run)
	case engine.AddLogs:
		return run(c.Run)
	case engine.Pause:
		return run(c.Run)
	case engine.Resume:
		return run(c.Run)
	case engine.Terminate:
		return run(c.Run)
	case engine.Retry:
		return run(c.Run)
	case engine.Restart:
		return run(c.Run)
	case engine.Rerun:
		return run(c.Run)
	case engine.Skip:
		return run(c.Run)
	case engine.Decide:
		return run(c.Run)
	case engine.ResetCallbacks:
		return run(c.Run)
	case engine.SetVariables:
		return run(c.Run)
	case engine.Remove:
		return run(c.Run)
	case engine.Repair:
		return run(c.Run)
	case engine.Wake:
		return run(c.Run)
	case engine.PutLetter:
		return engine.KeyShard(c.Box, h.opts.Shards)
	case engine.DropLetter:
		return engine.KeyShard(c.Box, h.opts.Shards)
	case engine.PutDocument, engine.DeleteDocument:
		return engine.DocumentShard
	}
	h.t.Fatalf("enginetest: which shard is a %T for?", cmd)
	return 0
}

// Result is what came of a command.
type Result struct {
	Value any
	Err   error
}

// DoAll applies commands in one batch of a shard and the batch's effects. It does not
// deliver messages.
func (h *Harness) DoAll(shard int, cmds ...engine.Command) []Result {
	h.t.Helper()
	s := h.shards[shard]
	h.Batches++
	if h.opts.CrashEverywhere {
		return h.crashing(s, cmds)
	}
	w, fx, res := h.batch(s.eng, s.rows, cmds)
	w.apply(s.rows)
	h.effects(s, fx)
	return res
}

func (h *Harness) batch(
	eng *engine.Shard, rows *Rows, cmds []engine.Command,
) (*writes, *engine.Effects, []Result) {
	h.t.Helper()
	w := new(writes)
	b := eng.Begin(rows, w, h.now)
	var res []Result
	for _, cmd := range cmds {
		if h.opts.Alter != nil {
			cmd = h.opts.Alter(cmd)
		}
		v, err := b.Do(cmd)
		var e *tutti.Error
		if err != nil && !errors.As(err, &e) {
			h.t.Fatalf("%T: the shard failed: %v", cmd, err)
		}
		res = append(res, Result{v, err})
	}
	fx, err := b.Finish()
	if err != nil {
		h.t.Fatalf("finish: the shard failed: %v", err)
	}
	if h.opts.Lose != nil {
		w.ops = slices.DeleteFunc(w.ops, func(o op) bool {
			return h.opts.Lose(o.kind == opDelete, []byte(o.key))
		})
	}
	return w, fx, res
}

// crashing forms the batch twice from the rows alone, compares, and drops the memory.
func (h *Harness) crashing(s *shard, cmds []engine.Command) []Result {
	h.t.Helper()
	free := h.match.save()
	w1, fx1, _ := h.batch(h.newShard(s.id), s.rows, cmds)
	h.match.restore(free)
	w2, fx2, res := h.batch(h.newShard(s.id), s.rows, cmds)
	if !slices.Equal(w1.ops, w2.ops) {
		h.t.Fatalf("a repeated batch of %T writes other rows:\n%v\n%v", cmds[0], w1.ops, w2.ops)
	}
	if !sameEffects(*fx1, *fx2) {
		h.t.Fatalf("a repeated batch of %T has other effects:\n%+v\n%+v", cmds[0], fx1, fx2)
	}
	w2.apply(s.rows)
	h.effects(s, fx2)
	h.CrashShard(s.id)
	return res
}

// sameEffects compares what leaves the shard; notes are for metrics only.
func sameEffects(a, b engine.Effects) bool {
	a.Notes, b.Notes = nil, nil
	return reflect.DeepEqual(a, b)
}

// effects does what a batch asks for once it is durable.
func (h *Harness) effects(s *shard, fx *engine.Effects) {
	h.ReadyEffects += len(fx.Ready)
	for _, r := range fx.Ready {
		h.addReady(r)
	}
	for i := range fx.Handed {
		h.handed[fx.Handed[i].Poll] = &fx.Handed[i]
	}
	for _, tm := range fx.Timers {
		h.timers = append(h.timers, Timer{s.id, tm})
	}
	s.mail = append(s.mail, fx.Sends...)
	for _, a := range fx.Acks {
		from := h.shards[a.From]
		if from.acked[s.id] < a.Number {
			h.acknowledge(from, s.id, a.Number)
		}
	}
	for _, poll := range fx.Freed {
		h.match.freed(poll)
	}
	h.Ended = append(h.Ended, fx.Ended...)
	h.Revoked = append(h.Revoked, fx.Revoked...)
	h.Freed = append(h.Freed, fx.Freed...)
	h.Docs = append(h.Docs, fx.Docs...)
	h.Letters = append(h.Letters, fx.Letters...)
	h.Notes = append(h.Notes, fx.Notes...)
}

// Crash drops the memory of every shard and rebuilds it from the rows.
func (h *Harness) Crash() {
	for i := range h.shards {
		h.CrashShard(i)
	}
}

// CrashShard drops the memory of one shard, its timers, ready tasks and mail, and rebuilds
// it from the rows.
func (h *Harness) CrashShard(shard int) {
	h.t.Helper()
	s := h.shards[shard]
	s.eng = h.newShard(shard)
	s.mail = nil
	v := h.View(shard)
	err := v.Outbox(func(m engine.Send) bool {
		s.mail = append(s.mail, m)
		return true
	})
	h.check(err)
	h.timers = slices.DeleteFunc(h.timers, func(tm Timer) bool { return tm.Shard == shard })
	h.check(v.Wakes(0, engine.Forever, func(tm engine.Timer) bool {
		if !h.restsUntilResumed(tm) {
			h.timers = append(h.timers, Timer{shard, tm})
		}
		return true
	}))
	for q, list := range h.ready {
		h.ready[q] = slices.DeleteFunc(list, func(r engine.Ready) bool {
			return r.Run.Shard(h.opts.Shards) == shard
		})
	}
	h.check(v.ReadyTasks("", func(r engine.Ready) bool {
		h.addReady(r)
		return true
	}))
}

func (h *Harness) check(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}
