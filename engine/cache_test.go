package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
)

const cachedStep = `[{"task":"a","cache":{"key":"k","ttl":60000}}]`

// fill runs a task to its end, which leaves its output in the cache.
func fill(t *testing.T, h *enginetest.Harness, output string) {
	t.Helper()
	id := h.Start(tutti.RunSpec{Definition: "d"})
	h.Complete(must(t, h.Poll("a", "w")), output)
	wantRun(t, h, id, tutti.RunCompleted)
}

func wantHit(t *testing.T, h *enginetest.Harness, id tutti.RunID, output string) {
	t.Helper()
	wantRun(t, h, id, tutti.RunCompleted)
	task := h.Task(id, 1)
	if task.Status != tutti.Completed || string(task.Output) != output || task.Polls != 0 {
		t.Fatalf("the task was not ended by the cache\n%s", h.Dump(id))
	}
	for _, ev := range h.History(id) {
		if ev.Kind == engine.HistoryNote && ev.Note == "cached" && ev.Seq == 1 {
			return
		}
	}
	t.Fatal("the history does not say that the output was cached")
}

// entries counts the outputs kept on all shards.
func entries(h *enginetest.Harness) (n int) {
	for i := range h.Shards() {
		for _, k := range h.Rows(i).Keys("C") {
			if len(k) > 1 {
				n++
			}
		}
	}
	return n
}

func TestCache(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", cachedStep)
		h.Define("other", `[{"task":"a","cache":{"key":"other","ttl":60000}}]`)
		fill(t, h, `{"x":1}`)
		for range 5 { // on several shards
			wantHit(t, h, h.Start(tutti.RunSpec{Definition: "d"}), `{"x":1}`)
			h.CheckInvariants()
		}
		for _, miss := range []tutti.RunSpec{
			{Definition: "other"}, {Definition: "d", Namespace: "n"},
		} {
			id := h.Start(miss)
			wantRun(t, h, id, tutti.RunRunning)
			h.MustDo(engine.Terminate{Run: id})
		}
		h.Advance(60_000)
		if n := entries(h); n != 0 {
			t.Fatalf("%d outputs are kept beyond their time", n)
		}
		id := h.Start(tutti.RunSpec{Definition: "d"})
		h.Complete(must(t, h.Poll("a", "w")), `{"x":2}`)
		wantRun(t, h, id, tutti.RunCompleted)
		wantHit(t, h, h.Start(tutti.RunSpec{Definition: "d"}), `{"x":2}`)
	})
}

// A later output takes the place of an earlier one, with a time of its own.
func TestCacheIsRenewed(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", cachedStep)
		h.Start(tutti.RunSpec{Definition: "d"})
		h.Start(tutti.RunSpec{Definition: "d"})
		first, second := must(t, h.Poll("a", "w")), must(t, h.Poll("a", "w"))
		h.Complete(first, `1`)
		h.Advance(40_000)
		h.Complete(second, `2`)
		h.Advance(40_000)
		wantHit(t, h, h.Start(tutti.RunSpec{Definition: "d"}), `2`)
		h.Advance(20_000)
		if n := entries(h); n != 0 {
			t.Fatalf("%d outputs are kept beyond their time", n)
		}
	})
}

// What failed or is too large is not kept; a further attempt does not ask, but is kept.
func TestCacheKeepsWhatItMay(t *testing.T) {
	everyWay(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("d", `[{"task":"a","retries":1,"cache":{"key":"k","ttl":60000}}]`)
		fill(t, h, fmt.Sprintf("%q", strings.Repeat("x", 64<<10)))
		h.Start(tutti.RunSpec{Definition: "d"})
		h.Fail(must(t, h.Poll("a", "w")), "no")
		if n := entries(h); n != 0 {
			t.Fatalf("%d outputs are kept, want none", n)
		}
		h.Complete(must(t, h.Poll("a", "w")), `1`)
		wantHit(t, h, h.Start(tutti.RunSpec{Definition: "d"}), `1`)
	})
}

// A run may end, be paused, or lose patience while its task asks.
func TestCacheIsAsked(t *testing.T) {
	asking := func(t *testing.T) (*enginetest.Harness, tutti.RunID) {
		h := enginetest.New(t, enginetest.Options{Shards: 4, HoldMail: true})
		h.Define("d", cachedStep)
		h.Start(tutti.RunSpec{Definition: "d"})
		for h.DeliverMail() > 0 {
		}
		h.Complete(must(t, h.Poll("a", "w")), `1`)
		for h.DeliverMail() > 0 {
		}
		for range 50 {
			id := h.Start(tutti.RunSpec{Definition: "d"})
			if h.Run(id).Status.Open() {
				if w := h.Explain(id); len(w) != 1 || w[0].Code != "AsksCache" {
					t.Fatalf("explained as %+v", w)
				}
				return h, id
			}
		}
		t.Fatal("every run is on the shard that owns the key")
		return nil, tutti.RunID{}
	}
	t.Run("terminated", func(t *testing.T) {
		h, id := asking(t)
		h.MustDo(engine.Terminate{Run: id})
		for h.DeliverMail() > 0 {
		}
		wantRun(t, h, id, tutti.RunTerminated)
	})
	t.Run("paused", func(t *testing.T) {
		h, id := asking(t)
		h.MustDo(engine.Pause{Run: id})
		for h.DeliverMail() > 0 {
		}
		wantRun(t, h, id, tutti.RunPaused)
		h.MustDo(engine.Resume{Run: id})
		wantHit(t, h, id, `1`)
	})
	t.Run("answered late", func(t *testing.T) {
		h, id := asking(t)
		h.Advance(30_000)
		out := must(t, h.Poll("a", "w"))
		for h.DeliverMail() > 0 {
		}
		h.Complete(out, `2`)
		wantRun(t, h, id, tutti.RunCompleted)
		if got := string(h.Task(id, 1).Output); got != `2` {
			t.Fatalf("the output is %s, want 2", got)
		}
		for h.DeliverMail() > 0 {
		}
	})
}
