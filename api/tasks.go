package api

import (
	"context"
	"fmt"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/value"
)

// The bounds of a poll.
const (
	MaxPollCount = 1000
	MaxPollWait  = 60 * time.Second
)

// HandOut is a task given to a worker. Its input is ready for use: references to secrets are
// resolved.
type HandOut struct {
	Run   *tutti.Run // without payloads
	Task  *tutti.Task
	Queue string // without its namespace
	// TraceParent is the W3C trace context of the attempt, empty when tracing is off.
	TraceParent string
}

// PollRequest asks for tasks of a queue.
type PollRequest struct {
	Namespace string
	Queue     string
	Worker    string
	Count     int           // 1 when zero; over MaxPollCount is an Invalid error
	Wait      time.Duration // how long to wait when there is none; cut to MaxPollWait
}

// Poll returns at most Count tasks as soon as there is one, or none when the wait is over.
func (s *Service) Poll(ctx context.Context, req PollRequest) ([]HandOut, error) {
	if err := s.authorize(ctx, PollTasks, req.Namespace); err != nil {
		return nil, err
	}
	if err := checkName("queue", req.Queue); err != nil {
		return nil, err
	}
	count := max(req.Count, 1)
	if count > MaxPollCount {
		return nil, tutti.E(tutti.Invalid, "poll", "TooManyTasks", fmt.Sprintf(
			"%d tasks are asked for, over the bound of %d", count, MaxPollCount))
	}
	wait := min(max(req.Wait, 0), MaxPollWait)
	got, err := s.run.Poll(ctx, engine.QueueKey(req.Namespace, req.Queue), req.Worker, count, wait)
	if err != nil {
		return nil, err
	}
	out := make([]HandOut, len(got))
	for i := range got {
		out[i] = s.handOut(&got[i])
		if ctx.Err() != nil {
			s.giveBack(out[i]) // nobody is there to take it
		}
	}
	if ctx.Err() != nil {
		return nil, cancelled("poll", ctx)
	}
	return out, nil
}

// Subscription is a standing request for tasks of queues: that of a stream.
type Subscription struct {
	Namespace string
	Queues    []string
	Worker    string
	// Lease is how long a hand-out lasts without Extend; 0 = as the task says.
	Lease time.Duration
	// Deliver is called for every task, from goroutines of the server, and must not block.
	Deliver func(HandOut)
	// Gone is called when the lease of one of the worker's tasks ended without its doing;
	// it must not block and may be nil.
	Gone func(run tutti.RunID, seq tutti.Seq, token uint64)
}

// Subscriber is a subscription that is open. Its methods are safe for concurrent use.
type Subscriber struct {
	svc *Service
	sub Subscription
	c   *runner.Consumer
}

// Subscribe opens a subscription. It gets no task before AddCredit.
func (s *Service) Subscribe(ctx context.Context, sub Subscription) (*Subscriber, error) {
	if err := s.authorize(ctx, PollTasks, sub.Namespace); err != nil {
		return nil, err
	}
	keys := make([]string, len(sub.Queues))
	for i, q := range sub.Queues {
		if err := checkName("queue", q); err != nil {
			return nil, err
		}
		keys[i] = engine.QueueKey(sub.Namespace, q)
	}
	var gone func(engine.Revoked)
	if sub.Gone != nil {
		gone = func(r engine.Revoked) { sub.Gone(r.Run, r.Seq, r.Token) }
	}
	c := s.run.Subscribe(keys, sub.Worker, sub.Lease.Milliseconds(),
		func(h engine.HandOut) { sub.Deliver(s.handOut(&h)) }, gone)
	return &Subscriber{svc: s, sub: sub, c: c}, nil
}

// AddCredit makes room for n more tasks.
func (u *Subscriber) AddCredit(n int) { u.svc.run.AddCredit(u.c, n) }

// Close ends the subscription. Tasks that are on their way go back to their queues; those
// delivered keep their leases.
func (u *Subscriber) Close() { u.svc.run.Unsubscribe(u.c) }

// Extend makes a lease last as long from now as the subscription says. reply is called once,
// from a goroutine of the server, and must not block.
func (u *Subscriber) Extend(
	ctx context.Context, run tutti.RunID, seq tutti.Seq, token uint64, reply func(error),
) {
	if err := u.svc.authorize(ctx, CompleteTasks, u.sub.Namespace); err != nil {
		reply(err)
		return
	}
	u.submit(run, engine.Extend{
		Run: run, Seq: seq, Token: token, LeaseMs: u.sub.Lease.Milliseconds(),
	}, reply)
}

// Return gives a leased task back to its queue without waiting, as Service.Return does.
func (u *Subscriber) Return(run tutti.RunID, seq tutti.Seq, token uint64, undelivered bool) {
	u.submit(run, engine.ReturnLease{
		Run: run, Seq: seq, Token: token, Undelivered: undelivered,
	}, func(error) {}) // refused: the lease runs out by itself
}

func (u *Subscriber) submit(run tutti.RunID, cmd engine.Command, reply func(error)) {
	u.svc.run.SubmitAsync(run.Shard(u.svc.run.Shards()), engine.Within{
		Namespace: u.sub.Namespace, Run: run, Command: cmd,
	}, func(_ any, err error) { reply(err) })
}

// Completion reports on a task attempt.
type Completion struct {
	Run tutti.RunID
	Seq tutti.Seq
	// Token is the fencing token of the hand-out; 0 stands for the newest.
	Token   uint64
	Outcome engine.Outcome
	// IgnoreStale makes a report on what has ended a success without effect.
	IgnoreStale bool
}

// Complete reports the outcome or progress of an attempt and returns the task as it is
// afterwards. A report that came too late is a Conflict error.
func (s *Service) Complete(
	ctx context.Context, ns string, c Completion,
) (*tutti.Task, error) {
	if err := s.authorize(ctx, CompleteTasks, ns); err != nil {
		return nil, err
	}
	return s.complete(ctx, ns, c)
}

func (s *Service) complete(
	ctx context.Context, ns string, c Completion,
) (*tutti.Task, error) {
	if err := checkPayload("complete task", c.Outcome.Output); err != nil {
		return nil, err
	}
	res, err := s.submit(ctx, ns, c.Run, engine.Complete{
		Run: c.Run, Seq: c.Seq, Token: c.Token, Outcome: c.Outcome, IgnoreStale: c.IgnoreStale,
	})
	if err != nil {
		return nil, err
	}
	t := res.(tutti.Task)
	return &t, nil
}

// CompleteByName reports on the newest open attempt of the step with a name.
func (s *Service) CompleteByName(
	ctx context.Context, ns string, run tutti.RunID, step string, o engine.Outcome,
) (*tutti.Task, error) {
	if err := s.authorize(ctx, CompleteTasks, ns); err != nil {
		return nil, err
	}
	var seq tutti.Seq
	err := s.withRun(ctx, ns, run, func(v *RunView) error {
		t, err := v.TaskByName(step)
		if err == nil {
			seq = t.Seq
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.complete(ctx, ns, Completion{Run: run, Seq: seq, Outcome: o})
}

// Signal completes an open Wait task: the one of the step with a name, or the first when the
// name is empty. A run that waits for no signal is a Conflict error.
func (s *Service) Signal(
	ctx context.Context, ns string, run tutti.RunID, step string, o engine.Outcome,
) (*tutti.Task, error) {
	if err := s.authorize(ctx, ControlRuns, ns); err != nil {
		return nil, err
	}
	var seq tutti.Seq
	err := s.withRun(ctx, ns, run, func(v *RunView) (err error) {
		seq, err = v.waiting(step)
		return err
	})
	if err != nil {
		return nil, err
	}
	return s.complete(ctx, ns, Completion{Run: run, Seq: seq, Outcome: o})
}

// waiting finds the open Wait task that a signal is for.
func (v *RunView) waiting(step string) (tutti.Seq, error) {
	open, err := v.OpenTasks()
	if err != nil {
		return 0, err
	}
	for _, seq := range open {
		t, err := v.Task(seq)
		if err != nil {
			return 0, err
		}
		if t.Kind == tutti.Wait && t.Status.Open() && (step == "" || t.Name == step) {
			return seq, nil
		}
	}
	return 0, &tutti.Error{
		Kind: tutti.Conflict, Op: "signal", Code: "NotWaiting",
		Err:  fmt.Errorf("run %s has no open step that waits for a signal", v.Run.ID),
		Hint: "see what the run waits for with explain",
	}
}

// Extend keeps the lease of a hand-out alive.
func (s *Service) Extend(
	ctx context.Context, ns string, run tutti.RunID, seq tutti.Seq, token uint64,
) error {
	if err := s.authorize(ctx, CompleteTasks, ns); err != nil {
		return err
	}
	_, err := s.submit(ctx, ns, run, engine.Extend{Run: run, Seq: seq, Token: token})
	return err
}

// Return gives a leased task back to its queue. Undelivered says that the worker never got
// it; otherwise the task is marked as in doubt.
func (s *Service) Return(
	ctx context.Context, ns string, run tutti.RunID, seq tutti.Seq, token uint64,
	undelivered bool,
) error {
	if err := s.authorize(ctx, PollTasks, ns); err != nil {
		return err
	}
	_, err := s.submit(ctx, ns, run, engine.ReturnLease{
		Run: run, Seq: seq, Token: token, Undelivered: undelivered,
	})
	return err
}

// Task returns an attempt with its payloads and its run.
func (s *Service) Task(
	ctx context.Context, ns string, run tutti.RunID, seq tutti.Seq,
) (r *tutti.Run, t *tutti.Task, err error) {
	err = s.WithRun(ctx, ns, run, func(v *RunView) error {
		r = v.Run
		t, err = v.Task(seq)
		return err
	})
	return r, t, err
}

// MaxLogBytes bounds the log lines of one call of AddLogs together.
const MaxLogBytes = 1 << 20

// AddLogs appends log lines to an attempt, ended or not. The engine keeps 1,000 lines.
func (s *Service) AddLogs(
	ctx context.Context, ns string, run tutti.RunID, seq tutti.Seq, lines [][]byte,
) error {
	if err := s.authorize(ctx, CompleteTasks, ns); err != nil {
		return err
	}
	size := 0
	for _, l := range lines {
		size += len(l)
	}
	if size > MaxLogBytes {
		return tutti.E(tutti.Exhausted, "add logs", "LogsTooLarge", fmt.Sprintf(
			"the lines have %d bytes, over the bound of %d", size, MaxLogBytes))
	}
	_, err := s.submit(ctx, ns, run, engine.AddLogs{Run: run, Seq: seq, Lines: lines})
	return err
}

// Logs returns the log lines of an attempt, oldest first.
func (s *Service) Logs(
	ctx context.Context, ns string, run tutti.RunID, seq tutti.Seq,
) (lines []engine.LogLine, err error) {
	err = s.WithRun(ctx, ns, run, func(v *RunView) error {
		lines, err = v.Logs(seq)
		return err
	})
	return lines, err
}

// handOut makes a task ready to leave the server.
func (s *Service) handOut(h *engine.HandOut) HandOut {
	_, queue := splitQueue(h.Queue)
	out := HandOut{Run: &h.Run, Task: &h.Task, Queue: queue}
	out.Task.Input = s.resolve(&h.Run, h.Task.Input)
	if s.opts.Trace != nil {
		out.TraceParent = s.opts.Trace(&h.Run, h.Task.Seq)
	}
	return out
}

// resolve replaces references in an input that leaves the server.
func (s *Service) resolve(run *tutti.Run, input value.Raw) value.Raw {
	d, ok := s.dialects[run.Dialect].(tutti.HandoffResolver)
	if !ok {
		return input
	}
	return d.Handoff(input, func(name string) (string, bool) {
		if s.opts.Secrets == nil {
			return "", false
		}
		return s.opts.Secrets(run.Namespace, name)
	})
}
