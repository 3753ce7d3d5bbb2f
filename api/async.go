package api

import (
	"context"
	"sync"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// StartAsync is Start for callers that have many at once: reply is called once, when the
// start is durable or refused, from a goroutine of the server, and must not block. When
// ended is not nil it is called once, likewise, when the run has ended, unless forget was
// called before.
func (s *Service) StartAsync(
	ctx context.Context, spec tutti.RunSpec, ended func(*tutti.Run),
	reply func(engine.Started, error),
) (forget func()) {
	end := &endWatch{svc: s, fn: ended}
	cmd, err := s.prepareStart(ctx, spec)
	if err != nil {
		reply(engine.Started{}, err)
		return end.forget
	}
	end.follow(cmd.ID)
	s.run.SubmitAsync(cmd.ID.Shard(s.run.Shards()), cmd, func(v any, err error) {
		if err != nil {
			end.forget()
			reply(engine.Started{}, err)
			return
		}
		st := v.(engine.Started)
		reply(st, nil)
		if st.Existing {
			end.follow(st.ID)
			end.lookAt(st.ID)
		}
	})
	return end.forget
}

// endWatch tells once of the end of a run. Without a function to tell it does nothing.
type endWatch struct {
	svc *Service
	fn  func(*tutti.Run)

	mu   sync.Mutex
	stop func()
	over bool
}

// follow watches a run, and no other any more.
func (w *endWatch) follow(id tutti.RunID) {
	if w.fn == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.stop != nil {
		w.stop()
	}
	w.stop = w.svc.run.Watch(id, func(r *tutti.Run) {
		if r != nil && w.finish() {
			w.fn(r)
		}
	})
}

// finish ends the watch and reports whether it was on.
func (w *endWatch) finish() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	on := !w.over
	w.over = true
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	return on
}

func (w *endWatch) forget() { w.finish() }

// lookAt reports the end of a run that may have come before anybody watched.
func (w *endWatch) lookAt(id tutti.RunID) {
	if w.fn == nil {
		return
	}
	go func() {
		_ = w.svc.run.ReadRun(context.Background(), id, func(v engine.View) error {
			r, err := v.Run(id)
			if err == nil && !r.Status.Open() && w.finish() {
				w.fn(r)
			}
			return err
		})
	}()
}

// CompleteAsync is Complete for callers that have many at once: reply is called once, when
// the report is durable or refused, from a goroutine of the server, and must not block.
func (s *Service) CompleteAsync(ctx context.Context, ns string, c Completion, reply func(error)) {
	if err := s.authorize(ctx, CompleteTasks, ns); err != nil {
		reply(err)
		return
	}
	if err := checkPayload("complete task", c.Outcome.Output); err != nil {
		reply(err)
		return
	}
	s.run.SubmitAsync(c.Run.Shard(s.run.Shards()), engine.Within{
		Namespace: ns, Run: c.Run, Command: engine.Complete{
			Run: c.Run, Seq: c.Seq, Token: c.Token, Outcome: c.Outcome,
			IgnoreStale: c.IgnoreStale,
		},
	}, func(_ any, err error) { reply(err) })
}

// ExtendAsync is Extend without waiting; reply is called once and must not block.
func (s *Service) ExtendAsync(
	ctx context.Context, ns string, run tutti.RunID, seq tutti.Seq, token uint64,
	reply func(error),
) {
	if err := s.authorize(ctx, CompleteTasks, ns); err != nil {
		reply(err)
		return
	}
	s.run.SubmitAsync(run.Shard(s.run.Shards()), engine.Within{
		Namespace: ns, Run: run,
		Command: engine.Extend{Run: run, Seq: seq, Token: token},
	}, func(_ any, err error) { reply(err) })
}

// IdempotencyKey is the same for all attempts of a step: what services may use to tell a
// repeated call.
func (h *HandOut) IdempotencyKey() string { return h.Run.ID.String() + "/" + h.Task.Name }
