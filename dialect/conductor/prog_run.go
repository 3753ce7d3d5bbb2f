package conductor

import (
	"fmt"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Start implements tutti.Program.
func (p *program) Start(t tutti.Turn) error {
	x := newExec(p, t)
	if err := x.begin(); err != nil {
		return err
	}
	return x.drain()
}

// begin schedules the first step.
func (x *exec) begin() error {
	b := x.p.body
	if x.p.def.Variables.Len() > 0 {
		x.setVariables(x.p.def.Variables)
	}
	if b.first < 0 {
		x.root.finished = true
		return nil
	}
	if err := x.checkInput(); err != nil || x.over {
		return err
	}
	return x.schedule(site{frame: x.t.Frame(0), body: b, node: &b.nodes[b.first]})
}

// Resume implements tutti.Program.
func (p *program) Resume(t tutti.Turn, ev tutti.Event) error {
	x := newExec(p, t)
	if !x.run.Status.Open() {
		return nil
	}
	if x.root.notices > 0 { // or else nothing is left that the end could wait for
		if _, ending := x.t.Cell(endingCell); ending {
			return x.whileEnding(ev)
		}
	}
	if err := x.handle(ev); err != nil {
		return err
	}
	return x.drain()
}

func (x *exec) handle(ev tutti.Event) error {
	switch ev.Kind {
	case tutti.EventTaskEnded:
		x.push(workEnded, uint32(ev.Seq))
	case tutti.EventTaskTimeout:
		return x.taskTimeout(ev)
	case tutti.EventRunTimeout:
		return x.runTimeout()
	case tutti.EventPosted:
		x.takeUp(ev.Payload)
	case tutti.EventRetry:
		return x.retryRun(ev.Deep)
	case tutti.EventRerun:
		return x.rerun(ev)
	case tutti.EventSkip:
		return x.skip(ev)
	case tutti.EventReopened:
		return x.reopened(ev.Seq)
	}
	return nil
}

// ended decides what follows from a task that has reached a final state.
func (x *exec) ended(t *tutti.Task) error {
	if Hidden(t) {
		return x.noticeEnded()
	}
	s, ok := x.siteOf(t)
	if !ok {
		return nil
	}
	if t.Kind == tutti.Child {
		x.childEnded(s, t)
	}
	if t.Status == tutti.Completed && t.Kind != tutti.Local {
		if fault := s.node.checkOut.fault(t.Output, "task output"); fault != "" {
			x.t.EndTask(t.Seq, tutti.Fatal, nil, fault)
		}
	}
	x.announceEnd(s, t)
	if t.Status.Successful() {
		if t.Status == tutti.CompletedWithErrors {
			x.noteProblem(s)
		}
		if s.node.task.Type == TypeTerminate || t.Type == TypeTerminate {
			return x.terminate(t)
		}
		return x.follow(s, t)
	}
	return x.failed(s, t)
}

// failed decides what follows from a task that ended badly: another attempt, going on
// without it, or the end of the run.
func (x *exec) failed(s site, t *tutti.Task) error {
	x.noteFailed(t)
	if again, err := x.tryAgain(s, t); again || err != nil || x.over {
		return err
	}
	switch task := s.node.task; {
	case task.Optional:
		x.t.EndTask(t.Seq, tutti.CompletedWithErrors, nil, t.Reason)
		x.noteProblem(s)
		return x.follow(s, t)
	case task.Permissive:
		x.root.permitted++
		x.saveRoot()
		x.t.SetCell(permittedCell(x.root.permitted), appendSeqs(nil, []tutti.Seq{t.Seq}))
		x.noteProblem(s)
		return x.follow(s, t)
	}
	status := runStatusFor(t.Status)
	return x.finish(status, failureReason(x.taskID(t.Seq), status.String(), t.Reason), t)
}

// failureReason is the official server's text for a run that ends with a task.
func failureReason(taskID, status, reason string) string {
	return fmt.Sprintf("Task %s failed with status: %s and reason: '%s'", taskID, status, reason)
}

// runStatusFor is the status of a run that ends because a task ended with the given one.
func runStatusFor(s tutti.TaskStatus) tutti.RunStatus {
	switch s {
	case tutti.CancelledTask:
		return tutti.RunTerminated
	case tutti.TimedOut:
		return tutti.RunTimedOut
	}
	return tutti.RunFailed
}

// noteProblem lets the JOINs around a task know that it did not end well.
func (x *exec) noteProblem(s site) {
	for f := s.frame; f != nil && f.ID != 0; f = x.frame(f.Parent) {
		if state, ok := f.State.(*forkState); ok {
			state.problems++
			x.t.SaveFrame(f.ID)
		}
	}
}

// noteFailed keeps the names for the workflow's list of failed tasks.
func (x *exec) noteFailed(t *tutti.Task) {
	if t.Status != tutti.Failed && t.Status != tutti.Fatal {
		return
	}
	if prev := x.t.Task(t.RetryOf); t.RetryOf != 0 && prev != nil &&
		(prev.Status == tutti.Failed || prev.Status == tutti.Fatal) {
		return
	}
	x.root.failed++
	x.saveRoot()
	x.t.SetCell(failedCell(x.root.failed), appendSeqs(nil, []tutti.Seq{t.Seq}))
}

// builtIn are the types that are never tried again.
func builtIn(taskType string) bool {
	switch taskType {
	case TypeDecision, TypeSwitch, TypeFork, TypeJoin, TypeExclusiveJoin, TypeDoWhile:
		return true
	}
	return false
}

// tryAgain makes another attempt at a failed task if its definition grants one.
func (x *exec) tryAgain(s site, t *tutti.Task) (bool, error) {
	def := s.node.taskDef()
	if def == nil || builtIn(t.Type) || t.Status == tutti.Fatal || t.Status == tutti.CancelledTask {
		return false, nil
	}
	granted := def.RetryCount
	if s.node.task.RetryCount != nil {
		granted = *s.node.task.RetryCount
	}
	if int(t.Attempt) >= granted {
		return false, nil
	}
	if total := def.TotalTimeoutSeconds; total > 0 && x.t.Now()-t.FirstMs >= total*1000 {
		return true, x.outOfTime(s, t, def)
	}
	var random uint64
	if def.BackoffJitterMs > 0 {
		random = x.t.Random()
	}
	delay, _ := RetryDelay(def, int(t.Attempt), random)
	again := attempt{of: t, delayMs: delay, detached: decodeExt(t.Ext).detached}
	return true, s.node.run(x, s, again)
}

// outOfTime ends the run because a task has used up its time over all attempts.
func (x *exec) outOfTime(s site, t *tutti.Task, def *TaskDef) error {
	if s.node.task.Optional || s.node.task.Permissive {
		return nil
	}
	reason := fmt.Sprintf("Task %s/%s exceeded total timeout of %d seconds (elapsed %d seconds"+
		" across all attempts). No further retries will be attempted.", t.DefName,
		x.taskID(t.Seq), def.TotalTimeoutSeconds, (x.t.Now()-t.FirstMs)/1000)
	return x.finish(runStatusFor(t.Status), reason, t)
}

// broken ends the run because a step's expressions cannot be evaluated.
func (x *exec) broken(s site, err error) error {
	return x.finish(tutti.RunFailed, fmt.Sprintf("Task %s: %v", s.name(), err), nil)
}

// complete ends a run all of whose steps have ended.
func (x *exec) complete() error {
	if x.root.permitted > 0 {
		return x.finish(tutti.RunFailed, x.permittedReasons(), x.firstPermitted())
	}
	return x.finish(tutti.RunCompleted, "", nil)
}

func (x *exec) firstPermitted() *tutti.Task {
	seqs := cellSeqs(x.t, permittedCell(1))
	if len(seqs) == 0 {
		return nil
	}
	return x.t.Task(seqs[0])
}

// permittedReasons tells of the failures that permissive tasks survived.
func (x *exec) permittedReasons() string {
	var b strings.Builder
	for i := 1; i <= x.root.permitted; i++ {
		for _, seq := range cellSeqs(x.t, permittedCell(i)) {
			t := x.t.Task(seq)
			if t == nil {
				continue
			}
			if b.Len() > reasonsMax {
				fmt.Fprintf(&b, ". And %d more", x.root.permitted-i+1)
				return b.String()
			}
			if b.Len() > 0 {
				b.WriteString(". ")
			}
			b.WriteString(failureReason(x.taskID(seq), StatusName(t.Status), t.Reason))
		}
	}
	return b.String()
}

// finish ends the run: output by the definition's rules, and the failure workflow.
func (x *exec) finish(status tutti.RunStatus, reason string, blame *tutti.Task) error {
	output, err := x.output(status, blame)
	if err != nil {
		if status == tutti.RunCompleted {
			status, reason = tutti.RunFailed, err.Error()
		}
		output = value.NewObject()
	}
	return x.end(status, output, reason, blame)
}

// end ends the run with a given output.
func (x *exec) end(
	status tutti.RunStatus, output *value.Object, reason string, blame *tutti.Task,
) error {
	e := ending{status: status, reason: reason}
	if blame != nil {
		e.blame = blame.Seq
	}
	if status == tutti.RunCompleted {
		if fault := x.p.checkOut.faultOf(output, "workflow output"); fault != "" {
			e.status, e.reason = tutti.RunFailed, fault
		}
	}
	e.output = value.Marshal(output)
	if fault := DefaultPayloadLimits.CheckWorkflow(len(e.output), x.run.ID.String()); fault != nil {
		e.status, e.reason = tutti.RunFailed, fault.Error()
		output, e.output = value.NewObject(), value.Raw("{}")
	}
	if e.status != tutti.RunCompleted {
		e.output = value.Marshal(x.startFailureWorkflow(e.status, output, e.reason, blame))
	}
	x.over = true
	x.queue, x.later = nil, nil
	if x.root.notices > 0 {
		x.endLater(e)
		return nil
	}
	x.t.EndRun(e.status, e.output, e.reason, e.blame)
	return nil
}

// output is what the definition says the run yields.
func (x *exec) output(status tutti.RunStatus, blame *tutti.Task) (*value.Object, error) {
	if x.p.outputs != nil {
		v, err := x.resolve(x.p.outputs, 0)
		if err != nil {
			return nil, err
		}
		return asObject(v, "output"), nil
	}
	for seq := x.run.LastSeq; blame == nil && seq > 0; seq-- {
		if t := x.t.Task(seq); t != nil && !Hidden(t) {
			blame = t
		}
	}
	if blame == nil {
		return value.NewObject(), nil
	}
	v, err := x.p.taskOutput(x.t, blame).Parse()
	if err != nil {
		return nil, err
	}
	return asObject(v, "output"), nil
}

// asObject wraps what is no object as the official server does.
func asObject(v any, name string) *value.Object {
	o, ok := v.(*value.Object)
	if ok {
		return o
	}
	o = value.NewObject()
	if v != nil {
		o.Set(name, v)
	}
	return o
}

// statusNames are the official names of the states of tasks.
var statusNames = [...]string{
	tutti.Queued: "SCHEDULED", tutti.Running: "IN_PROGRESS", tutti.Completed: "COMPLETED",
	tutti.CompletedWithErrors: "COMPLETED_WITH_ERRORS", tutti.Failed: "FAILED",
	tutti.Fatal: "FAILED_WITH_TERMINAL_ERROR", tutti.TimedOut: "TIMED_OUT",
	tutti.CancelledTask: "CANCELED", tutti.Skipped: "SKIPPED",
}

// StatusName returns the official name of a task's status.
func StatusName(s tutti.TaskStatus) string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "SCHEDULED"
}

// taskTimeout applies the policy of a task's definition to a deadline that passed.
func (x *exec) taskTimeout(ev tutti.Event) error {
	t := x.t.Task(ev.Seq)
	if t == nil || !t.Status.Open() {
		return nil
	}
	if Hidden(t) {
		x.t.EndTask(t.Seq, tutti.TimedOut, nil, "not delivered in time")
		return x.noticeEnded()
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
	if f := x.frame(decodeExt(t.Ext).frame); t.Type == TypeDoWhile && f != nil && f.ID != 0 {
		x.cancelWithin(f)
		x.t.CloseFrame(f.ID)
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
