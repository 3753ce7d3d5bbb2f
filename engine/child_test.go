package engine_test

import (
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
)

func child(t *testing.T, h *enginetest.Harness, id tutti.RunID, seq tutti.Seq) tutti.RunID {
	t.Helper()
	c := h.Task(id, seq).ChildRun
	if c.IsZero() {
		t.Fatalf("task %d has no child run", seq)
	}
	return c
}

func TestChildEndings(t *testing.T) {
	for _, c := range []struct {
		body   string
		parent tutti.RunStatus
		task   tutti.TaskStatus
	}{
		{`[{"local":1}]`, tutti.RunCompleted, tutti.Completed},
		{`[{"fail":"no"}]`, tutti.RunFailed, tutti.Failed},
		{`[{"error":"broken"}]`, tutti.RunFailed, tutti.Failed},
		{`[{"panic":"dead"}]`, tutti.RunFailed, tutti.Failed},
		{`[{"stop":true}]`, tutti.RunFailed, tutti.Failed},
		{`not JSON`, tutti.RunFailed, tutti.Failed},
		{`[{"task":"a","response":10}]`, tutti.RunTimedOut, tutti.TimedOut},
	} {
		t.Run(c.body, func(t *testing.T) {
			everyWay(t, func(t *testing.T, h *enginetest.Harness) {
				h.Define("child", c.body)
				id := h.StartToy(`[{"child":"child"}]`)
				h.Poll("a", "w")
				h.Advance(10)
				wantRun(t, h, id, c.parent)
				if task := h.Task(id, 1); task.Status != c.task {
					t.Errorf("the child's task is %s, want %s", task.Status, c.task)
				}
			})
		})
	}
}

func TestChildDefinitionIsMissing(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"child":"nowhere"}]`)
		wantRun(t, h, id, tutti.RunFailed)
		if r := h.Run(id); !strings.Contains(r.Reason, "nowhere") {
			t.Errorf("reason %q does not say what is missing", r.Reason)
		}
	})
}

// Whatever is repeated or late on the way between shards, every message acts once.
func TestMessagesActOnce(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 2, HoldMail: true})
	h.Define("child", `[{"task":"c"}]`)
	h.Define("d", `[{"child":"child"},{"task":"p"}]`)
	var ids []tutti.RunID
	for range 8 {
		ids = append(ids, h.Start(tutti.RunSpec{Definition: "d"}))
	}
	mail := map[int][]engine.Send{0: h.Mail(0), 1: h.Mail(1)}
	if len(mail[0])+len(mail[1]) < 2 {
		t.Fatalf("no messages between shards: %v", mail)
	}
	for from, list := range mail {
		for i, m := range list {
			if i+1 < len(list) {
				wantCode(t, h.Deliver(from, list[len(list)-1], true), "MessageGap")
			}
			for range 3 { // each time the acknowledgement is lost
				if err := h.Deliver(from, m, true); err != nil {
					t.Fatal(err)
				}
			}
			h.CheckInvariants()
			h.Crash()
			for _, old := range list[:i+1] {
				if err := h.Deliver(from, old, true); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for h.DeliverMail() > 0 {
	}
	if n := h.Work("c"); n != 8 {
		t.Fatalf("%d child tasks, want 8", n)
	}
	for h.DeliverMail() > 0 {
	}
	h.CheckInvariants()
	if n := h.Work("p"); n != 8 {
		t.Fatalf("%d parents went on, want 8", n)
	}
	for _, id := range ids {
		wantRun(t, h, id, tutti.RunCompleted)
	}
	if len(h.Mail(0))+len(h.Mail(1)) > 0 {
		t.Error("messages are left that were acknowledged")
	}
}

func TestDeepRetry(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("leaf", `[{"task":"a"}]`)
		h.Define("mid", `[{"child":"leaf"}]`)
		id := h.StartToy(`[{"child":"mid"}]`)
		h.Fail(must(t, h.Poll("a", "w")), "no")
		wantRun(t, h, id, tutti.RunFailed)
		mid := child(t, h, id, 1)
		h.MustDo(engine.Retry{Run: id, Deep: true})
		h.CheckInvariants()
		if got := child(t, h, id, 1); got != mid || len(h.Tasks(id)) != 1 {
			t.Errorf("a new child was started: %s", h.Dump(id))
		}
		h.Complete(must(t, h.Poll("a", "w")), "")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestShallowRetryStartsANewChild(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("child", `[{"task":"a"}]`)
		id := h.StartToy(`[{"child":"child"}]`)
		h.Fail(must(t, h.Poll("a", "w")), "no")
		h.MustDo(engine.Retry{Run: id})
		h.Complete(must(t, h.Poll("a", "w")), "")
		wantRun(t, h, id, tutti.RunCompleted)
		wantRun(t, h, child(t, h, id, 1), tutti.RunFailed)
		wantRun(t, h, child(t, h, id, 2), tutti.RunCompleted)
	})
}

// An operator retries the child; the parent that had failed by it takes part again.
func TestRetriedChildRevivesItsParents(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("leaf", `[{"task":"a"}]`)
		h.Define("mid", `[{"child":"leaf"}]`)
		id := h.StartToy(`[{"child":"mid"},{"task":"b"}]`)
		h.Fail(must(t, h.Poll("a", "w")), "no")
		leaf := child(t, h, child(t, h, id, 1), 1)
		h.MustDo(engine.Retry{Run: leaf})
		h.CheckInvariants()
		h.Complete(must(t, h.Poll("a", "w")), "")
		h.Work("b")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestDeepRetryOfARemovedChild(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("child", `[{"task":"a"}]`)
		id := h.StartToy(`[{"child":"child"}]`)
		h.Fail(must(t, h.Poll("a", "w")), "no")
		h.MustDo(engine.Remove{Run: child(t, h, id, 1)})
		h.MustDo(engine.Retry{Run: id, Deep: true})
		wantRun(t, h, id, tutti.RunFailed)
		if r := h.Run(id); !strings.Contains(r.Reason, "removed") {
			t.Errorf("reason %q", r.Reason)
		}
	})
}

// A child that an operator retries must not be ended by the echo of its first end.
func TestRetriedChildIsNotTerminatedByItsFirstEnd(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 2, HoldMail: true})
	h.Define("child", `[{"task":"a"}]`)
	var id tutti.RunID
	for { // until parent and child are on different shards
		id = h.StartToy(`[{"child":"child"}]`)
		if c := child(t, h, id, 1); c.Shard(2) != id.Shard(2) {
			break
		}
		h.MustDo(engine.Terminate{Run: id})
	}
	h.DeliverMail()
	h.Fail(must(t, h.Poll("a", "w")), "no")
	c := child(t, h, id, 1)
	h.MustDo(engine.Retry{Run: c})
	for h.DeliverMail() > 0 {
	}
	wantRun(t, h, c, tutti.RunRunning)
	wantRun(t, h, id, tutti.RunRunning)
	h.Complete(must(t, h.Poll("a", "w")), "")
	for h.DeliverMail() > 0 {
	}
	wantRun(t, h, id, tutti.RunCompleted)
}

// The end of a child from before a restart is not taken for the end of the new child.
func TestOldChildCannotEndNewTask(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 3, HoldMail: true})
	h.Define("child", `[{"task":"a"}]`)
	id := h.StartToy(`[{"child":"child"}]`)
	h.DeliverMail()
	h.MustDo(engine.Terminate{Run: id})
	h.MustDo(engine.Restart{Run: id})
	for h.DeliverMail() > 0 {
	}
	wantRun(t, h, id, tutti.RunRunning)
	for h.Work("a") > 0 {
	}
	for h.DeliverMail() > 0 {
	}
	wantRun(t, h, id, tutti.RunCompleted)
}

func TestStartWithoutWaiting(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("other", `[{"task":"a"}]`)
		id := h.StartToy(`[{"start":"other"}]`)
		wantRun(t, h, id, tutti.RunCompleted)
		if n := h.Work("a"); n != 1 {
			t.Errorf("%d tasks of the other run, want 1", n)
		}
	})
}

func TestIdempotencyPolicies(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"task":"a"}]`)
		h.Define("e", `[{"task":"a"}]`)
		spec := tutti.RunSpec{Definition: "d", IdempotencyKey: "k"}
		first := h.Start(spec)
		_, err := h.StartError(spec)
		wantCode(t, err, "IdempotencyKeyUsed")
		spec.OnDuplicate = tutti.DuplicateReturn
		st, err := h.StartError(spec)
		if err != nil || !st.Existing || st.ID != first {
			t.Errorf("returned %+v, %v", st, err)
		}
		spec.OnDuplicate = tutti.DuplicateFailOnRunning
		_, err = h.StartError(spec)
		wantCode(t, err, "IdempotencyKeyUsed")
		spec.Definition = "e" // a key belongs to a definition
		h.Start(spec)
		spec.Definition = "d"
		h.Work("a")
		second := h.Start(spec)
		if second == first {
			t.Error("the ended run was returned")
		}
		if id, ok, err := h.ViewOf(second).ByIdempotencyKey("", "d", "k"); id != second || !ok ||
			err != nil {
			t.Errorf("the key stands for %v, %v", id, err)
		}
		h.MustDo(engine.Remove{Run: first})
		_, err = h.StartError(tutti.RunSpec{Definition: "d", IdempotencyKey: "k"})
		wantCode(t, err, "IdempotencyKeyUsed")
		h.Work("a")
		h.MustDo(engine.Remove{Run: second})
		h.Start(tutti.RunSpec{Definition: "d", IdempotencyKey: "k"})
	})
}

// A child may meet a run by its idempotency key, running or ended, and not alone.
func TestChildMeetsKnownRun(t *testing.T) {
	parent := `[{"fork":2,"steps":[{"child":"child","key":"k"}]},{"task":"p"}]`
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("child", `[{"task":"c"}]`)
		known := h.Start(tutti.RunSpec{Definition: "child", IdempotencyKey: "k"})
		one, two, three := h.StartToy(parent), h.StartToy(parent), h.StartToy(parent)
		for _, seq := range []tutti.Seq{2, 3} {
			if got := child(t, h, one, seq); got != known {
				t.Errorf("the parent waits for %s, want %s", got, known)
			}
		}
		h.CheckInvariants()
		h.MustDo(engine.Terminate{Run: three})
		wantRun(t, h, known, tutti.RunRunning)
		h.Fail(must(t, h.Poll("c", "w")), "no")
		wantRun(t, h, one, tutti.RunFailed)
		wantRun(t, h, two, tutti.RunFailed)
		h.MustDo(engine.Retry{Run: known})
		if n := h.Work("c"); n != 1 {
			t.Errorf("%d children ran, want 1", n)
		}
		h.Work("p")
		wantRun(t, h, one, tutti.RunCompleted)
		wantRun(t, h, two, tutti.RunCompleted)
		wantRun(t, h, three, tutti.RunTerminated)
		four := h.StartToy(parent)
		h.Work("p")
		wantRun(t, h, four, tutti.RunCompleted)
	})
}

func TestChildrenAreFoundByTheirParent(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("child", `[{"task":"c"}]`)
		id := h.StartToy(`[{"child":"child"}]`)
		found := 0
		err := h.ViewOf(child(t, h, id, 1)).ByLabel("", engine.LabelParent, id.String(),
			func(engine.IndexEntry) bool { found++; return true })
		if err != nil || found != 1 {
			t.Errorf("%d children are listed, %v", found, err)
		}
	})
}

// More messages to itself than a shard follows at once keep their order.
func TestManyLocalMessages(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 12,000 runs")
	}
	h := enginetest.New(t, enginetest.Options{})
	h.Define("child", `[{"wait":0}]`)
	h.Define("d", `[{"fork":12000,"steps":[{"child":"child"}]}]`)
	id := h.Start(tutti.RunSpec{Definition: "d"})
	h.Advance(1000)
	h.MustDo(engine.Terminate{Run: id})
	h.Advance(1000)
	open := 0
	if err := h.View(0).ListRuns(engine.RunQuery{Statuses: []tutti.RunStatus{tutti.RunRunning}},
		func(engine.IndexEntry) bool { open++; return true }); err != nil || open > 0 {
		t.Errorf("%d runs are open, %v", open, err)
	}
}
