package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
)

var errDeadline = errors.New("the task's lease ended before it did")

// LeasedTask is a task together with what its Source needs to finish it; the pool hands
// the lease back untouched.
type LeasedTask struct {
	Task
	Lease any
}

// Source hands out the tasks of queues and takes back how they ended.
type Source interface {
	// Lease returns between 1 and max tasks of a queue. It blocks until there is one or
	// ctx is done.
	Lease(ctx context.Context, queue string, max int) ([]LeasedTask, error)
	// Finish ends the attempt of a leased task.
	Finish(ctx context.Context, t LeasedTask, o Outcome) error
}

// The defaults of a Pool.
const (
	DefaultConcurrency = 256
	DefaultDrain       = 20 * time.Second
)

const (
	leaseBackoffMin = 50 * time.Millisecond
	leaseBackoffMax = 5 * time.Second
	finishTimeout   = 30 * time.Second
)

// Worker says which connector consumes a queue.
type Worker struct {
	Queue       string
	Connector   Connector
	Concurrency int // tasks performed at the same time; 0 = DefaultConcurrency
}

// Pool runs connectors as consumers of queues. Set its fields before Run.
type Pool struct {
	Source  Source
	Workers []Worker
	// Drain is how long tasks in progress may go on after Run's context is done, before
	// their own contexts are cancelled; 0 = DefaultDrain.
	Drain time.Duration
	// Log receives what has no caller to be told; nil = slog.Default().
	Log *slog.Logger
}

// Run leases and performs tasks until ctx is done, then waits for those in progress: their
// contexts are cancelled when Drain has passed. It owns every goroutine it starts; none is
// left when it returns.
func (p *Pool) Run(ctx context.Context) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var tasks, consumers sync.WaitGroup
	for _, w := range p.Workers {
		consumers.Go(func() { p.consume(ctx, work, w, &tasks) })
	}
	consumers.Wait()
	hurry := time.AfterFunc(cmp.Or(p.Drain, DefaultDrain), cancel)
	defer hurry.Stop()
	tasks.Wait()
}

// consume keeps up to the worker's concurrency of tasks in progress until ctx is done. It
// asks the source for as many as there are free slots.
func (p *Pool) consume(ctx, work context.Context, w Worker, tasks *sync.WaitGroup) {
	slots := make(chan struct{}, cmp.Or(w.Concurrency, DefaultConcurrency))
	backoff := leaseBackoffMin
	for ctx.Err() == nil {
		free := acquire(ctx, slots)
		if free == 0 {
			return
		}
		leased, err := p.Source.Lease(ctx, w.Queue, free)
		for range free - len(leased) {
			<-slots
		}
		for _, t := range leased {
			tasks.Go(func() {
				defer func() { <-slots }()
				p.perform(work, w.Connector, t)
			})
		}
		if err == nil {
			backoff = leaseBackoffMin
			continue
		}
		if ctx.Err() == nil {
			p.log().Warn("lease failed", "queue", w.Queue, "error", err)
			pause(ctx, backoff)
			backoff = min(2*backoff, leaseBackoffMax)
		}
	}
}

// acquire waits for one slot and takes all others that are free; 0 means ctx is done.
func acquire(ctx context.Context, slots chan struct{}) int {
	select {
	case <-ctx.Done():
		return 0
	case slots <- struct{}{}:
	}
	for n := 1; ; n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// perform runs one task to its end. Finish gets a context of its own: how a task ended is
// worth reporting even when the server is going down.
func (p *Pool) perform(ctx context.Context, c Connector, t LeasedTask) {
	out := p.call(ctx, c, t.Task)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := p.Source.Finish(ctx, t, out); err != nil {
		// The lease ends by itself and the engine decides what follows.
		p.log().Warn("finish failed", "run", t.RunID, "task", t.ID, "error", err)
	}
}

func (p *Pool) call(ctx context.Context, c Connector, t Task) (out Outcome) {
	if !t.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, t.Deadline, errDeadline)
		defer cancel()
	}
	defer func() {
		if r := recover(); r != nil {
			p.log().Error("connector panicked", "type", t.Type, "run", t.RunID, "task", t.ID,
				"panic", r, "stack", string(debug.Stack()))
			reason := fmt.Sprintf("the %s connector failed unexpectedly: %v", t.Type, r)
			out = Outcome{Status: tutti.Fatal, Reason: reason}
		}
	}()
	return c.Perform(ctx, t)
}

func (p *Pool) log() *slog.Logger {
	if p.Log != nil {
		return p.Log
	}
	return slog.Default()
}
