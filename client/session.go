package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// Ended tells how a run of a Session ended.
type Ended struct {
	RunID  string
	Status string
	Output json.RawMessage
	Reason string
	Err    error // the start was refused, or the session ended before the run
}

// Session starts runs at high rates over one stream. It is safe for concurrent use. The
// functions given to Start are called from one goroutine, which they should not hold up.
type Session struct {
	c      *Client
	stream tuttipb.Runs_SessionClient
	cancel context.CancelFunc
	sends  chan *tuttipb.SessionRequest
	finish chan struct{}
	once   sync.Once // closes finish
	done   chan struct{}
	table  sessionTable
}

// ErrSessionClosed is the error of starts that a closed session did not take or answer.
var ErrSessionClosed = errors.New("the session is closed")

// Session opens a session, which lasts until ctx ends, Finish or Close.
func (c *Client) Session(ctx context.Context) (*Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.runs.Session(ctx)
	if err != nil {
		cancel()
		return nil, refused(err)
	}
	s := &Session{
		c: c, stream: stream, cancel: cancel,
		sends: make(chan *tuttipb.SessionRequest, 1024), finish: make(chan struct{}),
		done: make(chan struct{}), table: sessionTable{calls: map[uint64]*sessionCall{}},
	}
	go s.send()
	go s.receive()
	return s, nil
}

// Start begins a run. started is called once: with the identifier when the run is durable, or
// with an error. ended is called once: when the run has ended, or with an error when it was
// not started or the session ended first. Both may be nil. An error of Start itself means that
// neither is called.
func (s *Session) Start(
	o StartOptions, started func(runID string, err error), ended func(Ended),
) error {
	req, err := s.c.startRequest(o)
	if err != nil {
		return err
	}
	if s.closing() {
		return ErrSessionClosed
	}
	id, open := s.table.add(&sessionCall{started, ended})
	if !open {
		return ErrSessionClosed
	}
	select {
	case s.sends <- &tuttipb.SessionRequest{Id: id, Start: req, NotifyEnd: ended != nil}:
		return nil
	case <-s.done:
	case <-s.finish:
	}
	if s.table.take(id) == nil {
		return nil // it has been told
	}
	return ErrSessionClosed
}

// Finish takes no more starts and returns once every start is answered and every end that was
// asked for is told, or ctx ends. The session is closed then.
func (s *Session) Finish(ctx context.Context) error {
	s.once.Do(func() { close(s.finish) })
	defer s.Close()
	select {
	case <-s.done:
		return nil
	default:
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the session at once. Its runs go on.
func (s *Session) Close() {
	s.once.Do(func() { close(s.finish) })
	s.cancel()
	<-s.done
}

// closing reports whether Finish or Close was called.
func (s *Session) closing() bool {
	select {
	case <-s.finish:
		return true
	default:
		return false
	}
}

func cancelled(err error) bool { return errors.Is(err, context.Canceled) }

func (s *Session) send() {
	for {
		select {
		case req := <-s.sends:
			if s.stream.Send(req) != nil {
				return // receive learns why
			}
			continue
		case <-s.done:
			return
		case <-s.finish:
		}
		for {
			select {
			case req := <-s.sends:
				if s.stream.Send(req) != nil {
					return
				}
				continue
			default:
			}
			_ = s.stream.CloseSend() // it never fails
			return
		}
	}
}

func (s *Session) receive() {
	defer close(s.done)
	defer s.cancel()
	for {
		rep, err := s.stream.Recv()
		if err == nil {
			s.handle(rep)
			continue
		}
		if err = refused(err); errors.Is(err, io.EOF) || s.closing() && cancelled(err) {
			err = ErrSessionClosed
		}
		for _, call := range s.table.drain() {
			call.fail(err)
		}
		return
	}
}

func (s *Session) handle(rep *tuttipb.SessionReply) {
	switch body := rep.Body.(type) {
	case *tuttipb.SessionReply_Started:
		s.table.answered(rep.Id, body.Started.RunId)
	case *tuttipb.SessionReply_Ended:
		if call := s.table.take(rep.Id); call != nil && call.ended != nil {
			call.ended(Ended{
				RunID: body.Ended.RunId, Status: body.Ended.Status.String(),
				Output: body.Ended.Output, Reason: body.Ended.Reason,
			})
		}
	case *tuttipb.SessionReply_Error:
		if call := s.table.take(rep.Id); call != nil {
			call.fail(fromInfo(body.Error))
		}
	}
}

// sessionCall is a start that awaits replies.
type sessionCall struct {
	started func(string, error) // nil once it was called
	ended   func(Ended)
}

func (c *sessionCall) fail(err error) {
	if c.started != nil {
		c.started("", err)
	}
	if c.ended != nil {
		c.ended(Ended{Err: err})
	}
}

// sessionTable knows the starts of a session that await replies.
type sessionTable struct {
	mu    sync.Mutex
	next  uint64
	calls map[uint64]*sessionCall // nil once drained
}

func (t *sessionTable) add(c *sessionCall) (id uint64, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.calls == nil {
		return 0, false
	}
	t.next++
	t.calls[t.next] = c
	return t.next, true
}

// answered tells of a start, and forgets it unless its end is awaited.
func (t *sessionTable) answered(id uint64, runID string) {
	t.mu.Lock()
	call := t.calls[id]
	var tell func(string, error)
	if call != nil {
		tell, call.started = call.started, nil
		if call.ended == nil {
			delete(t.calls, id)
		}
	}
	t.mu.Unlock()
	if tell != nil {
		tell(runID, nil)
	}
}

func (t *sessionTable) take(id uint64) *sessionCall {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.calls[id]
	delete(t.calls, id)
	return c
}

// drain takes all starts and lets none in any more.
func (t *sessionTable) drain() []*sessionCall {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*sessionCall, 0, len(t.calls))
	for _, c := range t.calls {
		all = append(all, c)
	}
	t.calls = nil
	return all
}
