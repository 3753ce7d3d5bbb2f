package api

import (
	"context"
	"fmt"
	"sync"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// control submits an operator's command to a run.
func (s *Service) control(
	ctx context.Context, ns string, id tutti.RunID, cmd engine.Command,
) error {
	if err := s.authorize(ctx, ControlRuns, ns); err != nil {
		return err
	}
	_, err := s.submit(ctx, ns, id, cmd)
	return err
}

// Pause keeps a run from taking further steps; what is under way may end. Pausing a paused
// run does nothing.
func (s *Service) Pause(ctx context.Context, ns string, id tutti.RunID, by string) error {
	return s.control(ctx, ns, id, engine.Pause{Run: id, By: by})
}

// Resume lets a paused run go on.
func (s *Service) Resume(ctx context.Context, ns string, id tutti.RunID, by string) error {
	return s.control(ctx, ns, id, engine.Resume{Run: id, By: by})
}

// Terminate ends a run at once. Output may be nil.
func (s *Service) Terminate(
	ctx context.Context, ns string, id tutti.RunID, reason string, output value.Raw,
) error {
	if err := checkPayload("terminate", output); err != nil {
		return err
	}
	return s.control(ctx, ns, id, engine.Terminate{Run: id, Reason: reason, Output: output})
}

// Retry goes on with a run that ended badly from what failed. Deep reopens failed child runs
// instead of starting new ones.
func (s *Service) Retry(ctx context.Context, ns string, id tutti.RunID, deep bool) error {
	return s.control(ctx, ns, id, engine.Retry{Run: id, Deep: deep})
}

// RestartOptions refine Restart.
type RestartOptions struct {
	Newest        bool      // use the newest version of the definition from now on
	Input         value.Raw // when set, the new input
	CorrelationID *string   // when set, the new correlation id
}

// Restart begins an ended run again from its first step, under the same identifier.
func (s *Service) Restart(
	ctx context.Context, ns string, id tutti.RunID, o RestartOptions,
) error {
	if err := s.authorize(ctx, ControlRuns, ns); err != nil {
		return err
	}
	if err := checkPayload("restart", o.Input); err != nil {
		return err
	}
	cmd := engine.Restart{Run: id, Input: o.Input, Corr: o.CorrelationID}
	if o.Newest {
		src, err := s.newestSource(ctx, ns, id)
		if err != nil {
			return err
		}
		cmd.Source = src
	}
	_, err := s.submit(ctx, ns, id, cmd)
	return err
}

func (s *Service) newestSource(
	ctx context.Context, ns string, id tutti.RunID,
) (src *tutti.Source, err error) {
	err = s.withRun(ctx, ns, id, func(v *RunView) error {
		src, err = s.run.Catalog().Link(ns, v.Run.Dialect, v.Run.Definition, 0)
		return err
	})
	return src, err
}

// Rerun repeats an ended run from one of its attempts on; later attempts are removed. A nil
// input keeps the attempt's own.
func (s *Service) Rerun(
	ctx context.Context, ns string, id tutti.RunID, seq tutti.Seq, input value.Raw,
) error {
	if err := checkPayload("rerun", input); err != nil {
		return err
	}
	return s.control(ctx, ns, id, engine.Rerun{Run: id, Seq: seq, Input: input})
}

// Skip steps over a step that has not started. Its record gets the given payloads.
func (s *Service) Skip(
	ctx context.Context, ns string, id tutti.RunID, step string, input, output value.Raw,
) error {
	if err := checkPayload("skip", input); err != nil {
		return err
	}
	if err := checkPayload("skip", output); err != nil {
		return err
	}
	return s.control(ctx, ns, id, engine.Skip{
		Run: id, Name: step, Input: input, Output: output,
	})
}

// Decide asks a run's program to look again. Normally nothing is to be done.
func (s *Service) Decide(ctx context.Context, ns string, id tutti.RunID) error {
	return s.control(ctx, ns, id, engine.Decide{Run: id})
}

// ResetCallbacks makes tasks ready now whose workers asked to be called back later.
func (s *Service) ResetCallbacks(ctx context.Context, ns string, id tutti.RunID) error {
	return s.control(ctx, ns, id, engine.ResetCallbacks{Run: id})
}

// SetVariables changes a cell of an open run; the dialect says what its cells mean. Merge
// keeps the members of the object that is there and that val does not name.
func (s *Service) SetVariables(
	ctx context.Context, ns string, id tutti.RunID, cell string, val value.Raw, merge bool,
) error {
	if err := checkPayload("set variables", val); err != nil {
		return err
	}
	return s.control(ctx, ns, id, engine.SetVariables{
		Run: id, Cell: cell, Value: val, Merge: merge,
	})
}

// Repair writes again every row that the records of a run imply: its place in queues and its
// wake-ups. The auditor does so by itself where one is missing.
func (s *Service) Repair(ctx context.Context, ns string, id tutti.RunID) error {
	return s.control(ctx, ns, id, engine.Repair{Run: id})
}

// Remove deletes an ended run and all that is stored of it.
func (s *Service) Remove(ctx context.Context, ns string, id tutti.RunID) error {
	if err := s.authorize(ctx, RemoveRuns, ns); err != nil {
		return err
	}
	_, err := s.submit(ctx, ns, id, engine.Remove{Run: id})
	return err
}

const (
	// MaxBulk bounds the runs that one call of Bulk may name.
	MaxBulk = 1000
	// bulkWorkers is how many of them are worked on at the same time, so that they share
	// commits.
	bulkWorkers = 64
)

// BulkOutcome is what came of one run of a Bulk call; nil is success.
type BulkOutcome struct {
	ID  string
	Err error
}

// Bulk calls fn for each of the runs, several at a time, and returns what came of each in the
// order given. Text that is no identifier is a NotFound outcome. fn calls a method of the
// Service, which authorises.
func (s *Service) Bulk(
	ctx context.Context, ids []string, fn func(context.Context, tutti.RunID) error,
) ([]BulkOutcome, error) {
	if len(ids) > MaxBulk {
		return nil, tutti.E(tutti.Invalid, "bulk", "TooManyRuns", fmt.Sprintf(
			"%d runs are named, over the bound of %d; use several requests", len(ids), MaxBulk))
	}
	out := make([]BulkOutcome, len(ids))
	slots := make(chan struct{}, bulkWorkers)
	var wg sync.WaitGroup
	for i, text := range ids {
		out[i].ID = text
		id, err := tutti.ParseRunID(text)
		if err != nil {
			out[i].Err = err
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i].Err = fn(ctx, id)
		})
	}
	wg.Wait()
	return out, nil
}
