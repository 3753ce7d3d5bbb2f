package runner

import (
	"context"
	"sync"
	"time"

	"github.com/tutti-run/tutti/engine"
)

const (
	// queueWindow is how many tasks of one queue are kept in memory; the rest are rows.
	queueWindow = 20_000
	// lastPolls bounds the workers remembered for each queue.
	lastPolls = 1000
)

// dispatcher matches ready tasks with workers that wait, over all shards. It never decides
// what may be handed out: it proposes, and the task's shard grants the lease.
type dispatcher struct {
	r      *Runner
	mu     sync.Mutex
	queues map[string]*queue
	polls  map[uint64]*Consumer
	nextID uint64
	loads  sync.WaitGroup // reads of queues under way
}

// queue is what is known of one queue.
type queue struct {
	name    string
	ready   readyHeap
	clock   uint64            // virtual time of fair ordering
	lastOf  map[uint32]uint64 // newest virtual time of each fairness key
	spill   bool              // the store may hold tasks that are not in the window
	loading bool
	waiting []*Consumer // workers with room for a task
	seen    map[string]int64
	newest  int64
}

// Consumer is a worker that takes tasks: one long poll, or one stream. Its credit is how
// many tasks it has room for.
type Consumer struct {
	id      uint64
	worker  string
	leaseMs int64
	queues  []*queue
	deliver func(engine.HandOut)
	gone    func(engine.Revoked)

	credit  int // guarded by dispatcher.mu
	pending int // leases asked for, not yet answered
	idle    chan struct{}
	closed  bool
}

func newDispatcher(r *Runner) *dispatcher {
	return &dispatcher{r: r, queues: map[string]*queue{}, polls: map[uint64]*Consumer{}}
}

func (d *dispatcher) queue(name string) *queue {
	q, ok := d.queues[name]
	if !ok {
		q = &queue{name: name, lastOf: map[uint32]uint64{}, seen: map[string]int64{}}
		d.queues[name] = q
	}
	return q
}

// close waits for the reads under way.
func (d *dispatcher) close() { d.loads.Wait() }

// matcher is the dispatcher as one shard sees it while it forms a batch.
type matcher struct {
	d     *dispatcher
	taken []uint64 // reservations of the batch being formed
}

// Reserve implements engine.Matcher.
func (m *matcher) Reserve(name string) (engine.Slot, bool) {
	d := m.d
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queue(name)
	if len(q.ready) > 0 || q.spill {
		return engine.Slot{}, false
	}
	c := q.nextConsumer()
	if c == nil {
		return engine.Slot{}, false
	}
	c.credit--
	c.pending++
	m.taken = append(m.taken, c.id)
	return c.slot(), true
}

// LastPoll implements engine.Matcher.
func (m *matcher) LastPoll(name string) int64 {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if q, ok := m.d.queues[name]; ok {
		return q.newest
	}
	return 0
}

// take returns the reservations of the batch that was formed and forgets them.
func (m *matcher) take() []uint64 {
	taken := m.taken
	m.taken = nil
	return taken
}

func (c *Consumer) slot() engine.Slot {
	return engine.Slot{Poll: c.id, Worker: c.worker, LeaseMs: c.leaseMs}
}

// nextConsumer returns a waiting worker with room, and moves it to the end of the line.
func (q *queue) nextConsumer() *Consumer {
	for len(q.waiting) > 0 {
		c := q.waiting[0]
		q.waiting = q.waiting[1:]
		if c.closed || c.credit <= 0 {
			continue
		}
		q.waiting = append(q.waiting, c)
		return c
	}
	return nil
}

// enqueue takes up tasks that became ready.
func (d *dispatcher) enqueue(tasks []engine.Ready) {
	if len(tasks) == 0 {
		return
	}
	d.mu.Lock()
	touched := map[*queue]bool{}
	for _, t := range tasks {
		q := d.queue(t.Queue)
		q.push(t)
		touched[q] = true
	}
	var offers []offer
	for q := range touched {
		offers = append(offers, d.match(q)...)
	}
	d.mu.Unlock()
	d.send(offers)
}

// spilled notes at start-up which queues have tasks in the store.
func (d *dispatcher) spilled(names []string) {
	d.mu.Lock()
	var offers []offer
	for _, name := range names {
		q := d.queue(name)
		q.spill = true
		offers = append(offers, d.match(q)...)
	}
	d.mu.Unlock()
	d.send(offers)
}

// offer is a task proposed for a worker.
type offer struct {
	task engine.Ready
	c    *Consumer
}

// match pairs the queue's tasks with workers that have room. Called with mu held.
func (d *dispatcher) match(q *queue) (offers []offer) {
	for {
		if len(q.ready) < queueWindow/4 && q.spill && !q.loading && d.hasRoom(q) {
			d.load(q)
		}
		if len(q.ready) == 0 {
			return offers
		}
		c := q.nextConsumer()
		if c == nil {
			return offers
		}
		c.credit--
		c.pending++
		offers = append(offers, offer{q.pop(), c})
	}
}

func (d *dispatcher) hasRoom(q *queue) bool {
	for _, c := range q.waiting {
		if !c.closed && c.credit > 0 {
			return true
		}
	}
	return false
}

// load reads the head of a queue from the store, in the background.
func (d *dispatcher) load(q *queue) {
	q.loading, q.spill = true, false
	d.loads.Go(func() {
		var found []engine.Ready
		more := false
		for _, s := range d.r.shards {
			n := 0
			err := s.read(context.Background(), func(v engine.View) error {
				return v.ReadyTasks(q.name, func(t engine.Ready) bool {
					found = append(found, t)
					n++
					more = more || n >= queueWindow
					return n < queueWindow
				})
			})
			if err != nil {
				more = true
				d.r.log.Warn("queue could not be read; trying again", "queue", q.name, "error", err)
			}
		}
		d.mu.Lock()
		q.loading = false
		q.spill = q.spill || more
		q.merge(found)
		offers := d.match(q)
		d.mu.Unlock()
		d.send(offers)
	})
}

// send asks the shards for the leases. Called without mu.
func (d *dispatcher) send(offers []offer) {
	for _, o := range offers {
		cmd := engine.Lease{Run: o.task.Run, Seq: o.task.Seq, Slot: o.c.slot()}
		shard := o.task.Run.Shard(len(d.r.shards))
		d.r.SubmitAsync(shard, cmd, func(v any, err error) {
			switch {
			case err != nil:
				d.mu.Lock()
				d.queue(o.task.Queue).spill = true // it is still ready: find it again
				d.mu.Unlock()
				d.freed(o.c.id)
			case v.(engine.LeaseResult) == engine.LeaseGone:
				d.freed(o.c.id)
			}
		})
	}
}

// freed gives a worker its room back when a lease came to nothing.
func (d *dispatcher) freed(id uint64) {
	d.mu.Lock()
	c, ok := d.polls[id]
	if !ok {
		d.mu.Unlock()
		return
	}
	c.pending--
	var offers []offer
	if !c.closed {
		offers = d.addCredit(c, 1)
	}
	d.settle(c)
	d.mu.Unlock()
	d.send(offers)
}

// deliver hands a leased task to the worker it was leased for, or gives it back when the
// worker is gone.
func (d *dispatcher) deliver(h engine.HandOut) {
	d.mu.Lock()
	c, ok := d.polls[h.Poll]
	ok = ok && !c.closed
	d.mu.Unlock()
	if ok {
		c.deliver(h)
	} else {
		d.giveBack(h)
	}
	if c == nil {
		return
	}
	// Only now is the task no longer on its way: who drains the worker must not miss it.
	d.mu.Lock()
	c.pending--
	d.settle(c)
	d.mu.Unlock()
}

func (d *dispatcher) giveBack(h engine.HandOut) {
	d.r.SubmitAsync(h.Run.ID.Shard(len(d.r.shards)), engine.ReturnLease{
		Run: h.Run.ID, Seq: h.Task.Seq, Token: h.Task.Token, Undelivered: true,
	}, func(any, error) {})
}

func (d *dispatcher) revoked(v engine.Revoked) {
	d.mu.Lock()
	var tell []func(engine.Revoked)
	for _, c := range d.polls {
		if c.worker == v.Worker && c.gone != nil {
			tell = append(tell, c.gone)
		}
	}
	d.mu.Unlock()
	for _, f := range tell {
		f(v)
	}
}

// settle forgets a closed worker once nothing is on its way to it. Called with mu held.
func (d *dispatcher) settle(c *Consumer) {
	if c.pending > 0 {
		return
	}
	if c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
	if c.closed {
		delete(d.polls, c.id)
	}
}

// addCredit gives a worker room for n more tasks. Called with mu held.
func (d *dispatcher) addCredit(c *Consumer, n int) (offers []offer) {
	had := c.credit
	c.credit += n
	for _, q := range c.queues {
		if had <= 0 {
			q.await(c)
		}
		offers = append(offers, d.match(q)...)
	}
	return offers
}

// await puts a worker into the line of a queue, once.
func (q *queue) await(c *Consumer) {
	for _, w := range q.waiting {
		if w == c {
			return
		}
	}
	q.waiting = append(q.waiting, c)
}

// Subscribe makes a worker a consumer of queues. It gets no task before AddCredit. deliver
// is called for every task, from goroutines of the runner, and must not block; gone is
// called when a lease of one of the worker's tasks ended without its doing, and may be nil.
// leaseMs above zero makes leases that the consumer must keep alive with engine.Extend;
// zero leaves it to the task's response timeout.
func (r *Runner) Subscribe(
	queues []string, worker string, leaseMs int64,
	deliver func(engine.HandOut), gone func(engine.Revoked),
) *Consumer {
	d := r.queues
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nextID++
	c := &Consumer{id: d.nextID, worker: worker, leaseMs: leaseMs, deliver: deliver, gone: gone}
	for _, name := range queues {
		c.queues = append(c.queues, d.queue(name))
	}
	d.polls[c.id] = c
	d.notePoll(c)
	return c
}

func (d *dispatcher) notePoll(c *Consumer) {
	now := nowMs()
	for _, q := range c.queues {
		q.newest = now
		if _, ok := q.seen[c.worker]; ok || len(q.seen) < lastPolls {
			q.seen[c.worker] = now
		}
	}
}

// AddCredit lets a consumer have n more tasks.
func (r *Runner) AddCredit(c *Consumer, n int) {
	d := r.queues
	d.mu.Lock()
	d.notePoll(c)
	offers := d.addCredit(c, n)
	d.mu.Unlock()
	d.send(offers)
}

// Unsubscribe takes a consumer away. Tasks already on their way to it go back to their
// queues; it is the caller's to give back those that it has.
func (r *Runner) Unsubscribe(c *Consumer) {
	d := r.queues
	d.mu.Lock()
	c.closed, c.credit = true, 0
	for _, q := range c.queues {
		for i, w := range q.waiting {
			if w == c {
				q.waiting = append(q.waiting[:i:i], q.waiting[i+1:]...)
				break
			}
		}
	}
	d.settle(c)
	d.mu.Unlock()
}

// Poll waits up to a time for tasks of a queue and returns at most n of them, as soon as
// there is one and none is on its way. It returns none when the time is over.
func (r *Runner) Poll(
	ctx context.Context, queueName, worker string, n int, wait time.Duration,
) ([]engine.HandOut, error) {
	var mu sync.Mutex
	var got []engine.HandOut
	answered := false
	arrived := make(chan struct{}, 1)
	c := r.Subscribe([]string{queueName}, worker, 0, func(h engine.HandOut) {
		mu.Lock()
		late := answered
		if !late {
			got = append(got, h)
		}
		mu.Unlock()
		if late {
			r.queues.giveBack(h)
			return
		}
		select {
		case arrived <- struct{}{}:
		default:
		}
	}, nil)
	defer r.Unsubscribe(c)
	r.AddCredit(c, n)
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-arrived:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	r.drain(ctx, c)
	mu.Lock()
	defer mu.Unlock()
	answered = true
	return got, nil
}

// drain takes away a consumer's credit and waits for what is on its way.
func (r *Runner) drain(ctx context.Context, c *Consumer) {
	d := r.queues
	d.mu.Lock()
	c.credit = 0
	var idle chan struct{}
	if c.pending > 0 {
		idle = make(chan struct{})
		c.idle = idle
	}
	d.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

var _ engine.Matcher = (*matcher)(nil)
