package api

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
)

const (
	// connectorLease is how long a task stays with a connector of a server that died.
	connectorLease = 30 * time.Second
	// connectorBeat is how often the leases of tasks in progress are extended.
	connectorBeat = 10 * time.Second
)

// ConnectorSource hands the tasks of queues, in all namespaces, to the connectors inside the
// server. It is a connector.Source. It needs no permission: it acts for the server.
type ConnectorSource struct {
	svc    *Service
	worker string

	mu    sync.Mutex
	feeds map[string]*connectorFeed
	held  map[hold]bool
}

// hold is a lease of a task in progress.
type hold struct {
	run   tutti.RunID
	seq   tutti.Seq
	token uint64
}

// connectorFeed is the standing request for the tasks of one queue.
type connectorFeed struct {
	src      *ConnectorSource
	queue    string
	consumer *runner.Consumer
	unfollow func()

	mu     sync.Mutex
	tasks  []HandOut
	owed   int // credit given and not yet used
	closed bool
	wake   chan struct{}
}

// ConnectorSource returns the source of tasks for a connector.Pool. worker is the name under
// which explanations show who holds them.
func (s *Service) ConnectorSource(ctx context.Context, worker string) (*ConnectorSource, error) {
	if err := s.loadNamespaces(ctx); err != nil {
		return nil, err
	}
	return &ConnectorSource{
		svc: s, worker: worker, feeds: map[string]*connectorFeed{}, held: map[hold]bool{},
	}, nil
}

// Run extends the leases of tasks in progress until ctx is done. Without it they would be
// handed out again.
func (c *ConnectorSource) Run(ctx context.Context) {
	for rest(ctx, connectorBeat) {
		c.mu.Lock()
		held := slices.Collect(maps.Keys(c.held))
		c.mu.Unlock()
		for _, h := range held {
			cmd := engine.Extend{Run: h.run, Seq: h.seq, Token: h.token}
			c.svc.run.SubmitAsync(h.run.Shard(c.svc.run.Shards()), cmd, func(_ any, err error) {
				if kind := tutti.KindOf(err); err != nil && kind != tutti.Unavailable &&
					kind != tutti.Exhausted {
					c.release(h) // its result will be refused
				}
			})
		}
	}
}

func (c *ConnectorSource) release(h hold) {
	c.mu.Lock()
	delete(c.held, h)
	c.mu.Unlock()
}

func (c *ConnectorSource) feed(queue string) *connectorFeed {
	c.mu.Lock()
	f, ok := c.feeds[queue]
	if !ok {
		f = &connectorFeed{src: c, queue: queue, wake: make(chan struct{}, 1)}
		c.feeds[queue] = f
	}
	c.mu.Unlock()
	if !ok {
		f.consumer = c.svc.run.Subscribe(
			nil, c.worker, connectorLease.Milliseconds(), f.deliver, nil)
		f.unfollow = c.svc.seen.follow(f)
	}
	return f
}

// Lease implements connector.Source. A queue has one caller at a time.
func (c *ConnectorSource) Lease(
	ctx context.Context, queue string, max int,
) ([]connector.LeasedTask, error) {
	f := c.feed(queue)
	for {
		tasks, more := f.take(max)
		if len(tasks) > 0 {
			return c.lease(tasks), nil
		}
		c.svc.run.AddCredit(f.consumer, more)
		select {
		case <-f.wake:
		case <-ctx.Done():
			c.close(f)
			return nil, ctx.Err()
		}
	}
}

// take returns at most n tasks that have arrived, or how much credit to add to have n.
func (f *connectorFeed) take(n int) (tasks []HandOut, more int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tasks) > 0 {
		n = min(n, len(f.tasks))
		tasks, f.tasks = f.tasks[:n:n], f.tasks[n:]
		return tasks, 0
	}
	more = max(n-f.owed, 0)
	f.owed += more
	return nil, more
}

func (f *connectorFeed) deliver(h engine.HandOut) {
	out := f.src.svc.handOut(&h)
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		f.src.svc.giveBack(out)
		return
	}
	f.tasks = append(f.tasks, out)
	f.owed--
	f.mu.Unlock()
	f.src.mu.Lock()
	f.src.held[hold{h.Run.ID, h.Task.Seq, h.Task.Token}] = true
	f.src.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *connectorFeed) widen(ns string) {
	f.src.svc.run.Widen(f.consumer, engine.QueueKey(ns, f.queue))
}

// close ends a feed and gives back what nobody took.
func (c *ConnectorSource) close(f *connectorFeed) {
	c.mu.Lock()
	delete(c.feeds, f.queue)
	c.mu.Unlock()
	f.unfollow()
	c.svc.run.Unsubscribe(f.consumer)
	f.mu.Lock()
	left := f.tasks
	f.tasks, f.closed = nil, true
	f.mu.Unlock()
	for _, h := range left {
		c.release(hold{h.Run.ID, h.Task.Seq, h.Task.Token})
		c.svc.giveBack(h)
	}
}

// giveBack returns a task that its worker never got, without waiting.
func (s *Service) giveBack(h HandOut) {
	s.run.SubmitAsync(h.Run.ID.Shard(s.run.Shards()), engine.ReturnLease{
		Run: h.Run.ID, Seq: h.Task.Seq, Token: h.Task.Token, Undelivered: true,
	}, func(any, error) {})
}

// lease shows hand-outs to a connector.
func (c *ConnectorSource) lease(tasks []HandOut) []connector.LeasedTask {
	out := make([]connector.LeasedTask, len(tasks))
	for i, h := range tasks {
		out[i] = connector.LeasedTask{
			Task: connector.Task{
				ID: h.Run.ID.TaskID(h.Task.Seq), RunID: h.Run.ID.String(), Name: h.Task.Name,
				Type: h.Task.Type, Attempt: int(h.Task.Attempt), Input: h.Task.Input,
				Namespace: h.Run.Namespace, IdempotencyKey: h.IdempotencyKey(),
				Deadline: deadline(h.Task),
			},
			Lease: hold{h.Run.ID, h.Task.Seq, h.Task.Token},
		}
		if h.TraceParent != "" {
			out[i].Headers = map[string]string{"traceparent": h.TraceParent}
		}
	}
	return out
}

// deadline is when an attempt must have ended, the zero time if it has no limit.
func deadline(t *tutti.Task) time.Time {
	at := t.Timeouts.TotalAt
	for _, after := range []int64{t.Timeouts.TaskMs, t.Timeouts.ResponseMs} {
		if after > 0 && (at == 0 || t.UpdatedMs+after < at) {
			at = t.UpdatedMs + after
		}
	}
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(at)
}

// Finish implements connector.Source. A result that came too late is dropped, since the
// engine has decided without it.
func (c *ConnectorSource) Finish(
	ctx context.Context, t connector.LeasedTask, o connector.Outcome,
) error {
	h := t.Lease.(hold)
	defer c.release(h)
	_, err := c.svc.run.ForRun(ctx, h.run, engine.Complete{
		Run: h.run, Seq: h.seq, Token: h.token, Outcome: engine.Outcome{
			Status: o.Status, Output: o.Output, Reason: o.Reason, Worker: cmp.Or(c.worker, "server"),
		},
	})
	switch tutti.KindOf(err) {
	case tutti.Conflict, tutti.NotFound:
		c.svc.log.Debug("a result came too late", "run", t.RunID, "task", t.ID, "error", err)
		return nil
	}
	return err
}

var _ connector.Source = (*ConnectorSource)(nil)

// namespaces are those that may have tasks. Whoever serves a queue in all of them hears of
// new ones.
type namespaces struct {
	mu    sync.RWMutex
	known map[string]bool
	tell  map[*connectorFeed]bool
}

// see notes a namespace, before its first run starts.
func (n *namespaces) see(ns string) {
	n.mu.RLock()
	known := n.known[ns]
	n.mu.RUnlock()
	if known {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = map[string]bool{}
	}
	n.known[ns] = true
	for f := range n.tell {
		f.widen(ns)
	}
}

// follow tells a feed of every namespace, now and later, until the returned function is
// called.
func (n *namespaces) follow(f *connectorFeed) (stop func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tell == nil {
		n.tell = map[*connectorFeed]bool{}
	}
	n.tell[f] = true
	for ns := range n.known {
		f.widen(ns)
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.tell, f)
	}
}

// load notes the namespaces that have runs.
func (s *Service) loadNamespaces(ctx context.Context) error {
	return s.readAll(ctx, func(views []engine.View) error {
		for _, v := range views {
			names, err := v.Namespaces()
			if err != nil {
				return err
			}
			for _, ns := range names {
				s.seen.see(ns)
			}
		}
		return nil
	})
}
