package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
)

// The bounds of one session of starts.
const (
	// maxOwed bounds the answers that it may wait for.
	maxOwed = 1_000_000
	// maxUnreadBytes bounds the outputs that may wait to be sent.
	maxUnreadBytes = 256 << 20
)

// Session starts runs as they come and reports their ends. It lasts until the client has
// closed its side and everything it asked for is answered.
func (s *runs) Session(stream tuttipb.Runs_SessionServer) error {
	ctx, cut := s.srv.untilStop(stream.Context())
	out := &starts{
		svc: s.svc, ctx: ctx, cut: cut, stream: stream, wake: make(chan struct{}, 1),
		following: map[uint64]func(){},
	}
	defer out.close()
	s.srv.streams.Go(func() { cut(s.srv.guarded("session", out.sendAll)) })
	s.srv.streams.Go(func() {
		if err := s.srv.guarded("session", out.receive); err != nil {
			cut(err)
		}
	})
	<-ctx.Done()
	if err := context.Cause(ctx); !errors.Is(err, errAnswered) {
		return asStatus(err)
	}
	return nil
}

// errAnswered ends a session that owes nothing more.
var errAnswered = errors.New("everything is answered")

// starts is one session: the starts it has taken and what their client is to be told.
type starts struct {
	svc    *api.Service
	ctx    context.Context
	cut    context.CancelCauseFunc
	stream tuttipb.Runs_SessionServer

	mu        sync.Mutex
	next      uint64
	following map[uint64]func() // by own number: ends the watch of a run; nil once closed
	items     []*tuttipb.SessionReply
	bytes     int // of items
	owed      int // replies to come, those in items included
	finished  bool
	wake      chan struct{}
}

// receive takes starts until the client closes its side.
func (s *starts) receive() error {
	for {
		req, err := s.stream.Recv()
		if errors.Is(err, io.EOF) {
			s.mu.Lock()
			s.finished = true
			s.mu.Unlock()
			s.signal()
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.start(req); err != nil {
			return err
		}
	}
}

func (s *starts) start(req *tuttipb.SessionRequest) error {
	if req.Start == nil {
		return tutti.E(tutti.Invalid, "session", "NoStart", "a request has no start")
	}
	number, err := s.expect(req.NotifyEnd)
	if err != nil {
		return err
	}
	var ended func(*tutti.Run)
	if req.NotifyEnd {
		ended = func(r *tutti.Run) {
			s.unfollow(number, 0)
			s.add(&tuttipb.SessionReply{Id: req.Id, Body: &tuttipb.SessionReply_Ended{
				Ended: &tuttipb.Ended{
					RunId: r.ID.String(), Output: r.Output, Reason: valid(r.Reason),
					Status: tuttipb.Run_Status(r.Status) + tuttipb.Run_RUNNING,
				},
			}}, len(r.Output)+len(r.Reason))
		}
	}
	forget := s.svc.StartAsync(s.ctx, runSpec(req.Start), ended,
		func(st engine.Started, err error) {
			rep := &tuttipb.SessionReply{Id: req.Id}
			if err != nil {
				rep.Body = &tuttipb.SessionReply_Error{Error: info(err)}
				if req.NotifyEnd {
					s.unfollow(number, 1)
				}
			} else {
				rep.Body = &tuttipb.SessionReply_Started{
					Started: &tuttipb.Started{RunId: st.ID.String()},
				}
			}
			s.add(rep, 0)
		})
	if req.NotifyEnd {
		s.follow(number, forget)
	}
	return nil
}

// expect notes that a start will be answered, and its end told.
func (s *starts) expect(end bool) (number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.owed++
	if end {
		s.owed++
		if s.following != nil {
			s.following[s.next] = nil
		}
	}
	if s.owed > maxOwed {
		return 0, tutti.E(tutti.Exhausted, "session", "TooManyOpen",
			fmt.Sprintf("a session may have %d answers outstanding", maxOwed))
	}
	return s.next, nil
}

// follow keeps what ends the watch of a run, if that is still on.
func (s *starts) follow(number uint64, forget func()) {
	s.mu.Lock()
	_, on := s.following[number]
	if on {
		s.following[number] = forget
	}
	closed := s.following == nil
	s.mu.Unlock()
	if closed {
		forget()
	}
}

// unfollow notes that the watch of a run is over, and how many replies less are owed.
func (s *starts) unfollow(number uint64, less int) {
	s.mu.Lock()
	delete(s.following, number)
	s.owed -= less
	s.mu.Unlock()
}

// close ends the session; its runs go on without it.
func (s *starts) close() {
	s.cut(errAnswered)
	s.mu.Lock()
	following := s.following
	s.following, s.items = nil, nil
	s.mu.Unlock()
	for _, forget := range following {
		if forget != nil {
			forget()
		}
	}
}

// add queues a reply of about a size in bytes, payloads only.
func (s *starts) add(m *tuttipb.SessionReply, size int) {
	s.mu.Lock()
	s.items = append(s.items, m)
	s.bytes += size
	slow := s.bytes > maxUnreadBytes
	s.mu.Unlock()
	if slow {
		s.cut(tutti.E(tutti.Exhausted, "session", "ClientTooSlow",
			"the client does not read the ends of its runs"))
	}
	s.signal()
}

func (s *starts) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// sendAll writes replies until the client has finished and nothing is owed.
func (s *starts) sendAll() error {
	for {
		s.mu.Lock()
		items := s.items
		s.items, s.bytes = nil, 0
		s.owed -= len(items)
		over := s.finished && s.owed <= 0
		s.mu.Unlock()
		for _, m := range items {
			if err := s.stream.Send(m); err != nil {
				return err
			}
		}
		if over {
			return errAnswered
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return context.Cause(s.ctx)
		}
	}
}
