package api

import (
	"context"

	"github.com/tutti-run/tutti"
)

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
