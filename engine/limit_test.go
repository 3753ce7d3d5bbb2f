package engine_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
)

// pollWithin polls until something is handed out or the time is over.
func pollWithin(t *testing.T, h *enginetest.Harness, queue string, ms int64) *engine.HandOut {
	t.Helper()
	for range ms / 100 {
		if out := h.Poll(queue, "w"); out != nil {
			return out
		}
		h.Advance(100)
	}
	return h.Poll(queue, "w")
}

func TestConcurrencyLimit(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		const runs, limit = 12, 3
		body := fmt.Sprintf(`[{"task":"a","limit":{"key":"k","concurrency":%d}}]`, limit)
		h.Define("d", body)
		var ids []tutti.RunID
		for range runs {
			ids = append(ids, h.Start(tutti.RunSpec{Definition: "d"}))
		}
		var held []*engine.HandOut
		for done := 0; done < runs; {
			out := h.Poll("a", "w")
			if out != nil {
				held = append(held, out)
			}
			if len(held) > limit {
				t.Fatalf("%d are handed out, the limit is %d", len(held), limit)
			}
			if out != nil && len(held) < limit {
				continue
			}
			h.CheckInvariants()
			if len(held) > 0 {
				h.Complete(held[0], "")
				held, done = held[1:], done+1
			}
			h.Advance(1000) // where memory is lost, who was refused asks again in time
		}
		for _, id := range ids {
			wantRun(t, h, id, tutti.RunCompleted)
		}
	})
}

// However a lease ends, its permit comes back.
func TestPermitsComeBack(t *testing.T) {
	step := `{"task":"a","limit":{"key":"k","concurrency":1}`
	for name, end := range map[string]func(h *enginetest.Harness, out *engine.HandOut){
		"completed": func(h *enginetest.Harness, out *engine.HandOut) { h.Complete(out, "") },
		"failed":    func(h *enginetest.Harness, out *engine.HandOut) { h.Fail(out, "") },
		"called back": func(h *enginetest.Harness, out *engine.HandOut) {
			h.Progress(out, 10_000_000)
		},
		"terminated": func(h *enginetest.Harness, out *engine.HandOut) {
			h.MustDo(engine.Terminate{Run: out.Run.ID})
		},
		"terminated and removed": func(h *enginetest.Harness, out *engine.HandOut) {
			h.MustDo(engine.Terminate{Run: out.Run.ID})
			h.MustDo(engine.Remove{Run: out.Run.ID})
		},
		"restarted": func(h *enginetest.Harness, out *engine.HandOut) {
			h.MustDo(engine.Terminate{Run: out.Run.ID})
			h.MustDo(engine.Restart{Run: out.Run.ID})
			h.MustDo(engine.Terminate{Run: out.Run.ID})
		},
		"timed out": func(h *enginetest.Harness, _ *engine.HandOut) { h.Advance(5000) },
		"session died": func(h *enginetest.Harness, out *engine.HandOut) {
			h.Advance(5000)
			h.MustDo(engine.Terminate{Run: out.Run.ID})
		},
		"undelivered": func(h *enginetest.Harness, out *engine.HandOut) {
			h.MustDo(engine.ReturnLease{
				Run: out.Run.ID, Seq: 1, Token: out.Task.Token, Undelivered: true,
			})
			h.MustDo(engine.Terminate{Run: out.Run.ID})
		},
	} {
		t.Run(name, func(t *testing.T) {
			everyWay(t, func(t *testing.T, h *enginetest.Harness) {
				h.Define("first", `[`+step+`,"response":5000}]`)
				h.Define("next", `[`+step+`}]`)
				h.Start(tutti.RunSpec{Definition: "first"})
				session := int64(0)
				if name == "session died" {
					session = 3000
				}
				out := must(t, h.PollSession("a", "w", session))
				id := h.Start(tutti.RunSpec{Definition: "next"})
				if h.Poll("a", "w") != nil {
					t.Fatal("the limit of one was exceeded")
				}
				h.CheckInvariants()
				end(h, out)
				h.CheckInvariants()
				h.Complete(must(t, pollWithin(t, h, "a", 31_000)), "")
				wantRun(t, h, id, tutti.RunCompleted)
			})
		})
	}
}

// A run may end while its task asks for a permit: the answer then finds nobody.
func TestRunEndsWhileItAsks(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 4, HoldMail: true})
	h.Define("d", `[{"task":"a","limit":{"key":"k","concurrency":1}}]`)
	var ids []tutti.RunID
	for range 12 { // on all shards, that of the limit's owner among them
		ids = append(ids, h.Start(tutti.RunSpec{Definition: "d"}))
	}
	for range ids {
		h.Poll("a", "w")
	}
	h.DeliverMail() // the answers are under way
	for _, id := range ids {
		h.MustDo(engine.Terminate{Run: id})
	}
	h.CheckInvariants()
	for h.DeliverMail() > 0 {
	}
	h.CheckInvariants()
	if n := holders(h, 4); n != 0 {
		t.Fatalf("%d permits are held by ended runs", n)
	}
}

// holders counts the permits that are out.
func holders(h *enginetest.Harness, shards int) (n int) {
	for i := range shards {
		n += len(h.Rows(i).Keys("L\x01\x01t\x01\x01k\x00h"))
	}
	return n
}

// Every hand-out is checked against all within one window before it.
func TestRateLimitIsExact(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		const rate, window = 3, 1000
		h.Define("d", fmt.Sprintf(
			`[{"task":"a","limit":{"key":"k","rate":%d,"window":%d}}]`, rate, window))
		for range 10 {
			h.Start(tutti.RunSpec{Definition: "d"})
		}
		var at []int64
		for range 2000 {
			if out := h.Poll("a", "w"); out != nil {
				at = append(at, h.Now())
				h.Complete(out, "")
			}
			if len(at) == 10 {
				break
			}
			h.Advance(70)
		}
		if len(at) != 10 {
			t.Fatalf("%d were handed out, want 10", len(at))
		}
		for i := range at {
			if i >= rate && at[i]-at[i-rate] < window {
				t.Errorf("hand-outs %d and %d are %d ms apart", i-rate, i, at[i]-at[i-rate])
			}
		}
	})
}

// Without a crash the owner calls who waits the moment the window lets it.
func TestRateLimitWakesInTime(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 4})
	h.Define("d", `[{"task":"a","limit":{"key":"k","rate":1,"window":1000}}]`)
	var polls []uint64
	for range 3 {
		polls = append(polls, h.WaitFor("a", "w", 0))
	}
	for range 3 {
		h.Start(tutti.RunSpec{Definition: "d"})
	}
	got := 0
	fetch := func() {
		for _, p := range polls {
			if h.Fetch(p) != nil {
				got++
			}
		}
	}
	for want := 1; want <= 3; want++ {
		fetch()
		if got != want {
			t.Fatalf("%d handed out after %d s, want %d", got, want-1, want)
		}
		h.Advance(999)
		if fetch(); got != want {
			t.Fatal("the rate was exceeded")
		}
		h.Advance(1)
	}
}

func TestUndeliveredIsRefunded(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"task":"a","limit":{"key":"k","rate":1,"window":1000000}}]`)
		for range 3 {
			out := must(t, h.Poll("a", "gone"))
			h.MustDo(engine.ReturnLease{
				Run: id, Seq: 1, Token: out.Task.Token, Undelivered: true,
			})
		}
		h.Complete(must(t, h.Poll("a", "w")), "")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestWaitersAreCalledByPriority(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 3})
	h.Define("d", `[{"task":"a","limit":{"key":"k","concurrency":1}}]`)
	out := func() *engine.HandOut {
		h.Start(tutti.RunSpec{Definition: "d"})
		return must(t, h.Poll("a", "w"))
	}()
	prios := []int{5, 50, 0, 99, 50}
	for _, p := range prios {
		h.Start(tutti.RunSpec{Definition: "d", Priority: p})
	}
	for range prios {
		if h.Poll("a", "w") != nil {
			t.Fatal("the limit of one was exceeded")
		}
	}
	var got []int
	for range prios {
		h.Complete(out, "")
		out = must(t, h.Poll("a", "w"))
		got = append(got, out.Run.Priority)
	}
	if want := []int{99, 50, 50, 5, 0}; !slices.Equal(got, want) {
		t.Errorf("called in the order %v, want %v", got, want)
	}
}

func TestRunLimitQueues(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"task":"a"}]`)
		spec := tutti.RunSpec{
			Definition: "d", Limit: &tutti.RunLimit{Key: "k", Concurrency: 2}, TimeoutMs: 5000,
		}
		var ids []tutti.RunID
		for range 5 {
			ids = append(ids, h.Start(spec))
		}
		for i, id := range ids {
			if held := h.Run(id).HeldByLimit; held != (i >= 2) {
				t.Errorf("run %d is held: %v", i, held)
			}
		}
		if w := h.Explain(ids[4]); len(w) != 1 || w[0].Code != "RunLimited" {
			t.Errorf("explained as %+v", w)
		}
		h.CheckInvariants()
		// Who is held does not run out of time, and can be ended.
		h.MustDo(engine.Terminate{Run: ids[3]})
		for done := 0; done < 4; {
			out := must(t, pollWithin(t, h, "a", 40_000))
			h.Complete(out, "")
			h.CheckInvariants()
			done++
		}
		for i, want := range []tutti.RunStatus{
			tutti.RunCompleted, tutti.RunCompleted, tutti.RunCompleted, tutti.RunTerminated,
			tutti.RunCompleted,
		} {
			if got := h.Run(ids[i]).Status; got != want {
				t.Errorf("run %d is %s, want %s", i, got, want)
			}
		}
	})
}

func TestRunLimitPausedWhileHeld(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"task":"a"}]`)
		spec := tutti.RunSpec{
			Definition: "d", Limit: &tutti.RunLimit{Key: "k", Concurrency: 1},
		}
		first, second := h.Start(spec), h.Start(spec)
		h.MustDo(engine.Pause{Run: second})
		h.Work("a")
		wantRun(t, h, first, tutti.RunCompleted)
		h.Advance(60_000)
		if h.Poll("a", "w") != nil {
			t.Fatal("a paused run began")
		}
		h.MustDo(engine.Resume{Run: second})
		h.Advance(60_000)
		if n := h.Work("a"); n != 1 {
			t.Fatalf("%d tasks, want 1: it must begin once", n)
		}
		wantRun(t, h, second, tutti.RunCompleted)
	})
}

func TestRunLimitRejects(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"task":"a"}]`)
		spec := tutti.RunSpec{
			Definition: "d", Limit: &tutti.RunLimit{Key: "k", Concurrency: 1, Reject: true},
		}
		id := h.Start(spec)
		rows := h.Rows(0).Len()
		_, err := h.StartError(spec)
		wantCode(t, err, "RunLimitReached")
		if got := h.Rows(0).Len(); got != rows {
			t.Errorf("a rejected start left %d rows", got-rows)
		}
		h.Work("a")
		wantRun(t, h, id, tutti.RunCompleted)
		h.Start(spec)
	})
}

// A run that is retried goes on at once, and counts.
func TestRunLimitCountsRetriedRuns(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"task":"a"}]`)
		spec := tutti.RunSpec{
			Definition: "d", Limit: &tutti.RunLimit{Key: "k", Concurrency: 1},
		}
		first := h.Start(spec)
		h.Fail(must(t, h.Poll("a", "w")), "no")
		h.MustDo(engine.Retry{Run: first})
		second := h.Start(spec)
		if !h.Run(second).HeldByLimit {
			t.Error("the second run was not held although the first goes on")
		}
		h.CheckInvariants()
		h.Complete(must(t, h.Poll("a", "w")), "")
		h.Advance(31_000)
		h.Work("a")
		wantRun(t, h, second, tutti.RunCompleted)
		h.MustDo(engine.Restart{Run: first})
		h.Work("a")
		wantRun(t, h, first, tutti.RunCompleted)
	})
}

// What a limit allows is remembered over a crash: its window must not be forgotten.
func TestRateSurvivesACrash(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 2})
	h.Define("d", `[{"task":"a","limit":{"key":"k","rate":1,"window":10000}}]`)
	for range 2 {
		h.Start(tutti.RunSpec{Definition: "d"})
	}
	must(t, h.Poll("a", "w"))
	if h.Poll("a", "w") != nil { // waits, so that the owner has a wake-up
		t.Fatal("the rate was exceeded")
	}
	h.Crash()
	for at := int64(0); at < 10_000; at += 500 {
		if h.Poll("a", "w") != nil {
			t.Fatalf("the rate was exceeded after %d ms", at)
		}
		h.Advance(500)
	}
	must(t, pollWithin(t, h, "a", 31_000))
}
