package enginetest

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// matcher is the engine's view of the workers that wait.
type matcher struct {
	h       *Harness
	last    uint64
	waiting []*worker
	out     map[uint64]*worker // reserved
	polls   map[string]int64
}

type worker struct {
	queue string
	engine.Slot
}

// Reserve implements engine.Matcher.
func (m *matcher) Reserve(queue string) (engine.Slot, bool) {
	if len(m.h.ready[queue]) > 0 {
		return engine.Slot{}, false
	}
	for i, w := range m.waiting {
		if w.queue == queue {
			m.waiting = slices.Delete(m.waiting, i, i+1)
			m.reserve(w)
			return w.Slot, true
		}
	}
	return engine.Slot{}, false
}

func (m *matcher) reserve(w *worker) {
	if m.out == nil {
		m.out = map[uint64]*worker{}
	}
	m.out[w.Poll] = w
}

// LastPoll implements engine.Matcher.
func (m *matcher) LastPoll(queue string) int64 { return m.polls[queue] }

func (m *matcher) freed(poll uint64) {
	if w := m.out[poll]; w != nil {
		delete(m.out, poll)
		m.waiting = append(m.waiting, w)
	}
}

type matcherState struct {
	waiting []*worker
	out     map[uint64]*worker
}

func (m *matcher) save() matcherState {
	return matcherState{slices.Clone(m.waiting), maps.Clone(m.out)}
}

func (m *matcher) restore(s matcherState) { m.waiting, m.out = s.waiting, s.out }

// WaitFor makes a worker wait for a task of a queue (of the empty namespace) and returns
// the number under which Fetch finds what it got. A session worker says for how long its
// leases last; 0 leaves that to the task.
func (h *Harness) WaitFor(queue, name string, sessionMs int64) uint64 {
	q := engine.QueueKey("", queue)
	h.match.last++
	h.match.polls[q] = h.now
	h.match.waiting = append(h.match.waiting, &worker{
		queue: q, Slot: engine.Slot{Poll: h.match.last, Worker: name, LeaseMs: sessionMs},
	})
	return h.match.last
}

// Fetch returns what a waiting worker was handed, or nil.
func (h *Harness) Fetch(poll uint64) *engine.HandOut {
	out := h.handed[poll]
	delete(h.handed, poll)
	return out
}

// Poll leases the first task of a queue (of the empty namespace) to a worker, or returns
// nil when there is none that its limit lets go.
func (h *Harness) Poll(queue, name string) *engine.HandOut {
	h.t.Helper()
	return h.PollSession(queue, name, 0)
}

// PollSession is Poll for a worker whose session keeps its leases alive.
func (h *Harness) PollSession(queue, name string, sessionMs int64) *engine.HandOut {
	h.t.Helper()
	q := engine.QueueKey("", queue)
	h.match.polls[q] = h.now
	for tries := 0; len(h.ready[q]) > 0; tries++ {
		if tries > settleMax {
			h.t.Fatalf("queue %s does not become empty", queue)
		}
		r := h.ready[q][0]
		h.ready[q] = h.ready[q][1:]
		h.match.last++
		slot := engine.Slot{Poll: h.match.last, Worker: name, LeaseMs: sessionMs}
		if h.MustDo(engine.Lease{Run: r.Run, Seq: r.Seq, Slot: slot}) == engine.LeaseGone {
			continue
		}
		if out := h.Fetch(slot.Poll); out != nil {
			return out
		}
	}
	return nil
}

// addReady puts a task into its queue, in the order in which tasks are handed out.
func (h *Harness) addReady(r engine.Ready) {
	list := h.ready[r.Queue]
	at, found := slices.BinarySearchFunc(list, r, func(a, b engine.Ready) int {
		return cmp.Or(
			cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ReadyMs, b.ReadyMs),
			bytes.Compare(a.Run[:], b.Run[:]), cmp.Compare(a.Seq, b.Seq),
		)
	})
	if !found {
		h.ready[r.Queue] = slices.Insert(list, at, r)
	}
}

// CompleteError reports the outcome of what a worker was handed.
func (h *Harness) CompleteError(out *engine.HandOut, o engine.Outcome) (tutti.Task, error) {
	h.t.Helper()
	res, err := h.Do(engine.Complete{
		Run: out.Run.ID, Seq: out.Task.Seq, Token: out.Task.Token, Outcome: o,
	})
	task, _ := res.(tutti.Task)
	return task, err
}

// Complete reports success. The output may be empty.
func (h *Harness) Complete(out *engine.HandOut, output string) {
	h.t.Helper()
	h.outcome(out, engine.Outcome{Status: tutti.Completed, Output: raw(output)})
}

// Fail reports a failure that may be retried.
func (h *Harness) Fail(out *engine.HandOut, reason string) {
	h.t.Helper()
	h.outcome(out, engine.Outcome{Status: tutti.Failed, Reason: reason})
}

// Progress gives a task back for a while.
func (h *Harness) Progress(out *engine.HandOut, callbackMs int64) {
	h.t.Helper()
	h.outcome(out, engine.Outcome{Status: tutti.Running, Requeue: true, CallbackMs: callbackMs})
}

func raw(s string) value.Raw {
	if s == "" {
		return nil
	}
	return value.Raw(s)
}

func (h *Harness) outcome(out *engine.HandOut, o engine.Outcome) {
	h.t.Helper()
	if out == nil {
		h.t.Fatal("no task was handed out")
	}
	_, err := h.CompleteError(out, o)
	h.check(err)
}

// Work polls a queue and completes what it finds until it is empty, and returns how many.
func (h *Harness) Work(queue string) (n int) {
	h.t.Helper()
	for n < settleMax {
		out := h.Poll(queue, "worker")
		if out == nil {
			return n
		}
		h.Complete(out, "")
		n++
	}
	h.t.Fatalf("queue %s does not become empty", queue)
	return n
}

// Advance lets time pass and wake-ups fire when they are due.
func (h *Harness) Advance(ms int64) {
	h.t.Helper()
	end := h.now + ms
	h.settle()
	for {
		tm, ok := h.nextTimer(end)
		if !ok {
			break
		}
		h.now = max(h.now, tm.DueMs)
		h.fire(tm)
		h.settle()
	}
	h.now = max(h.now, end)
}

// SetNow moves the clock, also backwards, without firing anything.
func (h *Harness) SetNow(ms int64) { h.now = ms }

// nextTimer takes the first timer that is due by a time.
func (h *Harness) nextTimer(by int64) (Timer, bool) {
	best := -1
	for i, tm := range h.timers {
		if tm.DueMs <= by && (best < 0 || compareTimers(tm, h.timers[best]) < 0) {
			best = i
		}
	}
	if best < 0 {
		return Timer{}, false
	}
	tm := h.timers[best]
	h.timers[best] = h.timers[len(h.timers)-1]
	h.timers = h.timers[:len(h.timers)-1]
	return tm, true
}

func compareTimers(a, b Timer) int {
	return cmp.Or(
		cmp.Compare(a.DueMs, b.DueMs), cmp.Compare(a.Shard, b.Shard),
		bytes.Compare(a.Run[:], b.Run[:]), cmp.Compare(a.Seq, b.Seq),
	)
}

func (h *Harness) fire(tm Timer) {
	h.t.Helper()
	h.DoAll(tm.Shard, engine.Wake{DueMs: tm.DueMs, Run: tm.Run, Seq: tm.Seq})
}

// settle delivers all mail, and fires what is due now, until nothing is left to do.
func (h *Harness) settle() {
	h.t.Helper()
	for range settleMax {
		if !h.opts.HoldMail && h.DeliverMail() > 0 {
			continue
		}
		tm, ok := h.nextTimer(h.now)
		if !ok {
			return
		}
		h.fire(tm)
	}
	h.t.Fatalf("the shards do not come to rest; timers: %v", h.Timers())
}

// settleMax bounds what one command may set off.
const settleMax = 50_000

// DeliverMail delivers the messages that are under way now and returns how many there were.
func (h *Harness) DeliverMail() (n int) {
	h.t.Helper()
	for _, from := range h.shards {
		for _, m := range slices.Clone(from.mail) {
			n++
			if h.opts.DuplicateMail {
				h.deliver(from, m, true)
			}
			h.deliver(from, m, false)
		}
	}
	return n
}

// Mail lists the messages under way from a shard.
func (h *Harness) Mail(from int) []engine.Send { return slices.Clone(h.shards[from].mail) }

// Deliver delivers one message, and its acknowledgement unless that is to be lost.
func (h *Harness) Deliver(from int, m engine.Send, loseAck bool) error {
	h.t.Helper()
	return h.deliver(h.shards[from], m, loseAck)
}

func (h *Harness) deliver(from *shard, m engine.Send, loseAck bool) error {
	h.t.Helper()
	acked := from.acked[m.To]
	if loseAck {
		from.acked[m.To] = 1<<63 - 1
	}
	res := h.DoAll(m.To, engine.Deliver{From: from.id, Number: m.Number, Body: m.Body})
	if loseAck {
		from.acked[m.To] = acked
	}
	return res[0].Err
}

// acknowledge lets a sender forget its messages to a shard.
func (h *Harness) acknowledge(from *shard, by int, number uint64) {
	after := from.acked[by]
	from.acked[by] = number
	from.mail = slices.DeleteFunc(from.mail, func(m engine.Send) bool {
		return m.To == by && m.Number <= number
	})
	h.DoAll(from.id, engine.Acked{By: by, Number: number, After: after})
}
