package conductorapi

import (
	"context"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/query"
	"github.com/tutti-run/tutti/dialect/conductor"
)

// workflowFields are the fields that searches for workflows know.
var workflowFields = query.Fields{
	"workflowType": query.Text, "workflowId": query.Text, "correlationId": query.Text,
	"status": query.Text, "startTime": query.Time, "endTime": query.Time,
	"updateTime": query.Time, "createTime": query.Time, "modifiedTime": query.Time,
	"version": query.Number, "input": query.Body, "output": query.Body,
	"reasonForIncompletion": query.Body, "executionTime": query.Number,
	"event": query.Text, "failedReferenceTaskNames": query.TextSet,
	"failedTaskNames": query.TextSet, "priority": query.Number, "createdBy": query.Text,
	"idempotencyKey": query.Text, "parentWorkflowId": query.Text, "classifier": query.Text,
}

// taskFields are the fields that searches for tasks know.
var taskFields = query.Fields{
	"workflowId": query.Text, "workflowType": query.Text, "correlationId": query.Text,
	"taskId": query.Text, "taskType": query.Text, "taskDefName": query.Text,
	"referenceTaskName": query.Text, "status": query.Text, "scheduledTime": query.Time,
	"startTime": query.Time, "endTime": query.Time, "updateTime": query.Time,
	"executionTime": query.Number, "queueWaitTime": query.Number, "domain": query.Text,
	"reasonForIncompletion": query.Body, "input": query.Body, "output": query.Body,
	"workflowPriority": query.Number, "workerId": query.Text,
}

// workflowField returns a field of a run.
func (a *API) workflowField(ctx context.Context, r *tutti.Run, field string) query.Value {
	switch field {
	case "workflowType":
		return query.OfText(r.Definition)
	case "workflowId":
		return query.OfText(r.ID.String())
	case "correlationId":
		return query.OfText(r.CorrelationID)
	case "status":
		return query.OfText(r.Status.String())
	case "startTime", "createTime":
		return query.OfNumber(r.StartMs)
	case "endTime":
		return ofTime(r.EndMs)
	case "updateTime", "modifiedTime":
		return query.OfNumber(r.UpdateMs)
	case "version":
		return query.OfNumber(int64(r.Version))
	case "input":
		return query.OfText(string(r.Input))
	case "output":
		return query.OfText(string(r.Output))
	case "reasonForIncompletion":
		return query.OfText(r.Reason)
	case "executionTime":
		return query.OfNumber(took(r.StartMs, r.EndMs))
	case "event":
		return query.OfText(r.Event)
	case "priority":
		return query.OfNumber(int64(r.Priority))
	case "createdBy":
		return query.OfText(r.CreatedBy)
	case "idempotencyKey":
		return query.OfText(r.IdempotencyKey)
	case "parentWorkflowId":
		if !r.Parent.IsZero() {
			return query.OfText(r.Parent.String())
		}
	case "classifier":
		return query.OfText(a.classifier(ctx, r))
	case "failedReferenceTaskNames", "failedTaskNames":
		return a.failedField(ctx, r.ID, field)
	}
	return query.Value{}
}

func ofTime(ms int64) query.Value {
	if ms == 0 {
		return query.Value{}
	}
	return query.OfNumber(ms)
}

func took(from, to int64) int64 {
	if from == 0 || to == 0 {
		return 0
	}
	return to - from
}

// failedField reads the names of a run's failed tasks. A run that cannot be read has none.
func (a *API) failedField(ctx context.Context, id tutti.RunID, field string) query.Value {
	var refs, names []string
	err := a.withRun(ctx, id, func(r *reader) error {
		refs, names = r.failed()
		return nil
	})
	if err != nil {
		return query.Value{}
	}
	if field == "failedTaskNames" {
		return query.OfText(names...)
	}
	return query.OfText(refs...)
}

// classifier tells what kind of workflow a run is; see the function classifier.
func (a *API) classifier(ctx context.Context, r *tutti.Run) string {
	prog, err := a.program(ctx, r)
	if err != nil {
		return ""
	}
	def := conductor.Definition(prog)
	if def == nil {
		return ""
	}
	return classOf(def.Metadata)
}

func taskField(r *tutti.Run, t *tutti.Task, field string) query.Value {
	switch field {
	case "workflowId":
		return query.OfText(r.ID.String())
	case "workflowType":
		return query.OfText(r.Definition)
	case "correlationId":
		return query.OfText(r.CorrelationID)
	case "taskId":
		return query.OfText(r.ID.TaskID(t.Seq))
	case "taskType":
		return query.OfText(t.Type)
	case "taskDefName":
		return query.OfText(t.DefName)
	case "referenceTaskName":
		return query.OfText(t.Name)
	case "status":
		return query.OfText(conductor.StatusName(t.Status))
	case "scheduledTime":
		return ofTime(t.ScheduledMs)
	case "startTime":
		return ofTime(t.StartedMs)
	case "endTime":
		return ofTime(t.EndedMs)
	case "updateTime":
		return ofTime(t.UpdatedMs)
	case "executionTime":
		return query.OfNumber(took(t.StartedMs, t.EndedMs))
	case "queueWaitTime":
		return query.OfNumber(queueWait(t, time.Now().UnixMilli()))
	case "domain":
		return query.OfText(t.Domain)
	case "reasonForIncompletion":
		return query.OfText(t.Reason)
	case "input":
		return query.OfText(string(t.Input))
	case "output":
		return query.OfText(string(t.Output))
	case "workflowPriority":
		return query.OfNumber(int64(r.Priority))
	case "workerId":
		return query.OfText(t.Worker)
	}
	return query.Value{}
}

// instant writes a time as summaries show it.
func instant(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

// appendSummary writes the official WorkflowSummary.
func (r *reader) appendSummary(dst []byte) []byte {
	run := r.view.Run
	in, out := string(conductor.WorkflowInput(r.prog, run)), string(run.Output)
	if out == "" {
		out = "{}"
	}
	o := newObject(dst)
	o.text("workflowType", run.Definition)
	o.num("version", int64(run.Version))
	o.text("workflowId", run.ID.String())
	o.text("correlationId", run.CorrelationID)
	o.text("startTime", instant(run.StartMs))
	o.text("updateTime", instant(run.UpdateMs))
	o.text("endTime", instant(run.EndMs))
	o.text("status", run.Status.String())
	o.text("input", in)
	o.text("output", out)
	o.text("reasonForIncompletion", run.Reason)
	o.num("executionTime", took(run.StartMs, run.EndMs))
	o.text("event", run.Event)
	refs, names := r.failed()
	o.string("failedReferenceTaskNames", strings.Join(refs, ","))
	o.num("priority", int64(run.Priority))
	o.texts("failedTaskNames", names)
	o.text("createdBy", run.CreatedBy)
	o.pairs("taskToDomain", run.Routing)
	o.text("idempotencyKey", run.IdempotencyKey)
	parent := ""
	if !run.Parent.IsZero() {
		parent = run.Parent.String()
	}
	o.string("parentWorkflowId", parent)
	if def := conductor.Definition(r.prog); def != nil {
		o.text("classifier", classOf(def.Metadata))
	}
	o.num("inputSize", int64(len(in)))
	o.num("outputSize", int64(len(out)))
	return o.end()
}

// taskSummary answers the official TaskSummary.
func (a *API) taskSummary(_ context.Context, f api.FoundTask) ([]byte, error) {
	run, t := f.Run, f.Task
	o := newObject(nil)
	o.text("workflowId", run.ID.String())
	o.text("workflowType", run.Definition)
	o.text("correlationId", run.CorrelationID)
	o.text("scheduledTime", instant(t.ScheduledMs))
	o.text("startTime", instant(t.StartedMs))
	o.text("updateTime", instant(t.UpdatedMs))
	o.text("endTime", instant(t.EndedMs))
	o.text("status", conductor.StatusName(t.Status))
	o.text("reasonForIncompletion", t.Reason)
	o.num("executionTime", took(t.StartedMs, t.EndedMs))
	o.num("queueWaitTime", queueWait(t, time.Now().UnixMilli()))
	o.text("taskDefName", t.DefName)
	o.text("taskType", t.Type)
	o.text("input", string(t.Input))
	o.text("output", string(t.Output))
	o.text("taskId", run.ID.TaskID(t.Seq))
	o.num("workflowPriority", int64(run.Priority))
	o.text("domain", t.Domain)
	return o.end(), nil
}
