package enginetest

import (
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// Problems lists every breach of an invariant that the rows of all shards show, and every
// wake-up, ready task and message that the harness was not told of by the effects.
func (h *Harness) Problems() (list []string) {
	h.t.Helper()
	var views []engine.View
	for i := range h.shards {
		views = append(views, h.View(i))
	}
	problems, err := engine.Check(views)
	h.check(err)
	for _, p := range problems {
		list = append(list, p.Run.String()+": "+p.Text)
	}
	for i := range h.shards {
		list = append(list, h.unheard(i)...)
	}
	return list
}

// unheard compares what effects have said so far with the rows of a shard.
func (h *Harness) unheard(shard int) (list []string) {
	h.t.Helper()
	v := h.View(shard)
	timers := map[Timer]bool{}
	for _, tm := range h.timers {
		timers[tm] = true
	}
	h.check(v.Wakes(0, engine.Forever, func(tm engine.Timer) bool {
		if !timers[Timer{shard, tm}] && !h.restsUntilResumed(tm) {
			list = append(list, tm.Run.String()+": no effect told of a stored wake-up")
		}
		return true
	}))
	ready := map[engine.Ready]bool{}
	for _, q := range h.ready {
		for _, r := range q {
			ready[r] = true
		}
	}
	h.check(v.ReadyTasks("", func(r engine.Ready) bool {
		if !ready[r] {
			list = append(list, r.Run.String()+": no effect told of a ready task")
		}
		return true
	}))
	mail := map[int]map[uint64]bool{}
	for _, m := range h.shards[shard].mail {
		if mail[m.To] == nil {
			mail[m.To] = map[uint64]bool{}
		}
		mail[m.To][m.Number] = true
	}
	h.check(v.Outbox(func(m engine.Send) bool {
		if !mail[m.To][m.Number] {
			list = append(list, "no effect told of a stored message")
		}
		return true
	}))
	return list
}

// restsUntilResumed reports whether a wake-up is overdue because its run is paused.
func (h *Harness) restsUntilResumed(tm engine.Timer) bool {
	r, err := h.ViewOf(tm.Run).Run(tm.Run)
	return err == nil && r.Status == tutti.RunPaused && tm.DueMs <= h.now
}

// CheckInvariants fails the test when the rows, or what the effects have said, breach an
// invariant.
func (h *Harness) CheckInvariants() {
	h.t.Helper()
	if list := h.Problems(); len(list) > 0 {
		h.t.Fatalf("%d breaches of invariants:\n%s", len(list), strings.Join(list, "\n"))
	}
}
