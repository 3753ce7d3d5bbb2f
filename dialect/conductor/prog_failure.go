package conductor

import (
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// startFailureWorkflow starts the workflow that is to deal with the failure of this one, and
// adds its identifier to the output.
func (x *exec) startFailureWorkflow(
	status tutti.RunStatus, output *value.Object, reason string, blame *tutti.Task,
) *value.Object {
	name := x.failureWorkflow()
	if name == "" {
		return output
	}
	in := x.workflowInput().Clone()
	in.Set("workflowId", x.run.ID.String())
	in.Set("reason", reason)
	in.Set("failureStatus", status.String())
	in.Set("failureTaskId", nil)
	if blame != nil {
		in.Set("failureTaskId", x.taskID(blame.Seq))
	}
	in.Set("failedWorkflow", x.failedWorkflow(status, output, reason))
	spec := tutti.RunSpec{
		Definition: name, Input: value.Marshal(in), CorrelationID: x.run.CorrelationID,
		Routing: x.run.Routing, Priority: x.run.Priority,
	}
	if v := x.p.def.FailureWorkflowVersion; v != nil {
		spec.Version = *v
	}
	id := x.t.StartRun(spec)
	output = output.Clone()
	output.Set("conductor.failure_workflow", id.String())
	return output
}

// failureWorkflow returns the name of the failure workflow. One that starts with $ names a
// member of the workflow's input: $workflow.input.member.
func (x *exec) failureWorkflow() string {
	name := x.p.def.FailureWorkflow
	if !strings.HasPrefix(name, "$") {
		return name
	}
	parts := strings.Split(strings.Trim(name, "${}"), ".")
	if len(parts) < 3 {
		return ""
	}
	return textOf(firstOf(x.workflowInput(), parts[2]))
}

// failedTasksMax bounds how many tasks of a failed workflow its failure workflow is told of:
// the newest.
const failedTasksMax = 100

// failedWorkflow describes the run to its failure workflow.
func (x *exec) failedWorkflow(
	status tutti.RunStatus, output *value.Object, reason string,
) *value.Object {
	r := x.run
	o := value.NewObject()
	o.Set("workflowId", r.ID.String())
	o.Set("workflowName", r.Definition)
	o.Set("workflowVersion", value.Int(int64(r.Version)))
	o.Set("status", status.String())
	o.Set("startTime", value.Int(r.StartMs))
	o.Set("endTime", value.Int(x.t.Now()))
	o.Set("correlationId", nullable(r.CorrelationID))
	o.Set("priority", value.Int(int64(r.Priority)))
	o.Set("input", x.workflowInput())
	o.Set("output", output)
	o.Set("variables", x.variables())
	o.Set("reasonForIncompletion", reason)
	if !r.Parent.IsZero() {
		o.Set("parentWorkflowId", r.Parent.String())
		o.Set("parentWorkflowTaskId", r.Parent.TaskID(r.ParentTask))
	}
	names := []any{}
	for i := 1; i <= min(x.root.failed, failedTasksMax); i++ {
		for _, seq := range cellSeqs(x.t, failedCell(i)) {
			if t := x.t.Task(seq); t != nil {
				names = append(names, t.Name)
			}
		}
	}
	o.Set("failedReferenceTaskNames", names)
	o.Set("tasks", x.newestTasks())
	return o
}

func (x *exec) newestTasks() []any {
	from := tutti.Seq(1)
	if last := x.run.LastSeq; last > failedTasksMax {
		from = last - failedTasksMax + 1
	}
	tasks := []any{}
	for t := range x.t.Tasks(from) {
		if !Hidden(t) {
			tasks = append(tasks, x.describe(t))
		}
	}
	return tasks
}

// describe is the part of a task's record that a failure workflow may want to act on.
func (x *exec) describe(t *tutti.Task) *value.Object {
	o := value.NewObject()
	o.Set("taskId", x.taskID(t.Seq))
	o.Set("seq", value.Int(int64(t.Seq)))
	o.Set("taskType", t.Type)
	o.Set("taskDefName", t.DefName)
	o.Set("referenceTaskName", t.Name)
	o.Set("status", StatusName(t.Status))
	o.Set("retryCount", value.Int(int64(t.Attempt)))
	o.Set("iteration", value.Int(int64(Iteration(t))))
	o.Set("scheduledTime", value.Int(t.ScheduledMs))
	o.Set("startTime", value.Int(t.StartedMs))
	o.Set("endTime", value.Int(t.EndedMs))
	o.Set("workflowInstanceId", x.run.ID.String())
	o.Set("inputData", decoded(t.Input))
	if t.Kind != tutti.Scope {
		o.Set("outputData", decoded(x.p.taskOutput(x.t, t)))
	}
	if t.Reason != "" {
		o.Set("reasonForIncompletion", t.Reason)
	}
	if t.Worker != "" {
		o.Set("workerId", t.Worker)
	}
	return o
}
