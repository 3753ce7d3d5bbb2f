package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

// cost is what some work read and wrote.
type cost struct{ gets, scans, scanned, writes, bytes int }

func (c cost) minus(d cost) cost {
	return cost{
		c.gets - d.gets, c.scans - d.scans, c.scanned - d.scanned, c.writes - d.writes,
		c.bytes - d.bytes,
	}
}

func (c cost) per(n int) cost {
	return cost{c.gets / n, c.scans / n, c.scanned / n, c.writes / n, c.bytes / n}
}

// exceeds tells whether work has become dearer by more than a constant.
func (c cost) exceeds(before cost) bool {
	return c.gets > before.gets+2 || c.scans > before.scans || c.scanned > before.scanned+1 ||
		c.writes > before.writes+2 || c.bytes > before.bytes+150
}

func costOf(h *enginetest.Harness) cost {
	r := h.Rows(0)
	return cost{r.Gets, r.Scans, r.Scanned, r.Written, r.WrittenBytes}
}

// stepCosts are the costs of a step near the start of a run of n steps and at its end.
func stepCosts(t *testing.T, opts enginetest.Options, dialect string, n int) (early, late cost) {
	t.Helper()
	h := enginetest.New(t, opts)
	h.DefineSource(&tutti.Source{
		Dialect: dialect, Name: "d",
		Body: value.Raw(fmt.Sprintf(`[{"loop":%d,"steps":[{"task":"a"}]}]`, n+100)),
	})
	id := h.Start(tutti.RunSpec{Definition: "d"})
	for i := range n + 20 {
		before := costOf(h)
		h.Complete(must(t, h.Poll("a", "w")), `{"x":1}`)
		step := costOf(h).minus(before)
		switch {
		case i >= 10 && i < 20: // averaged, since a history segment may begin
			early = cost{}.minus(cost{}.minus(early).minus(step))
		case i >= n && i < n+10:
			late = cost{}.minus(cost{}.minus(late).minus(step))
		}
	}
	h.MustDo(engine.Terminate{Run: id})
	return early.per(10), late.per(10)
}

// The cost of a step does not depend on how long the run already is (invariant I3).
func TestCostOfAStepIsFlat(t *testing.T) {
	for name, opts := range map[string]enginetest.Options{
		"cached": {}, "evicted": {CrashEverywhere: true},
	} {
		t.Run(name, func(t *testing.T) {
			n := 10_000
			if opts.CrashEverywhere {
				n = 2000
			}
			opts.SkipFinalCheck = true
			early, late := stepCosts(t, opts, "toy", n)
			if late.exceeds(early) {
				t.Errorf("step %d costs %+v, step 10 cost %+v", n, late, early)
			}
			t.Logf("step 10: %+v, step %d: %+v", early, n, late)
		})
	}
}

// hoarder is a dialect whose state grows with every step.
type hoarder struct{ enginetest.Toy }

type hoard struct {
	tutti.Program
	steps *int
}

func (d hoarder) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	p, diags := d.Toy.Compile(src)
	return hoard{p, new(int)}, diags
}

func (p hoard) EncodeState(dst []byte, state any) []byte {
	*p.steps++
	return append(p.Program.EncodeState(dst, state), strings.Repeat("\x00", *p.steps)...)
}

func TestCostTestFindsGrowth(t *testing.T) {
	early, late := stepCosts(t, enginetest.Options{
		SkipFinalCheck: true, Dialects: map[string]tutti.Dialect{"hoarder": hoarder{}},
	}, "hoarder", 1000)
	if !late.exceeds(early) {
		t.Errorf("step 1,000 costs %+v, step 10 cost %+v, and nobody minds", late, early)
	}
}

// A branch of a wide fork costs what a branch of a narrow one does.
func TestCostOfABranchIsFlat(t *testing.T) {
	branch := func(n int) cost {
		h := enginetest.New(t, enginetest.Options{SkipFinalCheck: true})
		id := h.StartToy(fmt.Sprintf(`[{"fork":%d,"steps":[{"task":"a","response":1000}]}]`, n))
		h.Advance(500)
		if done := h.Work("a"); done != n {
			t.Fatalf("%d branches, want %d", done, n)
		}
		wantRun(t, h, id, tutti.RunCompleted)
		return costOf(h).per(n)
	}
	narrow, wide := branch(10), branch(10_000)
	if wide.exceeds(narrow) {
		t.Errorf("of 10,000 branches each costs %+v, of 10 %+v", wide, narrow)
	}
	t.Logf("of 10: %+v, of 10,000: %+v", narrow, wide)
}

// An idle run costs nothing when a shard starts, and none of its memory (invariant I10).
func TestIdleRunsAreNotRead(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	h.Define("d", `[{"wait":0}]`)
	for range 5000 {
		h.Start(tutti.RunSpec{Definition: "d"})
	}
	before := costOf(h)
	h.Crash()
	h.StartToy(`[{"task":"a"}]`)
	h.Work("a")
	if c := costOf(h).minus(before); c.gets+c.scanned > 50 {
		t.Errorf("a fresh shard with 5,000 idle runs reads %+v for one run", c)
	}
}

// A completion has a budget of allocations, since it is the engine's hot path.
func TestAllocationsOfACompletion(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{SkipFinalCheck: true, Unobserved: true})
	h.StartToy(`[{"loop":100000,"steps":[{"task":"a"}]}]`)
	s := h.NewBatches(0)
	outcome := engine.Outcome{Status: tutti.Completed, Output: value.Raw(`{"x":1}`)}
	allocs := testing.AllocsPerRun(2000, func() {
		r := s.Ready[0]
		s.Ready = s.Ready[:0]
		fx := s.Do(engine.Lease{Run: r.Run, Seq: r.Seq, Slot: engine.Slot{Poll: 1, Worker: "w"}})
		out := fx.Handed[0]
		s.Do(engine.Complete{Run: r.Run, Seq: r.Seq, Token: out.Task.Token, Outcome: outcome})
	})
	t.Logf("%.0f allocations for a lease and a completion", allocs)
	if allocs > 150 {
		t.Errorf("%.0f allocations for a lease and a completion, the budget is 150", allocs)
	}
}
