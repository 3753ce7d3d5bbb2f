package observe

import (
	"context"
	"log/slog"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// EventLog writes what happens to runs into a log: runs that end badly as warnings, every
// other transition at level debug. Each line names its run and task.
type EventLog struct {
	log  *slog.Logger
	pump *pump
}

// NewEventLog returns a log of events. It must be closed.
func NewEventLog(log *slog.Logger) *EventLog {
	l := &EventLog{log: log}
	l.pump = newPump(l.write)
	return l
}

// Observe takes transitions. It does not block.
func (l *EventLog) Observe(notes []engine.Notification) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.pump.put(notes)
		return
	}
	for i := range notes {
		if endedBadly(&notes[i]) {
			l.pump.put(notes)
			return
		}
	}
}

// Close writes what has been taken.
func (l *EventLog) Close() { l.pump.close() }

func endedBadly(n *engine.Notification) bool {
	st := tutti.RunStatus(n.Status)
	return n.Kind == engine.HistoryRunEnded && (st == tutti.RunFailed || st == tutti.RunTimedOut)
}

func (l *EventLog) write(notes []engine.Notification) {
	ctx := context.Background()
	for i := range notes {
		n := &notes[i]
		level, what := slog.LevelDebug, n.Kind.String()
		if endedBadly(n) {
			level, what = slog.LevelWarn, "run ended as "+tutti.RunStatus(n.Status).String()
		}
		if !l.log.Enabled(ctx, level) {
			continue
		}
		attrs := []slog.Attr{
			slog.String("run", n.Run.ID.String()), slog.String("namespace", n.Run.Namespace),
			slog.String("definition", n.Run.Definition),
		}
		if n.Seq != 0 {
			attrs = append(attrs, slog.String("task", n.Run.ID.TaskID(n.Seq)),
				slog.String("step", n.Name), slog.String("type", n.Type))
		}
		if n.Kind == engine.HistoryTaskDone {
			attrs = append(attrs, slog.String("status", tutti.TaskStatus(n.Status).String()))
		}
		l.log.LogAttrs(ctx, level, what, attrs...)
	}
}
