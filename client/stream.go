package client

import (
	"cmp"
	"context"
	"slices"
	"time"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// defaultBeat is the time between heartbeats until the server has said what it wants.
const defaultBeat = 10 * time.Second

// stream is one connection of a worker.
type stream struct {
	j       *job
	rpc     tuttipb.Workers_WorkClient
	welcome chan time.Duration // the time between heartbeats
	failed  chan error         // nil when the server has nothing more
}

// session serves the queues over one connection. It returns nil when the server has confirmed
// that the worker is drained, and whether the server had accepted the worker.
func (j *job) session(ctx, hard context.Context) (welcomed bool, err error) {
	streamCtx, cancel := context.WithCancel(hard)
	defer cancel()
	rpc, err := j.w.c.workers.Work(streamCtx)
	if err != nil {
		j.disconnected()
		return false, refused(err)
	}
	s := &stream{
		j: j, rpc: rpc, welcome: make(chan time.Duration, 1), failed: make(chan error, 1),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.failed <- s.receive()
	}()
	welcomed, err = s.serve(ctx, hard)
	j.disconnected()
	cancel()
	<-ended
	return welcomed, err
}

func (s *stream) send(m *tuttipb.WorkerMessage) error { return s.rpc.Send(m) }

// serve sends what there is to say, until the session ends. Send only says that a stream
// broke: receive finds out why.
func (s *stream) serve(ctx, hard context.Context) (welcomed bool, err error) {
	if s.hello() != nil {
		return false, <-s.failed
	}
	beat := time.NewTicker(defaultBeat)
	defer beat.Stop()
	stop := ctx.Done()
	for broken := error(nil); ; {
		select {
		case err := <-s.failed:
			return welcomed, err
		case <-hard.Done():
			return welcomed, hard.Err()
		case every := <-s.welcome:
			welcomed = true
			s.j.welcomed(every)
			beat.Reset(every)
		case <-stop:
			stop = nil
			broken = s.send(&tuttipb.WorkerMessage{
				Body: &tuttipb.WorkerMessage_Drain{Drain: &tuttipb.Drain{}},
			})
		case <-beat.C:
			broken = s.heartbeat(s.j.leasesHeld())
		case <-s.j.wake:
			broken = s.report(ctx.Err() == nil)
		}
		if broken != nil {
			return welcomed, <-s.failed
		}
	}
}

// hello opens the session and names the leases that the worker still has from before.
func (s *stream) hello() error {
	w := s.j.w
	h := &tuttipb.Hello{Namespace: w.c.ns, WorkerId: w.opts.ID, ProtocolVersion: 1}
	for q := range s.j.handlers {
		h.Subscriptions = append(h.Subscriptions, &tuttipb.Subscription{Queue: q})
	}
	slices.SortFunc(h.Subscriptions, func(a, b *tuttipb.Subscription) int {
		return cmp.Compare(a.Queue, b.Queue)
	})
	err := s.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Hello{Hello: h}})
	if held := s.j.connected(); err == nil && len(held) > 0 {
		err = s.heartbeat(held)
	}
	return err
}

// leasesPerMessage bounds the leases of one heartbeat.
const leasesPerMessage = 5000

func (s *stream) heartbeat(held []lease) error {
	for {
		hb := &tuttipb.Heartbeat{}
		n := min(len(held), leasesPerMessage)
		for _, l := range held[:n] {
			hb.Leases = append(hb.Leases, &tuttipb.Lease{TaskId: l.id, Token: l.token})
		}
		held = held[n:]
		err := s.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Heartbeat{Heartbeat: hb}})
		if err != nil || len(held) == 0 {
			return err
		}
	}
}

// The bounds of one message of reports.
const (
	reportsPerMessage = 1000
	reportBytes       = 4 << 20
)

// report sends what handlers returned, in few messages, and the room that they made.
func (s *stream) report(more bool) error {
	list, room := s.j.reports(more)
	for len(list) > 0 {
		n, size := 0, 0
		for n < len(list) && n < reportsPerMessage && (n == 0 || size < reportBytes) {
			size += len(list[n].Output) + len(list[n].Reason)
			n++
		}
		err := s.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Completions{
			Completions: &tuttipb.Completions{Completions: list[:n]},
		}})
		if err != nil {
			return err
		}
		list = list[n:]
	}
	if room == 0 {
		return nil
	}
	return s.send(&tuttipb.WorkerMessage{
		Body: &tuttipb.WorkerMessage_Credits{Credits: &tuttipb.Credits{Add: uint32(room)}},
	})
}

// receive takes what the server sends. It returns nil when the worker is drained.
func (s *stream) receive() error {
	for {
		m, err := s.rpc.Recv()
		if err != nil {
			return refused(err)
		}
		switch body := m.Body.(type) {
		case *tuttipb.ServerMessage_Welcome:
			beat := time.Duration(body.Welcome.HeartbeatMs) * time.Millisecond
			if beat <= 0 {
				beat = defaultBeat
			}
			select {
			case s.welcome <- beat:
			default:
			}
		case *tuttipb.ServerMessage_Tasks:
			for _, t := range body.Tasks.Tasks {
				s.j.begin(t)
			}
		case *tuttipb.ServerMessage_Cancelled:
			for _, l := range body.Cancelled.Leases {
				s.j.drop(lease{l.TaskId, l.Token})
			}
		case *tuttipb.ServerMessage_Acks:
			for _, a := range body.Acks.Acks {
				s.j.acknowledged(a)
			}
		case *tuttipb.ServerMessage_Drained:
			return nil
		}
	}
}
