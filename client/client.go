// Package client is the Go client of a Tutti server: it starts, reads and controls runs, and
// serves queues as a worker. It speaks the native gRPC API and imports nothing else of the
// module but the generated messages.
//
// A worker in a few lines:
//
//	c, err := client.Dial("127.0.0.1:8090", client.Options{})
//	w := c.Worker(client.WorkerOptions{})
//	client.Handle(w, "charge_card", func(ctx context.Context, o Order) (Receipt, error) { … })
//	err = w.Run(ctx)
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// maxMessage bounds one message from the server, in bytes.
const maxMessage = 64 << 20

// Options configure a Client. The zero value talks plain text to the default namespace.
type Options struct {
	Namespace string
	// Dial is passed to gRPC, for example to set TLS credentials. Without any, the
	// connection is not encrypted, which suits a server on the same machine only.
	Dial []grpc.DialOption
}

// Client is a connection to a server. It is safe for concurrent use, connects when it is
// first used and again whenever the connection is lost.
type Client struct {
	conn        *grpc.ClientConn
	ns          string
	runs        tuttipb.RunsClient
	workers     tuttipb.WorkersClient
	definitions tuttipb.DefinitionsClient
}

// Dial returns a client of the server at a gRPC address such as "127.0.0.1:8090".
func Dial(addr string, opts Options) (*Client, error) {
	dial := opts.Dial
	if len(dial) == 0 {
		dial = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	}
	dial = append(dial,
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second}),
	)
	conn, err := grpc.NewClient(addr, dial...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return &Client{
		conn: conn, ns: opts.Namespace,
		runs: tuttipb.NewRunsClient(conn), workers: tuttipb.NewWorkersClient(conn),
		definitions: tuttipb.NewDefinitionsClient(conn),
	}, nil
}

// Close ends the connection and whatever uses it.
func (c *Client) Close() error { return c.conn.Close() }

// Error is what a server says of a request it refuses.
type Error struct {
	Kind    string // class, such as "not found"
	Code    string // stable CamelCase name of the very error
	Message string
	Hint    string // what to do next
}

// Error formats the message with its hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + " (" + e.Hint + ")"
}

// refused turns a gRPC status into an *Error where the server sent one.
func refused(err error) error {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*tuttipb.ErrorInfo); ok {
			return fromInfo(info)
		}
	}
	return err
}

func fromInfo(i *tuttipb.ErrorInfo) *Error {
	return &Error{Kind: i.Kind, Code: i.Code, Message: i.Message, Hint: i.Hint}
}

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

func (c *Client) startRequest(o StartOptions) (*tuttipb.StartRequest, error) {
	input, err := json.Marshal(o.Input)
	if err != nil {
		return nil, fmt.Errorf("encode input: %w", err)
	}
	if o.Input == nil {
		input = nil
	}
	return &tuttipb.StartRequest{
		Namespace: c.ns, Dialect: o.Dialect, Definition: o.Definition,
		Version: int32(o.Version), Input: input, CorrelationId: o.CorrelationID,
		Priority: int32(o.Priority), Labels: o.Labels, Routing: o.Routing,
		IdempotencyKey:      o.IdempotencyKey,
		IdempotencyStrategy: tuttipb.StartRequest_IdempotencyStrategy(o.OnDuplicate + 1),
	}, nil
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

// Wait returns the run once it has ended, or when ctx ends.
func (c *Client) Wait(ctx context.Context, runID string) (*Run, error) {
	for {
		r, err := c.get(ctx, runID, waitStep)
		if err != nil || !r.Open() {
			return r, err
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
	req := &tuttipb.ListRunsRequest{
		Namespace: c.ns, Dialect: o.Dialect, Definition: o.Definition,
		CorrelationId: o.CorrelationID, Labels: o.Labels, ParentRunId: o.ParentRunID,
		PageSize: int32(o.PageSize), WithPayloads: o.WithPayloads,
	}
	for _, s := range o.Statuses {
		req.Statuses = append(req.Statuses, tuttipb.Run_Status(tuttipb.Run_Status_value[s]))
	}
	if !o.From.IsZero() {
		req.StartFromMs = o.From.UnixMilli()
	}
	if !o.To.IsZero() {
		req.StartToMs = o.To.UnixMilli()
	}
	return func(yield func(*Run, error) bool) {
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

// Signal completes the step of an open run that waits under a name.
func (c *Client) Signal(ctx context.Context, runID, name string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return fmt.Errorf("encode payload: %w", err)
	}
	_, err = c.runs.Signal(ctx, &tuttipb.SignalRequest{
		Namespace: c.ns, RunId: runID, Name: name, Payload: body,
	})
	return refusedOrNil(err)
}

// Terminate ends an open run.
func (c *Client) Terminate(ctx context.Context, runID, reason string) error {
	_, err := c.runs.Terminate(ctx, &tuttipb.TerminateRequest{
		Namespace: c.ns, RunId: runID, Reason: reason,
	})
	return refusedOrNil(err)
}

// Pause keeps a run from taking further steps.
func (c *Client) Pause(ctx context.Context, runID string) error {
	_, err := c.runs.Pause(ctx, &tuttipb.PauseRequest{Namespace: c.ns, RunId: runID})
	return refusedOrNil(err)
}

// Resume lets a paused run go on.
func (c *Client) Resume(ctx context.Context, runID string) error {
	_, err := c.runs.Resume(ctx, &tuttipb.ResumeRequest{Namespace: c.ns, RunId: runID})
	return refusedOrNil(err)
}

// Retry goes on with a run that ended badly, from what failed.
func (c *Client) Retry(ctx context.Context, runID string) error {
	_, err := c.runs.Retry(ctx, &tuttipb.RetryRequest{Namespace: c.ns, RunId: runID})
	return refusedOrNil(err)
}

// Restart begins an ended run again from its first step.
func (c *Client) Restart(ctx context.Context, runID string, latest bool) error {
	_, err := c.runs.Restart(ctx, &tuttipb.RestartRequest{
		Namespace: c.ns, RunId: runID, UseLatestVersion: latest,
	})
	return refusedOrNil(err)
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

func refusedOrNil(err error) error {
	if err == nil {
		return nil
	}
	return refused(err)
}

// Ended tells how a run of a Session ended.
type Ended struct {
	RunID  string
	Status string
	Output json.RawMessage
	Reason string
	Err    error // the start was refused, or the session broke
}

// Session starts runs at high rates over one stream. Started and ended are reported to the
// functions given to each Start, from one goroutine.
type Session struct {
	c      *Client
	stream tuttipb.Runs_SessionClient
	sends  chan *tuttipb.SessionRequest
	done   chan struct{}
	table  sessionTable
}

// Session opens a session, which lasts until ctx ends or Close.
func (c *Client) Session(ctx context.Context) (*Session, error) {
	stream, err := c.runs.Session(ctx)
	if err != nil {
		return nil, refused(err)
	}
	s := &Session{
		c: c, stream: stream,
		sends: make(chan *tuttipb.SessionRequest, 1024), done: make(chan struct{}),
	}
	s.table.calls = map[uint64]sessionCall{}
	go s.send()
	go s.receive()
	return s, nil
}

// Start begins a run. started, which may be nil, is called with the identifier once the run
// is durable; ended, which may be nil, when it has ended or was refused.
func (s *Session) Start(o StartOptions, started func(runID string), ended func(Ended)) error {
	req, err := s.c.startRequest(o)
	if err != nil {
		return err
	}
	id := s.table.add(sessionCall{started, ended})
	select {
	case s.sends <- &tuttipb.SessionRequest{Id: id, Start: req, NotifyEnd: ended != nil}:
		return nil
	case <-s.done:
		s.table.take(id)
		return io.ErrClosedPipe
	}
}

// Close ends the session. Runs go on.
func (s *Session) Close() {
	close(s.sends)
	<-s.done
}

func (s *Session) send() {
	for req := range s.sends {
		if s.stream.Send(req) != nil {
			return // receive learns why
		}
	}
	_ = s.stream.CloseSend()
}

func (s *Session) receive() {
	defer close(s.done)
	for {
		rep, err := s.stream.Recv()
		if err != nil {
			for _, call := range s.table.drain() {
				if call.ended != nil {
					call.ended(Ended{Err: refused(err)})
				}
			}
			return
		}
		s.handle(rep)
	}
}

func (s *Session) handle(rep *tuttipb.SessionReply) {
	switch body := rep.Body.(type) {
	case *tuttipb.SessionReply_Started:
		call := s.table.get(rep.Id)
		if call.ended == nil {
			s.table.take(rep.Id)
		}
		if call.started != nil {
			call.started(body.Started.RunId)
		}
	case *tuttipb.SessionReply_Ended:
		if call := s.table.take(rep.Id); call.ended != nil {
			call.ended(Ended{
				RunID: body.Ended.RunId, Status: body.Ended.Status.String(),
				Output: body.Ended.Output, Reason: body.Ended.Reason,
			})
		}
	case *tuttipb.SessionReply_Error:
		if call := s.table.take(rep.Id); call.ended != nil {
			call.ended(Ended{Err: fromInfo(body.Error)})
		}
	}
}
