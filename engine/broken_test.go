package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

// referee is a test that notes its failure instead of failing.
type referee struct {
	testing.TB
	verdict string
}

func (r *referee) Helper()        {}
func (r *referee) Cleanup(func()) {}
func (r *referee) Failed() bool   { return r.verdict != "" }

func (r *referee) Fatalf(format string, args ...any) {
	r.verdict = fmt.Sprintf(format, args...)
	panic(r)
}

func (r *referee) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// judge runs a scenario and returns how it failed, if it did.
func judge(t *testing.T, opts enginetest.Options, play func(r testing.TB, h *enginetest.Harness)) string {
	t.Helper()
	r := &referee{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != any(r) {
				panic(p)
			}
		}()
		h := enginetest.New(r, opts)
		play(r, h)
		h.CheckInvariants()
	}()
	return r.verdict
}

// lose loses the writes of one table.
func lose(table byte, deletes bool) func(bool, []byte) bool {
	return func(del bool, key []byte) bool { return key[0] == table && del == deletes }
}

// losePart loses the writes of one part of the runs.
func losePart(part byte) func(bool, []byte) bool {
	return func(_ bool, key []byte) bool { return key[0] == 'r' && len(key) > 17 && key[17] == part }
}

// busy does a bit of everything.
func busy(r testing.TB, h *enginetest.Harness) {
	h.Define("child", `[{"task":"c","limit":{"key":"k","concurrency":1,"rate":5,"window":1000}}]`)
	h.Define("d", `[{"task":"a","response":1000,"retries":1},{"fork":60,"steps":[{"task":"b"}]},
		{"child":"child"},{"wait":500}]`)
	var ids []tutti.RunID
	for range 3 {
		ids = append(ids, h.Start(tutti.RunSpec{Definition: "d", CorrelationID: "c"}))
	}
	first := h.Poll("a", "slow")
	if first == nil {
		r.Fatal("nothing was handed out")
	}
	h.CheckInvariants()
	h.Advance(1000) // its lease ends, and the retry begins
	for range 100 {
		h.Work("a")
		h.Work("b")
		h.Work("c")
		h.CheckInvariants()
		h.Advance(1000)
	}
	for _, id := range ids {
		if run := h.Run(id); run.Status != tutti.RunCompleted {
			r.Fatalf("a run is %s: %s", run.Status, run.Reason)
		}
	}
}

// twice tries to complete a task twice, and to do so after its lease is gone.
func twice(r testing.TB, h *enginetest.Harness) {
	id := h.StartToy(`[{"task":"a"},{"task":"b"}]`)
	first := h.PollSession("a", "slow", 1000)
	h.Advance(1000)
	second := h.Poll("a", "quick")
	if first == nil || second == nil {
		r.Fatal("nothing was handed out")
	}
	if _, err := h.CompleteError(first, engine.Outcome{Status: tutti.Completed}); err == nil {
		r.Fatal("a stale completion was taken")
	}
	h.Complete(second, "")
	h.Complete(h.Poll("b", "w"), "")
	if h.Run(id).Status != tutti.RunCompleted {
		r.Fatal("the run did not end")
	}
}

// limited hands out what a limit of one allows, and looks while it is held.
func limited(r testing.TB, h *enginetest.Harness) {
	h.Define("d", `[{"task":"a","limit":{"key":"k","concurrency":1,"rate":1,"window":10000}}]`)
	for range 3 {
		h.Start(tutti.RunSpec{Definition: "d"})
	}
	for range 3 {
		var out *engine.HandOut
		for n := 0; out == nil; n++ {
			if n == 100 {
				r.Fatal("nothing is handed out any more")
			}
			h.Advance(500)
			out = h.Poll("a", "w")
		}
		if h.Poll("a", "w") != nil {
			r.Fatal("a limit of one was exceeded")
		}
		h.CheckInvariants()
		h.Complete(out, "")
		if h.Poll("a", "w") != nil {
			r.Fatal("the rate was exceeded")
		}
	}
}

// pinned replaces a definition under a run that is under way, over a crash.
func pinned(r testing.TB, h *enginetest.Harness) {
	h.DefineSource(&tutti.Source{Dialect: "fickle", Name: "d", Version: 1, Body: value.Raw(`[{"task":"a"},{"task":"b"}]`)})
	h.Start(tutti.RunSpec{Definition: "d"})
	h.DefineSource(&tutti.Source{Dialect: "fickle", Name: "d", Version: 2, Body: value.Raw(`[{"task":"a"},{"task":"new"}]`)})
	h.Start(tutti.RunSpec{Definition: "d"})
	h.Crash()
	h.Work("a")
	if h.Work("b") != 1 || h.Work("new") != 1 {
		r.Fatal("a run saw a version that it is not pinned to")
	}
}

// fickle is a dialect; a broken one compiles the newest source whatever it is asked for.
type fickle struct {
	enginetest.Toy
	newest *tutti.Source
}

func (d *fickle) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	if d.newest != nil {
		if src.Version < d.newest.Version {
			src = d.newest
		}
		d.newest = src
	}
	return d.Toy.Compile(src)
}

// dicey is a dialect whose turns depend on more than their arguments.
type dicey struct{ enginetest.Toy }

type dice struct {
	tutti.Program
	rolls *int
}

func (d dicey) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	p, diags := d.Toy.Compile(src)
	return dice{p, &rolls}, diags
}

var rolls int

func (p dice) Start(t tutti.Turn) error {
	*p.rolls++
	t.Note("rolled", value.Marshal(value.Int(int64(*p.rolls))))
	return p.Program.Start(t)
}

// Each rule of the engine is broken on purpose, and the tests notice.
func TestBrokenEnginesAreCaught(t *testing.T) {
	crash := enginetest.Options{CrashEverywhere: true, Shards: 2, DuplicateMail: true}
	with := func(opts enginetest.Options, change func(o *enginetest.Options)) enginetest.Options {
		change(&opts)
		return opts
	}
	for _, c := range []struct {
		rule   string
		play   func(r testing.TB, h *enginetest.Harness)
		sound  enginetest.Options
		broken []enginetest.Options
	}{
		{"I1 deterministic turns", func(_ testing.TB, h *enginetest.Harness) {
			h.DefineSource(&tutti.Source{Dialect: "d", Name: "d", Body: value.Raw(`[{"draw":3},{"task":"a"}]`)})
			h.Start(tutti.RunSpec{Definition: "d"})
		}, with(crash, func(o *enginetest.Options) {
			o.Dialects = map[string]tutti.Dialect{"d": enginetest.Toy{}}
		}), []enginetest.Options{with(crash, func(o *enginetest.Options) {
			o.Dialects = map[string]tutti.Dialect{"d": dicey{}}
		})}},
		{"I4 wake-ups and reasons", busy, crash, losing(crash,
			lose('w', false), lose('w', true), lose('q', false), lose('q', true), losePart('o'),
			losePart('t'))},
		{"I5 limits", limited, crash, losing(crash, lose('L', false), lose('L', true))},
		{"I6 fencing", twice, enginetest.Options{}, []enginetest.Options{{
			Alter: func(cmd engine.Command) engine.Command {
				if c, ok := cmd.(engine.Complete); ok {
					c.Token = 0
					return c
				}
				return cmd
			},
		}}},
		{"I6 messages act once", busy, crash, losing(crash, lose('n', false), lose('M', false),
			lose('m', false))},
		{"I7 indexes", busy, crash, losing(crash, lose('i', false), lose('i', true),
			lose('j', false))},
		{"I8 pinned versions", pinned, enginetest.Options{
			Dialects: map[string]tutti.Dialect{"fickle": &fickle{}},
		}, []enginetest.Options{{
			Dialects: map[string]tutti.Dialect{"fickle": &fickle{newest: &tutti.Source{}}},
		}}},
		{"history folds to the state", busy, crash, losing(crash, losePart('y'))},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if verdict := judge(t, c.sound, c.play); verdict != "" {
				t.Fatalf("the sound engine is blamed: %s", verdict)
			}
			for i, opts := range c.broken {
				verdict := judge(t, opts, c.play)
				if verdict == "" {
					t.Errorf("nobody notices how rule %d is broken", i)
				}
				t.Logf("%d: %.150s", i, verdict)
			}
		})
	}
}

func losing(opts enginetest.Options, rules ...func(bool, []byte) bool) (all []enginetest.Options) {
	for _, rule := range rules {
		o := opts
		o.Lose = rule
		all = append(all, o)
	}
	return slices.Clip(all)
}
