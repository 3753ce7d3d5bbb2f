package connector

import (
	"context"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Task is one attempt that a connector is asked to perform. Connectors only read it.
type Task struct {
	ID        string // names the attempt; new for each
	RunID     string
	Name      string // the step's name within its run
	Type      string // the dialect's word for what kind of step this is
	Attempt   int    // 0 for the first
	Input     value.Raw
	Namespace string

	// IdempotencyKey is the same for all attempts of the step, so that a service can
	// recognise an effect it has performed before.
	IdempotencyKey string
	// Headers are passed on to services that take headers, such as W3C trace context.
	Headers map[string]string
	// Deadline is when the attempt's lease ends; the zero time means none.
	Deadline time.Time
}

// Outcome is how an attempt ended. Status is tutti.Completed, tutti.Failed (a retry may
// follow) or tutti.Fatal (a retry would not help). Reason says why it did not complete, in
// words for the author of the workflow.
type Outcome struct {
	Status tutti.TaskStatus
	Output value.Raw
	Reason string
}

// Failed returns the outcome of an attempt that a retry may follow.
func Failed(reason string) Outcome { return Outcome{Status: tutti.Failed, Reason: reason} }

// Connector performs tasks of one kind. Perform returns when the task has ended or ctx is
// done, and may be called by many goroutines at once.
type Connector interface {
	Perform(ctx context.Context, t Task) Outcome
}
