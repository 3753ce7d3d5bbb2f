package api

import (
	"context"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

const (
	retentionEvery = time.Minute
	// removeBatch is how many runs are removed in one go, and removePause the rest after
	// that: 5,000 runs a second at most.
	removeBatch = 500
	removePause = 100 * time.Millisecond
)

var endedStatuses = []tutti.RunStatus{
	tutti.RunCompleted, tutti.RunFailed, tutti.RunTimedOut, tutti.RunTerminated,
}

// RunRetention removes ended runs whose definition does not want them kept, round after
// round, until ctx is done. A run whose parent is open stays.
func (s *Service) RunRetention(ctx context.Context) {
	for {
		if n, err := s.retentionRound(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("removing old runs failed; trying again", "removed", n, "error", err)
		} else if n > 0 {
			s.log.Info("old runs were removed", "runs", n)
		}
		if !rest(ctx, retentionEvery) {
			return
		}
	}
}

// pool is what one policy applies to: the ended runs of a definition.
type pool struct{ namespace, definition string }

func (s *Service) retentionRound(ctx context.Context) (removed int, err error) {
	var pools []pool
	err = s.readAll(ctx, func(views []engine.View) error {
		pools, err = endedPools(views)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, p := range pools {
		n, err := s.retain(ctx, p, s.policy(p))
		removed += n
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// endedPools lists the definitions that have ended runs.
func endedPools(views []engine.View) (pools []pool, err error) {
	seen := map[pool]bool{}
	for _, v := range views {
		names, err := v.Namespaces()
		if err != nil {
			return nil, err
		}
		for _, ns := range names {
			defs, err := v.Definitions(ns, endedStatuses...)
			if err != nil {
				return nil, err
			}
			for _, def := range defs {
				if p := (pool{ns, def}); !seen[p] {
					seen[p] = true
					pools = append(pools, p)
				}
			}
		}
	}
	return pools, nil
}

// policy is what a definition says of its runs, in the first dialect that says anything, or
// the server's default.
func (s *Service) policy(p pool) tutti.RetentionPolicy {
	for _, d := range s.opts.Dialects {
		r, ok := d.(tutti.RetentionReader)
		if !ok {
			continue
		}
		docs := s.run.Catalog().Documents(p.namespace, d.Name())
		if policy, ok := r.Retention(docs, p.definition); ok {
			return policy
		}
	}
	return s.opts.Retention
}

// retain removes what a policy does not want of a definition's ended runs, oldest first.
func (s *Service) retain(
	ctx context.Context, p pool, policy tutti.RetentionPolicy,
) (removed int, err error) {
	q := engine.RunQuery{
		Namespace: p.namespace, Statuses: endedStatuses, Definitions: []string{p.definition},
	}
	old := int64(0)
	if policy.AgeMs > 0 {
		old = time.Now().UnixMilli() - policy.AgeMs
	}
	surplus, err := s.newestOver(ctx, q, policy.Count)
	if err != nil {
		return 0, err
	}
	q.OldestFirst, q.ToMs = true, max(old, surplus.StartMs+1)
	var last *cursor
	for {
		page, doomed := []engine.IndexEntry(nil), []tutti.RunID(nil)
		err := s.readAll(ctx, func(views []engine.View) error {
			return eachEntry(views, last.narrow(q), func(e found) bool {
				if !last.passed(e.IndexEntry, true) {
					return true
				}
				page = append(page, e.IndexEntry)
				over := surplus.ID == e.ID || precedes(e.IndexEntry, surplus, true)
				if over || e.EndMs > 0 && e.EndMs < old {
					doomed = append(doomed, e.ID)
				}
				return len(page) < removeBatch
			})
		})
		if err != nil || len(page) == 0 {
			return removed, err
		}
		n, err := s.removeAll(ctx, doomed)
		if removed += n; err != nil {
			return removed, err
		}
		last = &cursor{page[len(page)-1]}
		if !rest(ctx, removePause) {
			return removed, cancelled("retention", ctx)
		}
	}
}

// newestOver returns the newest of the runs that are too many when count are kept; the zero
// entry when none is.
func (s *Service) newestOver(
	ctx context.Context, q engine.RunQuery, count int,
) (over engine.IndexEntry, err error) {
	if count <= 0 {
		return over, nil
	}
	err = s.readAll(ctx, func(views []engine.View) error {
		return eachEntry(views, q, func(e found) bool {
			if count > 0 {
				count--
				return true
			}
			over = e.IndexEntry
			return false
		})
	})
	return over, err
}

// removeAll removes ended runs, in few commits, and returns how many.
func (s *Service) removeAll(ctx context.Context, ids []tutti.RunID) (removed int, err error) {
	var wg sync.WaitGroup
	results := make([]error, len(ids))
	for i, id := range ids {
		if results[i] = s.removable(ctx, id); results[i] != nil {
			continue
		}
		wg.Add(1)
		s.run.SubmitAsync(id.Shard(s.run.Shards()), engine.Remove{Run: id},
			func(_ any, err error) {
				results[i] = err
				wg.Done()
			})
	}
	wg.Wait()
	for _, e := range results {
		switch kind := tutti.KindOf(e); {
		case e == nil:
			removed++
		case kind == tutti.Conflict || kind == tutti.NotFound:
			// Open again, still ending, wanted by its parent, or gone: not now.
		default:
			err = e
		}
	}
	return removed, err
}

var errParentOpen = tutti.E(tutti.Conflict, "remove", "ParentOpen",
	"the run belongs to a run that is open")

// removable returns nil unless the parent of a run is open and may look at it.
func (s *Service) removable(ctx context.Context, id tutti.RunID) error {
	parent, err := s.parentOf(ctx, id)
	if err != nil || parent.IsZero() {
		return err
	}
	err = s.run.ReadRun(ctx, parent, func(v engine.View) error {
		r, err := v.Run(parent)
		if err == nil && r.Status.Open() {
			err = errParentOpen
		}
		return err
	})
	if tutti.KindOf(err) == tutti.NotFound {
		return nil
	}
	return err
}

func (s *Service) parentOf(
	ctx context.Context, id tutti.RunID,
) (parent tutti.RunID, err error) {
	err = s.run.ReadRun(ctx, id, func(v engine.View) error {
		r, err := v.Run(id)
		if err == nil {
			parent = r.Parent
		}
		return err
	})
	return parent, err
}
