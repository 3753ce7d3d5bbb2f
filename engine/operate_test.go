package engine_test

import (
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

func TestPauseKeepsCompletionsForLater(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"fork":3,"steps":[{"task":"a","retries":1}]},{"task":"b"}]`)
		outs := []*engine.HandOut{h.Poll("a", "w"), h.Poll("a", "w"), h.Poll("a", "w")}
		h.Complete(must(t, outs[0]), "")
		h.MustDo(engine.Pause{Run: id, By: "me"})
		h.MustDo(engine.Pause{Run: id, By: "me again"})
		wantRun(t, h, id, tutti.RunPaused)
		h.Complete(must(t, outs[1]), `"kept"`)
		h.Fail(must(t, outs[2]), "retry me")
		h.CheckInvariants()
		if h.Poll("a", "w") != nil || h.Poll("b", "w") != nil {
			t.Fatal("a paused run took a further step")
		}
		if w := h.Explain(id); w[0].Code != "Paused" || w[len(w)-1].Code != "Ended" {
			t.Errorf("explained as %+v", w)
		}
		h.MustDo(engine.Resume{Run: id})
		_, err := h.Do(engine.Resume{Run: id})
		wantCode(t, err, "RunNotPaused")
		if n := h.Work("a"); n != 1 {
			t.Fatalf("%d retries, want 1", n)
		}
		h.Work("b")
		wantRun(t, h, id, tutti.RunCompleted)
		_, err = h.Do(engine.Pause{Run: id})
		wantCode(t, err, "RunEnded")
	})
}

func TestPausedRunHearsOfDeadlinesWhenResumed(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a","response":1000,"retries":1},{"wait":10}]`)
		must(t, h.Poll("a", "w"))
		h.MustDo(engine.Pause{Run: id})
		h.Advance(50_000)
		h.CheckInvariants()
		if n := len(h.Tasks(id)); n != 1 {
			t.Fatalf("a paused run took a further step:\n%s", h.Dump(id))
		}
		h.MustDo(engine.Resume{Run: id})
		if n := h.Work("a"); n != 1 {
			t.Fatalf("the deadline was forgotten:\n%s", h.Dump(id))
		}
		h.Advance(10)
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestPauseBeforeTheFirstTask(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"posts":3},{"task":"a"}]`)
		res := h.DoAll(id.Shard(h.Shards()), engine.Pause{Run: id})
		if res[0].Err != nil {
			t.Skip("the run was quicker")
		}
		h.Advance(1000)
		h.MustDo(engine.Resume{Run: id})
		h.Advance(1000)
		if n := h.Work("a"); n != 1 {
			t.Fatalf("%d tasks, want 1: the run must begin once\n%s", n, h.Dump(id))
		}
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestTerminate(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("child", `[{"wait":0}]`)
		id := h.StartToy(`[{"fork":2,"steps":[{"task":"a","response":1000},{"child":"child"}]}]`)
		out := must(t, h.Poll("a", "w"))
		h.Complete(must(t, h.Poll("a", "w")), "")
		h.MustDo(engine.Terminate{Run: id, Reason: "enough", Output: value.Raw(`{"x":1}`)})
		r := h.Run(id)
		if r.Status != tutti.RunTerminated || r.Reason != "enough" || string(r.Output) != `{"x":1}` {
			t.Errorf("the run is\n%s", h.Dump(id))
		}
		for _, task := range h.Tasks(id) {
			if task.Kind == tutti.Child {
				wantRun(t, h, task.ChildRun, tutti.RunTerminated)
			}
		}
		if len(h.Revoked) != 1 || h.Revoked[0].Token != out.Task.Token {
			t.Errorf("revoked %+v", h.Revoked)
		}
		_, err := h.CompleteError(out, engine.Outcome{Status: tutti.Completed})
		wantCode(t, err, "RunEnded")
		h.MustDo(engine.Terminate{Run: id})
		if timers := h.Timers(); len(timers) > 0 && h.Rows(0).Keys("w") != nil {
			t.Errorf("wake-ups are left: %v", timers)
		}
	})
}

func TestRetry(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"local":1},{"fork":3,"steps":[{"task":"a"}]}]`)
		_, err := h.Do(engine.Retry{Run: id})
		wantCode(t, err, "RunOpen")
		h.Complete(must(t, h.Poll("a", "w")), "")
		h.Fail(must(t, h.Poll("a", "w")), "bad luck")
		wantRun(t, h, id, tutti.RunFailed)
		if r := h.Run(id); r.FailedTask == 0 || r.Reason != "bad luck" {
			t.Errorf("failed by task %d: %s", r.FailedTask, r.Reason)
		}
		h.CheckInvariants()
		h.Advance(5000)
		h.MustDo(engine.Retry{Run: id})
		if r := h.Run(id); r.RetriedMs != h.Now() || r.EndMs != 0 || r.FailedTask != 0 {
			t.Errorf("retried at %d, ended at %d", r.RetriedMs, r.EndMs)
		}
		h.CheckInvariants()
		if n := h.Work("a"); n != 2 {
			t.Fatalf("%d tasks were repeated, want 2\n%s", n, h.Dump(id))
		}
		wantRun(t, h, id, tutti.RunCompleted)
		_, err = h.Do(engine.Retry{Run: id})
		wantCode(t, err, "NothingToRetry")
	})
}

func TestRestart(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("child", `[{"task":"c"}]`)
		h.Define("d", `[{"task":"a"},{"child":"child"},{"wait":100}]`)
		id := h.Start(tutti.RunSpec{
			Definition: "d", CorrelationID: "old", Labels: map[string]string{"k": "v"},
			TimeoutMs: 60_000,
		})
		old := must(t, h.Poll("a", "slow"))
		_, err := h.Do(engine.Restart{Run: id})
		wantCode(t, err, "RunOpen")
		h.MustDo(engine.ReturnLease{Run: id, Seq: 1, Token: old.Task.Token})
		h.Complete(must(t, h.Poll("a", "w")), "")
		h.MustDo(engine.Terminate{Run: id})
		first := h.Tasks(id)[1].ChildRun
		corr := "new"
		src := h.Define("d2", `[{"task":"b"},{"child":"child"}]`)
		h.MustDo(engine.Restart{Run: id, Source: src, Input: value.Raw(`{"n":2}`), Corr: &corr})
		h.CheckInvariants()
		r := h.Run(id)
		if string(r.Input) != `{"n":2}` || r.CorrelationID != "new" || r.Status != tutti.RunRunning {
			t.Errorf("after the restart: %+v", r)
		}
		if h.Poll("a", "w") != nil {
			t.Error("the restarted run does the old definition's task")
		}
		_, err = h.CompleteError(old, engine.Outcome{Status: tutti.Completed})
		if err == nil {
			t.Error("a lease from before the restart completed a task")
		}
		h.Work("b")
		second := h.Tasks(id)[1].ChildRun
		if first == second {
			t.Fatal("both lives of the run share a child")
		}
		wantRun(t, h, first, tutti.RunTerminated)
		h.Work("c")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestRerun(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a"},{"fork":2,"steps":[{"task":"b"}]},{"task":"c"}]`)
		h.Work("a")
		h.Work("b")
		_, err := h.Do(engine.Rerun{Run: id, Seq: 1})
		wantCode(t, err, "RunOpen")
		h.Work("c")
		_, err = h.Do(engine.Rerun{Run: id, Seq: 77})
		wantCode(t, err, "TaskNotFound")
		h.MustDo(engine.Rerun{Run: id, Seq: 2})
		h.CheckInvariants()
		if h.Work("a") != 0 || h.Work("b") != 2 || h.Work("c") != 1 {
			t.Errorf("other tasks were repeated:\n%s", h.Dump(id))
		}
		wantRun(t, h, id, tutti.RunCompleted)
		last := h.Tasks(id)[len(h.Tasks(id))-1]
		h.MustDo(engine.Rerun{Run: id, Seq: last.Seq, Input: value.Raw(`"other"`)})
		if out := must(t, h.Poll("c", "w")); string(out.Task.Input) != `"other"` {
			t.Errorf("input %s", out.Task.Input)
		}
	})
}

func TestSkip(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a"},{"task":"b","name":"later"},{"task":"c"}]`)
		h.MustDo(engine.Skip{Run: id, Name: "later", Output: value.Raw(`"skipped"`)})
		h.Work("a")
		if h.Work("b") != 0 || h.Work("c") != 1 {
			t.Errorf("the step was not skipped:\n%s", h.Dump(id))
		}
		if task := h.Task(id, 2); task.Status != tutti.Skipped || string(task.Output) != `"skipped"` {
			t.Errorf("the skipped task is %s with %s", task.Status, task.Output)
		}
		_, err := h.Do(engine.Skip{Run: id, Name: "later"})
		wantCode(t, err, "RunNotRunning")
	})
}

func TestDecideAndVariables(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a"}]`)
		h.MustDo(engine.Decide{Run: id})
		h.MustDo(engine.SetVariables{Run: id, Cell: "v", Value: value.Raw(`{"a":1}`)})
		h.MustDo(engine.SetVariables{Run: id, Cell: "v", Value: value.Raw(`{"b":2}`), Merge: true})
		got, ok, err := h.ViewOf(id).Cell(id, "v")
		if err != nil || !ok || string(got) != `{"a":1,"b":2}` {
			t.Errorf("the cell holds %s, %v", got, err)
		}
		h.Work("a")
		_, err = h.Do(engine.SetVariables{Run: id, Cell: "v"})
		wantCode(t, err, "RunEnded")
		_, err = h.Do(engine.ResetCallbacks{Run: id})
		wantCode(t, err, "RunEnded")
	})
}

// After a removal nothing is left but the definition.
func TestRemove(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"fork":60,"steps":[{"task":"a","big":2000,"response":500}]},{"wait":0}]`)
		spec := tutti.RunSpec{
			Definition: "d", CorrelationID: "c", Labels: map[string]string{"k": "v"},
			IdempotencyKey: "once", TimeoutMs: 1000,
		}
		id := h.Start(spec)
		h.Advance(10)
		must(t, h.Poll("a", "w"))
		h.MustDo(engine.AddLogs{Run: id, Seq: 2, Lines: [][]byte{[]byte("line")}})
		_, err := h.Do(engine.Remove{Run: id})
		wantCode(t, err, "RunOpen")
		// Both in one batch: rows that the first would have deleted must go too.
		h.DoAll(id.Shard(h.Shards()), engine.Terminate{Run: id}, engine.Remove{Run: id})
		for i := range h.Shards() {
			for _, k := range h.Rows(i).Keys("") {
				if !strings.ContainsRune("sMnLm", rune(k[0])) {
					t.Errorf("row %q is left", k)
				}
			}
		}
		if _, err := h.ViewOf(id).Run(id); tutti.KindOf(err) != tutti.NotFound {
			t.Errorf("reading the removed run: %v", err)
		}
		h.Start(spec)
	})
}

func TestEndAndRemoveWithinOneBatch(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	src := h.Define("d", `[{"task":"a","response":500}]`)
	id := tutti.NewRunID(h.Now(), 1)
	h.DoAll(0, engine.Start{ID: id, Source: src, Spec: tutti.RunSpec{Definition: "d"}},
		engine.Terminate{Run: id}, engine.Remove{Run: id})
	h.CheckInvariants()
	if n := h.Rows(0).Len(); n != 1 { // the definition
		t.Errorf("%d rows are left", n)
	}
	h.DoAll(0, engine.Start{ID: id, Source: src, Spec: tutti.RunSpec{Definition: "d"}})
	wantRun(t, h, id, tutti.RunRunning)
}
