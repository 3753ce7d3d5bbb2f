package api

import (
	"context"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// AuditStats are figures of the auditor since the server started.
type AuditStats struct {
	Rounds    uint64 // complete walks over all open runs
	Runs      uint64 // runs looked at
	Problems  uint64 // breaches found
	Repairs   uint64 // repairs made
	LastRound time.Time
	LastTook  time.Duration
	Recent    []engine.Problem // the newest problems, 100 at most
}

type auditState struct {
	mu sync.Mutex
	AuditStats
}

const (
	// auditEvery is how often the auditor begins a round, at most.
	auditEvery = time.Minute
	// auditPage is how many runs it looks at in one go, and auditPause how long it rests
	// after that: 2,000 runs a second at most.
	auditPage    = 200
	auditPause   = 100 * time.Millisecond
	auditRecent  = 100
	auditConfirm = 50 * time.Millisecond
)

// RunAuditor walks all open runs, round after round, and checks that each has a stored reason
// to wait and a stored wake-up (invariant I4). One that has not is repaired and reported. It
// returns when ctx is done.
func (s *Service) RunAuditor(ctx context.Context) {
	for {
		begun := time.Now()
		if err := s.auditRound(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the auditor could not finish its round; it begins anew", "error", err)
		}
		if !rest(ctx, time.Until(begun.Add(auditEvery))) {
			return
		}
	}
}

// auditRound looks at every open run once.
func (s *Service) auditRound(ctx context.Context) error {
	begun := time.Now()
	err := s.eachPage(ctx, engine.RunQuery{
		Statuses: []tutti.RunStatus{tutti.RunRunning, tutti.RunPaused}, OldestFirst: true,
	}, func(page []engine.IndexEntry) error {
		for _, e := range page {
			if err := s.auditRun(ctx, e.ID); err != nil {
				return err
			}
		}
		if !rest(ctx, auditPause) {
			return cancelled("audit", ctx)
		}
		return nil
	})
	if err != nil {
		return err
	}
	a := &s.audit
	a.mu.Lock()
	a.Rounds++
	a.LastRound, a.LastTook = time.Now(), time.Since(begun)
	a.mu.Unlock()
	s.reportAudit()
	return nil
}

// auditRun checks one run. What looks like a problem is looked at again, and only then
// repaired.
func (s *Service) auditRun(ctx context.Context, id tutti.RunID) error {
	problems, err := s.problems(ctx, id)
	if len(problems) > 0 && rest(ctx, auditConfirm) {
		problems, err = s.problems(ctx, id)
	}
	if err != nil {
		if tutti.KindOf(err) == tutti.NotFound {
			return nil // removed since
		}
		return err
	}
	repaired := uint64(0)
	for _, p := range problems {
		s.log.Error("an open run had nothing to wake it; it is being repaired",
			"run", p.Run, "task", p.Seq, "problem", p.Text)
	}
	if len(problems) > 0 {
		if _, err := s.run.ForRun(ctx, id, engine.Repair{Run: id}); err != nil {
			return err
		}
		repaired = 1
	}
	a := &s.audit
	a.mu.Lock()
	a.Runs++
	a.Problems += uint64(len(problems))
	a.Repairs += repaired
	a.Recent = append(a.Recent, problems...)
	a.Recent = a.Recent[max(len(a.Recent)-auditRecent, 0):]
	a.mu.Unlock()
	if repaired > 0 {
		s.reportAudit()
	}
	return nil
}

func (s *Service) problems(
	ctx context.Context, id tutti.RunID,
) (found []engine.Problem, err error) {
	err = s.run.ReadRun(ctx, id, func(v engine.View) error {
		found, err = v.AuditRun(id)
		return err
	})
	return found, err
}

func (s *Service) reportAudit() {
	if s.opts.OnAudit != nil {
		s.opts.OnAudit(s.auditStats())
	}
}

func (s *Service) auditStats() AuditStats {
	a := &s.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	st := a.AuditStats
	st.Recent = append([]engine.Problem(nil), a.Recent...)
	return st
}

// Audit returns the figures of the auditor. Recent holds problems of the namespace only.
func (s *Service) Audit(ctx context.Context, ns string) (AuditStats, error) {
	if err := s.authorize(ctx, Administer, ns); err != nil {
		return AuditStats{}, err
	}
	return s.auditStats(), nil
}

// AuditRun checks one run now, without repairing it.
func (s *Service) AuditRun(
	ctx context.Context, ns string, id tutti.RunID,
) (found []engine.Problem, err error) {
	err = s.WithRun(ctx, ns, id, func(v *RunView) error {
		found, err = v.view.AuditRun(id)
		return err
	})
	return found, err
}

// eachPage calls fn with the runs of all namespaces that a query selects, a page at a time,
// holding no snapshot in between.
func (s *Service) eachPage(
	ctx context.Context, q engine.RunQuery, fn func([]engine.IndexEntry) error,
) error {
	var last *cursor
	for {
		var page []engine.IndexEntry
		err := s.readAll(ctx, func(views []engine.View) error {
			return eachEntryOfAll(views, last.narrow(q), func(e found) bool {
				if last.passed(e.IndexEntry, q.OldestFirst) {
					page = append(page, e.IndexEntry)
				}
				return len(page) < auditPage
			})
		})
		if err != nil || len(page) == 0 {
			return err
		}
		if err := fn(page); err != nil {
			return err
		}
		last = &cursor{page[len(page)-1]}
	}
}

// rest waits for a time; false means that ctx is done.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
