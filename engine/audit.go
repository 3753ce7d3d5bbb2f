package engine

import (
	"fmt"

	"github.com/tutti-run/tutti"
)

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
