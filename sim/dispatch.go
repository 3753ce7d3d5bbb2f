package sim

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// queues matches ready tasks with workers that wait, over all shards of one process.
type queues struct {
	w    *world
	list map[string]*queue
	open map[uint64]*poll
	last uint64
}

type queue struct {
	ready   []engine.Ready
	waiting []*poll
}

// poll is a worker's request for one task.
type poll struct {
	queue  string
	worker *worker
	slot   engine.Slot
}

func newQueues(w *world) *queues {
	q := &queues{w: w, list: map[string]*queue{}, open: map[uint64]*poll{}}
	if w.queues != nil {
		q.last = w.queues.last
	}
	return q
}

func (q *queues) named(name string) *queue {
	l, ok := q.list[name]
	if !ok {
		l = new(queue)
		q.list[name] = l
	}
	return l
}

// matcher is what a shard sees of the queues while it forms a batch.
type matcher struct {
	queues *queues
	taken  []uint64
}

// Reserve implements engine.Matcher.
func (m *matcher) Reserve(name string) (engine.Slot, bool) {
	l := m.queues.named(name)
	if len(l.ready) > 0 || len(l.waiting) == 0 {
		return engine.Slot{}, false
	}
	p := l.waiting[0]
	l.waiting = l.waiting[1:]
	m.taken = append(m.taken, p.slot.Poll)
	return p.slot, true
}

// LastPoll implements engine.Matcher.
func (m *matcher) LastPoll(string) int64 { return 0 }

// add takes up a task that became ready.
func (q *queues) add(r engine.Ready) {
	l := q.named(r.Queue)
	at, found := slices.BinarySearchFunc(l.ready, r, func(a, b engine.Ready) int {
		return cmp.Or(
			cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.ReadyMs, b.ReadyMs),
			bytes.Compare(a.Run[:], b.Run[:]), cmp.Compare(a.Seq, b.Seq),
		)
	})
	if !found {
		l.ready = slices.Insert(l.ready, at, r)
		q.match(l)
	}
}

// wait makes a worker wait for a task.
func (q *queues) wait(p *worker, leaseMs int64) {
	q.last++
	p.poll = q.last
	o := &poll{
		queue: engine.QueueKey("", p.queue), worker: p,
		slot: engine.Slot{Poll: q.last, Worker: p.name, LeaseMs: leaseMs},
	}
	q.open[q.last] = o
	l := q.named(o.queue)
	l.waiting = append(l.waiting, o)
	q.match(l)
}

// close ends a poll; what is on its way to it goes back.
func (q *queues) close(id uint64) {
	o, ok := q.open[id]
	if !ok {
		return
	}
	delete(q.open, id)
	l := q.named(o.queue)
	l.waiting = slices.DeleteFunc(l.waiting, func(x *poll) bool { return x == o })
}

// freed lets a poll wait on whose lease came to nothing.
func (q *queues) freed(id uint64) {
	if o, ok := q.open[id]; ok {
		l := q.named(o.queue)
		if !slices.Contains(l.waiting, o) {
			l.waiting = append(l.waiting, o)
			q.match(l)
		}
	}
}

// match proposes ready tasks to workers that wait.
func (q *queues) match(l *queue) {
	for len(l.ready) > 0 && len(l.waiting) > 0 {
		r, o := l.ready[0], l.waiting[0]
		l.ready, l.waiting = l.ready[1:], l.waiting[1:]
		q.w.submit(r.Run, engine.Lease{Run: r.Run, Seq: r.Seq, Slot: o.slot},
			func(val any, err error) {
				switch {
				case err != nil:
					q.add(r)
					q.freed(o.slot.Poll)
				case val == engine.LeaseGone:
					q.freed(o.slot.Poll)
				}
			})
	}
}

// deliver hands a leased task to its worker, or gives it back when that is gone.
func (q *queues) deliver(h engine.HandOut) {
	o, ok := q.open[h.Poll]
	if !ok {
		q.w.submit(h.Run.ID, engine.ReturnLease{
			Run: h.Run.ID, Seq: h.Task.Seq, Token: h.Task.Token, Undelivered: true,
		}, nil)
		return
	}
	delete(q.open, h.Poll)
	o.worker.poll = 0
	q.w.oracle.delivered(&h)
	if !q.w.calm && q.w.chance(20) {
		q.w.say("the answer to %s's poll is lost", o.worker.name)
		return
	}
	q.w.say("%s gets %s/%d with token %d", o.worker.name, h.Run.ID, h.Task.Seq, h.Task.Token)
	o.worker.held = append(o.worker.held, &h)
}

// submit puts a command into the inbox of a run's shard. The answer may never come.
func (w *world) submit(id tutti.RunID, cmd engine.Command, answer func(any, error)) {
	life := w.life
	n := w.nodes[id.Shard(w.opts.Shards)]
	n.inbox = append(n.inbox, request{cmd: cmd, answer: func(val any, err error) {
		if answer != nil && life == w.life {
			answer(val, err)
		}
	}})
}

// worker performs tasks of one queue, or pretends to.
type worker struct {
	name    string
	queue   string
	session int64 // length of its leases; 0 = the tasks' own
	poll    uint64
	held    []*engine.HandOut
	old     []*engine.HandOut // reported already
}

func (w *world) hire() {
	p := &worker{name: "w" + string(rune('a'+w.rng.IntN(26))), queue: pick(w, w.cast.Queues()...)}
	if w.chance(3) {
		p.session = 2000
	}
	w.staff = append(w.staff, p)
}

func (w *world) dismiss(p *worker) {
	w.queues.close(p.poll)
	p.poll = 0
}

// act lets a worker do something.
func (w *world) act(p *worker) {
	switch n := w.rng.IntN(10); {
	case p.poll == 0 && len(p.held) < 2:
		w.queues.wait(p, p.session)
	case len(p.held) > 0 && n < 8:
		i := w.rng.IntN(len(p.held))
		out := p.held[i]
		if w.perform(p, out) {
			p.held = slices.Delete(p.held, i, i+1)
			p.old = append(p.old, out)
		}
	case n == 8 && p.poll != 0:
		w.queues.close(p.poll)
		p.poll = 0
	}
}

// perform reports on a task; true when the worker is done with it.
func (w *world) perform(p *worker, out *engine.HandOut) bool {
	id, seq, token := out.Run.ID, out.Task.Seq, out.Task.Token
	switch w.rng.IntN(10) {
	case 0:
		w.report0(out, engine.Outcome{Status: tutti.Failed, Reason: "drawn"})
	case 1:
		w.report0(out, engine.Outcome{
			Status: tutti.Running, Requeue: true, CallbackMs: pick[int64](w, 0, 300, 2000),
		})
	case 2:
		w.submit(id, engine.ReturnLease{Run: id, Seq: seq, Token: token}, nil)
	case 3:
		if p.session > 0 {
			w.submit(id, engine.Extend{Run: id, Seq: seq, Token: token}, nil)
		} else {
			w.report0(out, engine.Outcome{Status: tutti.Running, ExtendOnly: true})
		}
		return false
	default:
		w.report0(out, engine.Outcome{Status: tutti.Completed, Output: outputOf(out)})
	}
	return true
}

// outputOf is an output that tells by whom and how often the task was handed out.
func outputOf(out *engine.HandOut) value.Raw {
	o := value.NewObject()
	o.Set("task", value.Int(int64(out.Task.Seq)))
	o.Set("token", value.Int(int64(out.Task.Token)))
	return value.Marshal(o)
}

func (w *world) report0(out *engine.HandOut, o engine.Outcome) {
	o.Worker = out.Task.Worker
	w.submit(out.Run.ID, engine.Complete{
		Run: out.Run.ID, Seq: out.Task.Seq, Token: out.Task.Token, Outcome: o,
	}, func(_ any, err error) {
		if err == nil && !o.Status.Open() {
			w.oracle.completed(out, o)
		}
	})
}

// reportAgain repeats a report that a worker has made before.
func (w *world) reportAgain() {
	p := w.staff[w.rng.IntN(len(w.staff))]
	if len(p.old) > 0 {
		out := p.old[w.rng.IntN(len(p.old))]
		w.say("%s reports %s/%d again", p.name, out.Run.ID, out.Task.Seq)
		w.report0(out, engine.Outcome{Status: tutti.Completed, Output: outputOf(out)})
	}
}

// packet is a message between two shards under way.
type packet struct {
	from int
	engine.Send
}

// send puts a message on its way, unless it is there already.
func (w *world) send(from int, m engine.Send) {
	for _, p := range w.net {
		if p.from == from && p.To == m.To && p.Number == m.Number {
			return
		}
	}
	w.net = append(w.net, packet{from, m})
}

// deliver lets a message arrive.
func (w *world) deliver() {
	if len(w.net) == 0 {
		return
	}
	p := w.net[0]
	w.net = slices.Delete(w.net, 0, 1)
	life := w.life
	to := w.nodes[p.To]
	to.inbox = append(to.inbox, request{
		cmd: engine.Deliver{From: p.from, Number: p.Number, Body: p.Body},
		answer: func(_ any, err error) {
			if err != nil && life == w.life {
				w.nodes[p.from].resend()
			}
		},
	})
}

// acknowledge lets the sender of messages forget them.
func (w *world) acknowledge(by int, a engine.Ack) {
	from := w.nodes[a.From]
	if after := from.acked[by]; a.Number > after {
		from.acked[by] = a.Number
		from.inbox = append(from.inbox, request{
			cmd: engine.Acked{By: by, Number: a.Number, After: after},
		})
	}
}

// shuffleNet changes the order of what is under way, and doubles some of it.
func (w *world) shuffleNet() {
	w.rng.Shuffle(len(w.net), func(i, j int) { w.net[i], w.net[j] = w.net[j], w.net[i] })
	if len(w.net) > 0 {
		w.net = append(w.net, w.net[w.rng.IntN(len(w.net))])
	}
	w.say("%d messages are shuffled", len(w.net))
}

// loseNet loses what is under way; the senders send it again.
func (w *world) loseNet() {
	w.say("%d messages are lost", len(w.net))
	w.net = nil
	for _, n := range w.nodes {
		n.resend()
	}
}
