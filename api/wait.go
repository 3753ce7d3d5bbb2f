package api

import (
	"context"
	"time"

	"github.com/tutti-run/tutti"
)

// MaxWait bounds how long one call may wait for a run.
const MaxWait = 10 * time.Minute

// WaitEnd waits for a run to end, at most for a time, and returns it as it is then: whether
// it has ended is in its status.
func (s *Service) WaitEnd(
	ctx context.Context, ns string, id tutti.RunID, timeout time.Duration,
) (run *tutti.Run, err error) {
	_, err = s.WaitUntil(ctx, ns, id, timeout, func(v *RunView) (bool, error) {
		run = v.Run
		return !v.Run.Status.Open(), nil
	})
	return run, err
}

// WaitUntil calls cond now and after changes of a run until it returns true, an error, or a
// time is over. It reports whether cond was met. Changes that come while cond is at work
// are seen together by its next call.
func (s *Service) WaitUntil(
	ctx context.Context, ns string, id tutti.RunID, timeout time.Duration,
	cond func(*RunView) (bool, error),
) (met bool, err error) {
	if err := s.authorize(ctx, ReadRuns, ns); err != nil {
		return false, err
	}
	changed := make(chan struct{}, 1)
	stop := s.run.Watch(id, func(*tutti.Run) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer stop()
	timer := time.NewTimer(min(max(timeout, 0), MaxWait))
	defer timer.Stop()
	for {
		err = s.withRun(ctx, ns, id, func(v *RunView) error {
			met, err = cond(v)
			return err
		})
		if met || err != nil {
			return met, err
		}
		select {
		case <-changed:
		case <-timer.C:
			return false, nil
		case <-ctx.Done():
			return false, cancelled("wait", ctx)
		}
	}
}

// cancelled is the error of a caller that went away or whose deadline passed.
func cancelled(op string, ctx context.Context) error {
	kind := tutti.Cancelled
	if ctx.Err() == context.DeadlineExceeded {
		kind = tutti.Timeout
	}
	return &tutti.Error{Kind: kind, Op: op, Code: "CallerGone", Err: context.Cause(ctx)}
}

// Watch calls fn after every durable change of a run until stop is called. fn must not block;
// it reads what has changed with WithRun. The run need not exist yet.
func (s *Service) Watch(
	ctx context.Context, ns string, id tutti.RunID, fn func(),
) (stop func(), err error) {
	if err := s.authorize(ctx, ReadRuns, ns); err != nil {
		return nil, err
	}
	return s.run.Watch(id, func(*tutti.Run) { fn() }), nil
}

// Allowed asks whether the caller may do something in a namespace: for what a wire protocol
// answers by itself.
func (s *Service) Allowed(ctx context.Context, p Permission, ns string) error {
	return s.authorize(ctx, p, ns)
}
