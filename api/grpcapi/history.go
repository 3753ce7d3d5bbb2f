package grpcapi

import (
	"context"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// History streams the events of a run, on request until it ends.
func (s *runs) History(r *tuttipb.HistoryRequest, out tuttipb.Runs_HistoryServer) error {
	id, err := tutti.ParseRunID(r.RunId)
	if err != nil {
		return asStatus(err)
	}
	ctx, cancel := s.srv.untilStop(out.Context())
	defer cancel(nil)
	h := &historyReader{svc: s.svc, ns: namespace(r.Namespace), id: id, after: int(r.AfterSequence)}
	for sent := uint64(0); ; {
		open, events, err := h.page(ctx)
		if err != nil {
			return asStatus(cutShort(ctx, err))
		}
		for _, ev := range events {
			if r.Limit > 0 && sent >= r.Limit {
				return nil
			}
			if err := out.Send(ev); err != nil {
				return err
			}
			sent++
		}
		if len(events) > 0 {
			continue
		}
		if !open || !r.Follow {
			return nil
		}
		if err := h.wait(ctx); err != nil {
			return asStatus(cutShort(ctx, err))
		}
	}
}

// historyReader reads the history of a run page by page.
type historyReader struct {
	svc   *api.Service
	ns    string
	id    tutti.RunID
	after int // number of the last event read
}

// historyPage bounds the events that are read in one go.
const historyPage = 1000

// page reads the next events, and whether the run was open then.
func (h *historyReader) page(
	ctx context.Context,
) (open bool, events []*tuttipb.HistoryEvent, err error) {
	err = h.svc.WithRun(ctx, h.ns, h.id, func(v *api.RunView) error {
		open = v.Run.Status.Open()
		names := map[tutti.Seq]string{}
		return v.History(h.after, func(ev engine.HistoryEvent) bool {
			events = append(events, historyMessage(v, names, ev))
			h.after = ev.Number
			return len(events) < historyPage
		})
	})
	return open, events, err
}

func historyMessage(
	v *api.RunView, names map[tutti.Seq]string, ev engine.HistoryEvent,
) *tuttipb.HistoryEvent {
	m := &tuttipb.HistoryEvent{
		Sequence: uint64(ev.Number), TimeMs: ev.TimeMs, Type: ev.Kind.String(),
		Data: eventData(ev), Name: ev.Note,
	}
	if ev.Seq == 0 {
		return m
	}
	m.TaskId = v.Run.ID.TaskID(ev.Seq)
	name, known := names[ev.Seq]
	if !known {
		if t, err := v.Task(ev.Seq); err == nil {
			name = t.Name
		}
		names[ev.Seq] = name
	}
	if name != "" {
		m.Name = name
	}
	return m
}

var deadlines = [...]string{
	tutti.TimeoutPoll: "poll", tutti.TimeoutResponse: "response", tutti.TimeoutTask: "task",
	tutti.TimeoutTotal: "total",
}

// eventData are the details of an event as JSON; nil when it has none.
func eventData(ev engine.HistoryEvent) value.Raw {
	pair := func(name, text string) value.Raw {
		return append(value.AppendString([]byte(`{"`+name+`":`), text), '}')
	}
	switch {
	case ev.Detail != nil:
		return ev.Detail
	case ev.Kind == engine.HistoryTaskDone:
		return pair("status", tutti.TaskStatus(ev.Status).String())
	case ev.Kind == engine.HistoryRunEnded:
		return pair("status", tutti.RunStatus(ev.Status).String())
	case ev.Kind == engine.HistoryTaskTimeout && int(ev.Status) < len(deadlines):
		return pair("deadline", deadlines[ev.Status])
	case ev.Worker != "":
		return pair("worker", ev.Worker)
	}
	return nil
}

// wait waits until the run has a newer event or has ended.
func (h *historyReader) wait(ctx context.Context) error {
	_, err := h.svc.WaitUntil(ctx, h.ns, h.id, api.MaxWait, func(v *api.RunView) (bool, error) {
		newer := false
		err := v.History(h.after, func(engine.HistoryEvent) bool {
			newer = true
			return false
		})
		return newer || !v.Run.Status.Open(), err
	})
	return err
}
