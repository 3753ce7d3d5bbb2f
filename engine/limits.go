package engine

import (
	"encoding/binary"
	"hash/fnv"
	"slices"

	"github.com/tutti-run/tutti"
)

// A limit has one owner shard. Permits are rows of the owner, written in the batch that
// grants them, so that the count is exact over all shards and survives a crash (I5). Who is
// refused waits in memory only: its task asks again by itself, so nobody is forgotten.

// limitState is what the owner of a limit knows of it.
type limitState struct {
	key     string
	conf    tutti.Limit
	holders map[holder]bool
	grants  []grant // within the window, oldest first
	waiters []waiter
	wake    int64 // due time of the stored wake row, 0 = none
}

type holder struct {
	run tutti.RunID
	seq tutti.Seq
}

type grant struct {
	atMs int64
	holder
}

type waiter struct {
	holder
	prio  int
	since int64
}

// maxWaiters bounds the waiters an owner calls; others ask again after askAgainMs.
const maxWaiters = 10_000

// limitKey is the stored name of a limit: unique over namespaces and over what it limits.
func limitKey(ns, what, key string) string { return ns + "\x00" + what + "\x00" + key }

const (
	limitTasks = "t"
	limitRuns  = "r"
)

// limitShard is the shard that owns a limit.
func (b *Batch) limitShard(key string) int { return KeyShard(key, b.s.shards) }

// KeyShard spreads names over shards.
func KeyShard(key string, shards int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % uint32(shards))
}

func limitRow(key string, part byte, tail ...[]byte) []byte {
	k := append(text([]byte{tableLimit}, key), part)
	for _, t := range tail {
		k = append(k, t...)
	}
	return k
}

func (h holder) key() []byte { return be32(append([]byte(nil), h.run[:]...), uint32(h.seq)) }

func holderOf(b []byte) (h holder) {
	copy(h.run[:], b)
	h.seq = tutti.Seq(binary.BigEndian.Uint32(b[16:]))
	return h
}

// limit returns the owner's state of a limit.
func (b *Batch) limit(key string) *limitState {
	if l, ok := b.s.limits[key]; ok {
		return l
	}
	l := &limitState{key: key, holders: map[holder]bool{}}
	lo := limitRow(key, 'h')
	b.scan(lo, prefixEnd(lo), func(k, _ []byte) bool {
		l.holders[holderOf(k[len(k)-20:])] = true
		return true
	})
	lo = limitRow(key, 'g')
	b.scan(lo, prefixEnd(lo), func(k, _ []byte) bool {
		at := int64(binary.BigEndian.Uint64(k[len(k)-28:]))
		l.grants = append(l.grants, grant{atMs: at, holder: holderOf(k[len(k)-20:])})
		return true
	})
	if raw, ok := b.get(limitRow(key, 'w')); ok && len(raw) == 8 {
		l.wake = int64(binary.BigEndian.Uint64(raw))
	}
	b.s.limits[key] = l
	return l
}

// grant gives a permit if there is one.
func (b *Batch) grant(l *limitState, h holder) bool {
	if l.holders[h] {
		return true
	}
	b.slide(l)
	if l.conf.Concurrency > 0 && len(l.holders) >= l.conf.Concurrency {
		return false
	}
	if l.conf.Rate > 0 && len(l.grants) >= l.conf.Rate {
		return false
	}
	l.holders[h] = true
	b.set(limitRow(l.key, 'h', h.key()), be64(nil, b.now))
	if l.conf.Rate > 0 {
		l.grants = append(l.grants, grant{atMs: b.now, holder: h})
		b.set(limitRow(l.key, 'g', be64(nil, b.now), h.key()), nil)
	}
	return true
}

// slide drops hand-outs that have left the rate's window.
func (b *Batch) slide(l *limitState) {
	for len(l.grants) > 0 && l.grants[0].atMs+l.conf.WindowMs <= b.now {
		g := l.grants[0]
		b.del(limitRow(l.key, 'g', be64(nil, g.atMs), g.key()))
		l.grants = l.grants[1:]
	}
}

// await notes who was refused and when there will be hope.
func (b *Batch) await(l *limitState, w waiter) {
	if len(l.waiters) < maxWaiters && !slices.ContainsFunc(l.waiters, func(o waiter) bool {
		return o.holder == w.holder
	}) {
		at, _ := slices.BinarySearchFunc(l.waiters, w, func(o, w waiter) int {
			if o.prio >= w.prio {
				return -1
			}
			return 1
		})
		l.waiters = slices.Insert(l.waiters, at, w)
	}
	b.wakeForRate(l)
}

// wakeForRate sets the owner's wake-up to when the oldest hand-out leaves the window.
func (b *Batch) wakeForRate(l *limitState) {
	due := int64(0)
	if len(l.waiters) > 0 && l.conf.Rate > 0 && len(l.grants) > 0 {
		due = l.grants[0].atMs + l.conf.WindowMs
	}
	if due == l.wake {
		return
	}
	id := limitID(l.key)
	b.moveWake(id, wakeLimit, l.wake, due)
	b.set(limitRow(l.key, 'w'), be64(nil, due))
	b.set(limitNameKey(id), []byte(l.key))
	l.wake = due
}

// limitID stands for a limit in wake rows.
func limitID(key string) tutti.RunID { return tutti.RunID(HashOf([]byte(key))) }

func limitNameKey(id tutti.RunID) []byte {
	return append([]byte{tableLimit, 0}, id[:]...)
}

func (b *Batch) wakeLimitOwner(due int64, id tutti.RunID) {
	name, ok := b.get(limitNameKey(id))
	if !ok {
		b.w.Delete(wakeKey(due, id, wakeLimit))
		return
	}
	l := b.limit(string(name))
	if l.wake == 0 || l.wake > b.now {
		return
	}
	b.moveWake(id, wakeLimit, l.wake, 0)
	l.wake = 0
	b.set(limitRow(l.key, 'w'), be64(nil, 0))
	b.slide(l)
	b.call(l)
	b.wakeForRate(l)
}

// call tells as many waiters as there is room for to ask again.
func (b *Batch) call(l *limitState) {
	room := len(l.waiters)
	if l.conf.Concurrency > 0 {
		room = min(room, l.conf.Concurrency-len(l.holders))
	}
	if l.conf.Rate > 0 {
		room = min(room, l.conf.Rate-len(l.grants))
	}
	for _, w := range l.waiters[:max(room, 0)] {
		b.send(message{kind: msgCall, run: w.run, seq: w.seq})
	}
	l.waiters = slices.Delete(l.waiters, 0, max(room, 0))
}

func (b *Batch) free(l *limitState, h holder, refund bool) {
	if !l.holders[h] {
		return
	}
	delete(l.holders, h)
	b.del(limitRow(l.key, 'h', h.key()))
	if refund {
		b.refund(l, h)
	}
	b.call(l)
	b.wakeForRate(l)
}

// refund takes a hand-out that never reached its worker off the rate.
func (b *Batch) refund(l *limitState, h holder) {
	for i := len(l.grants) - 1; i >= 0; i-- {
		if g := l.grants[i]; g.holder == h {
			b.del(limitRow(l.key, 'g', be64(nil, g.atMs), h.key()))
			l.grants = slices.Delete(l.grants, i, i+1)
			return
		}
	}
}

// askPermit asks the owner of a task's limit on behalf of the worker in the task's slot.
func (b *Batch) askPermit(r *runState, s *taskState) {
	key := limitKey(r.Namespace, limitTasks, s.Limit.Key)
	b.sendTo(b.limitShard(key), message{
		kind: msgAsk, run: r.ID, seq: s.Seq, limit: s.Limit, prio: r.Priority, text: key,
	})
}

func (b *Batch) receiveAsk(m message) {
	l := b.limit(m.text)
	l.conf = *m.limit
	reply := message{kind: msgGranted, run: m.run, seq: m.seq}
	if h := (holder{m.run, m.seq}); !b.grant(l, h) {
		reply.kind = msgRefused
		b.await(l, waiter{holder: h, prio: m.prio, since: b.now})
	}
	b.send(reply)
}

// receivePermit takes the owner's answer to the task or run that asked.
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
	if s == nil || s.Limit == nil {
		return
	}
	switch {
	case m.kind == msgCall && s.hold == holdLimit:
		s.hold, s.dirty = holdNone, true
	case m.kind == msgRefused && s.hold == holdAsk:
		b.dropAsk(s)
		s.hold, s.dirty, s.UpdatedMs = holdLimit, true, b.now
	case m.kind == msgGranted:
		b.permitGranted(r, s)
	}
}

func (b *Batch) permitGranted(r *runState, s *taskState) {
	s.permit, s.dirty = true, true
	if s.hold != holdAsk || s.Status != tutti.Queued {
		if s.Status != tutti.Running {
			b.refundPermit(r, s)
		}
		return
	}
	b.handOut(r, s, Slot{Poll: s.askPoll, Worker: s.Worker, LeaseMs: s.askLease})
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

func (b *Batch) giveBack(r *runState, s *taskState, refund bool) {
	if !s.permit {
		return
	}
	s.permit, s.dirty = false, true
	key := limitKey(r.Namespace, limitTasks, s.Limit.Key)
	b.sendTo(b.limitShard(key), message{
		kind: msgRelease, run: r.ID, seq: s.Seq, text: key, flag: refund,
	})
}

func (b *Batch) receiveRelease(m message) {
	b.free(b.limit(m.text), holder{m.run, m.seq}, m.flag)
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
	l.conf = tutti.Limit{Key: lim.Key, Concurrency: lim.Concurrency}
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

func (b *Batch) askRunPermit(r *runState) {
	key := limitKey(r.Namespace, limitRuns, r.Limit.Key)
	b.sendTo(b.limitShard(key), message{
		kind: msgAsk, run: r.ID, prio: r.Priority, text: key,
		limit: &tutti.Limit{Key: r.Limit.Key, Concurrency: r.Limit.Concurrency},
	})
}

func (b *Batch) receiveRunPermit(r *runState, m message) {
	switch {
	case m.kind == msgGranted && r.HeldByLimit:
		r.HeldByLimit, r.permit, r.hotDirty = false, true, true
		r.RetriedMs, r.UpdateMs = b.now, b.now
		if r.Status == tutti.RunRunning {
			b.firstTurn(r)
		}
	case m.kind == msgGranted:
		r.permit, r.hotDirty = true, true
	case m.kind == msgCall && r.HeldByLimit:
		b.askRunPermit(r)
	case m.kind == msgRefused && r.HeldByLimit && r.Limit.Reject:
		b.endRun(r, tutti.RunTerminated, nil, errRunLimit(r.Limit).Error(), 0)
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
