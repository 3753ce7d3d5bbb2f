package engine

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
)

// Check proves the stored invariants of a whole data space, given a view of each shard in
// order: that derived rows exist exactly when a record implies them, open sets match the
// attempts, limits are not exceeded and no permit is lost, messages are neither lost nor
// skipped, and the history of each run folds to its state. It reads everything and keeps
// much of it in memory: it is for tests, simulation and offline inspection.
func Check(shards []View) ([]Problem, error) {
	c := &checker{
		shards: shards, runs: map[tutti.RunID]*runState{}, permits: map[holder]string{},
		flying: map[holder]bool{}, moving: map[tutti.RunID]bool{},
	}
	for i, v := range shards {
		if err := c.shard(i, v); err != nil {
			return c.problems, err
		}
	}
	for i := range shards {
		c.messages(i)
	}
	for i := range shards {
		c.limits(i)
	}
	c.permitsHeld()
	c.children()
	return c.problems, c.err
}

// checker collects what the rows of all shards say.
type checker struct {
	shards   []View
	problems []Problem
	err      error
	runs     map[tutti.RunID]*runState
	permits  map[holder]string    // permits that tasks and runs think they hold, by limit
	flying   map[holder]bool      // about whose permit a message is under way
	moving   map[tutti.RunID]bool // to or from which run a message is under way
}

func (c *checker) report(id tutti.RunID, seq tutti.Seq, format string, args ...any) {
	c.problems = append(c.problems, Problem{Run: id, Seq: seq, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// shard checks the runs of one shard and the rows that they imply.
func (c *checker) shard(n int, v View) error {
	want := map[string]bool{}
	var ids []tutti.RunID
	err := v.rows.Scan([]byte{tableRun}, []byte{tableRun + 1}, false, func(k, _ []byte) bool {
		var id tutti.RunID
		copy(id[:], k[1:])
		if len(ids) == 0 || ids[len(ids)-1] != id {
			ids = append(ids, id)
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if id.Shard(len(c.shards)) != n {
			c.report(id, 0, "the run is on shard %d, where it does not belong", n)
		}
		if err := c.run(v, id, want); err != nil {
			c.report(id, 0, "the run cannot be read: %v", err)
		}
	}
	c.limitWakes(v, want)
	c.cache(n, v, want)
	for _, table := range []byte{tableIndex, tableCorr, tableLabel, tableWake, tableReady} {
		c.compare(v, table, want)
	}
	return c.err
}

// compare holds the rows of a table of derived rows against what the records imply.
func (c *checker) compare(v View, table byte, want map[string]bool) {
	c.fail(v.rows.Scan([]byte{table}, []byte{table + 1}, false, func(k, _ []byte) bool {
		if !want[string(k)] {
			c.report(tutti.RunID{}, 0, "row %q of table %c should not exist", k, table)
		}
		delete(want, string(k))
		return true
	}))
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if k[0] == table {
			c.report(tutti.RunID{}, 0, "row %q of table %c is missing", k, table)
		}
	}
}

// run checks one run and notes the derived rows that it implies.
func (c *checker) run(v View, id tutti.RunID, want map[string]bool) error {
	r, h, err := v.run(id)
	if err != nil {
		return err
	}
	rs := newRunState(id)
	rs.Run, rs.hot = *r, *h
	c.runs[id] = rs
	want[string(rs.indexRow())] = true
	eachLabelRow(rs, func(key []byte) { want[string(key)] = true })
	for i, due := range rs.wakes() {
		if due != 0 {
			want[string(wakeKey(due, id, []tutti.Seq{wakeRunTimeout, wakePosts}[i]))] = true
		}
	}
	if h.permit && !r.Status.Open() {
		c.report(id, 0, "the ended run holds a permit")
	}
	if h.permit && r.Limit != nil {
		c.permits[holder{run: id}] = limitKey(r.Namespace, limitRuns, r.Limit.Key)
	}
	if err := c.tasks(v, rs, want); err != nil {
		return err
	}
	return c.history(v, rs)
}

// tasks checks the attempts of a run against its open set.
func (c *checker) tasks(v View, r *runState, want map[string]bool) error {
	seqs, err := v.Open(r.ID)
	if err != nil {
		return err
	}
	if len(seqs) != r.OpenTasks {
		c.report(r.ID, 0, "%d tasks in the open set, the record says %d", len(seqs), r.OpenTasks)
	}
	unheard := r.Status == tutti.RunPaused || r.sweeping
	open := map[tutti.Seq]bool{}
	for _, seq := range seqs {
		open[seq] = true
	}
	pre := runKey(r.ID, partTask)
	var inner error
	err = v.rows.Scan(pre, prefixEnd(pre), false, func(k, raw []byte) bool {
		seq := tutti.Seq(binary.BigEndian.Uint32(k[len(k)-4:]))
		t, err := v.decodeTask(r.ID, seq, raw)
		if err != nil {
			inner = fmt.Errorf("task %d: %w", seq, err)
			return false
		}
		r.tasks[seq] = t
		c.task(r, t, open[seq], unheard, want)
		delete(open, seq)
		return true
	})
	for _, seq := range slices.Sorted(maps.Keys(open)) {
		c.report(r.ID, seq, "the open set names a task without a record")
	}
	if err == nil {
		err = inner
	}
	return err
}

func (c *checker) task(r *runState, t *taskState, open, unheard bool, want map[string]bool) {
	switch {
	case t.Seq > r.LastSeq:
		c.report(r.ID, t.Seq, "the task's number is beyond the run's last, %d", r.LastSeq)
	case t.Status.Open() && !open:
		c.report(r.ID, t.Seq, "the task is %s but not in the open set", t.Status)
	case !t.Status.Open() && open && !unheard:
		c.report(r.ID, t.Seq, "the task is %s but still in the open set", t.Status)
	case !r.Status.Open() && t.Status.Open() && !r.sweeping:
		c.report(r.ID, t.Seq, "the run has ended and the task is still %s", t.Status)
	}
	if due := t.wakeAt(); due != 0 {
		want[string(wakeKey(due, r.ID, t.Seq))] = true
	}
	if row := t.readyRow(&r.Run); row != nil {
		want[string(row)] = true
	}
	if t.permit {
		c.permits[holder{r.ID, t.Seq}] = limitKey(r.Namespace, limitTasks, t.Limit.Key)
		if t.Status != tutti.Running {
			c.report(r.ID, t.Seq, "the task is %s and holds a permit", t.Status)
		}
	}
}

// history folds the entries of a run and compares the outcome with its records.
func (c *checker) history(v View, r *runState) error {
	n := 0
	status := tutti.RunRunning
	ended := map[tutti.Seq]int{} // status of an ended task, -1 for an open one
	err := v.History(r.ID, 0, func(ev HistoryEvent) bool {
		n++
		if ev.Number != n {
			c.report(r.ID, 0, "entry %d of the history has the number %d", n, ev.Number)
		}
		switch ev.Kind {
		case HistoryTaskScheduled, HistoryTaskReopened:
			ended[ev.Seq] = -1
		case HistoryTaskDone:
			ended[ev.Seq] = int(ev.Status)
		case HistoryTaskRemoved:
			delete(ended, ev.Seq)
		case HistoryRunPaused:
			status = tutti.RunPaused
		case HistoryRunResumed, HistoryRunReopened:
			status = tutti.RunRunning
		case HistoryRunEnded:
			status = tutti.RunStatus(ev.Status)
		}
		return true
	})
	if n != int(r.events) {
		c.report(r.ID, 0, "the history has %d entries, the record says %d", n, r.events)
	}
	if status != r.Status {
		c.report(r.ID, 0, "the run is %s, by its history %s", r.Status, status)
	}
	for _, seq := range slices.Sorted(maps.Keys(r.tasks)) {
		t := r.tasks[seq]
		told, ok := ended[seq]
		delete(ended, seq)
		switch {
		case !ok:
			c.report(r.ID, seq, "the history does not know the task")
		case t.Status.Open() != (told < 0), told >= 0 && told != int(t.Status):
			c.report(r.ID, seq, "the task is %s, by its history %d", t.Status, told)
		}
	}
	for _, seq := range slices.Sorted(maps.Keys(ended)) {
		c.report(r.ID, seq, "the history knows a task that has no record")
	}
	return err
}

// children checks that every child run that is waited for will report to who waits.
func (c *checker) children() {
	for id, r := range c.runs {
		for seq, t := range r.tasks {
			if t.Kind != tutti.Child || !t.Status.Open() || c.moving[id] || c.moving[t.ChildRun] {
				continue
			}
			child := c.runs[t.ChildRun]
			switch {
			case child == nil:
				c.report(id, seq, "the child run %s that is waited for does not exist", t.ChildRun)
			case !child.Status.Open():
				c.report(id, seq, "the child run %s has ended and nobody says so", t.ChildRun)
			case !child.waits(holder{id, seq}):
				c.report(id, seq, "the child run %s will report to another run", t.ChildRun)
			}
		}
	}
	slices.SortFunc(c.problems, func(a, b Problem) int {
		return slices.Compare([]byte(a.Text), []byte(b.Text))
	})
}

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
	holders map[holder]int64 // to the version that they were granted under
	grants  []int64          // times of hand-outs under the present version
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
			if int64(binary.BigEndian.Uint64(raw)) == l.conf.version {
				l.grants = append(l.grants, int64(binary.BigEndian.Uint64(tail[1:])))
			}
		case 'w':
			l.wake = int64(binary.BigEndian.Uint64(raw))
		case 'c': // sorts before the others
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
			if at == l.conf.version {
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
		if l.conf.Rate > 0 && last < len(l.grants) &&
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
