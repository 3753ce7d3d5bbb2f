package api

import (
	"context"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

func (s *Service) search(ctx context.Context, q Query) (*SearchResult, error) {
	res := &SearchResult{}
	limit := listLimit(q.Limit)
	rq := engine.RunQuery{
		Namespace: q.Namespace, Statuses: q.Statuses, Definitions: q.Definitions,
		FromMs: q.FromMs, ToMs: q.ToMs,
	}
	err := s.readAll(ctx, func(views []engine.View) error {
		var failed error
		err := eachEntry(views, rq, func(e found) bool {
			r, err := e.view.Run(e.ID)
			if err != nil {
				failed = err
				return false
			}
			if q.Where != nil && !q.Where(r) {
				return true
			}
			if res.Total >= q.Offset && len(res.Runs) < limit {
				res.Runs = append(res.Runs, r)
			}
			res.Total++
			return true
		})
		if err == nil {
			err = failed
		}
		return err
	})
	return res, err
}

func (s *Service) searchTasks(ctx context.Context, q TaskQuery) (*TaskSearchResult, error) {
	res := &TaskSearchResult{}
	runs, err := s.search(ctx, q.Runs)
	if err != nil {
		return nil, err
	}
	for _, r := range runs.Runs {
		err := s.withRun(ctx, r.Namespace, r.ID, func(v *RunView) error {
			return v.Tasks(0, func(t *tutti.Task) bool {
				if q.Where == nil || q.Where(r, t) {
					if res.Total >= q.Offset && len(res.Tasks) < listLimit(q.Limit) {
						res.Tasks = append(res.Tasks, FoundTask{Run: r, Task: t})
					}
					res.Total++
				}
				return true
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return res, nil
}
