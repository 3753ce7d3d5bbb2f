package api

import (
	"context"
	"fmt"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// The bounds of an explanation.
const (
	maxExplainDepth    = 5   // child runs below the run asked about
	maxExplainHolders  = 100 // holders that are listed of a limit
	maxExplainChildren = 20  // child runs that are explained at one level
)

// Explanation says why a run has not ended.
type Explanation struct {
	Run   *tutti.Run
	Text  string    // one sentence about the run as a whole
	Waits []Waiting // one for what holds the whole run, if anything, and for each open attempt
	// Omitted is how many open attempts are not in Waits, which lists 100 at most.
	Omitted int
}

// Waiting is one wait of a run, with what the server knows about its queue and about what
// holds it.
type Waiting struct {
	engine.Wait

	// WorkersWaiting, Ahead and LastPollMs are for tasks in a queue: the workers that wait
	// there, the tasks that wait with it, and when a worker last asked (Unix ms); 0 = not
	// since the server started.
	WorkersWaiting, Ahead int
	LastPollMs            int64
	// Holders hold the limit that is waited for.
	Holders []Holder
	// Child explains the child run that is waited for, down to a depth of 5.
	Child *Explanation
}

// Holder is a task attempt that holds a permit of a limit, or a run when Seq is 0.
type Holder struct {
	Run tutti.RunID
	Seq tutti.Seq
}

// Explain says why a run has not ended: what each of its open attempts waits for, since when,
// what would free it and what holds it.
func (s *Service) Explain(
	ctx context.Context, ns string, id tutti.RunID,
) (*Explanation, error) {
	if err := s.authorize(ctx, ReadRuns, ns); err != nil {
		return nil, err
	}
	return s.explain(ctx, ns, id, 0)
}

func (s *Service) explain(
	ctx context.Context, ns string, id tutti.RunID, depth int,
) (*Explanation, error) {
	ex := &Explanation{}
	err := s.withRun(ctx, ns, id, func(v *RunView) error {
		run, waits, err := v.view.Explain(id)
		ex.Run = run
		attempts := 0
		for _, w := range waits {
			ex.Waits = append(ex.Waits, Waiting{Wait: w})
			if w.Seq != 0 {
				attempts++
			}
		}
		if err == nil {
			ex.Omitted = max(run.OpenTasks-attempts, 0)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	children := 0
	for i := range ex.Waits {
		w := &ex.Waits[i]
		if w.Code == "Child" {
			if children++; depth >= maxExplainDepth || children > maxExplainChildren {
				continue
			}
		}
		if err := s.enrich(ctx, ns, w, depth); err != nil {
			return nil, err
		}
	}
	ex.Text = ex.summary()
	return ex, nil
}

// enrich adds what lies outside the run to one of its waits.
func (s *Service) enrich(ctx context.Context, ns string, w *Waiting, depth int) error {
	switch w.Code {
	case "Queued":
		s.explainQueue(ns, w)
	case "Limited", "Asking", "RunLimited":
		return s.explainLimit(ctx, ns, w)
	case "Child":
		child, err := s.explain(ctx, ns, w.Wait.Child, depth+1)
		if tutti.KindOf(err) == tutti.NotFound {
			w.Text += " That run is about to start, or was removed."
			return nil
		}
		if err != nil {
			return err
		}
		w.Child = child
		w.Text += " " + child.Text
	}
	return nil
}

func (s *Service) explainQueue(ns string, w *Waiting) {
	q, known := s.run.Queue(engine.QueueKey(ns, w.Queue))
	w.WorkersWaiting, w.LastPollMs = q.Waiting, q.LastPoll
	w.Ahead = max(q.Ready-1, 0)
	switch {
	case !known || q.LastPoll == 0:
		w.Text += " No worker has asked for tasks of this queue since the server started at " +
			stamp(s.begun.UnixMilli()) + "; start one."
	case q.Waiting > 0:
		w.Text += fmt.Sprintf(" %d workers are waiting there; it is being handed out.", q.Waiting)
	default:
		w.Text += fmt.Sprintf(" No worker is waiting there now; one asked last at %s, "+
			"and %d other tasks are in the queue.", stamp(q.LastPoll), w.Ahead)
	}
}

func (s *Service) explainLimit(ctx context.Context, ns string, w *Waiting) error {
	name := engine.LimitName{Namespace: ns, Key: w.Limit, Runs: w.Code == "RunLimited"}
	err := s.run.Read(ctx, name.Shard(s.run.Shards()), func(v engine.View) error {
		return v.LimitHolders(name, func(run tutti.RunID, seq tutti.Seq) bool {
			w.Holders = append(w.Holders, Holder{run, seq})
			return len(w.Holders) < maxExplainHolders
		})
	})
	if err != nil || len(w.Holders) == 0 {
		return err
	}
	first := w.Holders[0]
	what := "run " + first.Run.String()
	if first.Seq != 0 {
		what = "task " + first.Run.TaskID(first.Seq) + " of " + what
	}
	w.Text += " It is held by " + what
	if n := len(w.Holders); n == maxExplainHolders {
		w.Text += fmt.Sprintf(" and at least %d others", n-1)
	} else if n > 1 {
		w.Text += fmt.Sprintf(" and %d others", n-1)
	}
	w.Text += "."
	return nil
}

// summary says in one sentence where the run stands.
func (x *Explanation) summary() string {
	r := x.Run
	switch {
	case !r.Status.Open():
		text := fmt.Sprintf("Run %s has ended as %s at %s", r.ID, r.Status, stamp(r.EndMs))
		if r.Reason != "" {
			text += ": " + r.Reason
		}
		return text + "."
	case len(x.Waits) == 0:
		return fmt.Sprintf("Run %s waits for nothing; the auditor will look into it.", r.ID)
	case x.Waits[0].Seq == 0 || len(x.Waits) == 1:
		return fmt.Sprintf("Run %s is %s: %s", r.ID, r.Status, x.Waits[0].Text)
	}
	return fmt.Sprintf("Run %s is %s with %d open steps, the first: %s",
		r.ID, r.Status, len(x.Waits)+x.Omitted, x.Waits[0].Text)
}

// stamp formats a time (Unix ms) for a sentence.
func stamp(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000Z")
}
