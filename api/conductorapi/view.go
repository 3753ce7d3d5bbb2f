package conductorapi

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

// forever is the callbackAfterSeconds of a task that waits until it is told.
const forever = 1<<31 - 1

// appendTask writes a task of a run.
func (r *reader) appendTask(dst []byte, t *tutti.Task) []byte {
	s := r.a.stepOf(r.prog, r, t)
	return appendTask(dst, r.view.Run, t, s, conductor.TaskOutput(r.prog, r, t), nil)
}

// appendHandOut writes a task for the worker that got it.
func (a *API) appendHandOut(
	ctx context.Context, dst []byte, run *tutti.Run, t *tutti.Task,
) ([]byte, error) {
	prog, err := a.program(ctx, run)
	if err != nil {
		return dst, err
	}
	s := a.stepOf(prog, handedOut{ctx, a, run}, t)
	var secrets map[string]string
	if a.opts.Secret != nil {
		for _, name := range s.secrets {
			if v, ok := a.opts.Secret(name); ok {
				if secrets == nil {
					secrets = map[string]string{}
				}
				secrets[name] = v
			}
		}
	}
	return appendTask(dst, run, t, s, t.Output, secrets), nil
}

func appendTask(
	dst []byte, run *tutti.Run, t *tutti.Task, s *step, output value.Raw,
	secrets map[string]string,
) []byte {
	const fixed = 1200 // bytes of a task besides its payloads and its definition
	o := newObject(slices.Grow(dst, fixed+len(t.Input)+len(output)+len(s.task)+len(s.def)))
	o.text("taskType", t.Type)
	o.text("status", conductor.StatusName(t.Status))
	o.payload("inputData", t.Input)
	o.text("referenceTaskName", t.Name)
	o.num("retryCount", int64(t.Attempt))
	o.num("seq", int64(t.Seq))
	o.text("correlationId", run.CorrelationID)
	o.num("pollCount", int64(t.Polls))
	o.text("taskDefName", t.DefName)
	appendTimes(o, run, t)
	o.flag("retried", t.Retried)
	o.flag("executed", !t.Status.Open())
	o.flag("callbackFromWorker", true)
	o.num("responseTimeoutSeconds", t.Timeouts.ResponseMs/1000)
	o.text("workflowInstanceId", run.ID.String())
	o.text("workflowType", run.Definition)
	o.text("taskId", run.ID.TaskID(t.Seq))
	o.text("reasonForIncompletion", t.Reason)
	o.num("callbackAfterSeconds", callbackAfter(t))
	o.text("workerId", t.Worker)
	o.payload("outputData", output)
	o.raw("workflowTask", s.task)
	o.text("domain", t.Domain)
	appendLimit(o, t.Limit)
	o.num("workflowPriority", int64(run.Priority))
	o.text("executionNameSpace", s.executionNameSpace)
	o.text("isolationGroupId", s.isolationGroup)
	iteration := conductor.Iteration(t)
	o.num("iteration", int64(iteration))
	if !t.ChildRun.IsZero() {
		o.text("subWorkflowId", t.ChildRun.String())
	}
	o.flag("subworkflowChanged", false)
	if secrets != nil {
		o.pairs("runtimeMetadata", secrets)
	}
	o.raw("taskDefinition", s.def)
	o.flag("loopOverTask", iteration > 0)
	return o.end()
}

func appendTimes(o *object, run *tutti.Run, t *tutti.Task) {
	o.num("scheduledTime", t.ScheduledMs)
	o.num("startTime", t.StartedMs)
	o.num("endTime", t.EndedMs)
	o.num("updateTime", t.UpdatedMs)
	o.num("firstStartTime", firstStart(t))
	o.num("startDelayInSeconds", t.DelayMs/1000)
	o.num("queueWaitTime", queueWait(t, time.Now().UnixMilli()))
	if t.RetryOf != 0 {
		o.text("retriedTaskId", run.ID.TaskID(t.RetryOf))
	}
}

func appendLimit(o *object, l *tutti.Limit) {
	rate, window := 0, int64(0)
	if l != nil {
		rate, window = l.Rate, l.WindowMs/1000
	}
	o.num("rateLimitPerFrequency", int64(rate))
	o.num("rateLimitFrequencyInSeconds", window)
}

func firstStart(t *tutti.Task) int64 {
	if t.Attempt > 0 {
		return t.FirstMs
	}
	return t.StartedMs
}

// callbackAfter is the delay that is still ahead of the task. Once handed out none is: the
// workers of the Java SDK take what they were handed as what they answer, and a delay left in it
// would put the task back into its queue.
func callbackAfter(t *tutti.Task) int64 {
	switch {
	case t.Type == model.TypeWait && t.UntilMs == 0:
		return forever
	case t.Type == model.TypeWait:
		return max(t.UntilMs-t.ScheduledMs, 0) / 1000
	case t.CallbackMs > 0:
		return t.CallbackMs / 1000
	case t.Polls > 0:
		return 0
	}
	return t.DelayMs / 1000
}

// queueWait is how long a task waited to be handed out, as the official server derives it.
func queueWait(t *tutti.Task, now int64) int64 {
	switch {
	case t.StartedMs == 0 || t.ScheduledMs == 0:
		return 0
	case t.UpdatedMs > 0 && t.CallbackMs > 0:
		return max(0, now-(t.UpdatedMs+t.CallbackMs))
	}
	return t.StartedMs - t.ScheduledMs
}

// appendTasks writes the tasks of a run as a list.
func (r *reader) appendTasks(dst []byte) ([]byte, error) {
	dst = append(dst, '[')
	first := true
	err := r.view.Tasks(0, func(t *tutti.Task) bool {
		if conductor.Hidden(t) {
			return true
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = r.appendTask(dst, t)
		return r.err == nil && len(dst) < maxAnswer
	})
	if err == nil && len(dst) >= maxAnswer {
		err = &tutti.Error{
			Kind: tutti.Exhausted, Op: "get workflow", Code: "AnswerTooLarge",
			Err:  fmt.Errorf("the tasks of workflow %s take more than %d bytes", r.Run().ID, maxAnswer),
			Hint: "leave the tasks out with includeTasks=false and get them in parts from /tasks",
		}
	}
	return append(dst, ']'), err
}

// maxAnswer bounds the tasks of one workflow that one answer holds, in bytes.
const maxAnswer = 256 << 20

// appendWorkflow writes a run.
func (r *reader) appendWorkflow(dst []byte, tasks bool) ([]byte, error) {
	run := r.view.Run
	o := newObject(dst)
	o.num("createTime", run.StartMs)
	o.num("updateTime", run.UpdateMs)
	o.text("createdBy", run.CreatedBy)
	o.text("status", run.Status.String())
	o.num("endTime", run.EndMs)
	o.text("workflowId", run.ID.String())
	if !run.Parent.IsZero() {
		o.text("parentWorkflowId", run.Parent.String())
		o.text("parentWorkflowTaskId", run.Parent.TaskID(run.ParentTask))
	}
	o.name("tasks")
	if tasks {
		var err error
		if o.b, err = r.appendTasks(o.b); err != nil {
			return nil, err
		}
	} else {
		o.b = append(o.b, "[]"...)
	}
	o.payload("input", conductor.WorkflowInput(r.prog, run))
	o.payload("output", run.Output)
	o.text("correlationId", run.CorrelationID)
	o.text("reRunFromWorkflowId", run.RerunOf)
	o.text("reasonForIncompletion", run.Reason)
	o.text("event", run.Event)
	o.pairs("taskToDomain", run.Routing)
	refs, names := r.failed()
	o.texts("failedReferenceTaskNames", refs)
	o.texts("failedTaskNames", names)
	src, err := r.view.Source()
	if err != nil {
		return nil, err
	}
	o.payload("workflowDefinition", src.Body)
	o.num("priority", int64(run.Priority))
	o.payload("variables", conductor.Variables(r.prog, r))
	o.num("lastRetriedTime", run.RetriedMs)
	o.name("history")
	o.b = append(o.b, "[]"...)
	o.text("idempotencyKey", run.IdempotencyKey)
	if run.Limit != nil {
		o.text("rateLimitKey", run.Limit.Key)
	}
	o.flag("rateLimited", run.HeldByLimit)
	o.num("startTime", run.StartMs)
	o.text("workflowName", run.Definition)
	o.num("workflowVersion", int64(run.Version))
	return o.end(), r.err
}

// failed returns the reference names and names of the tasks that failed, each once.
func (r *reader) failed() (refs, names []string) {
	seenRef, seenName := map[string]bool{}, map[string]bool{}
	for _, t := range conductor.FailedTasks(r.prog, r) {
		if !seenRef[t.Name] {
			seenRef[t.Name] = true
			refs = append(refs, t.Name)
		}
		if !seenName[t.DefName] {
			seenName[t.DefName] = true
			names = append(names, t.DefName)
		}
	}
	return refs, names
}
