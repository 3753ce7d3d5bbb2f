package main

import (
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// control calls fn and then says what was done to the run.
func (c *oneRun) control(s *session, done string, fn func(*peer) error) error {
	return c.call(func(p *peer) error {
		if err := fn(p); err != nil {
			return err
		}
		if s.format == formatJSON {
			return s.json(map[string]string{"id": c.RunID, "done": done})
		}
		s.printf("run %s %s\n", c.RunID, done)
		return nil
	})
}

type retryCmd struct {
	oneRun
	Children bool `help:"Retry inside failed child runs instead of starting new ones."`
}

// Run goes on with a failed run.
func (c *retryCmd) Run(s *session) error {
	return c.control(s, "goes on from what failed", func(p *peer) error {
		_, err := p.runs.Retry(s.ctx, &tuttipb.RetryRequest{
			Namespace: c.Namespace, RunId: c.RunID, ResumeChildren: c.Children,
		})
		return err
	})
}

type restartCmd struct {
	oneRun
	Latest bool `help:"Take the newest version of the definition instead of the run's own."`
}

// Run begins an ended run again.
func (c *restartCmd) Run(s *session) error {
	return c.control(s, "began again", func(p *peer) error {
		_, err := p.runs.Restart(s.ctx, &tuttipb.RestartRequest{
			Namespace: c.Namespace, RunId: c.RunID, UseLatestVersion: c.Latest,
		})
		return err
	})
}

type terminateCmd struct {
	oneRun
	Reason string `short:"r" placeholder:"TEXT" help:"Why, for people."`
}

// Run ends an open run.
func (c *terminateCmd) Run(s *session) error {
	return c.control(s, "was terminated", func(p *peer) error {
		_, err := p.runs.Terminate(s.ctx, &tuttipb.TerminateRequest{
			Namespace: c.Namespace, RunId: c.RunID, Reason: c.Reason,
		})
		return err
	})
}

type pauseCmd struct {
	oneRun
	Reason string `short:"r" placeholder:"TEXT" help:"Why, for people."`
}

// Run pauses a run.
func (c *pauseCmd) Run(s *session) error {
	return c.control(s, "is paused", func(p *peer) error {
		_, err := p.runs.Pause(s.ctx, &tuttipb.PauseRequest{
			Namespace: c.Namespace, RunId: c.RunID, Reason: c.Reason,
		})
		return err
	})
}

type resumeCmd struct{ oneRun }

// Run ends a pause.
func (c *resumeCmd) Run(s *session) error {
	return c.control(s, "goes on", func(p *peer) error {
		_, err := p.runs.Resume(s.ctx, &tuttipb.ResumeRequest{
			Namespace: c.Namespace, RunId: c.RunID,
		})
		return err
	})
}

type signalCmd struct {
	oneRun
	Step  string `arg:"" optional:"" help:"Name of the step that waits; the first that waits by default."`
	Input string `short:"i" placeholder:"JSON" help:"Value to deliver: JSON text, @FILE, or - for the standard input."`
}

// Run completes a step that waits for a signal.
func (c *signalCmd) Run(s *session) error {
	payload, err := s.readInput("--input", c.Input)
	if err != nil {
		return err
	}
	return c.control(s, "got the signal", func(p *peer) error {
		_, err := p.runs.Signal(s.ctx, &tuttipb.SignalRequest{
			Namespace: c.Namespace, RunId: c.RunID, Name: c.Step, Payload: payload,
		})
		return err
	})
}
