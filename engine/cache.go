package engine

import (
	"encoding/binary"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Outputs that may be used again have one owner shard each. A task that has a cache key is
// held until the owner has answered, or askAgainMs have passed: then it is queued like any
// other. An output that is lost on the way costs work, never a run.

// The bounds of the cache. What is over them is not kept.
const (
	maxCached  = 64 << 10 // bytes of one output
	maxOutputs = 100_000  // outputs of one shard
)

// cacheName stands for a key, of whatever length, in rows, wake rows and messages.
func cacheName(ns, def, key string) tutti.RunID {
	return tutti.RunID(HashOf(append(text(nil, ns, def), key...)))
}

func cacheRow(name tutti.RunID) []byte { return append([]byte{tableCache}, name[:]...) }

func cacheShard(name tutti.RunID, shards int) int { return KeyShard(string(name[:]), shards) }

func decodeCache(b []byte) (*tutti.CacheSpec, error) {
	c := new(tutti.CacheSpec)
	err := decode(b, func(f field) error {
		switch f.num {
		case 1:
			c.Key = f.s()
		case 2:
			c.TTLMs = f.i()
		}
		return nil
	})
	return c, err
}

// kept is an output and the time (Unix ms) at which it is forgotten.
type kept struct {
	endMs  int64
	output value.Raw
}

func (k kept) encode() []byte {
	var e enc
	e.i(1, k.endMs)
	e.bytes(2, k.output)
	return e.b
}

func decodeKept(b []byte) (k kept, err error) {
	err = decode(b, func(f field) error {
		switch f.num {
		case 1:
			k.endMs = f.i()
		case 2:
			k.output = f.own()
		}
		return nil
	})
	return k, err
}

func (b *Batch) kept(name tutti.RunID) (k kept, ok bool) {
	raw, ok := b.get(cacheRow(name))
	if !ok {
		return k, false
	}
	k, err := decodeKept(raw)
	b.fail(err)
	return k, true
}

// sendToCache passes a message about a task to the owner of its key.
func (b *Batch) sendToCache(r *runState, s *taskState, m message) {
	name := cacheName(r.Namespace, s.DefName, s.Cache.Key)
	m.run, m.seq, m.text = r.ID, s.Seq, string(name[:])
	b.sendTo(cacheShard(name, b.s.shards), m)
}

// askCache holds a new task until the owner of its key says whether it has an output.
func (b *Batch) askCache(r *runState, s *taskState) {
	r.asks++
	r.hotDirty = true
	s.ask, s.hold, s.dirty = r.asks, holdCache, true
	b.sendToCache(r, s, message{kind: msgLookUp, n: s.ask})
}

func (b *Batch) receiveLookUp(m message) {
	k, ok := b.kept(cacheNameOf(m))
	answer := message{kind: msgLookedUp, run: m.run, seq: m.seq, n: m.n}
	if ok && b.now < k.endMs {
		answer.flag, answer.body = true, k.output
	}
	b.send(answer)
}

func cacheNameOf(m message) (name tutti.RunID) {
	copy(name[:], m.text)
	return name
}

// receiveLookedUp ends the task that asked with the output there is, or queues it.
func (b *Batch) receiveLookedUp(m message) {
	r := b.run(m.run)
	if r == nil || !r.Status.Open() {
		return
	}
	s := b.task(r, m.seq)
	switch {
	case s == nil || s.hold != holdCache || s.ask != m.n:
	case !m.flag:
		b.missed(s)
	default:
		b.record(r, HistoryEvent{Kind: HistoryNote, Seq: s.Seq, Note: "cached"})
		b.endTask(r, s, tutti.Completed, m.body, "")
		b.finished(r, s)
	}
}

// missed lets a task go that the cache has no output for.
func (b *Batch) missed(s *taskState) {
	s.hold, s.dirty, s.UpdatedMs = holdNone, true, b.now
	if s.ReadyMs > b.now {
		s.hold = holdDelay
	}
}

// keepOutput sends the output of a task that completes to the owner of its key.
func (b *Batch) keepOutput(r *runState, s *taskState, st tutti.TaskStatus) {
	if s.Cache == nil || s.Cache.TTLMs <= 0 || st != tutti.Completed ||
		len(s.out.raw) > maxCached {
		return
	}
	end := b.now + min(s.Cache.TTLMs, Forever-1-b.now)
	b.sendToCache(r, s, message{kind: msgKeep, body: s.out.raw, n: uint64(end)})
}

func (b *Batch) receiveKeep(m message) {
	name, end := cacheNameOf(m), int64(m.n)
	old, ok := b.kept(name)
	count := b.counter([]byte{tableCache})
	if end <= b.now || !ok && count >= maxOutputs {
		return
	}
	if !ok {
		b.set([]byte{tableCache}, be64(nil, int64(count+1)))
	}
	b.set(cacheRow(name), kept{endMs: end, output: m.body}.encode())
	b.moveWake(name, wakeCache, old.endMs, end)
}

// wakeCacheOwner forgets an output whose time is over.
func (b *Batch) wakeCacheOwner(due int64, name tutti.RunID) {
	k, ok := b.kept(name)
	switch {
	case !ok || k.endMs != due:
		b.w.Delete(wakeKey(due, name, wakeCache))
	case due > b.now:
		b.moveWake(name, wakeCache, due, due)
	default:
		b.del(cacheRow(name))
		b.moveWake(name, wakeCache, due, 0)
		b.set([]byte{tableCache}, be64(nil, int64(b.counter([]byte{tableCache})-1)))
	}
}

// cache checks the outputs that shard n keeps, and notes the wake-ups that they imply.
func (c *checker) cache(n int, v View, want map[string]bool) {
	count, told := 0, uint64(0)
	c.fail(v.rows.Scan([]byte{tableCache}, []byte{tableCache + 1}, false, func(k, raw []byte) bool {
		if len(k) == 1 {
			told = binary.BigEndian.Uint64(raw)
			return true
		}
		var name tutti.RunID
		copy(name[:], k[1:])
		out, err := decodeKept(raw)
		if len(k) != 1+len(name) || err != nil || len(out.output) > maxCached {
			c.report(tutti.RunID{}, 0, "the kept output %q is malformed", k)
		}
		if cacheShard(name, len(c.shards)) != n {
			c.report(tutti.RunID{}, 0, "the kept output %q is on shard %d", k, n)
		}
		want[string(wakeKey(out.endMs, name, wakeCache))] = true
		count++
		return true
	}))
	if uint64(count) != told {
		c.report(tutti.RunID{}, 0, "shard %d keeps %d outputs, by its count %d", n, count, told)
	}
}
