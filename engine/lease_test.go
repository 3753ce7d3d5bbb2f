package engine_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
)

// everyWay runs a test plainly, with a crash after every batch, and spread over shards.
func everyWay(t *testing.T, fn func(t *testing.T, h *enginetest.Harness)) {
	t.Helper()
	for _, c := range []struct {
		name string
		opts enginetest.Options
	}{
		{"plain", enginetest.Options{}},
		{"crash", enginetest.Options{CrashEverywhere: true}},
		{"shards", enginetest.Options{Shards: 4, CacheRuns: 2}},
		{"all", enginetest.Options{Shards: 3, CrashEverywhere: true, DuplicateMail: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := enginetest.New(t, c.opts)
			fn(t, h)
			h.CheckInvariants()
		})
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var e *tutti.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, want one with code %s", err, code)
	}
}

func wantRun(t *testing.T, h *enginetest.Harness, id tutti.RunID, st tutti.RunStatus) {
	t.Helper()
	if r := h.Run(id); r.Status != st {
		t.Fatalf("the run is %s, want %s\n%s", r.Status, st, h.Dump(id))
	}
}

// must fails the test when nothing was handed out.
func must(t *testing.T, out *engine.HandOut) *engine.HandOut {
	t.Helper()
	if out == nil {
		t.Fatal("nothing was handed out")
	}
	return out
}

func TestFencing(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a"},{"task":"b"}]`)
		first := must(t, h.Poll("a", "slow"))
		h.MustDo(engine.ReturnLease{Run: id, Seq: 1, Token: first.Task.Token})
		second := must(t, h.Poll("a", "quick"))
		if second.Task.Token <= first.Task.Token {
			t.Fatalf("token %d follows %d", second.Task.Token, first.Task.Token)
		}
		done := engine.Outcome{Status: tutti.Completed}
		_, err := h.CompleteError(first, done)
		wantCode(t, err, "StaleLease")
		_, err = h.Do(engine.Extend{Run: id, Seq: 1, Token: first.Task.Token})
		wantCode(t, err, "StaleLease")
		h.Complete(second, "")
		before := h.Dump(id)
		_, err = h.CompleteError(second, done)
		wantCode(t, err, "TaskEnded")
		h.MustDo(engine.Complete{Run: id, Seq: 1, Outcome: done, IgnoreStale: true})
		h.MustDo(engine.ReturnLease{Run: id, Seq: 1, Token: second.Task.Token})
		if after := h.Dump(id); after != before {
			t.Errorf("stale reports changed the run:\n%s\n%s", before, after)
		}
		h.Work("b")
		_, err = h.CompleteError(second, done)
		wantCode(t, err, "RunEnded")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestUnknownTargets(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	id := h.StartToy(`[{"task":"a"}]`)
	nobody := tutti.NewRunID(1, 2)
	for _, cmd := range []engine.Command{
		engine.Complete{Run: nobody, Seq: 1},
		engine.Extend{Run: nobody, Seq: 1},
		engine.AddLogs{Run: nobody, Seq: 1},
		engine.Pause{Run: nobody},
		engine.Resume{Run: nobody},
		engine.Terminate{Run: nobody},
		engine.Retry{Run: nobody},
		engine.Restart{Run: nobody},
		engine.Rerun{Run: nobody, Seq: 1},
		engine.Skip{Run: nobody},
		engine.Decide{Run: nobody},
		engine.ResetCallbacks{Run: nobody},
		engine.SetVariables{Run: nobody},
		engine.Remove{Run: nobody},
		engine.Repair{Run: nobody},
	} {
		_, err := h.Do(cmd)
		wantCode(t, err, "RunNotFound")
	}
	for _, cmd := range []engine.Command{
		engine.Complete{Run: id, Seq: 7},
		engine.Extend{Run: id, Seq: 7},
		engine.AddLogs{Run: id, Seq: 7},
	} {
		_, err := h.Do(cmd)
		wantCode(t, err, "TaskNotFound")
	}
	if res := h.MustDo(engine.Lease{Run: nobody, Seq: 1}); res != engine.LeaseGone {
		t.Errorf("lease of nobody's task: %v", res)
	}
	h.MustDo(engine.ReturnLease{Run: nobody, Seq: 1})
	h.MustDo(engine.Wake{Run: nobody, Seq: 1, DueMs: 5})
	h.MustDo(engine.Wake{Run: id, Seq: 9, DueMs: 5})
}

func TestDelaysAndCallbacks(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a","delay":500,"retries":1,"retryDelay":2000}]`)
		if h.Poll("a", "w") != nil {
			t.Fatal("handed out before its delay was over")
		}
		h.Advance(499)
		if h.Poll("a", "w") != nil {
			t.Fatal("handed out 1 ms before its delay was over")
		}
		h.Advance(1)
		h.Fail(must(t, h.Poll("a", "w")), "first")
		if w := h.Explain(id); len(w) != 1 || w[0].Code != "Delayed" ||
			!strings.Contains(w[0].Text, "back-off before attempt 2") {
			t.Errorf("explained as %+v", w)
		}
		h.Advance(1999)
		if h.Poll("a", "w") != nil {
			t.Fatal("retried 1 ms early")
		}
		h.Advance(1)
		h.Progress(must(t, h.Poll("a", "w")), 3000)
		h.Advance(2999)
		if h.Poll("a", "w") != nil {
			t.Fatal("called back 1 ms early")
		}
		h.Advance(1)
		h.Progress(must(t, h.Poll("a", "w")), 60_000)
		h.MustDo(engine.ResetCallbacks{Run: id})
		out := must(t, h.Poll("a", "w"))
		if out.Task.Polls != 3 || out.Task.Attempt != 1 || out.Task.RetryOf != 1 {
			t.Errorf("polls %d, attempt %d of %d", out.Task.Polls, out.Task.Attempt,
				out.Task.RetryOf)
		}
		h.Complete(out, "")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

// Each of the four deadlines passes exactly at its time and not before.
func TestDeadlines(t *testing.T) {
	for _, c := range []struct {
		name, step string
		at         int64 // ms after the start, the task being handed out at 100
		poll       bool
	}{
		{"poll", `"poll":700`, 700, false},
		{"poll, met", `"poll":700`, 0, true},
		{"response", `"response":700`, 800, true},
		{"task", `"timeout":700`, 800, true},
		{"total", `"total":700`, 700, true},
		{"total, queued", `"total":700`, 700, false},
		{"the first of all", `"poll":900,"response":800,"timeout":700,"total":650`, 650, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			everyWay(t, func(t *testing.T, h *enginetest.Harness) {
				id := h.StartToy(`[{"task":"a",` + c.step + `}]`)
				h.Advance(100)
				if c.poll {
					must(t, h.Poll("a", "w"))
				}
				if c.at == 0 {
					h.Advance(1_000_000)
					wantRun(t, h, id, tutti.RunRunning)
					return
				}
				h.Advance(c.at - 101)
				wantRun(t, h, id, tutti.RunRunning)
				h.Advance(1)
				wantRun(t, h, id, tutti.RunTimedOut)
				if n := len(h.Revoked); (n > 0) != c.poll {
					t.Errorf("%d leases revoked", n)
				}
			})
		})
	}
}

func TestProgressExtendsTheLease(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a","response":1000}]`)
		out := must(t, h.Poll("a", "w"))
		for range 5 {
			h.Advance(900)
			_, err := h.CompleteError(out, engine.Outcome{
				Status: tutti.Running, ExtendOnly: true, Output: []byte(`{"n":1}`), Merge: true,
				Logs: [][]byte{[]byte("still here")},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		lines, err := h.ViewOf(id).Logs(id, 1)
		if err != nil || len(lines) != 5 || lines[0].Text != "still here" {
			t.Errorf("log %v, %v", lines, err)
		}
		if got := string(h.Task(id, 1).Output); got != `{"n":1}` {
			t.Errorf("output %s", got)
		}
		h.Advance(999)
		wantRun(t, h, id, tutti.RunRunning)
		h.Advance(1)
		wantRun(t, h, id, tutti.RunTimedOut)
	})
}

func TestSessionLeases(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a"}]`)
		out := must(t, h.PollSession("a", "w1", 5000))
		for range 3 {
			h.Advance(4000)
			h.MustDo(engine.Extend{Run: id, Seq: 1, Token: out.Task.Token})
		}
		if task := h.Task(id, 1); task.InDoubt {
			t.Error("in doubt while its session lives")
		}
		h.Advance(30_000)
		if task := h.Task(id, 1); !task.InDoubt || task.Status != tutti.Queued {
			t.Errorf("after the session died: %s, in doubt %v", task.Status, task.InDoubt)
		}
		kinds := ""
		for _, ev := range h.History(id) {
			kinds += ev.Kind.String() + " "
		}
		if want := "RunStarted TaskScheduled TaskHandedOut TaskInDoubt TaskReturned "; kinds != want {
			t.Errorf("history %q, want %q", kinds, want)
		}
		again := must(t, h.PollSession("a", "w2", 5000))
		_, err := h.CompleteError(out, engine.Outcome{Status: tutti.Completed})
		wantCode(t, err, "StaleLease")
		h.Complete(again, "")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestUndeliveredHandOutDoesNotCount(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a","poll":1000,"timeout":700}]`)
		out := must(t, h.Poll("a", "gone"))
		h.MustDo(engine.ReturnLease{
			Run: id, Seq: 1, Token: out.Task.Token, Undelivered: true,
		})
		if task := h.Task(id, 1); task.Polls != 0 || task.InDoubt || task.StartedMs != 0 {
			t.Errorf("polls %d, in doubt %v, started %d", task.Polls, task.InDoubt, task.StartedMs)
		}
		h.Advance(999)
		wantRun(t, h, id, tutti.RunRunning)
		h.Complete(must(t, h.Poll("a", "w")), "")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

// A task that becomes ready while a worker waits is stored once, already handed out.
func TestWaitingWorkerGetsTheTaskAtOnce(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		poll := h.WaitFor("a", "w", 0)
		other := h.WaitFor("b", "w", 0)
		id := h.StartToy(`[{"task":"a"},{"task":"b"}]`)
		for _, ev := range h.Notes {
			if ev.Kind == engine.HistoryTaskHandedOut && ev.WaitMs != 0 {
				t.Errorf("handed out after %d ms", ev.WaitMs)
			}
		}
		if n := h.ReadyEffects; n != 0 {
			t.Errorf("%d tasks were offered to whoever comes", n)
		}
		h.Complete(must(t, h.Fetch(poll)), "")
		h.Complete(must(t, h.Fetch(other)), "")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestHoldOpen(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a","holdOpen":true,"response":100}]`)
		out := must(t, h.Poll("a", "http"))
		h.Complete(out, `{"accepted":true}`)
		h.Advance(1_000_000)
		wantRun(t, h, id, tutti.RunRunning)
		if w := h.Explain(id); len(w) != 1 || w[0].Code != "HeldOpen" {
			t.Errorf("explained as %+v", w)
		}
		_, err := h.CompleteError(out, engine.Outcome{Status: tutti.Completed})
		wantCode(t, err, "StaleLease")
		h.MustDo(engine.Complete{Run: id, Seq: 1, Outcome: engine.Outcome{Status: tutti.Completed}})
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestSignals(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"wait":0},{"wait":1500}]`)
		h.Advance(100_000)
		if w := h.Explain(id); len(w) != 1 || w[0].Code != "Signal" || w[0].UntilMs != 0 {
			t.Errorf("explained as %+v", w)
		}
		h.MustDo(engine.Complete{Run: id, Seq: 1, Outcome: engine.Outcome{
			Status: tutti.Completed, Output: []byte(`"go"`), Worker: "me",
		}})
		if task := h.Task(id, 1); string(task.Output) != `"go"` || task.Worker != "me" {
			t.Errorf("signalled with %s by %s", task.Output, task.Worker)
		}
		if w := h.Explain(id); len(w) != 1 || w[0].Code != "Timer" {
			t.Errorf("explained as %+v", w)
		}
		h.Advance(1499)
		wantRun(t, h, id, tutti.RunRunning)
		h.Advance(1)
		wantRun(t, h, id, tutti.RunCompleted)
	})
}
