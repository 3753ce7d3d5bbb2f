package conductor

import (
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// taskTimeout applies the policy of a task's definition to a deadline that passed.
func (x *exec) taskTimeout(ev tutti.Event) error {
	t := x.t.Task(ev.Seq)
	if t == nil || !t.Status.Open() {
		return nil
	}
	s, ok := x.siteOf(t)
	if !ok {
		return nil
	}
	def := s.node.taskDef()
	reason := x.timeoutReason(t, def, ev.Timeout)
	if ev.Timeout == tutti.TimeoutResponse {
		return x.timeOut(s, t, reason)
	}
	switch def.TimeoutPolicy {
	case AlertOnly:
		x.t.Note("task timeout", value.Marshal(reason))
		return nil
	case TimeoutRetry:
		return x.timeOut(s, t, reason)
	}
	x.endOpen(t, tutti.TimedOut, reason)
	return x.finish(tutti.RunTimedOut, reason, x.t.Task(t.Seq))
}

// timeOut ends a task as timed out; another attempt may follow.
func (x *exec) timeOut(s site, t *tutti.Task, reason string) error {
	x.endOpen(t, tutti.TimedOut, reason)
	return x.failed(s, x.t.Task(t.Seq))
}

// endOpen ends an open task of any kind, keeping count of scopes.
func (x *exec) endOpen(t *tutti.Task, status tutti.TaskStatus, reason string) {
	if t.Kind == tutti.Scope {
		x.root.scopes--
		x.saveRoot()
	}
	x.t.EndTask(t.Seq, status, nil, reason)
}

func (x *exec) timeoutReason(t *tutti.Task, def *TaskDef, kind tutti.TimeoutKind) string {
	now := x.t.Now()
	switch kind {
	case tutti.TimeoutPoll:
		poll := 0
		if def.PollTimeoutSeconds != nil {
			poll = *def.PollTimeoutSeconds
		}
		return fmt.Sprintf("Task poll timed out after %d seconds. Poll timeout configured as %d"+
			" seconds. Timeout policy configured to %s", (now-t.ReadyMs)/1000, poll,
			def.TimeoutPolicy)
	case tutti.TimeoutResponse:
		return fmt.Sprintf("responseTimeout: %d exceeded for the taskId: %s with Task"+
			" Definition: %s", def.ResponseTimeoutSeconds, x.taskID(t.Seq), t.DefName)
	case tutti.TimeoutTotal:
		return fmt.Sprintf("Task %s/%s exceeded total timeout of %d seconds (elapsed %d seconds"+
			" across all attempts).", t.DefName, x.taskID(t.Seq), def.TotalTimeoutSeconds,
			(now-t.FirstMs)/1000)
	}
	return fmt.Sprintf("Task timed out after %d seconds. Timeout configured as %d seconds."+
		" Timeout policy configured to %s", (now-t.StartedMs)/1000, def.TimeoutSeconds,
		def.TimeoutPolicy)
}

// runTimeout applies the policy of the workflow.
func (x *exec) runTimeout() error {
	def := x.p.def
	since := max(x.run.StartMs, x.run.RetriedMs)
	reason := fmt.Sprintf("Workflow timed out after %d seconds. Timeout configured as %d seconds."+
		" Timeout policy configured to %s", (x.t.Now()-since)/1000, def.TimeoutSeconds,
		def.TimeoutPolicy)
	if def.TimeoutPolicy != TimeOutWorkflow {
		x.t.Note("workflow timeout", value.Marshal(reason))
		return nil
	}
	return x.finish(tutti.RunTimedOut, reason, nil)
}
