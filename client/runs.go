package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"unicode/utf8"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// StartOptions are the arguments of a start. Definition is required.
type StartOptions struct {
	Dialect       string // needed only when two dialects have a definition of this name
	Definition    string
	Version       int // 0 = the newest
	Input         any // encoded with encoding/json; json.RawMessage is taken as it is
	CorrelationID string
	Priority      int // 0 to 99, higher first
	Labels        map[string]string
	Routing       map[string]string
	// IdempotencyKey makes the start repeatable; OnDuplicate says what a second one does.
	IdempotencyKey string
	OnDuplicate    OnDuplicate
}

// OnDuplicate says what a start with a known idempotency key does.
type OnDuplicate int

// The strategies.
const (
	FailDuplicate OnDuplicate = iota
	ReturnExisting
	FailWhileRunning
)

// maxPayload bounds an input or output, in bytes.
const maxPayload = 32 << 20

func (c *Client) startRequest(o StartOptions) (*tuttipb.StartRequest, error) {
	var input []byte
	if o.Input != nil {
		var err error
		if input, err = json.Marshal(o.Input); err != nil {
			return nil, fmt.Errorf("encode input: %w", err)
		}
	}
	if err := o.check(input); err != nil {
		return nil, err
	}
	return &tuttipb.StartRequest{
		Namespace: c.ns, Dialect: o.Dialect, Definition: o.Definition,
		Version: int32(o.Version), Input: input, CorrelationId: o.CorrelationID,
		Priority: int32(o.Priority), Labels: o.Labels, Routing: o.Routing,
		IdempotencyKey:      o.IdempotencyKey,
		IdempotencyStrategy: tuttipb.StartRequest_IdempotencyStrategy(o.OnDuplicate + 1),
	}, nil
}

// check refuses what cannot be sent. In a Session it would end the stream.
func (o *StartOptions) check(input []byte) error {
	texts := []string{o.Dialect, o.Definition, o.CorrelationID, o.IdempotencyKey}
	for _, m := range []map[string]string{o.Labels, o.Routing} {
		for k, v := range m {
			texts = append(texts, k, v)
		}
	}
	size := len(input)
	for _, s := range texts {
		size += len(s)
		if !utf8.ValidString(s) {
			return &Error{
				Kind: "invalid", Code: "InvalidText",
				Message: fmt.Sprintf("%q is no valid UTF-8", s),
			}
		}
	}
	if size > maxPayload {
		return &Error{
			Kind: "exhausted", Code: "PayloadTooLarge",
			Message: fmt.Sprintf("the start has %d bytes, over the bound of %d", size, maxPayload),
			Hint:    "store the input elsewhere and pass a reference",
		}
	}
	return nil
}

// Start begins a run and returns its identifier once the run is durable.
func (c *Client) Start(ctx context.Context, o StartOptions) (runID string, err error) {
	req, err := c.startRequest(o)
	if err != nil {
		return "", err
	}
	rep, err := c.runs.Start(ctx, req)
	if err != nil {
		return "", refused(err)
	}
	return rep.RunId, nil
}

// Run is what a server knows of a run.
type Run struct {
	ID            string
	Definition    string
	Version       int
	Dialect       string
	Status        string // RUNNING, PAUSED, COMPLETED, FAILED, TIMED_OUT or TERMINATED
	Reason        string
	Input, Output json.RawMessage
	CorrelationID string
	Priority      int
	ParentRunID   string
	Labels        map[string]string
	Started       time.Time
	Updated       time.Time
	Ended         time.Time // zero while the run is open
}

// Open reports whether the run has not ended.
func (r *Run) Open() bool { return r.Status == "RUNNING" || r.Status == "PAUSED" }

func fromRun(r *tuttipb.Run) *Run {
	out := &Run{
		ID: r.RunId, Definition: r.Definition, Version: int(r.Version), Dialect: r.Dialect,
		Status: r.Status.String(), Reason: r.Reason, Input: r.Input, Output: r.Output,
		CorrelationID: r.CorrelationId, Priority: int(r.Priority),
		ParentRunID: r.ParentRunId, Labels: r.Labels,
		Started: time.UnixMilli(r.StartMs), Updated: time.UnixMilli(r.UpdateMs),
	}
	if r.EndMs != 0 {
		out.Ended = time.UnixMilli(r.EndMs)
	}
	return out
}

// Get reads a run.
func (c *Client) Get(ctx context.Context, runID string) (*Run, error) {
	return c.get(ctx, runID, 0)
}

// waitStep bounds one request of Wait, so that proxies do not cut it off.
const waitStep = 20 * time.Second

// Wait returns the run once it has ended. A server that restarts meanwhile is waited for too:
// let ctx end to give up.
func (c *Client) Wait(ctx context.Context, runID string) (*Run, error) {
	for pause := firstPause; ; {
		r, err := c.get(ctx, runID, waitStep)
		switch {
		case err == nil && !r.Open():
			return r, nil
		case err == nil:
			pause = firstPause
			continue
		case !hasKind(err, "unavailable") || ctx.Err() != nil:
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
			pause = min(2*pause, lastPause)
		}
	}
}

func (c *Client) get(ctx context.Context, runID string, wait time.Duration) (*Run, error) {
	r, err := c.runs.Get(ctx, &tuttipb.GetRunRequest{
		Namespace: c.ns, RunId: runID, WaitMs: wait.Milliseconds(),
	})
	if err != nil {
		return nil, refused(err)
	}
	return fromRun(r), nil
}

// ListOptions select runs; every condition that is set must hold.
type ListOptions struct {
	Dialect, Definition string
	Statuses            []string
	CorrelationID       string
	Labels              map[string]string
	ParentRunID         string
	From, To            time.Time // of the start
	PageSize            int
	WithPayloads        bool
}

// List yields the selected runs, newest first, page by page.
func (c *Client) List(ctx context.Context, o ListOptions) iter.Seq2[*Run, error] {
	return func(yield func(*Run, error) bool) {
		req, err := c.listRequest(o)
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			page, err := c.runs.List(ctx, req)
			if err != nil {
				yield(nil, refused(err))
				return
			}
			for _, r := range page.Runs {
				if !yield(fromRun(r), nil) {
					return
				}
			}
			if req.Cursor = page.NextCursor; req.Cursor == "" {
				return
			}
		}
	}
}

func (c *Client) listRequest(o ListOptions) (*tuttipb.ListRunsRequest, error) {
	req := &tuttipb.ListRunsRequest{
		Namespace: c.ns, Dialect: o.Dialect, Definition: o.Definition,
		CorrelationId: o.CorrelationID, Labels: o.Labels, ParentRunId: o.ParentRunID,
		PageSize: int32(o.PageSize), WithPayloads: o.WithPayloads,
	}
	for _, s := range o.Statuses {
		n, ok := tuttipb.Run_Status_value[s]
		if !ok {
			return nil, &Error{
				Kind: "invalid", Code: "UnknownStatus",
				Message: fmt.Sprintf("%q is no status of a run", s),
			}
		}
		req.Statuses = append(req.Statuses, tuttipb.Run_Status(n))
	}
	if !o.From.IsZero() {
		req.StartFromMs = o.From.UnixMilli()
	}
	if !o.To.IsZero() {
		req.StartToMs = o.To.UnixMilli()
	}
	return req, nil
}

// Event is an entry of a run's history.
type Event struct {
	Number int // from 1
	Time   time.Time
	Type   string // such as "TaskEnded"
	Name   string // of the step, if it concerns one
	TaskID string
	Data   json.RawMessage // details, by type; may be empty
}

// History yields the events of a run in order: those there are, and with follow those to come,
// until the run has ended.
func (c *Client) History(ctx context.Context, runID string, follow bool) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := c.runs.History(ctx, &tuttipb.HistoryRequest{
			Namespace: c.ns, RunId: runID, Follow: follow,
		})
		for {
			var ev *tuttipb.HistoryEvent
			if err == nil {
				ev, err = stream.Recv()
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, refused(err))
				return
			}
			out := &Event{
				Number: int(ev.Sequence), Time: time.UnixMilli(ev.TimeMs), Type: ev.Type,
				Name: ev.Name, TaskID: ev.TaskId, Data: ev.Data,
			}
			if !yield(out, nil) {
				return
			}
		}
	}
}

// Signal completes the step of an open run that waits under a name.
func (c *Client) Signal(ctx context.Context, runID, name string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("encode payload: %w", err)
	}
	_, err = c.runs.Signal(ctx, &tuttipb.SignalRequest{
		Namespace: c.ns, RunId: runID, Name: name, Payload: body,
	})
	return refused(err)
}

// Terminate ends an open run.
func (c *Client) Terminate(ctx context.Context, runID, reason string) error {
	_, err := c.runs.Terminate(ctx, &tuttipb.TerminateRequest{
		Namespace: c.ns, RunId: runID, Reason: reason,
	})
	return refused(err)
}

// Pause keeps a run from taking further steps.
func (c *Client) Pause(ctx context.Context, runID string) error {
	_, err := c.runs.Pause(ctx, &tuttipb.PauseRequest{Namespace: c.ns, RunId: runID})
	return refused(err)
}

// Resume lets a paused run go on.
func (c *Client) Resume(ctx context.Context, runID string) error {
	_, err := c.runs.Resume(ctx, &tuttipb.ResumeRequest{Namespace: c.ns, RunId: runID})
	return refused(err)
}

// Retry goes on with a run that ended badly, from what failed.
func (c *Client) Retry(ctx context.Context, runID string) error {
	_, err := c.runs.Retry(ctx, &tuttipb.RetryRequest{Namespace: c.ns, RunId: runID})
	return refused(err)
}

// Restart begins an ended run again from its first step.
func (c *Client) Restart(ctx context.Context, runID string, latest bool) error {
	_, err := c.runs.Restart(ctx, &tuttipb.RestartRequest{
		Namespace: c.ns, RunId: runID, UseLatestVersion: latest,
	})
	return refused(err)
}

// Explain says in sentences what an open run waits for.
func (c *Client) Explain(ctx context.Context, runID string) ([]string, error) {
	rep, err := c.runs.Explain(ctx, &tuttipb.ExplainRequest{Namespace: c.ns, RunId: runID})
	if err != nil {
		return nil, refused(err)
	}
	lines := []string{rep.Summary}
	for _, w := range rep.Waits {
		lines = append(lines, w.Sentence)
	}
	if rep.Omitted > 0 {
		lines = append(lines, fmt.Sprintf("%d more steps are open.", rep.Omitted))
	}
	return lines, nil
}

// Apply checks and stores the definitions of a source. An error names what was found.
func (c *Client) Apply(ctx context.Context, filename string, source []byte) error {
	rep, err := c.definitions.Apply(ctx, &tuttipb.ApplyRequest{
		Namespace: c.ns, Filename: filename, Source: source,
	})
	if err != nil {
		return refused(err)
	}
	var errs []error
	for _, d := range rep.Diagnostics {
		if d.Severity == tuttipb.Diagnostic_ERROR {
			errs = append(errs, fmt.Errorf("%s:%d:%d: %s", d.Filename, d.Line, d.Column, d.Message))
		}
	}
	return errors.Join(errs...)
}
