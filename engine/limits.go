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
//
// Who asks must release: whatever the answer was, unless it was a refusal that is followed
// by asking again. Messages between two shards keep their order, so a release also undoes a
// grant that is still on its way.

// limitState is what the owner of a limit knows of it.
type limitState struct {
	key     string
	conf    limitConf
	holders map[holder]bool
	grants  []grant         // within the window, oldest first
	waiters []waiter        // by priority, then by arrival
	waiting map[holder]bool // those in waiters
	wake    int64           // due time of the stored wake row, 0 = none
}

// limitConf is what was last asked of a limit, and how often that has changed.
type limitConf struct {
	tutti.Limit
	version int64
}

type holder struct {
	run tutti.RunID
	seq tutti.Seq // 0 for a run's own permit
}

type grant struct {
	atMs int64
	holder
}

type waiter struct {
	holder
	prio int
}

const (
	// maxWaiters bounds the waiters an owner calls; others ask again after askAgainMs.
	maxWaiters = 10_000
	// maxLimits bounds the limits without waiters that a shard keeps in memory.
	maxLimits = 4096
)

// limitKey is the stored name of a limit: unique over namespaces and over what it limits.
func limitKey(ns, what, key string) string {
	return string(append(text(nil, ns, what), key...))
}

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
	l := &limitState{key: key, holders: map[holder]bool{}, waiting: map[holder]bool{}}
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
	if raw, ok := b.get(limitRow(key, 'c')); ok {
		conf, err := decodeLimitConf(raw)
		b.fail(err)
		l.conf = conf
	}
	b.s.limits[key] = l
	return l
}

// configure takes what a limit is to be from whoever asks.
func (b *Batch) configure(l *limitState, lim tutti.Limit) {
	lim.Key = ""
	if l.conf.Limit == lim {
		return
	}
	l.conf = limitConf{Limit: lim, version: l.conf.version + 1}
	var e enc
	e.msg(1, func(m *enc) { encodeLimit(m, &lim) })
	e.i(2, l.conf.version)
	b.set(limitRow(l.key, 'c'), e.b)
}

func decodeLimitConf(raw []byte) (c limitConf, err error) {
	err = decode(raw, func(f field) error {
		switch f.num {
		case 1:
			lim, err := decodeLimit(f.b)
			c.Limit = *lim
			return err
		case 2:
			c.version = f.i()
		}
		return nil
	})
	return c, err
}

// shrinkLimits drops from memory what can be read again.
func (s *Shard) shrinkLimits() {
	if len(s.limits) <= maxLimits {
		return
	}
	for key, l := range s.limits {
		if len(l.waiters) == 0 {
			delete(s.limits, key)
		}
	}
}

// grant gives a permit if there is one.
func (b *Batch) grant(l *limitState, h holder) bool {
	if l.holders[h] {
		return true
	}
	b.slide(l)
	if l.room() < 1 {
		return false
	}
	l.forget(h)
	l.holders[h] = true
	b.set(limitRow(l.key, 'h', h.key()), be64(nil, l.conf.version))
	if l.conf.Rate > 0 {
		l.grants = append(l.grants, grant{atMs: b.now, holder: h})
		b.set(limitRow(l.key, 'g', be64(nil, b.now), h.key()), be64(nil, l.conf.version))
	}
	return true
}

// force counts a holder whom the limit does not stop.
func (b *Batch) force(l *limitState, h holder) {
	l.forget(h)
	l.holders[h] = true
	b.set(limitRow(l.key, 'h', h.key()), be64(nil, 0))
}

// room is how many more permits there are now.
func (l *limitState) room() int {
	room := maxWaiters
	if l.conf.Concurrency > 0 {
		room = min(room, l.conf.Concurrency-len(l.holders))
	}
	if l.conf.Rate > 0 {
		room = min(room, l.conf.Rate-len(l.grants))
	}
	return max(room, 0)
}

// slide drops hand-outs that have left the rate's window.
func (b *Batch) slide(l *limitState) {
	n := 0
	for n < len(l.grants) && l.grants[n].atMs+l.conf.WindowMs <= b.now {
		g := l.grants[n]
		b.del(limitRow(l.key, 'g', be64(nil, g.atMs), g.key()))
		n++
	}
	l.grants = slices.Delete(l.grants, 0, n)
}

// await notes who was refused and when there will be hope.
func (b *Batch) await(l *limitState, w waiter) {
	if len(l.waiters) < maxWaiters && !l.waiting[w.holder] {
		at, _ := slices.BinarySearchFunc(l.waiters, w, func(o, w waiter) int {
			if o.prio >= w.prio {
				return -1
			}
			return 1
		})
		l.waiters = slices.Insert(l.waiters, at, w)
		l.waiting[w.holder] = true
	}
}

// forget takes a holder out of those who wait.
func (l *limitState) forget(h holder) {
	if l.waiting[h] {
		delete(l.waiting, h)
		l.waiters = slices.DeleteFunc(l.waiters, func(w waiter) bool { return w.holder == h })
	}
}

// wakeForRate sets the owner's wake-up to when the oldest hand-out leaves the window.
func (b *Batch) wakeForRate(l *limitState) {
	due := int64(0)
	if len(l.waiters) > 0 && l.conf.Rate > 0 && len(l.grants) > 0 {
		due = l.grants[0].atMs + l.conf.WindowMs
	}
	b.setLimitWake(l, due)
}

func (b *Batch) setLimitWake(l *limitState, due int64) {
	if due == l.wake {
		return
	}
	id := limitID(l.key)
	b.moveWake(id, wakeLimit, l.wake, due)
	l.wake = due
	if due == 0 {
		b.del(limitRow(l.key, 'w'))
		b.del(limitNameKey(id))
		return
	}
	b.set(limitRow(l.key, 'w'), be64(nil, due))
	b.set(limitNameKey(id), []byte(l.key))
}

// limitID stands for a limit in wake rows.
func limitID(key string) tutti.RunID { return tutti.RunID(HashOf([]byte(key))) }

func limitNameKey(id tutti.RunID) []byte { return append([]byte{tableLimitID}, id[:]...) }

func (b *Batch) wakeLimitOwner(due int64, id tutti.RunID) {
	name, ok := b.get(limitNameKey(id))
	if !ok {
		b.w.Delete(wakeKey(due, id, wakeLimit))
		return
	}
	l := b.limit(string(name))
	if l.wake == 0 {
		return
	}
	if l.wake <= b.now {
		b.setLimitWake(l, 0)
		b.call(l)
	}
	b.wakeForRate(l)
	if l.wake == due {
		b.moveWake(id, wakeLimit, due, due)
	}
}

// call tells as many waiters as there is room for to ask again.
func (b *Batch) call(l *limitState) {
	if len(l.waiters) == 0 {
		return
	}
	b.slide(l)
	n := min(l.room(), len(l.waiters))
	for _, w := range l.waiters[:n] {
		b.send(message{kind: msgCall, run: w.run, seq: w.seq})
		delete(l.waiting, w.holder)
	}
	l.waiters = slices.Delete(l.waiters, 0, n)
}

// free takes back what a holder had, or asked for.
func (b *Batch) free(l *limitState, h holder, refund bool) {
	l.forget(h)
	if l.holders[h] {
		delete(l.holders, h)
		b.del(limitRow(l.key, 'h', h.key()))
		if refund {
			b.refund(l, h)
		}
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

func (b *Batch) receiveAsk(m message) {
	l := b.limit(m.text)
	b.configure(l, *m.limit)
	h := holder{m.run, m.seq}
	reply := message{kind: msgGranted, run: m.run, seq: m.seq, n: m.n}
	switch {
	case m.flag:
		b.force(l, h)
	case !b.grant(l, h):
		reply.kind = msgRefused
		b.await(l, waiter{holder: h, prio: m.prio})
	}
	b.wakeForRate(l)
	b.send(reply)
}

func (b *Batch) receiveRelease(m message) {
	b.free(b.limit(m.text), holder{m.run, m.seq}, m.flag)
}
