package enginetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// Run reads a run.
func (h *Harness) Run(id tutti.RunID) *tutti.Run {
	h.t.Helper()
	r, err := h.ViewOf(id).Run(id)
	h.check(err)
	return r
}

// Tasks reads the attempts of a run in order.
func (h *Harness) Tasks(id tutti.RunID) (tasks []*tutti.Task) {
	h.t.Helper()
	h.check(h.ViewOf(id).Tasks(id, 1, func(t *tutti.Task) bool {
		tasks = append(tasks, t)
		return true
	}))
	return tasks
}

// Task reads one attempt of a run.
func (h *Harness) Task(id tutti.RunID, seq tutti.Seq) *tutti.Task {
	h.t.Helper()
	t, err := h.ViewOf(id).Task(id, seq)
	h.check(err)
	return t
}

// Explain says why a run has not ended.
func (h *Harness) Explain(id tutti.RunID) []engine.Wait {
	h.t.Helper()
	_, waits, err := h.ViewOf(id).Explain(id)
	h.check(err)
	return waits
}

// History reads the history of a run.
func (h *Harness) History(id tutti.RunID) (evs []engine.HistoryEvent) {
	h.t.Helper()
	h.check(h.ViewOf(id).History(id, 0, func(ev engine.HistoryEvent) bool {
		evs = append(evs, ev)
		return true
	}))
	return evs
}

// Timers lists the wake-ups that are set, soonest first.
func (h *Harness) Timers() []Timer {
	list := slices.Clone(h.timers)
	slices.SortFunc(list, compareTimers)
	return list
}

// Dump describes a run and its attempts, one line each, for golden files and failures.
func (h *Harness) Dump(id tutti.RunID) string {
	h.t.Helper()
	r := h.Run(id)
	var b strings.Builder
	fmt.Fprintf(&b, "run %s", r.Status)
	if r.HeldByLimit {
		b.WriteString(" held")
	}
	if r.Reason != "" {
		fmt.Fprintf(&b, " reason=%q", r.Reason)
	}
	if r.FailedTask != 0 {
		fmt.Fprintf(&b, " failed=%d", r.FailedTask)
	}
	if len(r.Output) > 0 {
		fmt.Fprintf(&b, " output=%s", r.Output)
	}
	b.WriteByte('\n')
	for _, t := range h.Tasks(id) {
		fmt.Fprintf(&b, "  %d %s %s", t.Seq, t.Name, t.Status)
		for _, f := range []struct {
			name string
			set  bool
			val  any
		}{
			{"attempt", t.Attempt > 0, t.Attempt},
			{"retried", t.Retried, t.Retried},
			{"iteration", t.Iteration > 1, t.Iteration},
			{"worker", t.Worker != "", t.Worker},
			{"polls", t.Polls > 1, t.Polls},
			{"token", t.Token > 0, t.Token},
			{"doubt", t.InDoubt, t.InDoubt},
			{"reason", t.Reason != "", t.Reason},
			{"output", len(t.Output) > 0, string(t.Output)},
		} {
			if f.set {
				fmt.Fprintf(&b, " %s=%v", f.name, f.val)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Shards is the number of shards.
func (h *Harness) Shards() int { return len(h.shards) }
