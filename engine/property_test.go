package engine_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

// drawSteps draws a Toy program. Definitions c0..c<children-1> exist.
func drawSteps(t *rapid.T, depth, children int) []enginetest.Step {
	var steps []enginetest.Step
	for range rapid.IntRange(1, 3).Draw(t, "steps") {
		steps = append(steps, drawStep(t, depth, children))
	}
	return steps
}

func drawStep(t *rapid.T, depth, children int) enginetest.Step {
	ms := rapid.SampledFrom([]int64{0, 0, 0, 300, 1000, 5000})
	var s enginetest.Step
	kinds := []string{"task", "task", "task", "wait", "local", "draw", "posts", "note", "fail"}
	if depth > 0 {
		kinds = append(kinds, "fork", "fork", "loop")
	}
	if children > 0 {
		kinds = append(kinds, "child", "child", "start")
	}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
	case "task":
		s.Task = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue")
		s.DelayMs, s.RetryDelayMs = ms.Draw(t, "delay"), ms.Draw(t, "retryDelay")
		s.PollMs, s.ResponseMs = ms.Draw(t, "poll"), ms.Draw(t, "response")
		s.TaskMs, s.TotalMs = ms.Draw(t, "timeout"), ms.Draw(t, "total")
		s.Retries = rapid.IntRange(0, 2).Draw(t, "retries")
		s.Optional = rapid.Bool().Draw(t, "optional")
		s.Big = rapid.SampledFrom([]int{0, 0, 0, 2000}).Draw(t, "big")
		if rapid.Bool().Draw(t, "limited") {
			s.Limit = &enginetest.Limit{Key: s.Task, Concurrency: 2}
		}
		if rapid.IntRange(0, 3).Draw(t, "rated") == 0 {
			s.Limit = &enginetest.Limit{Key: "rate", Rate: 2, WindowMs: 1000}
		}
	case "wait":
		n := ms.Draw(t, "wait")
		s.Wait = &n
	case "local":
		s.Local = 1
	case "draw":
		s.Draw = 2
	case "posts":
		s.Posts = rapid.IntRange(1, 4).Draw(t, "posts")
	case "note":
		s.Note = "noted"
	case "fail":
		if rapid.IntRange(0, 4).Draw(t, "really") == 0 {
			s.Fail = "as drawn"
		} else {
			s.Local = 2
		}
	case "fork":
		s.Fork = rapid.IntRange(1, 5).Draw(t, "branches")
		s.Steps = drawSteps(t, depth-1, children)
	case "loop":
		s.Loop = rapid.IntRange(1, 3).Draw(t, "times")
		s.Steps = drawSteps(t, depth-1, children)
	default:
		def := fmt.Sprintf("c%d", rapid.IntRange(0, children-1).Draw(t, "definition"))
		if kind == "child" {
			s.Child = def
			s.Key = rapid.SampledFrom([]string{"", "", "k1"}).Draw(t, "key")
		} else {
			s.Start = def
		}
	}
	return s
}

func body(t *rapid.T, steps []enginetest.Step) string {
	b, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// storm is a random play with a harness.
type storm struct {
	t    *rapid.T
	h    *enginetest.Harness
	defs int
	outs []*engine.HandOut
	wait []uint64
}

// known lists every run.
func (s *storm) known() (ids []tutti.RunID) {
	for i := range s.h.Shards() {
		err := s.h.View(i).ListRuns(engine.RunQuery{}, func(e engine.IndexEntry) bool {
			ids = append(ids, e.ID)
			return len(ids) < 200
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return ids
}

// step does something at random. Refusals are part of the play.
func (s *storm) step() {
	t, h := s.t, s.h
	switch rapid.SampledFrom([]string{
		"start", "poll", "poll", "poll", "wait", "report", "report", "report", "advance",
		"advance", "command", "crash", "signal",
	}).Draw(t, "action") {
	case "start":
		s.start()
	case "poll":
		session := rapid.SampledFrom([]int64{0, 0, 700}).Draw(t, "session")
		s.take(h.PollSession(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue"), "w", session))
	case "wait":
		if len(s.wait) < 3 {
			s.wait = append(s.wait, h.WaitFor(
				rapid.SampledFrom([]string{"a", "b"}).Draw(t, "queue"), "waiting", 0))
		}
	case "report":
		s.report()
	case "advance":
		h.Advance(rapid.SampledFrom([]int64{1, 100, 400, 2000, 31_000}).Draw(t, "ms"))
	case "command":
		s.command()
	case "crash":
		h.Crash()
	case "signal":
		s.signal()
	}
	for _, poll := range s.wait {
		s.take(h.Fetch(poll))
	}
}

func (s *storm) take(out *engine.HandOut) {
	if out != nil {
		s.outs = append(s.outs, out)
	}
}

func (s *storm) start() {
	t := s.t
	spec := tutti.RunSpec{
		Definition:    fmt.Sprintf("c%d", rapid.IntRange(0, s.defs-1).Draw(t, "definition")),
		CorrelationID: rapid.SampledFrom([]string{"", "x"}).Draw(t, "correlation"),
		TimeoutMs:     rapid.SampledFrom([]int64{0, 0, 4000}).Draw(t, "timeout"),
		Priority:      rapid.IntRange(0, 3).Draw(t, "priority"),
	}
	switch rapid.IntRange(0, 4).Draw(t, "extra") {
	case 0:
		spec.IdempotencyKey = rapid.SampledFrom([]string{"k1", "k2"}).Draw(t, "key")
		spec.OnDuplicate = tutti.DuplicatePolicy(rapid.IntRange(0, 2).Draw(t, "policy"))
	case 1:
		spec.Limit = &tutti.RunLimit{
			Key: "runs", Concurrency: 2, Reject: rapid.Bool().Draw(t, "reject"),
		}
	}
	_, _ = s.h.StartError(spec)
}

// report says something of a task that was handed out, at some time, perhaps not for the
// first time.
func (s *storm) report() {
	if len(s.outs) == 0 {
		return
	}
	t := s.t
	out := s.outs[rapid.IntRange(0, len(s.outs)-1).Draw(t, "which")]
	switch rapid.SampledFrom([]string{
		"done", "done", "done", "fail", "fatal", "progress",
		"callback", "return", "undelivered",
	}).Draw(t, "outcome") {
	case "done":
		_, _ = s.h.CompleteError(out, engine.Outcome{
			Status: tutti.Completed, Output: value.Raw(`{"x":1}`),
		})
	case "fail":
		_, _ = s.h.CompleteError(out, engine.Outcome{Status: tutti.Failed, Reason: "drawn"})
	case "fatal":
		_, _ = s.h.CompleteError(out, engine.Outcome{Status: tutti.Fatal, Reason: "drawn"})
	case "progress":
		_, _ = s.h.CompleteError(out, engine.Outcome{Status: tutti.Running, ExtendOnly: true})
	case "callback":
		_, _ = s.h.CompleteError(out, engine.Outcome{
			Status: tutti.Running, Requeue: true,
			CallbackMs: rapid.SampledFrom([]int64{0, 500}).Draw(t, "callback"),
		})
	case "return":
		s.h.MustDo(engine.ReturnLease{Run: out.Run.ID, Seq: out.Task.Seq, Token: out.Task.Token})
	case "undelivered":
		s.h.MustDo(engine.ReturnLease{
			Run: out.Run.ID, Seq: out.Task.Seq, Token: out.Task.Token, Undelivered: true,
		})
	}
}

func (s *storm) pick() (tutti.RunID, bool) {
	ids := s.known()
	if len(ids) == 0 {
		return tutti.RunID{}, false
	}
	return ids[rapid.IntRange(0, len(ids)-1).Draw(s.t, "run")], true
}

func (s *storm) command() {
	id, ok := s.pick()
	if !ok {
		return
	}
	cmds := []engine.Command{
		engine.Pause{Run: id},
		engine.Resume{Run: id},
		engine.Terminate{Run: id, Reason: "drawn"},
		engine.Retry{Run: id},
		engine.Retry{Run: id, Deep: true},
		engine.Restart{Run: id},
		engine.Rerun{Run: id, Seq: tutti.Seq(rapid.IntRange(1, 3).Draw(s.t, "from"))},
		engine.Skip{Run: id, Name: "s1"},
		engine.Decide{Run: id},
		engine.ResetCallbacks{Run: id},
		engine.Remove{Run: id},
		engine.Repair{Run: id},
	}
	n := rapid.IntRange(1, 2).Draw(s.t, "commands")
	var batch []engine.Command
	for range n {
		batch = append(batch, cmds[rapid.IntRange(0, len(cmds)-1).Draw(s.t, "command")])
	}
	s.h.DoAll(id.Shard(s.h.Shards()), batch...)
	s.h.Advance(0)
}

func (s *storm) signal() {
	id, ok := s.pick()
	if !ok {
		return
	}
	for _, task := range s.h.Tasks(id) {
		if task.Kind == tutti.Wait && task.Status.Open() {
			_, _ = s.h.Do(engine.Complete{
				Run: id, Seq: task.Seq, Outcome: engine.Outcome{Status: tutti.Completed},
			})
			return
		}
	}
}

// calm lets everything come to its end: workers work, nobody interferes.
func (s *storm) calm() {
	h := s.h
	for _, out := range s.outs {
		h.MustDo(engine.ReturnLease{Run: out.Run.ID, Seq: out.Task.Seq, Token: out.Task.Token})
	}
	for range 3000 { // where memory is lost, limits let few go in half a minute
		open := 0
		for _, id := range s.known() {
			r := h.Run(id)
			switch {
			case r.Status == tutti.RunPaused:
				h.MustDo(engine.Resume{Run: id})
				open++
			case r.Status.Open():
				open++
				s.signalAll(id)
			}
		}
		if open == 0 {
			return
		}
		for _, poll := range s.wait {
			if out := h.Fetch(poll); out != nil {
				_, _ = h.CompleteError(out, engine.Outcome{Status: tutti.Completed})
			}
		}
		for _, q := range []string{"a", "b"} {
			for out := h.Poll(q, "w"); out != nil; out = h.Poll(q, "w") {
				_, _ = h.CompleteError(out, engine.Outcome{Status: tutti.Completed})
			}
		}
		h.Advance(1000)
	}
	for _, id := range s.known() {
		if h.Run(id).Status.Open() {
			s.t.Fatalf("a run does not end: %+v\n%s", h.Explain(id), h.Dump(id))
		}
	}
}

func (s *storm) signalAll(id tutti.RunID) {
	for _, task := range s.h.Tasks(id) {
		if task.Kind == tutti.Wait && task.Status.Open() && task.UntilMs == 0 {
			_, _ = s.h.Do(engine.Complete{
				Run: id, Seq: task.Seq, Outcome: engine.Outcome{Status: tutti.Completed},
			})
		}
	}
}

// Whatever programs, workers, operators and crashes do, every invariant holds after every
// step, and left in peace every run ends.
func TestInvariantsInAnyStorm(t *testing.T) {
	for name, opts := range map[string]enginetest.Options{
		"plain":  {Shards: 1, CacheRuns: 2},
		"shards": {Shards: 3},
		"crash":  {Shards: 2, CrashEverywhere: true, DuplicateMail: true},
	} {
		t.Run(name, func(t *testing.T) {
			opts.SkipFinalCheck, opts.Unobserved = true, true
			rapid.Check(t, func(rt *rapid.T) {
				h := enginetest.New(rapidTB{t, rt}, opts)
				s := &storm{t: rt, h: h, defs: 3}
				for i := range s.defs {
					h.Define(fmt.Sprintf("c%d", i), body(rt, drawSteps(rt, 2, i)))
				}
				for range rapid.IntRange(5, 40).Draw(rt, "length") {
					s.step()
					h.CheckInvariants()
				}
				s.calm()
				h.CheckInvariants()
			})
		})
	}
}

// rapidTB lets a harness fail a rapid check.
type rapidTB struct {
	testing.TB
	t *rapid.T
}

func (r rapidTB) Helper()                           {}
func (r rapidTB) Cleanup(func())                    {}
func (r rapidTB) Fatal(args ...any)                 { r.t.Fatal(args...) }
func (r rapidTB) Fatalf(format string, args ...any) { r.t.Fatalf(format, args...) }
