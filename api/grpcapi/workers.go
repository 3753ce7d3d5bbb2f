package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// The bounds of one worker's session.
const (
	// maxHeld bounds the tasks that it holds, credit included.
	maxHeld = 10_000
	// maxUnsent bounds the tasks that may wait to be sent to it, credit included.
	maxUnsent = 1000
	// maxUnread bounds the answers that may wait to be sent to it.
	maxUnread = 4 * maxHeld
	// maxQueues bounds the queues that it serves.
	maxQueues = 1000
	// protocolVersion is the newest version of the protocol that the server speaks.
	protocolVersion = 1
)

type workers struct {
	tuttipb.UnimplementedWorkersServer
	srv  *Server
	svc  *api.Service
	next atomic.Uint64
}

// Work serves one worker. What it holds when the stream ends goes back to the queues, unless
// the server is stopping.
func (w *workers) Work(stream tuttipb.Workers_WorkServer) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return invalid("work", "HelloExpected", "the session ended before Hello")
	}
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if err := checkHello(hello); err != nil {
		return asStatus(err)
	}
	s := newSession(w, stream, hello)
	if err := s.open(hello); err != nil {
		s.cut(err)
		return asStatus(err)
	}
	var parts sync.WaitGroup
	parts.Go(func() { s.cut(w.srv.guarded("work", s.sendAll)) })
	parts.Go(func() { s.cut(w.srv.guarded("work", s.receive)) })
	<-s.ctx.Done()
	w.srv.streams.Go(func() {
		parts.Wait() // the parts cannot end before this function has returned
		s.close()
	})
	switch err := context.Cause(s.ctx); {
	case errors.Is(err, io.EOF), errors.Is(err, errDrained):
		return nil
	default:
		return asStatus(err)
	}
}

func checkHello(h *tuttipb.Hello) error {
	const op = "work"
	switch {
	case h == nil:
		return tutti.E(tutti.Invalid, op, "HelloExpected",
			"the first message of a session must be Hello")
	case h.ProtocolVersion > protocolVersion:
		return &tutti.Error{
			Kind: tutti.Unsupported, Op: op, Code: "ProtocolVersion",
			Err: fmt.Errorf("the worker speaks version %d of the protocol, this server up to %d",
				h.ProtocolVersion, protocolVersion),
			Hint: "use an older client library or a newer server",
		}
	case len(h.Subscriptions) == 0:
		return tutti.E(tutti.Invalid, op, "NoQueues", "Hello names no queue to serve")
	case len(h.Subscriptions) > maxQueues:
		return tutti.E(tutti.Invalid, op, "TooManyQueues", fmt.Sprintf(
			"Hello names %d queues; one session serves up to %d",
			len(h.Subscriptions), maxQueues))
	case len(h.WorkerId) > api.MaxNameBytes:
		return tutti.E(tutti.Invalid, op, "InvalidName", fmt.Sprintf(
			"the worker's id is longer than %d bytes", api.MaxNameBytes))
	}
	return nil
}

// receive handles what the worker sends until its side ends.
func (s *session) receive() error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return err
		}
		switch body := m.Body.(type) {
		case *tuttipb.WorkerMessage_Credits:
			err = s.addCredit(body.Credits.GetAdd())
		case *tuttipb.WorkerMessage_Completions:
			for _, c := range body.Completions.GetCompletions() {
				s.complete(c)
			}
		case *tuttipb.WorkerMessage_Heartbeat:
			err = s.heartbeat(body.Heartbeat.GetLeases())
		case *tuttipb.WorkerMessage_Drain:
			s.drain()
		default:
			err = tutti.E(tutti.Invalid, "work", "UnexpectedMessage",
				"Hello is sent once, at the start, and every message has a body")
		}
		if err != nil {
			return err
		}
	}
}

var outcomes = map[tuttipb.Completion_Outcome]tutti.TaskStatus{
	tuttipb.Completion_COMPLETED:       tutti.Completed,
	tuttipb.Completion_FAILED:          tutti.Failed,
	tuttipb.Completion_FAILED_TERMINAL: tutti.Fatal,
	tuttipb.Completion_PROGRESS:        tutti.Running,
}

// completion reads a worker's report.
func (s *session) completion(c *tuttipb.Completion) (api.Completion, error) {
	const op = "complete task"
	key, err := parseHold(c.TaskId, c.Token)
	if err != nil {
		return api.Completion{}, err
	}
	st, ok := outcomes[c.Outcome]
	if !ok {
		return api.Completion{}, tutti.E(tutti.Invalid, op, "NoOutcome",
			"the report has no outcome")
	}
	o := engine.Outcome{Status: st, Reason: c.Reason, Worker: s.worker}
	if len(c.Output) > 0 {
		o.Output = value.Raw(c.Output)
	}
	for _, l := range c.Logs {
		o.Logs = append(o.Logs, []byte(l.GetText()))
	}
	if st == tutti.Running {
		o.Requeue, o.CallbackMs = c.DelayMs > 0, max(c.DelayMs, 0)
	}
	return api.Completion{Run: key.run, Seq: key.seq, Token: key.token, Outcome: o}, nil
}

func (s *session) complete(c *tuttipb.Completion) {
	report, err := s.completion(c)
	if err != nil {
		s.ack(c, hold{}, err)
		return
	}
	key := hold{report.Run, report.Seq, report.Token}
	goesOn := report.Outcome.Status == tutti.Running && !report.Outcome.Requeue
	s.w.svc.CompleteAsync(s.ctx, s.ns, report, func(err error) {
		if err == nil && goesOn || err != nil && !void(err) {
			s.ack(c, hold{}, err)
			return
		}
		s.ack(c, key, err)
	})
}

// void reports whether an error says that a lease is not held any more.
func void(err error) bool {
	k := tutti.KindOf(err)
	return k == tutti.Conflict || k == tutti.NotFound
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

// parseHold reads a lease. Token 0 is none: in this protocol every report is fenced.
func parseHold(taskID string, token uint64) (hold, error) {
	run, seq, err := tutti.ParseTaskID(taskID)
	switch {
	case err != nil:
		return hold{}, err
	case seq == 0:
		return hold{}, tutti.E(tutti.NotFound, "find task", "TaskNotFound",
			taskID+" names a run, not a task")
	case token == 0:
		return hold{}, tutti.E(tutti.Invalid, "find lease", "NoToken",
			"the token of the lease is missing")
	}
	return hold{run, seq, token}, nil
}

// heartbeat extends the leases that the worker says it is at. One that is not the worker's any
// more is void, and the worker is told; one that a session before this had becomes its own.
func (s *session) heartbeat(leases []*tuttipb.Lease) error {
	if len(leases) > maxHeld {
		return tutti.E(tutti.Exhausted, "work", "TooManyLeases", fmt.Sprintf(
			"a heartbeat names %d leases; a worker holds up to %d", len(leases), maxHeld))
	}
	for _, l := range leases {
		key, err := parseHold(l.GetTaskId(), l.GetToken())
		if err != nil {
			s.revoke(l)
			continue
		}
		s.sub.Extend(s.ctx, key.run, key.seq, key.token, func(err error) {
			switch {
			case err == nil:
				s.adopt(key)
			case void(err):
				s.revoke(l)
			}
		})
	}
	return nil
}
