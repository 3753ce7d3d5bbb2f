package api

import (
	"context"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// RunView reads one run from one snapshot: whatever is asked of it belongs together. It is
// valid only within the call that it is given to, and used by one goroutine.
type RunView struct {
	// Run is the run with its payloads. It must not be changed.
	Run *tutti.Run

	view engine.View
	svc  *Service
}

// WithRun calls fn with a view of a run. It answers a NotFound error when there is no such
// run, and returns only after everything that fn could see is durable.
func (s *Service) WithRun(
	ctx context.Context, ns string, id tutti.RunID, fn func(*RunView) error,
) error {
	if err := s.authorize(ctx, ReadRuns, ns); err != nil {
		return err
	}
	return s.withRun(ctx, ns, id, fn)
}

func (s *Service) withRun(
	ctx context.Context, ns string, id tutti.RunID, fn func(*RunView) error,
) error {
	return s.run.ReadRun(ctx, id, func(v engine.View) error {
		r, err := v.Run(id)
		if err != nil {
			return err
		}
		if r.Namespace != ns {
			return errNoRun(id)
		}
		return fn(&RunView{Run: r, view: v, svc: s})
	})
}

func errNoRun(id tutti.RunID) error {
	return tutti.E(tutti.NotFound, "find run", "RunNotFound", "no run has the id "+id.String())
}

func errNoTask(text string) error {
	return tutti.E(tutti.NotFound, "find task", "TaskNotFound", text)
}

// Run returns a run with its payloads.
func (s *Service) Run(ctx context.Context, ns string, id tutti.RunID) (*tutti.Run, error) {
	var run *tutti.Run
	err := s.WithRun(ctx, ns, id, func(v *RunView) error {
		run = v.Run
		return nil
	})
	return run, err
}

// Task returns an attempt of the run with its payloads, or a NotFound error.
func (v *RunView) Task(seq tutti.Seq) (*tutti.Task, error) { return v.view.Task(v.Run.ID, seq) }

// Tasks calls fn for the run's attempts in order, from a number on, until it returns false.
func (v *RunView) Tasks(from tutti.Seq, fn func(*tutti.Task) bool) error {
	return v.view.Tasks(v.Run.ID, from, fn)
}

// TasksBack calls fn for the run's attempts in reverse order until it returns false.
func (v *RunView) TasksBack(fn func(*tutti.Task) bool) error {
	return v.view.TasksBack(v.Run.ID, fn)
}

// TaskByName returns the attempt that a step's name stands for: the newest open one, else
// the newest one, or a NotFound error.
func (v *RunView) TaskByName(name string) (*tutti.Task, error) {
	open, err := v.OpenTasks()
	if err != nil {
		return nil, err
	}
	for i := len(open) - 1; i >= 0; i-- {
		t, err := v.Task(open[i])
		if err != nil {
			return nil, err
		}
		if t.Name == name && t.Status.Open() {
			return t, nil
		}
	}
	var found *tutti.Task
	err = v.TasksBack(func(t *tutti.Task) bool {
		if t.Name == name {
			found = t
		}
		return found == nil
	})
	if err == nil && found == nil {
		err = errNoTask("run " + v.Run.ID.String() + " has no step named " + name)
	}
	return found, err
}

// OpenTasks lists the attempts that have not ended, or of whose end a paused run has not
// heard, in order.
func (v *RunView) OpenTasks() ([]tutti.Seq, error) { return v.view.Open(v.Run.ID) }

// Cell returns one of the run's named values.
func (v *RunView) Cell(key string) ([]byte, bool, error) { return v.view.Cell(v.Run.ID, key) }

// FrameState returns the encoded state of one of the run's frames, for its program to
// decode; nil when the frame is closed. Frame 0 is the root.
func (v *RunView) FrameState(frame tutti.FrameID) ([]byte, error) {
	return v.view.FrameState(v.Run.ID, frame)
}

// Source returns the definition that the run is pinned to.
func (v *RunView) Source() (*tutti.Source, error) { return v.view.Source(v.Run.SourceHash) }

// Program returns the compiled form of the definition that the run is pinned to.
func (v *RunView) Program() (tutti.Program, error) {
	if p, ok := v.svc.programs.get(v.Run.SourceHash); ok {
		return p, nil
	}
	src, err := v.Source()
	if err != nil {
		return nil, err
	}
	return v.svc.program(src, v.Run.SourceHash)
}

// History calls fn for the entries of the run's history after a number, in order, until it
// returns false.
func (v *RunView) History(after int, fn func(engine.HistoryEvent) bool) error {
	return v.view.History(v.Run.ID, after, fn)
}

// Logs returns the log lines of an attempt, oldest first, 1,000 at most.
func (v *RunView) Logs(seq tutti.Seq) ([]engine.LogLine, error) {
	return v.view.Logs(v.Run.ID, seq)
}
