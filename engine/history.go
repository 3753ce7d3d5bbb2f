package engine

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// HistoryKind is what an entry of a run's history says happened.
type HistoryKind uint8

// The kinds of entry. Their numbers are stored; new ones are added at the end.
const (
	HistoryRunStarted HistoryKind = iota + 1
	HistoryTaskScheduled
	HistoryTaskHandedOut
	HistoryTaskReturned
	HistoryTaskInDoubt
	HistoryTaskDone
	HistoryTaskTimeout
	HistoryTaskReopened
	HistoryTaskRemoved
	HistoryChildStarted
	HistoryRunTimeout
	HistoryRunPaused
	HistoryRunResumed
	HistoryRunEnded
	HistoryRunReopened
	HistoryRunReset
	HistoryNote
)

var historyNames = [...]string{
	"", "RunStarted", "TaskScheduled", "TaskHandedOut", "TaskReturned", "TaskInDoubt",
	"TaskEnded", "TaskTimeout", "TaskReopened", "TaskRemoved", "ChildStarted", "RunTimeout",
	"RunPaused", "RunResumed", "RunEnded", "RunReopened", "RunReset", "Note",
}

// String returns the kind's name as the native API writes it.
func (k HistoryKind) String() string {
	if int(k) < len(historyNames) {
		return historyNames[k]
	}
	return "Unknown"
}

// HistoryEvent is one entry. Status is a tutti.TaskStatus, RunStatus or TimeoutKind as the
// kind says. Payloads are not repeated: they stand in the task's record.
type HistoryEvent struct {
	Number int
	Kind   HistoryKind
	TimeMs int64
	Seq    tutti.Seq
	Status uint8
	Worker string
	Note   string
	Detail value.Raw
}

// segmentEvents is how many entries share a row.
const segmentEvents = 256

func (b *Batch) note(r *runState, kind HistoryKind, seq tutti.Seq, status uint64) {
	b.record(r, HistoryEvent{Kind: kind, Seq: seq, Status: uint8(status)})
	wait := int64(0)
	if s := r.tasks[seq]; s != nil && kind == HistoryTaskDone && s.StartedMs > 0 {
		wait = b.now - s.StartedMs
	}
	b.notify(r, Notification{Kind: kind, Seq: seq, Status: uint8(status), WaitMs: wait})
}

func (b *Batch) noteWait(r *runState, kind HistoryKind, s *taskState, waitMs int64) {
	b.record(r, HistoryEvent{Kind: kind, Seq: s.Seq, Worker: s.Worker})
	b.notify(r, Notification{Kind: kind, Seq: s.Seq, WaitMs: waitMs})
}

// notify tells observers, if there are any.
func (b *Batch) notify(r *runState, n Notification) {
	if b.s.opts.Unobserved {
		return
	}
	if s := r.tasks[n.Seq]; s != nil {
		n.Name, n.Queue, n.Type, n.Attempt = s.Name, s.Queue, s.Type, s.Attempt
	}
	n.Run, n.AtMs = r.about(), b.now
	b.fx.Notes = append(b.fx.Notes, n)
}

// about returns what observers are told of the run.
func (r *runState) about() *RunInfo {
	if i := r.info; i != nil && i.StartMs == r.StartMs && i.Version == r.Version &&
		i.Parent == r.Parent {
		return i
	}
	r.info = &RunInfo{
		ID: r.ID, Namespace: r.Namespace, Dialect: r.Dialect, Definition: r.Definition,
		Version: r.Version, Labels: r.Labels, Parent: r.Parent, ParentTask: r.ParentTask,
		StartMs: r.StartMs,
	}
	return r.info
}

func (b *Batch) noteDetail(r *runState, what string, detail value.Raw) {
	b.record(r, HistoryEvent{Kind: HistoryNote, Note: what, Detail: detail})
}

// record adds an entry to the batch's share of the run's history.
func (b *Batch) record(r *runState, ev HistoryEvent) {
	var e enc
	e.u(1, uint64(ev.Kind))
	e.i(2, b.now-r.ID.StartMs())
	e.u(3, uint64(ev.Seq))
	e.u(4, uint64(ev.Status))
	e.str(5, ev.Worker)
	e.str(6, ev.Note)
	e.bytes(7, ev.Detail)
	r.history.add(r.events/segmentEvents, e.b)
	r.events++
	r.hotDirty = true
}

// journal is what a batch adds to the history of a run: the ends of segments, in order.
type journal []segment

type segment struct {
	number  uint32
	entries []byte
}

func (j *journal) add(number uint32, entry []byte) {
	if n := len(*j); n == 0 || (*j)[n-1].number != number {
		*j = append(*j, segment{number: number})
	}
	last := &(*j)[len(*j)-1]
	last.entries = protowire.AppendTag(last.entries, 1, protowire.BytesType)
	last.entries = protowire.AppendBytes(last.entries, entry)
}

// mark returns the journal as it is, whatever is added later.
func (j journal) mark() journal { return slices.Clone(j) }

// flushHistory appends the batch's entries to the segments that they belong to.
func (b *Batch) flushHistory(r *runState) {
	for i, s := range r.history {
		b.w.Append(numberedKey(r.ID, partHistory, s.number), s.entries)
		r.history[i].entries = nil
	}
	r.history = r.history[:0]
}

func decodeHistory(startMs int64, segment uint32, b []byte) (evs []HistoryEvent, err error) {
	n := int(segment) * segmentEvents
	err = decode(b, func(f field) error {
		n++
		ev := HistoryEvent{Number: n, TimeMs: startMs}
		evs = append(evs, ev)
		return decode(f.b, func(g field) error {
			decodeHistoryField(&evs[len(evs)-1], g, startMs)
			return nil
		})
	})
	return evs, err
}

func decodeHistoryField(ev *HistoryEvent, f field, startMs int64) {
	switch f.num {
	case 1:
		ev.Kind = HistoryKind(f.v)
	case 2:
		ev.TimeMs = startMs + f.i()
	case 3:
		ev.Seq = tutti.Seq(f.v)
	case 4:
		ev.Status = uint8(f.v)
	case 5:
		ev.Worker = f.s()
	case 6:
		ev.Note = f.s()
	case 7:
		ev.Detail = f.own()
	}
}
