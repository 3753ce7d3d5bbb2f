package adminapi

import (
	"context"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// Note says who asks for something.
type Note struct {
	By string `json:"by,omitempty" doc:"who asks; kept in the history"`
}

// Termination says how a run is to end.
type Termination struct {
	Reason string    `json:"reason,omitempty"`
	Output value.Raw `json:"output,omitempty"`
}

// Retry says how to go on with a run.
type Retry struct {
	ResumeChildren bool `json:"resumeChildren,omitempty" doc:"reopen failed child runs instead of starting new ones"`
}

// Restart says how to begin a run again.
type Restart struct {
	Newest        bool      `json:"newest,omitempty" doc:"use the newest version of the definition"`
	Input         value.Raw `json:"input,omitempty" doc:"instead of the input that the run has"`
	CorrelationID *string   `json:"correlationId,omitempty"`
}

// Rerun says from where to repeat a run.
type Rerun struct {
	Task   string    `json:"task,omitempty" doc:"identifier of the attempt"`
	Number int       `json:"number,omitempty" doc:"or its number"`
	Input  value.Raw `json:"input,omitempty" doc:"instead of the input that the attempt has"`
}

// Skip names a step to step over.
type Skip struct {
	Step   string    `json:"step"`
	Input  value.Raw `json:"input,omitempty"`
	Output value.Raw `json:"output,omitempty"`
}

// Signal completes a step that waits.
type Signal struct {
	Step   string    `json:"step,omitempty" doc:"name of the step; the first that waits when absent"`
	Failed bool      `json:"failed,omitempty" doc:"let the step fail instead"`
	Reason string    `json:"reason,omitempty"`
	Output value.Raw `json:"output,omitempty"`
}

// control reads a body of type T and performs an action on the run that the path names.
func control[T any](do func(c *call, id tutti.RunID, in T) error) func(*call) (any, error) {
	return func(c *call) (any, error) {
		var in T
		id, err := c.run()
		if err != nil {
			return nil, err
		}
		if err := c.body(&in); err != nil {
			return nil, err
		}
		return nil, do(c, id, in)
	}
}

var (
	pauseRun = control(func(c *call, id tutti.RunID, in Note) error {
		return c.svc.Pause(c.ctx, c.ns, id, in.By)
	})
	resumeRun = control(func(c *call, id tutti.RunID, in Note) error {
		return c.svc.Resume(c.ctx, c.ns, id, in.By)
	})
	terminateRun = control(func(c *call, id tutti.RunID, in Termination) error {
		return c.svc.Terminate(c.ctx, c.ns, id, in.Reason, in.Output)
	})
	retryRun = control(func(c *call, id tutti.RunID, in Retry) error {
		return c.svc.Retry(c.ctx, c.ns, id, in.ResumeChildren)
	})
	restartRun = control(func(c *call, id tutti.RunID, in Restart) error {
		return c.svc.Restart(c.ctx, c.ns, id, api.RestartOptions(in))
	})
	skipStep = control(func(c *call, id tutti.RunID, in Skip) error {
		if in.Step == "" {
			return tutti.E(tutti.Invalid, "skip", "NoStep", "the request names no step")
		}
		return c.svc.Skip(c.ctx, c.ns, id, in.Step, in.Input, in.Output)
	})
	signalRun = control(func(c *call, id tutti.RunID, in Signal) error {
		o := engine.Outcome{Status: tutti.Completed, Output: in.Output, Reason: in.Reason}
		if in.Failed {
			o.Status = tutti.Failed
		}
		_, err := c.svc.Signal(c.ctx, c.ns, id, in.Step, o)
		return err
	})
	rerunRun = control(func(c *call, id tutti.RunID, in Rerun) error {
		seq := tutti.Seq(max(in.Number, 0))
		if in.Task != "" {
			run, n, err := tutti.ParseTaskID(in.Task)
			if err != nil {
				return err
			}
			if run != id {
				return tutti.E(tutti.Invalid, "rerun", "OtherRun", "the task is of another run")
			}
			seq = n
		}
		return c.svc.Rerun(c.ctx, c.ns, id, seq, in.Input)
	})
	removeRun = control(func(c *call, id tutti.RunID, _ struct{}) error {
		return c.svc.Remove(context.WithoutCancel(c.ctx), c.ns, id)
	})
)
