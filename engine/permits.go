package engine

import (
	"github.com/tutti-run/tutti"
)

// askPermit asks the owner of a task's limit on behalf of the worker in the task's slot.
func (b *Batch) askPermit(r *runState, s *taskState) {
	r.asks++
	r.hotDirty = true
	s.ask = r.asks
	key := limitKey(r.Namespace, limitTasks, s.Limit.Key)
	b.sendTo(b.limitShard(key), message{
		kind: msgAsk, run: r.ID, seq: s.Seq, limit: s.Limit, prio: r.Priority, text: key,
		n: s.ask,
	})
}

// receivePermit takes the owner's answer to the task or run that asked. An answer to an
// earlier question than the last is stale: that one was released.
func (b *Batch) receivePermit(m message) {
	r := b.run(m.run)
	switch {
	case r == nil || !r.Status.Open():
		return
	case m.seq == 0:
		b.receiveRunPermit(r, m)
		return
	}
	s := b.task(r, m.seq)
	switch {
	case s == nil:
	case m.kind == msgCall && s.hold == holdLimit:
		s.hold, s.dirty = holdNone, true
	case s.hold != holdAsk || m.n != s.ask:
	case m.kind == msgRefused:
		b.dropAsk(s)
		s.hold, s.dirty, s.UpdatedMs = holdLimit, true, b.now
	case m.kind == msgGranted:
		s.permit, s.dirty = true, true
		b.handOut(r, s, Slot{Poll: s.askPoll, Worker: s.Worker, LeaseMs: s.askLease})
	}
}

// dropAsk gives the worker back that was reserved while a permit was asked for.
func (b *Batch) dropAsk(s *taskState) {
	if s.askPoll != 0 {
		b.fx.Freed = append(b.fx.Freed, s.askPoll)
		s.askPoll, s.askLease, s.dirty = 0, 0, true
	}
}

func (b *Batch) releasePermit(r *runState, s *taskState) { b.giveBack(r, s, false) }
func (b *Batch) refundPermit(r *runState, s *taskState)  { b.giveBack(r, s, true) }

// giveBack releases the permit that an attempt holds, asked for or waits for.
func (b *Batch) giveBack(r *runState, s *taskState, refund bool) {
	asked := s.hold == holdAsk || s.hold == holdLimit
	if !s.permit && !asked {
		return
	}
	b.dropAsk(s)
	s.permit, s.dirty = false, true
	if asked {
		s.hold = holdNone
	}
	key := limitKey(r.Namespace, limitTasks, s.Limit.Key)
	b.sendTo(b.limitShard(key), message{
		kind: msgRelease, run: r.ID, seq: s.Seq, text: key, flag: refund || asked,
	})
}

// RunLimitShard is the shard that owns the limit of a run with this key; a run started
// there is admitted, held or rejected at once.
func RunLimitShard(namespace, key string, shards int) int {
	return KeyShard(limitKey(namespace, limitRuns, key), shards)
}

// admit asks for a run's permit before it is created, where this shard owns the limit.
func (b *Batch) admit(c *Start) error {
	lim := c.Spec.Limit
	if lim == nil || lim.Concurrency <= 0 {
		c.Spec.Limit = nil
		return nil
	}
	key := limitKey(c.Spec.Namespace, limitRuns, lim.Key)
	if b.limitShard(key) != b.s.id {
		return nil
	}
	l := b.limit(key)
	b.configure(l, tutti.Limit{Concurrency: lim.Concurrency})
	if b.grant(l, holder{run: c.ID}) || !lim.Reject {
		return nil
	}
	return &tutti.Error{
		Kind: tutti.Exhausted, Op: "start", Code: "RunLimitReached",
		Err:  errRunLimit(lim),
		Hint: "wait for one of them to end, or set the limit's policy to QUEUE",
	}
}

func (b *Batch) holdsRunPermit(ns, key string, id tutti.RunID) bool {
	l, ok := b.s.limits[limitKey(ns, limitRuns, key)]
	return ok && l.holders[holder{run: id}]
}

// hold keeps a run from its first step until it has a permit.
func (b *Batch) hold(r *runState) {
	r.HeldByLimit = true
	b.askRunPermit(r, false)
}

// askRunPermit asks for a run's permit. A run that goes on after it had ended is not held
// back again, but counts: that is what forced says.
func (b *Batch) askRunPermit(r *runState, forced bool) {
	r.asks++
	r.hotDirty = true
	r.ask = r.asks
	key := limitKey(r.Namespace, limitRuns, r.Limit.Key)
	b.sendTo(b.limitShard(key), message{
		kind: msgAsk, run: r.ID, prio: r.Priority, text: key, n: r.ask, flag: forced,
		limit: &tutti.Limit{Concurrency: r.Limit.Concurrency},
	})
}

func (b *Batch) receiveRunPermit(r *runState, m message) {
	switch {
	case m.kind == msgCall:
		if r.HeldByLimit {
			b.askRunPermit(r, false)
		}
	case m.n != r.ask:
	case m.kind == msgRefused && r.HeldByLimit && r.Limit.Reject:
		b.endRun(r, tutti.RunTerminated, nil, errRunLimit(r.Limit).Error(), 0)
	case m.kind == msgGranted:
		r.permit, r.hotDirty = true, true
		if !r.HeldByLimit {
			return
		}
		r.HeldByLimit, r.RetriedMs, r.UpdateMs = false, b.now, b.now
		if r.Status == tutti.RunRunning {
			b.firstTurn(r)
		}
	}
}

func (b *Batch) releaseRunPermit(r *runState) {
	if r.Limit == nil {
		return
	}
	r.permit = false
	key := limitKey(r.Namespace, limitRuns, r.Limit.Key)
	b.sendTo(b.limitShard(key), message{kind: msgRelease, run: r.ID, text: key})
}

// LimitName names a limit of a namespace.
type LimitName struct {
	Namespace string
	Key       string
	Runs      bool // it bounds open runs, not leased tasks
}

func (n LimitName) key() string {
	if n.Runs {
		return limitKey(n.Namespace, limitRuns, n.Key)
	}
	return limitKey(n.Namespace, limitTasks, n.Key)
}

// Shard is the shard, below shards, that owns the limit.
func (n LimitName) Shard(shards int) int { return KeyShard(n.key(), shards) }

// LimitHolders calls fn for those who hold a permit of a limit, in no particular order,
// until it returns false. A seq of 0 stands for the run itself. The view must be of the
// shard that owns the limit.
func (v View) LimitHolders(n LimitName, fn func(run tutti.RunID, seq tutti.Seq) bool) error {
	lo := limitRow(n.key(), 'h')
	return v.rows.Scan(lo, prefixEnd(lo), false, func(k, _ []byte) bool {
		h := holderOf(k[len(k)-20:])
		return fn(h.run, h.seq)
	})
}
