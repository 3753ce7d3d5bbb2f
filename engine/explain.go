package engine

import (
	"fmt"
	"time"

	"github.com/tutti-run/tutti"
)

// Wait says why one open attempt of a run has not ended.
type Wait struct {
	Seq     tutti.Seq
	Name    string
	Type    string
	Code    string // stable: Queued, Delayed, Limited, Leased, Timer, Signal, Child, Scope, …
	Queue   string
	Worker  string
	Limit   string
	Child   tutti.RunID
	SinceMs int64
	UntilMs int64 // when the wait ends by itself; 0 = it does not
	InDoubt bool
	Text    string // one sentence
}

// maxWaits bounds the waits that an explanation lists.
const maxWaits = 100

// Explain says why a run has not ended: one entry for what holds the whole run, if
// anything, then one for each open attempt, 100 at most.
func (v View) Explain(id tutti.RunID) (*tutti.Run, []Wait, error) {
	r, h, err := v.run(id)
	if err != nil {
		return nil, nil, err
	}
	waits := runWaits(r, h)
	seqs, err := v.Open(id)
	if err != nil {
		return nil, nil, err
	}
	for _, seq := range seqs[:min(len(seqs), maxWaits)] {
		t, err := v.taskState(id, seq)
		if err != nil {
			return nil, nil, err
		}
		waits = append(waits, t.explain(r))
	}
	return r, waits, nil
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000Z") }

func runWaits(r *tutti.Run, h *hot) (waits []Wait) {
	switch {
	case h.sweeping:
		waits = append(waits, Wait{Code: "Sweeping", SinceMs: r.EndMs, Text: fmt.Sprintf(
			"The run has ended; %d open tasks are still being cancelled.", r.OpenTasks)})
	case r.Status == tutti.RunPaused:
		waits = append(waits, Wait{Code: "Paused", SinceMs: r.UpdateMs, Text: "The run is " +
			"paused since " + stamp(r.UpdateMs) + "; it takes no further step until it is resumed."})
	case r.HeldByLimit && r.Status.Open():
		waits = append(waits, Wait{
			Code: "RunLimited", SinceMs: r.StartMs, Limit: r.Limit.Key,
			Text: fmt.Sprintf("The run has not begun: %d runs with limit key %q are open, "+
				"which is the limit; it begins when one of them ends.",
				r.Limit.Concurrency, r.Limit.Key),
		})
	case len(h.posts) > 0:
		waits = append(waits, Wait{
			Code: "Working", SinceMs: r.UpdateMs,
			Text: "The run is being worked on in windows; nothing holds it up.",
		})
	}
	return waits
}

func (t *taskState) explain(r *tutti.Run) Wait {
	w := Wait{
		Seq: t.Seq, Name: t.Name, Type: t.Type, Queue: t.Queue, Worker: t.Worker,
		SinceMs: t.UpdatedMs, InDoubt: t.InDoubt, Child: t.ChildRun,
	}
	if at := t.wakeAt(); at != 0 && at != Forever {
		w.UntilMs = at
	}
	if t.Limit != nil {
		w.Limit = t.Limit.Key
	}
	w.Code, w.Text = t.why(r)
	return w
}

func (t *taskState) why(r *tutti.Run) (code, sentence string) {
	name := fmt.Sprintf("Step %s (%s)", t.Name, t.Type)
	switch {
	case !t.Status.Open():
		return "Ended", name + " has ended; the run hears of it when it is resumed."
	case t.Kind == tutti.Wait && t.UntilMs > 0:
		return "Timer", name + " waits until " + stamp(t.UntilMs) + "."
	case t.Kind == tutti.Wait:
		return "Signal", fmt.Sprintf("%s waits since %s until somebody completes task %s.",
			name, stamp(t.StartedMs), r.ID.TaskID(t.Seq))
	case t.Kind == tutti.Child:
		return "Child", fmt.Sprintf("%s waits since %s for run %s to end.",
			name, stamp(t.StartedMs), t.ChildRun)
	case t.Kind != tutti.Work:
		return "Scope", name + " waits for other steps of the run."
	case t.Status == tutti.Running && t.LeaseMs == 0:
		return "HeldOpen", fmt.Sprintf("%s was accepted by %s and waits since %s for its "+
			"completion to be reported.", name, orNobody(t.Worker), stamp(t.UpdatedMs))
	case t.Status == tutti.Running:
		return "Leased", fmt.Sprintf("%s is held by worker %s since %s%s.",
			name, orNobody(t.Worker), stamp(t.UpdatedMs), t.leaseEnd())
	}
	return t.whyQueued(name)
}

func orNobody(worker string) string {
	if worker == "" {
		return "without a name"
	}
	return worker
}

func (t *taskState) leaseEnd() string {
	if t.LeaseMs == Forever {
		return "; the lease has no end, since the task has no response timeout"
	}
	return "; unless it answers, its lease ends at " + stamp(t.LeaseMs)
}

func (t *taskState) whyQueued(name string) (code, sentence string) {
	switch t.hold {
	case holdDelay:
		why := "its start delay"
		switch {
		case t.CallbackMs > 0:
			why = "its worker's wish to be called back"
		case t.Attempt > 0:
			why = fmt.Sprintf("the back-off before attempt %d", t.Attempt+1)
		}
		return "Delayed", name + " is held until " + stamp(t.ReadyMs) + " by " + why + "."
	case holdLimit:
		return "Limited", fmt.Sprintf("%s waits for limit %q (%s), which is reached since %s.",
			name, t.Limit.Key, describeLimit(t.Limit), stamp(t.UpdatedMs))
	case holdAsk:
		return "Asking", fmt.Sprintf("%s is asking limit %q for a permit.", name, t.Limit.Key)
	case holdCache:
		return "AsksCache", fmt.Sprintf("%s asks the cache for an output under key %q.",
			name, t.Cache.Key)
	}
	return "Queued", fmt.Sprintf("%s waits in queue %s since %s for a worker to take it.",
		name, t.Queue, stamp(t.ReadyMs))
}

func describeLimit(l *tutti.Limit) string {
	s := ""
	if l.Concurrency > 0 {
		s = fmt.Sprintf("%d at a time", l.Concurrency)
	}
	if l.Rate > 0 {
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%d per %v", l.Rate, time.Duration(l.WindowMs)*time.Millisecond)
	}
	return s
}

// Problem is a breach of invariant I4: an open run, or one of its attempts, that nothing
// would ever wake.
type Problem struct {
	Run  tutti.RunID
	Seq  tutti.Seq
	Text string
}

// AuditRun checks that an open run has a stored reason to wait and a stored wake-up.
func (v View) AuditRun(id tutti.RunID) (problems []Problem, err error) {
	r, h, err := v.run(id)
	if err != nil || !r.Status.Open() && !h.sweeping {
		return nil, err
	}
	report := func(seq tutti.Seq, format string, args ...any) {
		problems = append(problems, Problem{Run: id, Seq: seq, Text: fmt.Sprintf(format, args...)})
	}
	rs := &runState{Run: *r, hot: *h}
	for i, due := range rs.wakes() {
		seq := []tutti.Seq{wakeRunTimeout, wakePosts}[i]
		if due != 0 && !v.has(wakeKey(due, id, seq)) {
			report(seq, "the run's wake-up at %s is missing", stamp(due))
		}
	}
	seqs, err := v.Open(id)
	if err != nil {
		return nil, err
	}
	if len(seqs) == 0 && len(h.posts) == 0 && r.Status == tutti.RunRunning && !r.HeldByLimit {
		report(0, "the run waits for nothing")
	}
	for _, seq := range seqs {
		t, err := v.taskState(id, seq)
		if err != nil {
			report(seq, "the open task %d has no record", seq)
			continue
		}
		if due := t.wakeAt(); due != 0 && !v.has(wakeKey(due, id, seq)) {
			report(seq, "the wake-up of step %s is missing", t.Name)
		}
		if row := t.readyRow(r); row != nil && !v.has(row) {
			report(seq, "step %s is ready but not in its queue", t.Name)
		}
	}
	return problems, nil
}

func (v View) has(key []byte) bool {
	_, ok, err := v.rows.Get(key)
	return ok || err != nil
}

// Repair writes again every row that the records of a run imply.
type Repair struct{ Run tutti.RunID }

func (c Repair) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	b.rewrite(r)
	for _, seq := range b.openSeqs(r) {
		if s := b.task(r, seq); s != nil {
			b.rewriteTask(r, s)
		} else {
			b.dropOpen(r, seq)
		}
	}
	if r.Status == tutti.RunRunning && r.OpenTasks == 0 && len(r.posts) == 0 && !r.HeldByLimit {
		b.resume(r, tutti.Event{Kind: tutti.EventDecide})
	}
	return nil, nil
}

// rewrite writes the derived rows of a run as they should be stored now. What the batch
// changes is dealt with when it ends, as always.
func (b *Batch) rewrite(r *runState) {
	r.hotDirty = true
	if r.wasIndex == nil {
		return // the run is new
	}
	b.w.Set(r.wasIndex, be64(nil, r.EndMs))
	eachLabelRow(r, func(key []byte) { b.w.Set(key, []byte{byte(r.Status)}) })
	for i, seq := range []tutti.Seq{wakeRunTimeout, wakePosts} {
		if due := r.wasWakes[i]; due != 0 {
			b.w.Set(wakeKey(due, r.ID, seq), nil)
			r.fired[i] = true
		}
	}
}

func (b *Batch) rewriteTask(r *runState, s *taskState) {
	s.dirty = true
	if s.wake != 0 {
		b.w.Set(wakeKey(s.wake, r.ID, s.Seq), nil)
		s.fired = true
	}
	if s.ready != nil {
		b.setReady(r, s.ready)
	}
}
