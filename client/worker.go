package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"
	"unicode/utf8"
)

// WorkerOptions configure a Worker. The zero value works.
type WorkerOptions struct {
	ID          string // shown in explanations and histories; host and process when empty
	Concurrency int    // tasks at the same time, up to 10,000; 100 when zero
	Logger      *slog.Logger
	// DrainTimeout bounds how long Run waits for handlers after its context has ended;
	// 30 s when zero. What is not finished then goes back to its queue.
	DrainTimeout time.Duration
}

// Task describes the attempt that a handler works on.
type Task struct {
	ID, RunID, Queue string
	Name             string // of the step
	Definition       string
	Attempt          int // from 1
	Input            json.RawMessage
	CorrelationID    string
	IdempotencyKey   string            // the same for all attempts of the step
	Headers          map[string]string // W3C trace context
}

type taskKey struct{}

// TaskOf returns the task of a handler's context.
func TaskOf(ctx context.Context) *Task {
	t, _ := ctx.Value(taskKey{}).(*Task)
	return t
}

// Fatal marks an error as final: the step is not tried again.
func Fatal(err error) error { return fatalError{err} }

type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// Later tells the server to hand the task out again after a delay, without counting as a
// failure.
func Later(delay time.Duration) error { return laterError{delay} }

type laterError struct{ delay time.Duration }

func (e laterError) Error() string { return fmt.Sprintf("call again after %v", e.delay) }

// Worker serves queues with handlers. Create it with Client.Worker, add handlers, then Run.
type Worker struct {
	c        *Client
	opts     WorkerOptions
	handlers map[string]handler
}

type handler = func(context.Context, *Task) (json.RawMessage, error)

// Worker returns a worker without handlers.
func (c *Client) Worker(opts WorkerOptions) *Worker {
	if opts.ID == "" {
		host, _ := os.Hostname()
		opts.ID = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if opts.Concurrency <= 0 {
		opts.Concurrency = 100
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.DrainTimeout == 0 {
		opts.DrainTimeout = 30 * time.Second
	}
	return &Worker{
		c: c, opts: opts,
		handlers: map[string]handler{},
	}
}

// Handle serves a queue with a typed handler. The input is decoded and the output encoded
// with encoding/json; an input that does not fit is a final failure. The handler's context
// ends when the lease is lost or the worker stops.
func Handle[In, Out any](w *Worker, queue string, fn func(context.Context, In) (Out, error)) {
	w.HandleRaw(queue, func(ctx context.Context, t *Task) (json.RawMessage, error) {
		var in In
		if len(t.Input) > 0 {
			if err := json.Unmarshal(t.Input, &in); err != nil {
				return nil, Fatal(fmt.Errorf("decode input: %w", err))
			}
		}
		out, err := fn(ctx, in)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(out)
		if err != nil {
			return nil, Fatal(fmt.Errorf("encode output: %w", err))
		}
		return body, nil
	})
}

// HandleRaw serves a queue with a handler of undecoded JSON.
func (w *Worker) HandleRaw(
	queue string, fn func(context.Context, *Task) (json.RawMessage, error),
) {
	w.handlers[queue] = fn
}

// Run serves the queues until ctx ends, connecting again whenever the connection is lost.
// Handlers go on meanwhile for as long as their leases may last. At the end it drains: no new
// tasks, a bounded wait for handlers and for the server to take their results, unfinished work
// handed back. It returns nil after that, and an error only when there is nothing to serve or
// the server refuses the worker. Handlers are added before Run.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.check(); err != nil {
		return err
	}
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		t := time.AfterFunc(w.opts.DrainTimeout, cancel)
		context.AfterFunc(hard, func() { t.Stop() })
	})()
	j := newJob(w, hard)
	defer j.stop()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		welcomed, err := j.session(ctx, hard)
		switch {
		case ctx.Err() != nil && (err == nil || j.idle()), hard.Err() != nil:
			j.awaitHandlers(hard)
			return nil
		case final(err):
			return err
		}
		if welcomed {
			pause = firstPause
		}
		w.opts.Logger.Warn("worker lost its server; connecting again", "error", err)
		wait := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-hard.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// maxConcurrency is what a server lets one worker hold.
const maxConcurrency = 10_000

// check refuses a worker that no server would take.
func (w *Worker) check() error {
	if len(w.handlers) == 0 {
		return errors.New("the worker has no handlers")
	}
	if w.opts.Concurrency > maxConcurrency {
		return fmt.Errorf("a concurrency of %d is over the bound of %d; run several workers",
			w.opts.Concurrency, maxConcurrency)
	}
	if !utf8.ValidString(w.opts.ID) {
		return fmt.Errorf("the worker's id %q is no valid UTF-8", w.opts.ID)
	}
	for q := range w.handlers {
		if !utf8.ValidString(q) || q == "" {
			return fmt.Errorf("the queue name %q is empty or no valid UTF-8", q)
		}
	}
	return nil
}

// final reports whether a server would refuse the worker again.
func final(err error) bool {
	return hasKind(err, "invalid", "denied", "unauthenticated", "unsupported", "not found")
}
