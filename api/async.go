package api

import (
	"context"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// StartAsync is Start for callers that have many at once: reply is called once, when the
// start is durable or refused, from a goroutine of the server, and must not block. When
// ended is not nil it is called once, likewise, when the run has ended.
func (s *Service) StartAsync(
	ctx context.Context, spec tutti.RunSpec, ended func(*tutti.Run),
	reply func(engine.Started, error),
) {
	cmd, err := s.prepareStart(ctx, spec)
	if err != nil {
		reply(engine.Started{}, err)
		return
	}
	stop := func() {}
	if ended != nil {
		stop = s.onEnd(cmd.ID, ended)
	}
	s.run.SubmitAsync(cmd.ID.Shard(s.run.Shards()), cmd, func(v any, err error) {
		if err != nil {
			stop()
			reply(engine.Started{}, err)
			return
		}
		st := v.(engine.Started)
		reply(st, nil)
		if st.Existing && ended != nil {
			stop()
			s.endOfExisting(st.ID, ended)
		}
	})
}

// onEnd calls fn once, when a run has ended.
func (s *Service) onEnd(id tutti.RunID, fn func(*tutti.Run)) (stop func()) {
	stop = s.run.Watch(id, func(r *tutti.Run) {
		if r != nil {
			stop()
			fn(r)
		}
	})
	return stop
}

// endOfExisting reports the end of a run that an idempotency key met, which may have come
// before anybody watched.
func (s *Service) endOfExisting(id tutti.RunID, ended func(*tutti.Run)) {
	first := make(chan struct{}, 1)
	first <- struct{}{}
	once := func(r *tutti.Run) {
		select {
		case <-first:
			ended(r)
		default:
		}
	}
	stop := s.onEnd(id, once)
	go func() {
		_ = s.run.ReadRun(context.Background(), id, func(v engine.View) error {
			r, err := v.Run(id)
			if err == nil && !r.Status.Open() {
				stop()
				once(r)
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

// ReturnAsync gives a leased task back to its queue without waiting; the task is marked as
// in doubt, since its holder may have acted.
func (s *Service) ReturnAsync(
	ctx context.Context, ns string, run tutti.RunID, seq tutti.Seq, token uint64,
) {
	if s.authorize(ctx, PollTasks, ns) != nil {
		return // the lease runs out by itself
	}
	s.run.SubmitAsync(run.Shard(s.run.Shards()), engine.Within{
		Namespace: ns, Run: run,
		Command: engine.ReturnLease{Run: run, Seq: seq, Token: token},
	}, func(any, error) {})
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
