package engine_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

func TestWideRun(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	id := h.StartToy(`[{"fork":10000,"steps":[{"task":"a","response":1000}]},{"task":"b"}]`)
	h.Advance(1000)
	if r := h.Run(id); r.OpenTasks != 10_001 {
		t.Fatalf("%d open tasks, want 10,001", r.OpenTasks)
	}
	h.CheckInvariants()
	if w := h.Explain(id); len(w) != 100 {
		t.Errorf("explained in %d sentences, want 100", len(w))
	}
	h.Crash()
	if n := h.Work("a"); n != 10_000 {
		t.Fatalf("%d branches, want 10,000", n)
	}
	h.CheckInvariants()
	h.Work("b")
	wantRun(t, h, id, tutti.RunCompleted)
}

// The open tasks of an ended run are cancelled in windows, over crashes too.
func TestSweep(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	id := h.StartToy(`[{"fork":5000,"steps":[{"task":"a"}]}]`)
	h.Advance(1000)
	out := must(t, h.Poll("a", "w"))
	h.DoAll(0, engine.Terminate{Run: id, Reason: "too wide"})
	h.CheckInvariants()
	wantRun(t, h, id, tutti.RunTerminated)
	if w := h.Explain(id); w[0].Code != "Sweeping" {
		t.Errorf("explained as %+v", w[0])
	}
	for _, cmd := range []engine.Command{
		engine.Retry{Run: id},
		engine.Restart{Run: id},
		engine.Remove{Run: id},
		engine.Rerun{Run: id, Seq: 1},
	} {
		if res := h.DoAll(0, cmd); tutti.KindOf(res[0].Err) != tutti.Conflict {
			t.Errorf("%T while open tasks are cancelled: %v", cmd, res[0].Err)
		}
	}
	h.Crash()
	h.Advance(10)
	h.CheckInvariants()
	if r := h.Run(id); r.OpenTasks != 0 {
		t.Errorf("%d open tasks are left", r.OpenTasks)
	}
	_, err := h.CompleteError(out, engine.Outcome{Status: tutti.Completed})
	wantCode(t, err, "RunEnded")
	h.MustDo(engine.Remove{Run: id})
}

func TestBigPayloads(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		big := `"` + strings.Repeat("z", 5000) + `"`
		h.Define("d", `[{"task":"a","big":3000},{"task":"b"}]`)
		id := h.Start(tutti.RunSpec{Definition: "d", Input: value.Raw(big)})
		out := must(t, h.Poll("a", "w"))
		if n := len(out.Task.Input); n != 3002 {
			t.Fatalf("the worker got %d bytes, want 3002", n)
		}
		written := h.Rows(id.Shard(h.Shards())).WrittenBytes
		for range 10 { // a small change does not write the payloads again
			_, err := h.CompleteError(out, engine.Outcome{Status: tutti.Running})
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := h.Rows(id.Shard(h.Shards())).WrittenBytes - written; n > 10*1000 {
			t.Errorf("10 heartbeats wrote %d bytes", n)
		}
		h.Complete(out, big)
		if got := h.Task(id, 1).Output; string(got) != big {
			t.Errorf("the output has %d bytes, want %d", len(got), len(big))
		}
		if got := h.Run(id).Input; string(got) != big {
			t.Errorf("the input has %d bytes, want %d", len(got), len(big))
		}
		h.Work("b")
		wantRun(t, h, id, tutti.RunCompleted)
	})
}

func TestPosts(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"posts":50},{"local":1}]`)
		var ids []tutti.RunID
		for range 3 {
			ids = append(ids, h.Start(tutti.RunSpec{Definition: "d"}))
		}
		h.Advance(100)
		for _, id := range ids {
			wantRun(t, h, id, tutti.RunCompleted)
		}
	})
}

func TestPostsRestWhilePaused(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	src := h.Define("d", `[{"posts":5}]`)
	id := tutti.NewRunID(h.Now(), 1)
	h.DoAll(0, engine.Start{ID: id, Source: src, Spec: tutti.RunSpec{Definition: "d"}},
		engine.Pause{Run: id})
	h.Advance(1000)
	wantRun(t, h, id, tutti.RunPaused)
	h.CheckInvariants()
	h.Crash()
	h.MustDo(engine.Resume{Run: id})
	h.Advance(1000)
	wantRun(t, h, id, tutti.RunCompleted)
}

func TestProgramFaultsEndTheRunAlone(t *testing.T) {
	for body, reason := range map[string]string{
		`[{"task":"a"},{"error":"it broke"}]`: "it broke",
		`[{"task":"a"},{"panic":"it died"}]`:  "it died",
		`[{"task":"a"},{"stop":true}]`:        "nothing to wait for",
	} {
		t.Run(reason, func(t *testing.T) {
			everyWay(t, func(t *testing.T, h *enginetest.Harness) {
				other := h.StartToy(`[{"task":"b"}]`)
				id := h.StartToy(body)
				h.Work("a")
				wantRun(t, h, id, tutti.RunFailed)
				if r := h.Run(id); !strings.Contains(r.Reason, reason) {
					t.Errorf("reason %q", r.Reason)
				}
				if task := h.Task(id, 1); task.Status != tutti.Completed {
					t.Errorf("the task before the fault is %s", task.Status)
				}
				h.Work("b")
				wantRun(t, h, other, tutti.RunCompleted)
			})
		})
	}
}

func TestRunTimeout(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"wait":0}]`)
		id := h.Start(tutti.RunSpec{Definition: "d", TimeoutMs: 5000})
		h.Advance(4999)
		wantRun(t, h, id, tutti.RunRunning)
		h.Advance(1)
		wantRun(t, h, id, tutti.RunTimedOut)
		h.MustDo(engine.Retry{Run: id})
		h.Advance(4999)
		wantRun(t, h, id, tutti.RunRunning)
		h.Advance(1)
		wantRun(t, h, id, tutti.RunTimedOut)
	})
}

func TestLongHistory(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		id := h.StartToy(`[{"loop":300,"steps":[{"task":"a"}]}]`)
		h.Work("a")
		wantRun(t, h, id, tutti.RunCompleted)
		evs := h.History(id)
		if want := 1 + 2 + 300*3 + 1; len(evs) != want {
			t.Fatalf("%d entries, want %d", len(evs), want)
		}
		segments := len(h.Rows(id.Shard(h.Shards())).Keys("r" + string(id[:]) + "y"))
		if segments != 4 {
			t.Errorf("%d segments, want 4", segments)
		}
		for _, after := range []int{0, 1, 255, 256, 257, 511, 512, 903} {
			var got []int
			err := h.ViewOf(id).History(id, after, func(ev engine.HistoryEvent) bool {
				got = append(got, ev.Number)
				return len(got) < 2
			})
			if err != nil || got[0] != after+1 {
				t.Errorf("after %d come %v, %v", after, got, err)
			}
		}
	})
}

// A clock that jumps back delays, and loses nothing.
func TestClockJumpsBack(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	id := h.StartToy(`[{"posts":5},{"wait":1000},{"task":"a","response":500,"retries":1}]`)
	for range 40 {
		h.Advance(300)
		h.SetNow(h.Now() - 200)
		h.CheckInvariants()
		h.Poll("a", "w")
	}
	wantRun(t, h, id, tutti.RunTimedOut)
}

func TestIndexes(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"task":"a"}]`)
		h.Define("e", `[{"wait":0}]`)
		spec := tutti.RunSpec{
			Definition: "d", CorrelationID: "c\x00d", Labels: map[string]string{"k": "v"},
		}
		var e []tutti.RunID
		for range 20 {
			h.Start(spec)
			h.Advance(1)
			e = append(e, h.Start(tutti.RunSpec{Definition: "e", CorrelationID: "c"}))
			h.Advance(1)
		}
		h.MustDo(engine.Terminate{Run: e[3]})
		h.Complete(must(t, h.Poll("a", "w")), "")
		list := func(q engine.RunQuery) (got []engine.IndexEntry) {
			for i := range h.Shards() {
				err := h.View(i).ListRuns(q, func(x engine.IndexEntry) bool {
					got = append(got, x)
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			return got
		}
		for _, c := range []struct {
			q    engine.RunQuery
			want int
		}{
			{engine.RunQuery{}, 40},
			{engine.RunQuery{Definitions: []string{"d"}}, 20},
			{engine.RunQuery{Definitions: []string{"d", "e"}, OldestFirst: true}, 40},
			{engine.RunQuery{Statuses: []tutti.RunStatus{tutti.RunTerminated}}, 1},
			{engine.RunQuery{Statuses: []tutti.RunStatus{tutti.RunCompleted}}, 1},
			{engine.RunQuery{FromMs: h.Now() - 10}, 10},
			{engine.RunQuery{ToMs: h.Now() - 10}, 30},
			{engine.RunQuery{Namespace: "other"}, 0},
		} {
			got := list(c.q)
			if len(got) != c.want {
				t.Errorf("%+v finds %d runs, want %d", c.q, len(got), c.want)
			}
			for i := 1; i < len(got) && h.Shards() == 1; i++ {
				if (got[i-1].StartMs < got[i].StartMs) != c.q.OldestFirst {
					t.Errorf("%+v: run %d is out of order", c.q, i)
				}
			}
		}
		found := map[string]int{}
		count := func(what string) func(engine.IndexEntry) bool {
			return func(x engine.IndexEntry) bool {
				found[what+" "+x.Status.String()]++
				return true
			}
		}
		for i := range h.Shards() {
			v := h.View(i)
			for _, err := range []error{
				v.ByCorrelation("", "c\x00d", count("long")), v.ByCorrelation("", "c", count("short")),
				v.ByLabel("", "k", "v", count("label")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		want := "map[label COMPLETED:1 label RUNNING:19 long COMPLETED:1 long RUNNING:19 " +
			"short RUNNING:19 short TERMINATED:1]"
		if got := fmt.Sprint(found); got != want {
			t.Errorf("found %s, want %s", got, want)
		}
	})
}

func TestDocumentsAndLetters(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		doc := engine.Document{Dialect: "toy", Kind: "wf", Name: "a\x00b", Version: 2, Body: value.Raw(`[]`)}
		_, err := h.Do(engine.PutDocument{Doc: doc, Mode: engine.PutExists})
		wantCode(t, err, "DocumentNotFound")
		h.MustDo(engine.PutDocument{Doc: doc, Mode: engine.PutNew})
		_, err = h.Do(engine.PutDocument{Doc: doc, Mode: engine.PutNew})
		wantCode(t, err, "DocumentExists")
		var got []engine.Document
		if err := h.View(0).Documents(func(d engine.Document) bool {
			got = append(got, d)
			return true
		}); err != nil || len(got) != 1 || got[0].Name != "a\x00b" || got[0].Version != 2 {
			t.Errorf("documents %+v, %v", got, err)
		}
		h.MustDo(engine.DeleteDocument{Doc: doc})
		_, err = h.Do(engine.DeleteDocument{Doc: doc})
		wantCode(t, err, "DocumentNotFound")
		if len(h.Docs) != 2 || !h.Docs[1].Deleted {
			t.Errorf("changes told: %+v", h.Docs)
		}
		for n := range 3 {
			if got := h.MustDo(engine.PutLetter{Box: "b", ID: "x", Body: value.Raw(`1`)}); got != uint64(n+1) {
				t.Errorf("letter %v, want %d", got, n+1)
			}
		}
		h.MustDo(engine.DropLetter{Box: "b", Number: 2})
		h.MustDo(engine.DropLetter{Box: "b", Number: 2})
		h.Crash()
		h.MustDo(engine.PutLetter{Box: "b", ID: "y"})
		v := h.View(engine.KeyShard("b", h.Shards()))
		var numbers []uint64
		if err := v.Letters("b", 2, func(l engine.Letter) bool {
			numbers = append(numbers, l.Number)
			return true
		}); err != nil || fmt.Sprint(numbers) != "[3 4]" {
			t.Errorf("letters %v, %v", numbers, err)
		}
		if boxes, err := v.Boxes(); err != nil || fmt.Sprint(boxes) != "[b]" {
			t.Errorf("boxes %v, %v", boxes, err)
		}
	})
}

// The auditor finds what nothing would wake, and the repair mends it.
func TestAuditAndRepair(t *testing.T) {
	for _, table := range []string{"w", "q"} {
		t.Run(table, func(t *testing.T) {
			h := enginetest.New(t, enginetest.Options{})
			h.Define("d", `[{"fork":2,"steps":[{"task":"a","poll":1000,"optional":true}]}]`)
			id := h.Start(tutti.RunSpec{Definition: "d", TimeoutMs: 60_000})
			if p, err := h.View(0).AuditRun(id); err != nil || len(p) != 0 {
				t.Fatalf("problems of a sound run: %v, %v", p, err)
			}
			lost := h.Rows(0).Keys(table)
			for _, k := range lost {
				h.Rows(0).Delete(k)
			}
			h.Crash()
			p, err := h.View(0).AuditRun(id)
			if err != nil || len(p) != len(lost) {
				t.Fatalf("%d rows are lost, found %v, %v", len(lost), p, err)
			}
			h.MustDo(engine.Repair{Run: id})
			if p, err := h.View(0).AuditRun(id); err != nil || len(p) != 0 {
				t.Errorf("problems after the repair: %v, %v", p, err)
			}
			h.CheckInvariants()
			h.Advance(1000)
			wantRun(t, h, id, tutti.RunCompleted)
		})
	}
}

// A run that waits for nothing, as no run may, is looked at again and ended.
func TestRepairOfARunThatWaitsForNothing(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{SkipFinalCheck: true})
	id := h.StartToy(`[{"wait":0}]`)
	for _, k := range h.Rows(0).Keys("r" + string(id[:]) + "t") {
		h.Rows(0).Delete(k)
	}
	h.Crash()
	if p, err := h.View(0).AuditRun(id); err != nil || len(p) == 0 {
		t.Fatalf("found %v, %v", p, err)
	}
	h.MustDo(engine.Repair{Run: id})
	wantRun(t, h, id, tutti.RunFailed)
}

func TestPayloadRowsAreNamedByContent(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	id := h.StartToy(`[{"fork":5,"steps":[{"task":"a","big":3000}]}]`)
	keys := h.Rows(0).Keys("r" + string(id[:]) + "p")
	if len(keys) != 1 {
		t.Errorf("%d payload rows for five equal payloads", len(keys))
	}
	raw, _, _ := h.Rows(0).Get(keys[0])
	hash := engine.HashOf(raw)
	if !bytes.HasSuffix(keys[0], hash[:]) {
		t.Error("the row is not named by its content")
	}
}
