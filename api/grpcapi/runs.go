package grpcapi

import (
	"context"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

type runs struct {
	tuttipb.UnimplementedRunsServer
	srv *Server
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
	if r.WaitMs > 0 {
		var cancel context.CancelCauseFunc
		ctx, cancel = s.srv.untilStop(ctx)
		defer cancel(nil)
	}
	wait := time.Duration(min(max(r.WaitMs, 0), api.MaxWait.Milliseconds())) * time.Millisecond
	run, err := s.svc.WaitEnd(ctx, namespace(r.Namespace), id, wait)
	if err != nil {
		return nil, asStatus(cutShort(ctx, err))
	}
	return runMessage(run, !r.OmitPayloads), nil
}

func runMessage(r *tutti.Run, payloads bool) *tuttipb.Run {
	m := &tuttipb.Run{
		RunId: r.ID.String(), Namespace: r.Namespace, Dialect: r.Dialect,
		Definition: r.Definition, Version: int32(r.Version),
		Status: tuttipb.Run_Status(r.Status) + tuttipb.Run_RUNNING, StartMs: r.StartMs,
		UpdateMs: r.UpdateMs, EndMs: r.EndMs, Reason: valid(r.Reason),
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
		rep.Omitted = uint64(ex.Omitted)
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
