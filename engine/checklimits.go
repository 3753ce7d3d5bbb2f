package engine

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
)

// messages checks that what shard n sent and the others have not applied is still there.
func (c *checker) messages(n int) {
	v := c.shards[n]
	stored := map[int]map[uint64]bool{}
	c.fail(v.Outbox(func(s Send) bool {
		if stored[s.To] == nil {
			stored[s.To] = map[uint64]bool{}
		}
		stored[s.To][s.Number] = true
		m, err := decodeMessage(s.Body)
		if err != nil {
			c.report(tutti.RunID{}, 0, "message %d to shard %d is unreadable", s.Number, s.To)
		}
		if s.Number > c.counter(s.To, tableApplied, n) {
			c.flying[holder{m.run, m.seq}] = true
			c.moving[m.run], c.moving[m.from] = true, true
		}
		return true
	}))
	for to := range c.shards {
		sent, applied := c.counter(n, tableSent, to), c.counter(to, tableApplied, n)
		if applied > sent {
			c.report(tutti.RunID{}, 0, "shard %d applied message %d of shard %d, which sent %d",
				to, applied, n, sent)
		}
		for at := applied + 1; at <= sent; at++ {
			if !stored[to][at] {
				c.report(tutti.RunID{}, 0, "message %d from shard %d to %d is lost", at, n, to)
			}
		}
	}
}

func (c *checker) counter(shard int, table byte, of int) uint64 {
	raw, ok, err := c.shards[shard].rows.Get(be16([]byte{table}, uint16(of)))
	c.fail(err)
	if !ok || len(raw) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(raw)
}

// limitOwned is what the rows of a limit say.
type limitOwned struct {
	conf    limitConf
	holders map[holder]int64 // to the time of the grant
	grants  []int64
	wake    int64
}

// readLimits reads every limit that a shard owns.
func (c *checker) readLimits(v View) map[string]*limitOwned {
	all := map[string]*limitOwned{}
	c.fail(v.rows.Scan([]byte{tableLimit}, []byte{tableLimit + 1}, false, func(k, raw []byte) bool {
		parts, tail := splitText(k[1:], 1)
		if len(parts) != 1 || len(tail) == 0 {
			c.report(tutti.RunID{}, 0, "row %q of the limits is malformed", k)
			return true
		}
		l := all[parts[0]]
		if l == nil {
			l = &limitOwned{holders: map[holder]int64{}}
			all[parts[0]] = l
		}
		switch tail[0] {
		case 'h':
			l.holders[holderOf(tail[1:])] = int64(binary.BigEndian.Uint64(raw))
		case 'g':
			l.grants = append(l.grants, int64(binary.BigEndian.Uint64(tail[1:])))
		case 'w':
			l.wake = int64(binary.BigEndian.Uint64(raw))
		case 'c':
			conf, err := decodeLimitConf(raw)
			c.fail(err)
			l.conf = conf
		}
		return true
	}))
	return all
}

func (c *checker) limitWakes(v View, want map[string]bool) {
	for key, l := range c.readLimits(v) {
		if l.wake != 0 {
			want[string(wakeKey(l.wake, limitID(key), wakeLimit))] = true
		}
	}
}

// limits checks the permits that shard n has granted.
func (c *checker) limits(n int) {
	all := c.readLimits(c.shards[n])
	for _, key := range slices.Sorted(maps.Keys(all)) {
		l := all[key]
		granted := 0
		for h, at := range l.holders {
			if at >= l.conf.sinceMs {
				granted++
			}
			if held, ok := c.permits[h]; (!ok || held != key) && !c.flying[h] {
				c.report(h.run, h.seq, "a permit of limit %q is lost", key)
			}
			if c.permits[h] == key {
				delete(c.permits, h)
			}
		}
		if max := l.conf.Concurrency; max > 0 && granted > max {
			c.report(tutti.RunID{}, 0, "limit %q allows %d at a time, %d are out", key, max, granted)
		}
		c.rate(key, l)
	}
}

func (c *checker) rate(key string, l *limitOwned) {
	slices.Sort(l.grants)
	for i := range l.grants {
		last := i + l.conf.Rate
		if l.conf.Rate > 0 && last < len(l.grants) && l.grants[i] >= l.conf.sinceMs &&
			l.grants[last]-l.grants[i] < l.conf.WindowMs {
			c.report(tutti.RunID{}, 0, "limit %q was exceeded: %d hand-outs within %d ms",
				key, l.conf.Rate+1, l.grants[last]-l.grants[i])
		}
	}
}

// permitsHeld reports permits that a task thinks it holds and no owner granted.
func (c *checker) permitsHeld() {
	for h, key := range c.permits {
		c.report(h.run, h.seq, "the permit of limit %q that is held was never granted", key)
	}
}
