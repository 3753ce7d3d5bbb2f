package api

import (
	"context"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// Explanation says why a run has not ended.
type Explanation struct {
	Run   *tutti.Run // without payloads
	Text  string     // one sentence about the run as a whole
	Waits []Waiting  // one for each open attempt, 100 at most
}

// Waiting is one wait of a run, with what the server knows about its queue and what holds it.
type Waiting struct {
	engine.Wait
	// Queue facts, for tasks that wait for a worker.
	WorkersWaiting int
	LastPollMs     int64 // 0 = nobody polled since the server started
	Ahead          int   // tasks of the queue that are ready
	// Holders are the task attempts that hold the limit, 100 at most.
	Holders []Holder
	// Child explains the child run that the attempt waits for, down to a depth of 5.
	Child *Explanation
}

// Holder is an attempt or run that holds a permit of a limit.
type Holder struct {
	Run tutti.RunID
	Seq tutti.Seq // 0 for a run that holds a limit of runs
}

// Explain says why a run has not ended: what each of its open attempts waits for, since when,
// what would free it and what holds it.
func (s *Service) Explain(
	ctx context.Context, ns string, id tutti.RunID,
) (*Explanation, error) {
	if err := s.authorize(ctx, ReadRuns, ns); err != nil {
		return nil, err
	}
	ex := new(Explanation)
	err := s.withRun(ctx, ns, id, func(v *RunView) error {
		run, waits, err := v.view.Explain(id)
		ex.Run = run
		for _, w := range waits {
			ex.Waits = append(ex.Waits, Waiting{Wait: w})
		}
		return err
	})
	return ex, err
}
