package engine

import (
	"slices"

	"github.com/tutti-run/tutti"
)

func sortSeqs(seqs []tutti.Seq) { slices.Sort(seqs) }

// Wake says that a wake-up time has come. Waking too often, too early or after the fact is
// harmless: what is due is decided by the records alone, and a wake-up that is still needed
// is told of again as an effect.
type Wake struct {
	DueMs int64
	Run   tutti.RunID
	Seq   tutti.Seq
}

func (c Wake) apply(b *Batch) (any, error) {
	if c.Seq == wakeLimit {
		b.wakeLimitOwner(c.DueMs, c.Run)
		return nil, nil
	}
	r := b.run(c.Run)
	if r == nil {
		b.w.Delete(wakeKey(c.DueMs, c.Run, c.Seq)) // of a run that was removed
		return nil, nil
	}
	switch c.Seq {
	case wakeRunTimeout:
		r.fired[0] = true
		b.wakeRun(r)
	case wakePosts:
		r.fired[1] = true
		b.wakePosts(r)
	default:
		s := b.task(r, c.Seq)
		if s == nil {
			b.w.Delete(wakeKey(c.DueMs, c.Run, c.Seq))
			return nil, nil
		}
		s.fired, s.dirty = true, true
		b.wakeTask(r, s)
	}
	return nil, nil
}

func (b *Batch) wakeRun(r *runState) {
	due := r.wakes()[0]
	if due == 0 || due > b.now {
		return
	}
	r.outOfTime, r.hotDirty = true, true
	b.note(r, HistoryRunTimeout, 0, 0)
	b.resume(r, tutti.Event{Kind: tutti.EventRunTimeout})
}

// wakePosts handles what a run has to do on its own: a message of its program to itself,
// the cancelling of what an ended run left open, or asking again for its permit.
func (b *Batch) wakePosts(r *runState) {
	switch {
	case r.sweeping:
		b.sweep(r)
		r.UpdateMs = max(b.now, r.UpdateMs+1) // moves the wake row, so that it fires again
	case r.HeldByLimit && r.Status.Open():
		if b.now >= r.UpdateMs+askAgainMs {
			r.UpdateMs, r.hotDirty = b.now, true
			b.askRunPermit(r, false)
		}
	case len(r.posts) > 0 && r.Status == tutti.RunRunning:
		p := r.posts[0]
		r.posts = r.posts[1:]
		r.UpdateMs, r.hotDirty = max(b.now, r.UpdateMs+1), true
		b.resume(r, tutti.Event{Kind: tutti.EventPosted, Frame: p.frame, Payload: p.payload})
	}
}

// wakeTask does what is due for an attempt: its deadlines first, then its release.
func (b *Batch) wakeTask(r *runState, s *taskState) {
	if !s.Status.Open() || !r.Status.Open() {
		return
	}
	for _, kind := range []tutti.TimeoutKind{
		tutti.TimeoutTotal, tutti.TimeoutTask, tutti.TimeoutPoll, tutti.TimeoutResponse,
	} {
		if !b.due(s, kind) {
			continue
		}
		s.dirty = true
		lost := kind == tutti.TimeoutResponse && s.session
		if r.Status == tutti.RunPaused && !lost {
			continue // the run hears of it when it is resumed
		}
		if lost {
			s.InDoubt = true
			b.note(r, HistoryTaskInDoubt, s.Seq, 0)
			b.revoke(r, s)
			b.requeue(r, s, 0)
			return
		}
		s.clear(kind)
		b.note(r, HistoryTaskTimeout, s.Seq, uint64(kind))
		b.resume(r, tutti.Event{
			Kind: tutti.EventTaskTimeout, Seq: s.Seq, Frame: s.Frame, Timeout: kind,
		})
		if !s.Status.Open() || !r.Status.Open() {
			return
		}
	}
	b.release(r, s)
}

// release lets go of an attempt whose waiting time is over.
func (b *Batch) release(r *runState, s *taskState) {
	switch {
	case s.Kind == tutti.Wait && s.UntilMs > 0 && s.UntilMs <= b.now:
		b.endTask(r, s, tutti.Completed, nil, "")
		b.finished(r, s)
	case s.hold == holdDelay && s.ReadyMs <= b.now:
		s.hold, s.dirty = holdNone, true
	case s.hold == holdLimit && s.UpdatedMs+askAgainMs <= b.now:
		s.hold, s.dirty, s.UpdatedMs = holdNone, true, b.now // and keeps its place
	case s.hold == holdAsk && s.UpdatedMs+askAgainMs <= b.now:
		b.refundPermit(r, s)
		s.UpdatedMs = b.now
	}
}

// due reports whether a deadline has passed.
func (b *Batch) due(s *taskState, kind tutti.TimeoutKind) bool {
	at := int64(0)
	switch kind {
	case tutti.TimeoutTotal:
		at = s.Timeouts.TotalAt
	case tutti.TimeoutTask:
		if s.Timeouts.TaskMs > 0 && s.StartedMs > 0 {
			at = s.StartedMs + s.Timeouts.TaskMs
		}
	case tutti.TimeoutPoll:
		if s.Timeouts.PollMs > 0 && s.Status == tutti.Queued && s.Polls == 0 {
			at = s.ReadyMs + s.Timeouts.PollMs
		}
	case tutti.TimeoutResponse:
		if s.Kind == tutti.Work && s.Status == tutti.Running && s.LeaseMs != Forever {
			at = s.LeaseMs
		}
	}
	return at > 0 && at <= b.now
}

// clear takes a deadline that has passed off an attempt, so that it fires once.
func (s *taskState) clear(kind tutti.TimeoutKind) {
	switch kind {
	case tutti.TimeoutTotal:
		s.Timeouts.TotalAt = 0
	case tutti.TimeoutTask:
		s.Timeouts.TaskMs = 0
	case tutti.TimeoutPoll:
		s.Timeouts.PollMs = 0
	case tutti.TimeoutResponse:
		s.LeaseMs = Forever
	}
}
