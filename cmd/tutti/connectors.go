package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/engine"
)

const (
	// connectorLease is how long a task stays with a connector whose server died.
	connectorLease = 30 * time.Second
	// connectorName is who holds the lease of a task that the server itself performs.
	connectorName = "server"
)

// connectors performs tasks in the server, with one pool of workers for each namespace that
// has such tasks.
type connectors struct {
	svc    *api.Service
	byName map[string]connector.Connector // by queue
	log    *slog.Logger
	drain  time.Duration

	mu    sync.Mutex
	pools map[string]bool // by namespace
	ctx   context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func newConnectors(
	svc *api.Service, byQueue map[string]connector.Connector, log *slog.Logger, drain time.Duration,
) *connectors {
	ctx, stop := context.WithCancel(context.Background())
	return &connectors{
		svc: svc, byName: byQueue, log: log, drain: drain,
		pools: map[string]bool{}, ctx: ctx, stop: stop,
	}
}

// observe starts the pool of a namespace when the first of its tasks for a connector shows.
func (c *connectors) observe(notes []engine.Notification) {
	for i := range notes {
		if n := &notes[i]; strings.HasPrefix(n.Queue, "@") {
			c.serve(n.Run.Namespace)
		}
	}
}

// serve starts the pool of a namespace unless it runs.
func (c *connectors) serve(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pools[namespace] || c.ctx.Err() != nil {
		return
	}
	c.pools[namespace] = true
	src := &source{svc: c.svc, ns: namespace, held: map[lease]bool{}, queues: map[string]*feed{}}
	pool := &connector.Pool{Source: src, Drain: c.drain, Log: c.log}
	for queue, conn := range c.byName {
		pool.Workers = append(pool.Workers, connector.Worker{Queue: queue, Connector: conn})
	}
	keepCtx, keepStop := context.WithCancel(context.Background())
	c.done.Go(func() { src.keepAlive(keepCtx) })
	c.done.Go(func() {
		pool.Run(c.ctx)
		src.close()
		keepStop()
	})
}

// close stops all pools; it waits for the tasks in progress as long as they may take.
func (c *connectors) close() {
	c.mu.Lock()
	c.stop()
	c.mu.Unlock()
	c.done.Wait()
}

// lease names one hand-out.
type lease struct {
	run   tutti.RunID
	seq   tutti.Seq
	token uint64
}

// source lets a pool lease the tasks of one namespace over standing subscriptions, whose
// leases end soon after the process, and keeps those of the living alive.
type source struct {
	svc *api.Service
	ns  string

	mu     sync.Mutex
	held   map[lease]bool
	queues map[string]*feed
}

// feed is the subscription of one queue. Asked is how many tasks have been asked for and have
// not come; it never exceeds the pool's concurrency, which bounds the channel.
type feed struct {
	sub   *api.Subscriber
	tasks chan api.HandOut
	asked int
}

// Lease waits for tasks.
func (s *source) Lease(
	ctx context.Context, queue string, most int,
) ([]connector.LeasedTask, error) {
	f, err := s.feed(queue)
	if err != nil {
		return nil, err
	}
	if more := most - f.asked; more > 0 {
		f.asked += more
		f.sub.AddCredit(more)
	}
	var out []connector.LeasedTask
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case h := <-f.tasks:
		out = append(out, s.take(f, h))
	}
	for len(out) < most {
		select {
		case h := <-f.tasks:
			out = append(out, s.take(f, h))
		default:
			return out, nil
		}
	}
	return out, nil
}

// feed returns the subscription of a queue; the pool asks for each queue from one goroutine.
func (s *source) feed(queue string) (*feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.queues[queue]; ok {
		return f, nil
	}
	f := &feed{tasks: make(chan api.HandOut, connector.DefaultConcurrency)}
	sub, err := s.svc.Subscribe(context.Background(), api.Subscription{
		Namespace: s.ns, Queues: []string{queue}, Worker: connectorName, Lease: connectorLease,
		Deliver: func(h api.HandOut) { f.tasks <- h },
	})
	if err != nil {
		return nil, err
	}
	f.sub = sub
	s.queues[queue] = f
	return f, nil
}

func (s *source) take(f *feed, h api.HandOut) connector.LeasedTask {
	f.asked--
	l := lease{h.Run.ID, h.Task.Seq, h.Task.Token}
	s.mu.Lock()
	s.held[l] = true
	s.mu.Unlock()
	t := connector.Task{
		ID: h.Run.ID.TaskID(h.Task.Seq), RunID: h.Run.ID.String(), Name: h.Task.Name,
		Type: h.Task.Type, Attempt: int(h.Task.Attempt), Input: h.Task.Input,
		Namespace: s.ns, IdempotencyKey: h.IdempotencyKey(), Deadline: deadline(h.Task),
	}
	if h.TraceParent != "" {
		t.Headers = map[string]string{"traceparent": h.TraceParent}
	}
	return connector.LeasedTask{Task: t, Lease: l}
}

// deadline is when the engine will give the attempt up, however alive its holder is.
func deadline(t *tutti.Task) time.Time {
	var at int64
	if t.Timeouts.TaskMs > 0 {
		at = t.StartedMs + t.Timeouts.TaskMs
	}
	if total := t.Timeouts.TotalAt; total > 0 && (at == 0 || total < at) {
		at = total
	}
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMilli(at)
}

// Finish reports how a task ended.
func (s *source) Finish(ctx context.Context, t connector.LeasedTask, o connector.Outcome) error {
	l := t.Lease.(lease)
	s.mu.Lock()
	delete(s.held, l)
	s.mu.Unlock()
	_, err := s.svc.Complete(ctx, s.ns, api.Completion{
		Run: l.run, Seq: l.seq, Token: l.token,
		Outcome: engine.Outcome{Status: o.Status, Output: o.Output, Reason: o.Reason},
	})
	if tutti.KindOf(err) == tutti.Conflict {
		return nil // the run went on without it: timed out, or ended by an operator
	}
	return err
}

// keepAlive extends the leases of the tasks in progress until ctx is done.
func (s *source) keepAlive(ctx context.Context) {
	tick := time.NewTicker(connectorLease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		for l := range s.held {
			// A refusal means that the lease is gone, which the report will meet too.
			s.svc.ExtendAsync(ctx, s.ns, l.run, l.seq, l.token, func(error) {})
		}
		s.mu.Unlock()
	}
}

// close ends the subscriptions and gives back what no connector has begun.
func (s *source) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.queues {
		f.sub.Close()
		for {
			select {
			case h := <-f.tasks:
				_ = s.svc.Return(context.Background(), s.ns, h.Run.ID, h.Task.Seq,
					h.Task.Token, true) // refused: the lease ends by itself
				continue
			default:
			}
			break
		}
	}
}
