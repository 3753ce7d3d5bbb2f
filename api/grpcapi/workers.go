package grpcapi

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

const (
	// leaseLength is how long a task stays with a worker that sends no heartbeat.
	leaseLength = 30 * time.Second
	// heartbeatEvery is how often workers are asked to show that they live.
	heartbeatEvery = 10 * time.Second
	// maxCredit bounds the tasks that one worker may hold.
	maxCredit = 10_000
	// maxOutgoing bounds what waits to be sent to one worker; one that does not read it
	// is cut off.
	maxOutgoing = 4 * maxCredit
	// tasksPerMessage bounds the tasks of one message.
	tasksPerMessage = 64
)

type workers struct {
	tuttipb.UnimplementedWorkersServer
	svc     *api.Service
	version string
	next    atomic.Uint64
}

// Work serves one worker. What it holds when the stream ends goes back to the queues.
func (w *workers) Work(stream tuttipb.Workers_WorkServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	switch {
	case hello == nil:
		return invalid("work", "HelloExpected", "the first message of a session must be Hello")
	case len(hello.Subscriptions) == 0:
		return invalid("work", "NoQueues", "Hello names no queue to serve")
	}
	s := &session{
		w: w, stream: stream, ns: namespace(hello.Namespace), worker: hello.WorkerId,
		held: map[hold]bool{}, wake: make(chan struct{}, 1),
	}
	if err := s.open(hello); err != nil {
		return asStatus(err)
	}
	defer s.close()
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		cancel(s.sendAll(ctx))
	}()
	received := make(chan error, 1)
	go func() { received <- s.receive(ctx) }()
	select {
	case err = <-received:
		if errors.Is(err, io.EOF) {
			err = nil
		}
	case <-ctx.Done():
		err = context.Cause(ctx)
		if errors.Is(err, errDrained) {
			err = nil
		}
	}
	cancel(nil)
	<-sent
	return asStatus(err)
}

// session is one worker's stream.
type session struct {
	w      *workers
	stream tuttipb.Workers_WorkServer
	ns     string
	worker string
	sub    *api.Subscriber

	mu       sync.Mutex
	held     map[hold]bool
	credit   int
	tasks    []api.HandOut
	acks     []*tuttipb.Ack
	gone     []*tuttipb.Lease
	draining bool
	wake     chan struct{}
}

// hold is a lease that the worker has.
type hold struct {
	run   tutti.RunID
	seq   tutti.Seq
	token uint64
}

func (h hold) lease() *tuttipb.Lease {
	return &tuttipb.Lease{TaskId: h.run.TaskID(h.seq), Token: h.token}
}

func (s *session) open(h *tuttipb.Hello) error {
	sub := api.Subscription{
		Namespace: s.ns, Worker: h.WorkerId, Lease: leaseLength,
		Deliver: s.deliver, Gone: s.revoked,
	}
	for _, q := range h.Subscriptions {
		sub.Queues = append(sub.Queues, q.Queue)
	}
	var err error
	if s.sub, err = s.w.svc.Subscribe(s.stream.Context(), sub); err != nil {
		return err
	}
	return s.stream.Send(&tuttipb.ServerMessage{Body: &tuttipb.ServerMessage_Welcome{
		Welcome: &tuttipb.Welcome{
			SessionId:     strconv.FormatUint(s.w.next.Add(1), 10),
			ServerVersion: s.w.version, HeartbeatMs: heartbeatEvery.Milliseconds(),
		},
	}})
}

// close gives back what the worker still holds.
func (s *session) close() {
	s.sub.Close()
	s.mu.Lock()
	left := s.held
	s.held = nil
	s.mu.Unlock()
	ctx := context.WithoutCancel(s.stream.Context())
	for h := range left {
		s.w.svc.ReturnAsync(ctx, s.ns, h.run, h.seq, h.token)
	}
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// deliver takes a task for the worker. It is called by the dispatcher and does not block.
func (s *session) deliver(h api.HandOut) {
	key := hold{h.Run.ID, h.Task.Seq, h.Task.Token}
	s.mu.Lock()
	closed := s.held == nil
	if !closed {
		s.held[key] = true
		s.credit--
		s.tasks = append(s.tasks, h)
	}
	s.mu.Unlock()
	if closed {
		s.w.svc.ReturnAsync(context.Background(), s.ns, key.run, key.seq, key.token)
		return
	}
	s.signal()
}

func (s *session) revoked(run tutti.RunID, seq tutti.Seq, token uint64) {
	key := hold{run, seq, token}
	s.mu.Lock()
	if s.held[key] {
		delete(s.held, key)
		s.gone = append(s.gone, key.lease())
	}
	s.mu.Unlock()
	s.signal()
}

var (
	errDrained = errors.New("drained")
	errSlow    = tutti.E(tutti.Exhausted, "work", "WorkerTooSlow",
		"the worker does not read what it is sent")
)

// sendAll writes what gathers for the worker, as few messages as possible.
func (s *session) sendAll(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		s.mu.Lock()
		tasks, acks, gone := s.tasks, s.acks, s.gone
		s.tasks, s.acks, s.gone = nil, nil, nil
		drained := s.draining && len(s.held) == 0
		s.mu.Unlock()
		if err := s.send(tasks, acks, gone); err != nil {
			return err
		}
		if drained {
			_ = s.stream.Send(&tuttipb.ServerMessage{
				Body: &tuttipb.ServerMessage_Drained{Drained: &tuttipb.Drained{}},
			})
			return errDrained
		}
	}
}

func (s *session) send(tasks []api.HandOut, acks []*tuttipb.Ack, gone []*tuttipb.Lease) error {
	if len(acks) > 0 {
		if err := s.stream.Send(&tuttipb.ServerMessage{
			Body: &tuttipb.ServerMessage_Acks{Acks: &tuttipb.Acks{Acks: acks}},
		}); err != nil {
			return err
		}
	}
	for len(tasks) > 0 {
		n := min(len(tasks), tasksPerMessage)
		m := &tuttipb.Tasks{Tasks: make([]*tuttipb.Task, n)}
		for i := range m.Tasks {
			m.Tasks[i] = taskMessage(&tasks[i])
		}
		if err := s.stream.Send(&tuttipb.ServerMessage{
			Body: &tuttipb.ServerMessage_Tasks{Tasks: m},
		}); err != nil {
			return err
		}
		tasks = tasks[n:]
	}
	if len(gone) > 0 {
		return s.stream.Send(&tuttipb.ServerMessage{
			Body: &tuttipb.ServerMessage_Cancelled{Cancelled: &tuttipb.Cancelled{Leases: gone}},
		})
	}
	return nil
}

func taskMessage(h *api.HandOut) *tuttipb.Task {
	t := &tuttipb.Task{
		TaskId: h.Run.ID.TaskID(h.Task.Seq), Token: h.Task.Token, Queue: h.Queue,
		RunId: h.Run.ID.String(), Name: h.Task.Name, Definition: h.Run.Definition,
		Attempt: uint32(h.Task.Attempt) + 1, Input: h.Task.Input,
		LeaseDeadlineMs: h.Task.LeaseMs, Priority: int32(h.Run.Priority),
		CorrelationId: h.Run.CorrelationID, IdempotencyKey: h.IdempotencyKey(),
	}
	if h.TraceParent != "" {
		t.Headers = map[string]string{"traceparent": h.TraceParent}
	}
	return t
}

// receive handles what the worker sends until its side ends.
func (s *session) receive(ctx context.Context) error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return err
		}
		switch body := m.Body.(type) {
		case *tuttipb.WorkerMessage_Credits:
			err = s.addCredit(int(body.Credits.Add))
		case *tuttipb.WorkerMessage_Completions:
			for _, c := range body.Completions.Completions {
				s.complete(ctx, c)
			}
		case *tuttipb.WorkerMessage_Heartbeat:
			s.heartbeat(ctx, body.Heartbeat)
		case *tuttipb.WorkerMessage_Drain:
			s.drain()
		default:
			err = invalid("work", "UnexpectedMessage", "Hello is sent once, at the start")
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) addCredit(n int) error {
	s.mu.Lock()
	n = min(n, maxCredit-s.credit)
	if s.draining {
		n = 0
	}
	s.credit += max(n, 0)
	slow := len(s.acks)+len(s.tasks) > maxOutgoing
	s.mu.Unlock()
	if slow {
		return errSlow
	}
	if n > 0 {
		s.sub.AddCredit(n)
	}
	return nil
}

func (s *session) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.sub.Close()
	s.signal()
}

var outcomes = map[tuttipb.Completion_Outcome]tutti.TaskStatus{
	tuttipb.Completion_COMPLETED:       tutti.Completed,
	tuttipb.Completion_FAILED:          tutti.Failed,
	tuttipb.Completion_FAILED_TERMINAL: tutti.Fatal,
	tuttipb.Completion_PROGRESS:        tutti.Running,
}

func (s *session) complete(ctx context.Context, c *tuttipb.Completion) {
	run, seq, err := tutti.ParseTaskID(c.TaskId)
	st, ok := outcomes[c.Outcome]
	if err == nil && !ok {
		err = tutti.E(tutti.Invalid, "complete task", "NoOutcome", "the report has no outcome")
	}
	if err != nil {
		s.ack(c, err)
		return
	}
	key := hold{run, seq, c.Token}
	o := engine.Outcome{Status: st, Reason: c.Reason, Worker: s.worker}
	if len(c.Output) > 0 {
		o.Output = value.Raw(c.Output)
	}
	for _, l := range c.Logs {
		o.Logs = append(o.Logs, []byte(l.Text))
	}
	if st == tutti.Running {
		o.Requeue, o.CallbackMs = c.DelayMs > 0, c.DelayMs
	}
	s.w.svc.CompleteAsync(ctx, s.ns, api.Completion{
		Run: run, Seq: seq, Token: c.Token, Outcome: o,
	}, func(err error) {
		if st != tutti.Running || o.Requeue || err != nil {
			s.forget(key)
		}
		s.ack(c, err)
	})
}

func (s *session) forget(key hold) {
	s.mu.Lock()
	delete(s.held, key)
	s.mu.Unlock()
}

func (s *session) ack(c *tuttipb.Completion, err error) {
	a := &tuttipb.Ack{TaskId: c.TaskId, Token: c.Token}
	if err != nil {
		a.Error = info(err)
	}
	s.mu.Lock()
	s.acks = append(s.acks, a)
	s.mu.Unlock()
	s.signal()
}

// heartbeat extends the leases that the worker says it is at. One that cannot be extended is
// void, and the worker is told.
func (s *session) heartbeat(ctx context.Context, hb *tuttipb.Heartbeat) {
	for _, l := range hb.Leases {
		run, seq, err := tutti.ParseTaskID(l.TaskId)
		if err != nil {
			continue
		}
		key := hold{run, seq, l.Token}
		s.mu.Lock()
		held := s.held[key]
		s.mu.Unlock()
		if !held {
			continue
		}
		s.w.svc.ExtendAsync(ctx, s.ns, run, seq, l.Token, func(err error) {
			if err != nil && tutti.KindOf(err) != tutti.Unavailable {
				s.revoked(run, seq, l.Token)
			}
		})
	}
}
