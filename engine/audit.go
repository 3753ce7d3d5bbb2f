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
	r.hotDirty = true
	r.wasWakes, r.wasIndex = [2]int64{}, nil
	for _, seq := range b.openSeqs(r) {
		s := b.task(r, seq)
		if s == nil {
			b.dropOpen(r, seq)
			continue
		}
		s.wake, s.ready, s.dirty = 0, nil, true
	}
	if r.Status == tutti.RunRunning && r.OpenTasks == 0 && len(r.posts) == 0 && !r.HeldByLimit {
		b.resume(r, tutti.Event{Kind: tutti.EventDecide})
	}
	return nil, nil
}
