package conductor

import (
	"encoding/binary"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// The states of a task that onStateChange may name. There is no onStart for workers' tasks:
// that one was handed out is no event for the program, so it counts for all other tasks only.
const (
	stateScheduled = "onScheduled"
	stateStart     = "onStart"
	stateSuccess   = "onSuccess"
	stateFailed    = "onFailed"
	stateCancelled = "onCancelled"
)

// typeNotice is the type of the hidden tasks that deliver notifications.
const typeNotice = "STATE_CHANGE_EVENT"

// noticeMs bounds how long a run waits for a notification to be delivered before it ends.
const noticeMs = 60_000

// notice is one event of onStateChange: a message for a sink, published by the connector
// behind QueueEvent through a task that views do not show. The run takes no interest in what
// becomes of it, but does not end while it is under way.
type notice struct {
	sink    string
	payload *Template
}

// compileNotices reads onStateChange, whose keys may be lists: "onStart,onFailed".
func compileNotices(t *WorkflowTask) map[string][]notice {
	if len(t.OnStateChange) == 0 {
		return nil
	}
	m := map[string][]notice{}
	for _, g := range t.OnStateChange {
		for _, state := range strings.Split(g.Key, ",") {
			state = strings.TrimSpace(state)
			for _, e := range g.List {
				payload := e.Payload
				if payload == nil {
					payload = value.NewObject()
				}
				m[state] = append(m[state], notice{e.Type, CompileTemplate(payload)})
			}
		}
	}
	return m
}

// announce sends the notifications for a state of a task.
func (x *exec) announce(s site, t *tutti.Task, state string) {
	for _, n := range s.node.notices[state] {
		x.notify(s, t, state, n)
	}
	if state == stateScheduled && t.Kind != tutti.Work {
		x.announce(s, t, stateStart)
	}
}

// announceEnd sends the notifications for the end of a task.
func (x *exec) announceEnd(s site, t *tutti.Task) {
	switch {
	case t.Status.Successful():
		x.announce(s, t, stateSuccess)
	case t.Status == tutti.CancelledTask:
		x.announce(s, t, stateCancelled)
	default:
		x.announce(s, t, stateFailed)
	}
}

func (x *exec) notify(s site, t *tutti.Task, state string, n notice) {
	v, err := x.resolve(n.payload, t.Seq)
	if err != nil {
		x.t.Note("notification", value.Marshal(err.Error()))
		return
	}
	body := asObject(v, "payload").Clone()
	body.Set("workflowInstanceId", x.run.ID.String())
	body.Set("workflowType", x.run.Definition)
	body.Set("workflowVersion", value.Int(int64(x.run.Version)))
	body.Set("correlationId", nullable(x.run.CorrelationID))
	body.Set("taskId", x.taskID(t.Seq))
	body.Set("referenceTaskName", t.Name)
	body.Set("status", StatusName(t.Status))
	message := single("sink", n.sink)
	message.Set("event", EventSink(n.sink, x.run.Definition, t.Name))
	message.Set("payload", body)
	x.t.AddTask(tutti.TaskSpec{
		Frame: s.frame.ID, Name: t.Name + "#" + state, Type: typeNotice, DefName: typeNotice,
		Kind: tutti.Work, Status: tutti.Queued, Queue: QueueEvent, Node: s.node.index,
		Input: value.Marshal(message), Ext: taskExt{hidden: true}.encode(),
		Timeouts: tutti.Timeouts{TotalAt: x.t.Now() + noticeMs},
	})
	x.root.notices++
	x.saveRoot()
}

// ending is how a run ends that still has notifications under way.
type ending struct {
	status tutti.RunStatus
	blame  tutti.Seq
	reason string
	output value.Raw
}

// endLater cancels what is open and puts the end of the run off until the last notification
// is delivered.
func (x *exec) endLater(e ending) {
	b := binary.AppendUvarint([]byte{byte(e.status)}, uint64(e.blame))
	b = binary.AppendUvarint(b, uint64(len(e.reason)))
	b = append(append(b, e.reason...), e.output...)
	x.t.SetCell(endingCell, b)
	var open []tutti.Seq
	for t := range x.t.OpenTasks() {
		if !Hidden(t) {
			open = append(open, t.Seq)
		}
	}
	for _, seq := range open {
		x.t.EndTask(seq, tutti.CancelledTask, nil, x.t.Task(seq).Reason)
	}
}

// whileEnding ignores all that happens but the end of notifications.
func (x *exec) whileEnding(ev tutti.Event) error {
	t := x.t.Task(ev.Seq)
	switch {
	case ev.Kind == tutti.EventRunTimeout:
		x.root.notices = 1
		return x.noticeEnded()
	case t == nil || !Hidden(t):
		return nil
	case ev.Kind == tutti.EventTaskTimeout:
		return x.taskTimeout(ev)
	case ev.Kind == tutti.EventTaskEnded:
		return x.noticeEnded()
	}
	return nil
}

// noticeEnded counts a notification that was delivered, or could not be.
func (x *exec) noticeEnded() error {
	x.root.notices--
	x.saveRoot()
	b, ending := x.t.Cell(endingCell)
	if !ending || x.root.notices > 0 {
		return nil
	}
	x.t.SetCell(endingCell, nil)
	r := stateReader{b: b[1:]}
	blame, reason := r.seq(), r.text()
	x.over = true
	x.t.EndRun(tutti.RunStatus(b[0]), value.Raw(r.b), reason, blame)
	return nil
}
