package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

type runs struct {
	tuttipb.UnimplementedRunsServer
	svc *api.Service
}

var duplicates = map[tuttipb.StartRequest_IdempotencyStrategy]tutti.DuplicatePolicy{
	tuttipb.StartRequest_UNSPECIFIED:     tutti.DuplicateFail,
	tuttipb.StartRequest_FAIL:            tutti.DuplicateFail,
	tuttipb.StartRequest_RETURN_EXISTING: tutti.DuplicateReturn,
	tuttipb.StartRequest_FAIL_ON_RUNNING: tutti.DuplicateFailOnRunning,
}

func runSpec(r *tuttipb.StartRequest) tutti.RunSpec {
	spec := tutti.RunSpec{
		Namespace: namespace(r.Namespace), Dialect: r.Dialect, Definition: r.Definition,
		Version: int(r.Version), CorrelationID: r.CorrelationId, Priority: int(r.Priority),
		Labels: r.Labels, Routing: r.Routing, IdempotencyKey: r.IdempotencyKey,
		OnDuplicate: duplicates[r.IdempotencyStrategy],
	}
	if len(r.Input) > 0 {
		spec.Input = value.Raw(r.Input)
	}
	return spec
}

func (s *runs) Start(ctx context.Context, r *tuttipb.StartRequest) (*tuttipb.StartReply, error) {
	if r == nil {
		return nil, invalid("start", "NoRequest", "the request is empty")
	}
	st, err := s.svc.Start(ctx, runSpec(r))
	if err != nil {
		return nil, asStatus(err)
	}
	return &tuttipb.StartReply{RunId: st.ID.String(), Existing: st.Existing}, nil
}

func (s *runs) Get(ctx context.Context, r *tuttipb.GetRunRequest) (*tuttipb.Run, error) {
	id, err := tutti.ParseRunID(r.RunId)
	if err != nil {
		return nil, asStatus(err)
	}
	wait := time.Duration(max(r.WaitMs, 0)) * time.Millisecond
	run, err := s.svc.WaitEnd(ctx, namespace(r.Namespace), id, wait)
	if err != nil {
		return nil, asStatus(err)
	}
	return runMessage(run, !r.OmitPayloads), nil
}

func runMessage(r *tutti.Run, payloads bool) *tuttipb.Run {
	m := &tuttipb.Run{
		RunId: r.ID.String(), Namespace: r.Namespace, Dialect: r.Dialect,
		Definition: r.Definition, Version: int32(r.Version),
		Status: tuttipb.Run_Status(r.Status) + tuttipb.Run_RUNNING, StartMs: r.StartMs,
		UpdateMs: r.UpdateMs, EndMs: r.EndMs, Reason: r.Reason,
		CorrelationId: r.CorrelationID, Priority: int32(r.Priority), Labels: r.Labels,
	}
	if !r.Parent.IsZero() {
		m.ParentRunId = r.Parent.String()
	}
	if payloads {
		m.Input, m.Output = r.Input, r.Output
	}
	return m
}

// control performs an operator's request on a run.
func control(ns, id string, do func(ns string, id tutti.RunID) error) error {
	run, err := tutti.ParseRunID(id)
	if err == nil {
		err = do(namespace(ns), run)
	}
	return asStatus(err)
}

func (s *runs) Signal(
	ctx context.Context, r *tuttipb.SignalRequest,
) (*tuttipb.SignalReply, error) {
	if r.IdempotencyKey != "" {
		return nil, asStatus(tutti.E(tutti.Unsupported, "signal", "SignalKey",
			"idempotency keys of signals are not there yet; "+
				"a step can be completed once, so repeating a signal by name is safe"))
	}
	return &tuttipb.SignalReply{}, control(r.Namespace, r.RunId,
		func(ns string, id tutti.RunID) error {
			o := engine.Outcome{Status: tutti.Completed}
			if len(r.Payload) > 0 {
				o.Output = value.Raw(r.Payload)
			}
			_, err := s.svc.Signal(ctx, ns, id, r.Name, o)
			return err
		})
}

func (s *runs) Terminate(
	ctx context.Context, r *tuttipb.TerminateRequest,
) (*tuttipb.TerminateReply, error) {
	return &tuttipb.TerminateReply{}, control(r.Namespace, r.RunId,
		func(ns string, id tutti.RunID) error {
			return s.svc.Terminate(ctx, ns, id, r.Reason, nil)
		})
}

func (s *runs) Pause(ctx context.Context, r *tuttipb.PauseRequest) (*tuttipb.PauseReply, error) {
	return &tuttipb.PauseReply{}, control(r.Namespace, r.RunId,
		func(ns string, id tutti.RunID) error { return s.svc.Pause(ctx, ns, id, r.Reason) })
}

func (s *runs) Resume(
	ctx context.Context, r *tuttipb.ResumeRequest,
) (*tuttipb.ResumeReply, error) {
	return &tuttipb.ResumeReply{}, control(r.Namespace, r.RunId,
		func(ns string, id tutti.RunID) error { return s.svc.Resume(ctx, ns, id, "") })
}

func (s *runs) Retry(ctx context.Context, r *tuttipb.RetryRequest) (*tuttipb.RetryReply, error) {
	return &tuttipb.RetryReply{}, control(r.Namespace, r.RunId,
		func(ns string, id tutti.RunID) error {
			return s.svc.Retry(ctx, ns, id, r.ResumeChildren)
		})
}

func (s *runs) Restart(
	ctx context.Context, r *tuttipb.RestartRequest,
) (*tuttipb.RestartReply, error) {
	return &tuttipb.RestartReply{}, control(r.Namespace, r.RunId,
		func(ns string, id tutti.RunID) error {
			return s.svc.Restart(ctx, ns, id, api.RestartOptions{Newest: r.UseLatestVersion})
		})
}

func (s *runs) Explain(
	ctx context.Context, r *tuttipb.ExplainRequest,
) (*tuttipb.ExplainReply, error) {
	rep := &tuttipb.ExplainReply{}
	err := control(r.Namespace, r.RunId, func(ns string, id tutti.RunID) error {
		ex, err := s.svc.Explain(ctx, ns, id)
		if err != nil {
			return err
		}
		rep.Status = tuttipb.Run_Status(ex.Run.Status) + tuttipb.Run_RUNNING
		rep.Summary = ex.Text
		rep.Omitted = uint64(max(ex.Run.OpenTasks-len(ex.Waits), 0))
		for _, w := range ex.Waits {
			rep.Waits = append(rep.Waits, waitMessage(ex.Run, &w))
		}
		return nil
	})
	return rep, err
}

func waitMessage(run *tutti.Run, w *api.Waiting) *tuttipb.Wait {
	m := &tuttipb.Wait{
		Sentence: w.Text, Kind: w.Code, Name: w.Name, Queue: w.Queue, WorkerId: w.Worker,
		SinceMs: w.SinceMs, WakeMs: w.UntilMs,
	}
	if w.Seq != 0 {
		m.TaskId = run.ID.TaskID(w.Seq)
	}
	return m
}

func (s *runs) List(
	ctx context.Context, r *tuttipb.ListRunsRequest,
) (*tuttipb.ListRunsReply, error) {
	ns := namespace(r.Namespace)
	if len(r.Labels) > 0 || r.CorrelationId != "" || r.ParentRunId != "" {
		return s.listLabelled(ctx, ns, r)
	}
	q := api.ListQuery{Cursor: r.Cursor, Limit: int(r.PageSize)}
	q.Namespace, q.FromMs, q.ToMs = ns, r.StartFromMs, r.StartToMs
	if r.Definition != "" {
		q.Definitions = []string{r.Definition}
	}
	for _, st := range r.Statuses {
		if st != tuttipb.Run_STATUS_UNSPECIFIED {
			q.Statuses = append(q.Statuses, tutti.RunStatus(st-tuttipb.Run_RUNNING))
		}
	}
	page, err := s.svc.List(ctx, q)
	if err != nil {
		return nil, asStatus(err)
	}
	rep := &tuttipb.ListRunsReply{NextCursor: page.Next}
	for _, e := range page.Entries {
		if err := s.appendRun(ctx, rep, ns, e.ID, r); err != nil {
			return nil, asStatus(err)
		}
	}
	return rep, nil
}

// appendRun adds a run to a page, unless it has been removed or is of another dialect.
func (s *runs) appendRun(
	ctx context.Context, rep *tuttipb.ListRunsReply, ns string, id tutti.RunID,
	r *tuttipb.ListRunsRequest,
) error {
	run, err := s.svc.Run(ctx, ns, id)
	switch {
	case tutti.KindOf(err) == tutti.NotFound && err != nil:
		return nil
	case err != nil:
		return err
	case r.Dialect != "" && run.Dialect != r.Dialect:
		return nil
	}
	rep.Runs = append(rep.Runs, runMessage(run, r.WithPayloads))
	return nil
}

// listLabelled answers lists by correlation, label or parent, which are short.
func (s *runs) listLabelled(
	ctx context.Context, ns string, r *tuttipb.ListRunsRequest,
) (*tuttipb.ListRunsReply, error) {
	entries, err := s.labelled(ctx, ns, r)
	if err != nil {
		return nil, asStatus(err)
	}
	rep := &tuttipb.ListRunsReply{}
	for _, e := range entries {
		if err := s.appendRun(ctx, rep, ns, e.ID, r); err != nil {
			return nil, asStatus(err)
		}
	}
	kept := rep.Runs[:0]
	for _, run := range rep.Runs {
		if matches(run, r) {
			kept = append(kept, run)
		}
	}
	rep.Runs = kept
	return rep, nil
}

func (s *runs) labelled(
	ctx context.Context, ns string, r *tuttipb.ListRunsRequest,
) ([]engine.IndexEntry, error) {
	switch {
	case r.CorrelationId != "":
		return s.svc.ByCorrelation(ctx, ns, r.CorrelationId, int(r.PageSize))
	case r.ParentRunId != "":
		return s.svc.ByLabel(ctx, ns, engine.LabelParent, r.ParentRunId, int(r.PageSize))
	}
	for k, v := range r.Labels {
		return s.svc.ByLabel(ctx, ns, k, v, int(r.PageSize))
	}
	return nil, nil
}

// matches checks what the index row that was used does not.
func matches(run *tuttipb.Run, r *tuttipb.ListRunsRequest) bool {
	if r.Definition != "" && run.Definition != r.Definition ||
		r.CorrelationId != "" && run.CorrelationId != r.CorrelationId ||
		r.ParentRunId != "" && run.ParentRunId != r.ParentRunId ||
		run.StartMs < r.StartFromMs || r.StartToMs > 0 && run.StartMs >= r.StartToMs {
		return false
	}
	for k, v := range r.Labels {
		if run.Labels[k] != v {
			return false
		}
	}
	for _, st := range r.Statuses {
		if st == run.Status {
			return true
		}
	}
	return len(r.Statuses) == 0
}

func (s *runs) History(r *tuttipb.HistoryRequest, out tuttipb.Runs_HistoryServer) error {
	id, err := tutti.ParseRunID(r.RunId)
	if err != nil {
		return asStatus(err)
	}
	ns, ctx := namespace(r.Namespace), out.Context()
	after, sent := int(r.AfterSequence), uint64(0)
	for {
		open, events, err := s.historyPage(ctx, ns, id, after)
		if err != nil {
			return asStatus(err)
		}
		for _, ev := range events {
			if r.Limit > 0 && sent >= r.Limit {
				return nil
			}
			if err := out.Send(ev); err != nil {
				return err
			}
			sent++
			after = int(ev.Sequence)
		}
		if len(events) > 0 {
			continue
		}
		if !open || !r.Follow {
			return nil
		}
		if err := s.nextChange(ctx, ns, id, after); err != nil {
			return asStatus(err)
		}
	}
}

// historyPageEvents bounds the events read in one go.
const historyPageEvents = 1000

func (s *runs) historyPage(
	ctx context.Context, ns string, id tutti.RunID, after int,
) (open bool, events []*tuttipb.HistoryEvent, err error) {
	err = s.svc.WithRun(ctx, ns, id, func(v *api.RunView) error {
		open = v.Run.Status.Open()
		return v.History(after, func(ev engine.HistoryEvent) bool {
			events = append(events, historyMessage(v, ev))
			return len(events) < historyPageEvents
		})
	})
	return open, events, err
}

func historyMessage(v *api.RunView, ev engine.HistoryEvent) *tuttipb.HistoryEvent {
	m := &tuttipb.HistoryEvent{
		Sequence: uint64(ev.Number), TimeMs: ev.TimeMs, Type: ev.Kind.String(), Data: ev.Detail,
	}
	if ev.Note != "" {
		m.Name = ev.Note
	}
	if ev.Seq != 0 {
		m.TaskId = v.Run.ID.TaskID(ev.Seq)
		if t, err := v.Task(ev.Seq); err == nil {
			m.Name = t.Name
		}
	}
	return m
}

// nextChange waits until a run has a newer event or has ended.
func (s *runs) nextChange(ctx context.Context, ns string, id tutti.RunID, after int) error {
	_, err := s.svc.WaitUntil(ctx, ns, id, api.MaxWait, func(v *api.RunView) (bool, error) {
		newer := false
		err := v.History(after, func(engine.HistoryEvent) bool {
			newer = true
			return false
		})
		return newer || !v.Run.Status.Open(), err
	})
	return err
}

// Session starts runs as they come and reports their ends.
func (s *runs) Session(stream tuttipb.Runs_SessionServer) error {
	out := &replies{wake: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if err := out.sendAll(ctx, stream); err != nil {
			cancel(err)
		}
	}()
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			out.finish()
			<-sent
			return nil
		}
		if err != nil {
			cancel(err)
			<-sent
			return err
		}
		if err := s.startOne(ctx, out, req); err != nil {
			return asStatus(err)
		}
	}
}

func (s *runs) startOne(ctx context.Context, out *replies, req *tuttipb.SessionRequest) error {
	if req.Start == nil {
		return tutti.E(tutti.Invalid, "session", "NoStart", "a request has no start")
	}
	if err := out.expect(req.NotifyEnd); err != nil {
		return err
	}
	var ended func(*tutti.Run)
	if req.NotifyEnd {
		ended = func(r *tutti.Run) {
			out.add(&tuttipb.SessionReply{Id: req.Id, Body: &tuttipb.SessionReply_Ended{
				Ended: &tuttipb.Ended{
					RunId: r.ID.String(), Output: r.Output, Reason: r.Reason,
					Status: tuttipb.Run_Status(r.Status) + tuttipb.Run_RUNNING,
				},
			}})
		}
	}
	s.svc.StartAsync(ctx, runSpec(req.Start), ended, func(st engine.Started, err error) {
		rep := &tuttipb.SessionReply{Id: req.Id}
		if err != nil {
			rep.Body = &tuttipb.SessionReply_Error{Error: info(err)}
			if req.NotifyEnd {
				out.unexpect()
			}
		} else {
			rep.Body = &tuttipb.SessionReply_Started{
				Started: &tuttipb.Started{RunId: st.ID.String()},
			}
		}
		out.add(rep)
	})
	return nil
}

// maxReplies bounds what one session may be owed.
const maxReplies = 1_000_000

// replies gathers what a session is to be told.
type replies struct {
	mu       sync.Mutex
	items    []*tuttipb.SessionReply
	owed     int
	finished bool
	wake     chan struct{}
}

func (r *replies) expect(end bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.owed++
	if end {
		r.owed++
	}
	if r.owed > maxReplies {
		return tutti.E(tutti.Exhausted, "session", "TooManyOpen",
			fmt.Sprintf("a session may have %d answers outstanding", maxReplies))
	}
	return nil
}

func (r *replies) unexpect() {
	r.mu.Lock()
	r.owed--
	r.mu.Unlock()
}

func (r *replies) add(m *tuttipb.SessionReply) {
	r.mu.Lock()
	r.items = append(r.items, m)
	r.mu.Unlock()
	r.signal()
}

func (r *replies) finish() {
	r.mu.Lock()
	r.finished = true
	r.mu.Unlock()
	r.signal()
}

func (r *replies) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// sendAll writes replies until the client has finished and nothing is owed.
func (r *replies) sendAll(ctx context.Context, stream tuttipb.Runs_SessionServer) error {
	for {
		r.mu.Lock()
		items := r.items
		r.items = nil
		r.owed -= len(items)
		over := r.finished && r.owed <= 0 && len(items) == 0
		r.mu.Unlock()
		for _, m := range items {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		switch {
		case over:
			return nil
		case len(items) > 0:
			continue
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return nil
		}
	}
}
