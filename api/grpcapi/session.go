package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// session is one worker's stream. What is for the worker gathers in it, and one goroutine
// sends it in as few messages as possible.
type session struct {
	w      *workers
	stream tuttipb.Workers_WorkServer
	ns     string
	worker string
	sub    *api.Subscriber
	ctx    context.Context // ends with the session, its cause says why
	cut    context.CancelCauseFunc

	mu       sync.Mutex
	held     map[hold]bool // nil once the session has ended
	wanted   int           // credit that the worker gave and the dispatcher has not been told of
	credit   int           // credit that the dispatcher has
	tasks    []api.HandOut
	acks     []*tuttipb.Ack
	gone     []*tuttipb.Lease
	draining bool
	wake     chan struct{}
}

func newSession(w *workers, stream tuttipb.Workers_WorkServer, h *tuttipb.Hello) *session {
	s := &session{
		w: w, stream: stream, ns: namespace(h.Namespace), worker: h.WorkerId,
		held: map[hold]bool{}, wake: make(chan struct{}, 1),
	}
	s.ctx, s.cut = w.srv.untilStop(stream.Context())
	return s
}

func (s *session) open(h *tuttipb.Hello) error {
	sub := api.Subscription{
		Namespace: s.ns, Worker: h.WorkerId, Lease: s.w.srv.opts.Lease,
		Deliver: s.deliver, Gone: s.revoked,
	}
	for _, q := range h.Subscriptions {
		sub.Queues = append(sub.Queues, q.GetQueue())
	}
	var err error
	if s.sub, err = s.w.svc.Subscribe(s.ctx, sub); err != nil {
		return err
	}
	err = s.stream.Send(&tuttipb.ServerMessage{Body: &tuttipb.ServerMessage_Welcome{
		Welcome: &tuttipb.Welcome{
			SessionId:     strconv.FormatUint(s.w.next.Add(1), 10),
			ServerVersion: s.w.srv.opts.Version,
			HeartbeatMs:   max((sub.Lease / 3).Milliseconds(), 1),
		},
	}})
	if err != nil {
		s.sub.Close()
	}
	return err
}

// close gives back what the worker still holds. Leases outlive a restart of the server, so
// that the worker can go on; only what it never got is given back then.
func (s *session) close() {
	s.sub.Close()
	s.mu.Lock()
	left, unsent := s.held, s.tasks
	s.held, s.tasks = nil, nil
	s.mu.Unlock()
	for i := range unsent {
		key := holdOf(&unsent[i])
		if left[key] {
			delete(left, key)
			s.sub.Return(key.run, key.seq, key.token, true)
		}
	}
	if errors.Is(context.Cause(s.ctx), errStopping) {
		return
	}
	for key := range left {
		s.sub.Return(key.run, key.seq, key.token, false)
	}
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func holdOf(h *api.HandOut) hold { return hold{h.Run.ID, h.Task.Seq, h.Task.Token} }

// deliver takes a task for the worker. It is called by the dispatcher and does not block.
func (s *session) deliver(h api.HandOut) {
	key := holdOf(&h)
	s.mu.Lock()
	refused := s.held == nil || s.draining
	s.credit--
	if !refused {
		s.held[key] = true
		s.tasks = append(s.tasks, h)
	}
	s.mu.Unlock()
	if refused {
		s.sub.Return(key.run, key.seq, key.token, true)
		return
	}
	s.signal()
}

// revoked takes back a lease that ended without the worker's doing.
func (s *session) revoked(run tutti.RunID, seq tutti.Seq, token uint64) {
	key := hold{run, seq, token}
	s.mu.Lock()
	held := s.held[key]
	s.mu.Unlock()
	if held {
		s.revoke(key.lease())
	}
}

// revoke tells the worker that a lease is not its own, or not any more.
func (s *session) revoke(l *tuttipb.Lease) {
	s.mu.Lock()
	if key, err := parseHold(l.TaskId, l.Token); err == nil {
		delete(s.held, key)
	}
	s.gone = append(s.gone, l)
	s.answered()
}

// answered lets answers out. Called with mu held, which it releases.
func (s *session) answered() {
	slow := len(s.acks)+len(s.gone) > maxUnread
	grant := s.room()
	s.mu.Unlock()
	if slow {
		s.cut(errSlow)
	}
	s.grant(grant)
	s.signal()
}

// adopt notes a lease that the worker had before this session.
func (s *session) adopt(key hold) {
	s.mu.Lock()
	if s.held != nil {
		s.held[key] = true
	}
	s.mu.Unlock()
}

// addCredit makes room for n more tasks. What goes over the bounds is kept for later.
func (s *session) addCredit(n uint32) error {
	s.mu.Lock()
	s.wanted += int(n)
	over := s.wanted > maxHeld
	grant := s.room()
	s.mu.Unlock()
	if over {
		return tutti.E(tutti.Exhausted, "work", "TooMuchCredit", fmt.Sprintf(
			"a worker may ask for %d tasks at a time", maxHeld))
	}
	s.grant(grant)
	return nil
}

// room takes from the wanted credit what the dispatcher may be told of now. Called with mu
// held.
func (s *session) room() int {
	if s.draining || s.held == nil {
		return 0
	}
	n := max(0, min(s.wanted, maxUnsent-s.credit-len(s.tasks), maxHeld-s.credit-len(s.held)))
	s.wanted -= n
	s.credit += n
	return n
}

func (s *session) grant(n int) {
	if n > 0 {
		s.sub.AddCredit(n)
	}
}

func (s *session) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.sub.Close()
	s.signal()
}

// ack answers a report. A lease that has ended with it is forgotten.
func (s *session) ack(c *tuttipb.Completion, ended hold, err error) {
	a := &tuttipb.Ack{TaskId: c.TaskId, Token: c.Token}
	if err != nil {
		a.Error = info(err)
	}
	s.mu.Lock()
	delete(s.held, ended)
	s.acks = append(s.acks, a)
	s.answered()
}

var (
	errDrained = errors.New("drained")
	errSlow    = &tutti.Error{
		Kind: tutti.Exhausted, Op: "work", Code: "WorkerTooSlow",
		Err:  errors.New("the worker does not read what it is sent"),
		Hint: "connect again, and read all the time",
	}
)

// sendAll writes what gathers for the worker until the session ends.
func (s *session) sendAll() error {
	for {
		select {
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		case <-s.wake:
		}
		s.mu.Lock()
		tasks, acks, gone := s.tasks, s.acks, s.gone
		s.tasks, s.acks, s.gone = nil, nil, nil
		drained := s.draining && len(s.held) == 0
		s.mu.Unlock()
		if err := s.sendAcks(acks); err != nil {
			return err
		}
		if err := s.sendTasks(tasks); err != nil {
			return err
		}
		// After the tasks, since a lease may be void before its task was sent.
		if err := s.sendGone(gone); err != nil {
			return err
		}
		if drained {
			_ = s.send(&tuttipb.ServerMessage{
				Body: &tuttipb.ServerMessage_Drained{Drained: &tuttipb.Drained{}},
			})
			return errDrained
		}
		s.mu.Lock()
		grant := s.room()
		s.mu.Unlock()
		s.grant(grant)
	}
}

// send writes a message. A worker that does not read for as long as its leases last is cut
// off: they are lost by then.
func (s *session) send(m *tuttipb.ServerMessage) error {
	late := time.AfterFunc(s.w.srv.opts.Lease, func() { s.cut(errSlow) })
	defer late.Stop()
	return s.stream.Send(m)
}

// answersPerMessage bounds the acks or leases of one message.
const answersPerMessage = 4096

func (s *session) sendAcks(acks []*tuttipb.Ack) error {
	for part := range slices.Chunk(acks, answersPerMessage) {
		if err := s.send(&tuttipb.ServerMessage{
			Body: &tuttipb.ServerMessage_Acks{Acks: &tuttipb.Acks{Acks: part}},
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) sendGone(gone []*tuttipb.Lease) error {
	for part := range slices.Chunk(gone, answersPerMessage) {
		if err := s.send(&tuttipb.ServerMessage{
			Body: &tuttipb.ServerMessage_Cancelled{Cancelled: &tuttipb.Cancelled{Leases: part}},
		}); err != nil {
			return err
		}
	}
	return nil
}

// sendTasks writes tasks, several in a message unless they are large.
func (s *session) sendTasks(tasks []api.HandOut) error {
	const most = 64
	var batch []*tuttipb.Task
	size := 0
	for i := range tasks {
		batch = append(batch, taskMessage(&tasks[i]))
		size += len(tasks[i].Task.Input)
		if i+1 < len(tasks) && len(batch) < most && size < messageBytes {
			continue
		}
		if err := s.send(&tuttipb.ServerMessage{
			Body: &tuttipb.ServerMessage_Tasks{Tasks: &tuttipb.Tasks{Tasks: batch}},
		}); err != nil {
			return err
		}
		batch, size = nil, 0
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
