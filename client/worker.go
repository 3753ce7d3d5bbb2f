package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// WorkerOptions configure a Worker. The zero value works.
type WorkerOptions struct {
	ID          string // shown in explanations and histories; host and process when empty
	Concurrency int    // tasks at the same time; 100 when zero
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
	handlers map[string]func(context.Context, *Task) (json.RawMessage, error)
}

// Worker returns a worker without handlers.
func (c *Client) Worker(opts WorkerOptions) *Worker {
	if opts.ID == "" {
		host, _ := os.Hostname()
		opts.ID = fmt.Sprintf("%s-%d", host, os.Getpid())
	}
	if opts.Concurrency == 0 {
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
		handlers: map[string]func(context.Context, *Task) (json.RawMessage, error){},
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
		return json.Marshal(out)
	})
}

// HandleRaw serves a queue with a handler of undecoded JSON.
func (w *Worker) HandleRaw(
	queue string, fn func(context.Context, *Task) (json.RawMessage, error),
) {
	w.handlers[queue] = fn
}

// Run serves the queues until ctx ends, connecting again whenever the connection is lost.
// It then drains: no new tasks, a bounded wait for handlers, unfinished work handed back.
// It returns nil after that, and an error only when there is nothing to serve or the server
// refuses the worker.
func (w *Worker) Run(ctx context.Context) error {
	if len(w.handlers) == 0 {
		return errors.New("the worker has no handlers")
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		began := time.Now()
		err := w.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var final *Error
		if errors.As(err, &final) && final.Kind != "unavailable" && final.Kind != "internal" {
			return final
		}
		w.opts.Logger.Warn("worker lost its server; connecting again", "error", err)
		if time.Since(began) > time.Minute {
			pause = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// session is one connection of a worker.
type session struct {
	w      *Worker
	stream tuttipb.Workers_WorkClient
	sendMu sync.Mutex

	mu     sync.Mutex
	held   map[lease]context.CancelFunc
	done   []*tuttipb.Completion
	credit uint32
	flush  chan struct{}
	busy   sync.WaitGroup
}

type lease struct {
	id    string
	token uint64
}

func (w *Worker) session(ctx context.Context) error {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := w.c.workers.Work(streamCtx)
	if err != nil {
		return refused(err)
	}
	s := &session{
		w: w, stream: stream, held: map[lease]context.CancelFunc{},
		flush: make(chan struct{}, 1),
	}
	if err := s.hello(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- s.receive(streamCtx) }()
	err = s.pump(ctx, failed)
	s.cancelAll()
	cancel()
	s.busy.Wait()
	return err
}

func (s *session) send(m *tuttipb.WorkerMessage) error {
	s.sendMu.Lock()
	defer s.sendMu.Unlock()
	return s.stream.Send(m)
}

// hello opens the session and asks for as many tasks as the worker has room for.
func (s *session) hello() error {
	h := &tuttipb.Hello{
		Namespace: s.w.c.ns, WorkerId: s.w.opts.ID, ProtocolVersion: 1,
	}
	for q := range s.w.handlers {
		h.Subscriptions = append(h.Subscriptions, &tuttipb.Subscription{Queue: q})
	}
	slices.SortFunc(h.Subscriptions, func(a, b *tuttipb.Subscription) int {
		if a.Queue < b.Queue {
			return -1
		}
		return 1
	})
	open := &tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Hello{Hello: h}}
	if err := s.send(open); err != nil {
		return s.reason(err)
	}
	return s.addCredits(uint32(s.w.opts.Concurrency))
}

func (s *session) addCredits(n uint32) error {
	return s.send(&tuttipb.WorkerMessage{
		Body: &tuttipb.WorkerMessage_Credits{Credits: &tuttipb.Credits{Add: n}},
	})
}

// reason finds out why a stream broke: Send only says that it did.
func (s *session) reason(err error) error {
	if _, rerr := s.stream.Recv(); rerr != nil {
		return refused(rerr)
	}
	return err
}

// pump sends what handlers report, in batches, and heartbeats, until the session ends.
func (s *session) pump(ctx context.Context, failed <-chan error) error {
	beat := time.NewTicker(10 * time.Second)
	defer beat.Stop()
	var drained <-chan time.Time
	stop, draining := ctx.Done(), false // a context that never ends has no channel
	for {
		select {
		case err := <-failed:
			return err
		case <-drained:
			return nil
		case <-stop:
			stop, draining = nil, true
			t := time.NewTimer(s.w.opts.DrainTimeout)
			defer t.Stop()
			drained = t.C
			drain := &tuttipb.WorkerMessage_Drain{Drain: &tuttipb.Drain{}}
			if err := s.send(&tuttipb.WorkerMessage{Body: drain}); err != nil {
				return err
			}
		case <-beat.C:
			if err := s.heartbeat(); err != nil {
				return err
			}
		case <-s.flush:
			if err := s.report(!draining); err != nil {
				return err
			}
		}
	}
}

// report sends the completions gathered since the last time, and the room they made.
func (s *session) report(more bool) error {
	s.mu.Lock()
	done, credit := s.done, s.credit
	s.done, s.credit = nil, 0
	s.mu.Unlock()
	if len(done) > 0 {
		err := s.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Completions{
			Completions: &tuttipb.Completions{Completions: done},
		}})
		if err != nil {
			return err
		}
	}
	if credit > 0 && more {
		return s.addCredits(credit)
	}
	return nil
}

func (s *session) heartbeat() error {
	hb := &tuttipb.Heartbeat{}
	s.mu.Lock()
	for l := range s.held {
		hb.Leases = append(hb.Leases, &tuttipb.Lease{TaskId: l.id, Token: l.token})
	}
	s.mu.Unlock()
	return s.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Heartbeat{Heartbeat: hb}})
}

func (s *session) receive(ctx context.Context) error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return refused(err)
		}
		switch body := m.Body.(type) {
		case *tuttipb.ServerMessage_Tasks:
			for _, t := range body.Tasks.Tasks {
				s.begin(ctx, t)
			}
		case *tuttipb.ServerMessage_Cancelled:
			for _, l := range body.Cancelled.Leases {
				s.drop(lease{l.TaskId, l.Token})
			}
		case *tuttipb.ServerMessage_Acks:
			s.acks(body.Acks)
		case *tuttipb.ServerMessage_Drained:
			return nil
		}
	}
}

func (s *session) acks(a *tuttipb.Acks) {
	for _, ack := range a.Acks {
		if ack.Error != nil {
			s.w.opts.Logger.Warn("the server refused a report", "task", ack.TaskId,
				"code", ack.Error.Code, "error", ack.Error.Message)
			s.drop(lease{ack.TaskId, ack.Token})
		}
	}
}

func (s *session) begin(ctx context.Context, t *tuttipb.Task) {
	ctx, cancel := context.WithCancel(ctx)
	key := lease{t.TaskId, t.Token}
	s.mu.Lock()
	s.held[key] = cancel
	s.mu.Unlock()
	s.busy.Go(func() {
		defer cancel()
		s.finish(key, s.perform(ctx, t))
	})
}

// perform runs the handler of a task. A panic is a failure of the task, not of the worker.
func (s *session) perform(ctx context.Context, t *tuttipb.Task) (c *tuttipb.Completion) {
	c = &tuttipb.Completion{TaskId: t.TaskId, Token: t.Token}
	defer func() {
		if p := recover(); p != nil {
			c.Outcome, c.Reason = tuttipb.Completion_FAILED, fmt.Sprintf("handler panicked: %v", p)
		}
	}()
	task := &Task{
		ID: t.TaskId, RunID: t.RunId, Queue: t.Queue, Name: t.Name,
		Definition: t.Definition, Attempt: int(t.Attempt), Input: t.Input,
		CorrelationID: t.CorrelationId, IdempotencyKey: t.IdempotencyKey, Headers: t.Headers,
	}
	out, err := s.w.handlers[t.Queue](context.WithValue(ctx, taskKey{}, task), task)
	var later laterError
	var fatal fatalError
	switch {
	case err == nil:
		c.Outcome, c.Output = tuttipb.Completion_COMPLETED, out
	case errors.As(err, &later):
		c.Outcome = tuttipb.Completion_PROGRESS
		c.DelayMs = max(later.delay.Milliseconds(), 1)
	case errors.As(err, &fatal):
		c.Outcome, c.Reason = tuttipb.Completion_FAILED_TERMINAL, fatal.Error()
	default:
		c.Outcome, c.Reason = tuttipb.Completion_FAILED, err.Error()
	}
	return c
}

func (s *session) finish(key lease, c *tuttipb.Completion) {
	s.mu.Lock()
	if _, held := s.held[key]; held {
		delete(s.held, key)
		s.done = append(s.done, c)
	}
	s.credit++
	s.mu.Unlock()
	select {
	case s.flush <- struct{}{}:
	default:
	}
}

// drop ends the work on a lease that is void.
func (s *session) drop(key lease) {
	s.mu.Lock()
	cancel := s.held[key]
	delete(s.held, key)
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

func (s *session) cancelAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, cancel := range s.held {
		cancel()
		delete(s.held, key)
	}
}
