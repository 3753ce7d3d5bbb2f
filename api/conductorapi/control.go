package conductorapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/value"
)

func controlRoutes() []route {
	const base = "/api/workflow"
	return []route{
		{
			"DELETE", base + "/{workflowId}/remove", api.RemoveRuns, "Remove a workflow",
			(*API).remove,
			[]string{"archiveWorkflow boolean=true"},
			"", "",
		},
		{
			"DELETE", base + "/{workflowId}/terminate-remove", api.RemoveRuns,
			"Terminate a workflow and remove it",
			(*API).terminateRemove,
			[]string{"reason string", "archiveWorkflow boolean=true"},
			"", "",
		},
		{
			"DELETE", base + "/{workflowId}", api.ControlRuns, "Terminate a workflow",
			(*API).terminate,
			[]string{"reason string"},
			"", "",
		},
		{
			"PUT", base + "/decide/{workflowId}", api.ControlRuns,
			"Look again at what a workflow has to do", (*API).decide, nil, "", "",
		},
		{
			"PUT", base + "/{workflowId}/pause", api.ControlRuns, "Pause a workflow",
			(*API).pause, nil, "", "",
		},
		{
			"PUT", base + "/{workflowId}/resume", api.ControlRuns, "Resume a paused workflow",
			(*API).resume, nil, "", "",
		},
		{
			"PUT", base + "/{workflowId}/skiptask/{taskReferenceName}", api.ControlRuns,
			"Step over a task that has not started", (*API).skip, nil, "SkipTaskRequest", "",
		},
		{
			"POST", base + "/{workflowId}/rerun", api.ControlRuns,
			"Repeat an ended workflow from a task on",
			(*API).rerun, nil, "RerunWorkflowRequest", "text",
		},
		{
			"POST", base + "/{workflowId}/restart", api.ControlRuns,
			"Repeat an ended workflow from its beginning",
			(*API).restart,
			[]string{"useLatestDefinitions boolean=false"},
			"", "",
		},
		{
			"POST", base + "/{workflowId}/retry", api.ControlRuns,
			"Go on with a workflow that failed, from what failed",
			(*API).retry,
			[]string{"resumeSubworkflowTasks boolean=false"},
			"", "",
		},
		{
			"POST", base + "/{workflowId}/resetcallbacks", api.ControlRuns,
			"Make tasks ready whose workers asked to be called back later",
			(*API).resetCallbacks, nil, "", "",
		},
	}
}

// operation does something to a run.
type operation func(ctx context.Context, id tutti.RunID) error

// apply does an operation to the workflow of the path and answers a status.
func (a *API) apply(c *call, status int, op operation) (answer, error) {
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return answer{}, err
	}
	return answer{status: status}, a.named(op)(c.ctx(), id)
}

// named words an operation's errors as the official server does.
func (a *API) named(op operation) operation {
	return func(ctx context.Context, id tutti.RunID) error {
		err := op(ctx, id)
		if hasCode(err, "RunNotFound") {
			return noWorkflow(err, id.String())
		}
		return err
	}
}

// reworded answers an error of a code with a status of its own.
func reworded(err error, code string, status int) error {
	if !hasCode(err, code) {
		return err
	}
	f := failureOf(err)
	return &failure{status: status, message: f.message, cause: err}
}

func (a *API) opPause(ctx context.Context, id tutti.RunID) error {
	return a.svc.Pause(ctx, namespace, id, "")
}

func (a *API) opResume(ctx context.Context, id tutti.RunID) error {
	return a.svc.Resume(ctx, namespace, id, "")
}

func (a *API) opRetry(deep bool) operation {
	return func(ctx context.Context, id tutti.RunID) error {
		err := a.svc.Retry(ctx, namespace, id, deep)
		return reworded(err, "RunOpen", http.StatusNotFound)
	}
}

func (a *API) opRestart(newest bool) operation {
	return func(ctx context.Context, id tutti.RunID) error {
		err := a.withRun(ctx, id, func(r *reader) error {
			def := conductor.Definition(r.prog)
			if r.view.Run.Status == tutti.RunCompleted && def != nil && !def.Restartable {
				return fail(http.StatusNotFound, "Workflow: %s is non-restartable", id)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return a.svc.Restart(ctx, namespace, id, api.RestartOptions{Newest: newest})
	}
}

// opTerminate ends a run. One that has ended badly stays as it is.
func (a *API) opTerminate(reason string) operation {
	return func(ctx context.Context, id tutti.RunID) error {
		err := a.svc.Terminate(ctx, namespace, id, reason, nil)
		if !hasCode(err, "RunEnded") {
			return err
		}
		run, gone := a.svc.Run(ctx, namespace, id)
		if gone == nil && run.Status == tutti.RunCompleted {
			return err
		}
		return nil
	}
}

// opRemove deletes a run. Whoever asks for an archive must wait for its end; there is none,
// since ended runs stay searchable until they are removed.
func (a *API) opRemove(archive bool) operation {
	return func(ctx context.Context, id tutti.RunID) error {
		err := a.svc.Remove(ctx, namespace, id)
		if !hasCode(err, "RunOpen") {
			return err
		}
		if archive {
			return reworded(err, "RunOpen", http.StatusBadRequest)
		}
		return a.opTerminateRemove("removed")(ctx, id)
	}
}

func (a *API) opTerminateRemove(reason string) operation {
	return func(ctx context.Context, id tutti.RunID) error {
		if err := a.opTerminate(reason)(ctx, id); err != nil {
			return err
		}
		return a.svc.Remove(ctx, namespace, id)
	}
}

func (a *API) remove(c *call) (answer, error) {
	archive, err := c.flag("archiveWorkflow", true)
	if err != nil {
		return answer{}, err
	}
	return a.apply(c, 0, a.opRemove(archive))
}

func (a *API) terminateRemove(c *call) (answer, error) {
	return a.apply(c, 0, a.opTerminateRemove(c.text("reason", "")))
}

func (a *API) terminate(c *call) (answer, error) {
	return a.apply(c, 0, a.opTerminate(c.text("reason", "")))
}

func (a *API) decide(c *call) (answer, error) {
	return a.apply(c, 0, func(ctx context.Context, id tutti.RunID) error {
		return a.svc.Decide(ctx, namespace, id)
	})
}

func (a *API) pause(c *call) (answer, error) { return a.apply(c, 0, a.opPause) }

func (a *API) resume(c *call) (answer, error) { return a.apply(c, 0, a.opResume) }

func (a *API) resetCallbacks(c *call) (answer, error) {
	return a.apply(c, http.StatusNoContent, func(ctx context.Context, id tutti.RunID) error {
		return a.svc.ResetCallbacks(ctx, namespace, id)
	})
}

func (a *API) retry(c *call) (answer, error) {
	deep, err := c.flag("resumeSubworkflowTasks", false)
	if err != nil {
		return answer{}, err
	}
	return a.apply(c, http.StatusNoContent, a.opRetry(deep))
}

func (a *API) restart(c *call) (answer, error) {
	newest, err := c.flag("useLatestDefinitions", false)
	if err != nil {
		return answer{}, err
	}
	return a.apply(c, http.StatusNoContent, a.opRestart(newest))
}

func (a *API) skip(c *call) (answer, error) {
	raw, err := c.optional("object")
	if err != nil {
		return answer{}, err
	}
	b := bodyReader{raw: raw}
	input, output := b.object("taskInput"), b.object("taskOutput")
	if b.err != nil {
		return answer{}, b.err
	}
	return a.apply(c, 0, func(ctx context.Context, id tutti.RunID) error {
		err := a.svc.Skip(ctx, namespace, id, c.path("taskReferenceName"), input, output)
		if isKind(err, tutti.Invalid) || isKind(err, tutti.Conflict) {
			return &failure{
				status: http.StatusInternalServerError, message: failureOf(err).message, cause: err,
			}
		}
		return err
	})
}

func (a *API) rerun(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	b := bodyReader{raw: raw}
	taskID := b.text("reRunFromTaskId")
	taskInput := b.object("taskInput")
	o := api.RestartOptions{Input: b.object("workflowInput")}
	if corr := b.text("correlationId"); corr != "" {
		o.CorrelationID = &corr
	}
	if b.err != nil {
		return answer{}, b.err
	}
	ans, err := a.apply(c, 0, func(ctx context.Context, id tutti.RunID) error {
		if taskID == "" {
			return a.svc.Restart(ctx, namespace, id, o)
		}
		return a.rerunFrom(ctx, id, taskID, taskInput, o)
	})
	if err != nil {
		return ans, err
	}
	return plainText(c.path("workflowId"))
}

// maxNesting bounds how deep sub-workflows are followed.
const maxNesting = 64

// rerunFrom repeats a workflow from a task of its own or of a sub-workflow, whose parents the
// engine takes up again.
func (a *API) rerunFrom(
	ctx context.Context, id tutti.RunID, taskID string, input value.Raw, o api.RestartOptions,
) error {
	top, err := a.svc.Run(ctx, namespace, id)
	if err != nil {
		return err
	}
	if top.Status.Open() {
		return fail(http.StatusConflict, "Workflow: %s is not in terminal state, unable to rerun.", id)
	}
	if o.Input != nil || o.CorrelationID != nil {
		return fail(http.StatusBadRequest, "a rerun from a task keeps the workflow's input and"+
			" correlation id: rerun from the beginning to change them")
	}
	notFound := fail(http.StatusBadRequest, "Task %s not found", taskID)
	run, seq, err := tutti.ParseTaskID(taskID)
	if err != nil || seq == 0 {
		return notFound
	}
	for at, hops := run, 0; at != id; hops++ {
		r, err := a.svc.Run(ctx, namespace, at)
		if err != nil || r.Parent.IsZero() || hops > maxNesting {
			return notFound
		}
		at = r.Parent
	}
	err = a.svc.Rerun(ctx, namespace, run, seq, input)
	return reworded(err, "TaskNotFound", http.StatusBadRequest)
}

func bulkRoutes() []route {
	const base = "/api/workflow/bulk"
	return []route{
		{
			"PUT", base + "/pause", api.ControlRuns, "Pause workflows",
			(*API).bulkPause, nil, "[string]", "BulkResponse",
		},
		{
			"PUT", base + "/resume", api.ControlRuns, "Resume workflows",
			(*API).bulkResume, nil, "[string]", "BulkResponse",
		},
		{
			"POST", base + "/restart", api.ControlRuns, "Restart workflows",
			(*API).bulkRestart,
			[]string{"useLatestDefinitions boolean=false"},
			"[string]", "BulkResponse",
		},
		{
			"POST", base + "/retry", api.ControlRuns, "Retry workflows",
			(*API).bulkRetry, nil, "[string]", "BulkResponse",
		},
		{
			"POST", base + "/terminate", api.ControlRuns, "Terminate workflows",
			(*API).bulkTerminate,
			[]string{"reason string"},
			"[string]", "BulkResponse",
		},
		{
			"DELETE", base + "/remove", api.RemoveRuns, "Remove workflows",
			(*API).bulkRemove,
			[]string{"archiveWorkflow boolean=true"},
			"[string]", "BulkResponse",
		},
		{
			"DELETE", base + "/terminate-remove", api.RemoveRuns,
			"Terminate and remove workflows",
			(*API).bulkTerminateRemove,
			[]string{"reason string", "archiveWorkflow boolean=true"},
			"[string]", "BulkResponse",
		},
		{
			"POST", base + "/search", api.ReadRuns, "Get workflows",
			(*API).bulkGet,
			[]string{"includeTasks boolean=true"},
			"[string]", "BulkResponse",
		},
	}
}

// bulkResult is the official BulkResponse.
type bulkResult struct {
	failed map[string]string
	done   []string
	bodies []value.Raw // in place of done
}

func (b *bulkResult) add(name string, err error) {
	if err == nil {
		b.done = append(b.done, name)
		return
	}
	if b.failed == nil {
		b.failed = map[string]string{}
	}
	b.failed[name] = failureOf(err).message
}

func (b *bulkResult) body() []byte {
	o := newObject(nil)
	o.pairs("bulkErrorResults", b.failed)
	if b.bodies != nil {
		o.name("bulkSuccessfulResults")
		o.b = appendList(o.b, b.bodies, appendRaw[value.Raw])
	} else {
		o.texts("bulkSuccessfulResults", b.done)
	}
	o.string("message", "Bulk Request has been processed.")
	return o.end()
}

// bulkIDs reads the workflows that a bulk request names.
func bulkIDs(c *call) ([]string, error) {
	ids, err := c.names()
	if err != nil {
		return nil, err
	}
	v := violation{path: "workflowIds"}
	switch {
	case len(ids) == 0:
		v.message = "WorkflowIds list cannot be null."
	case len(ids) > api.MaxBulk:
		v.message = fmt.Sprintf("Cannot process more than %d workflows. Please use multiple"+
			" requests.", api.MaxBulk)
	default:
		return ids, nil
	}
	return nil, invalid(v)
}

// bulk does an operation to every workflow that the body names.
func (a *API) bulk(c *call, op operation) (answer, error) {
	ids, err := bulkIDs(c)
	if err != nil {
		return answer{}, err
	}
	outcomes, err := a.svc.Bulk(c.ctx(), ids, a.named(op))
	if err != nil {
		return answer{}, err
	}
	var out bulkResult
	for _, o := range outcomes {
		out.add(o.ID, noWorkflow(o.Err, o.ID))
	}
	return jsonOf(out.body())
}

func (a *API) bulkPause(c *call) (answer, error) { return a.bulk(c, a.opPause) }

func (a *API) bulkResume(c *call) (answer, error) { return a.bulk(c, a.opResume) }

func (a *API) bulkRetry(c *call) (answer, error) { return a.bulk(c, a.opRetry(false)) }

func (a *API) bulkRestart(c *call) (answer, error) {
	newest, err := c.flag("useLatestDefinitions", false)
	if err != nil {
		return answer{}, err
	}
	return a.bulk(c, a.opRestart(newest))
}

func (a *API) bulkTerminate(c *call) (answer, error) {
	return a.bulk(c, a.opTerminate(c.text("reason", "")))
}

func (a *API) bulkRemove(c *call) (answer, error) {
	archive, err := c.flag("archiveWorkflow", true)
	if err != nil {
		return answer{}, err
	}
	return a.bulk(c, a.opRemove(archive))
}

func (a *API) bulkTerminateRemove(c *call) (answer, error) {
	return a.bulk(c, a.opTerminateRemove(c.text("reason", "")))
}

func (a *API) bulkGet(c *call) (answer, error) {
	tasks, err := c.flag("includeTasks", true)
	if err != nil {
		return answer{}, err
	}
	ids, err := bulkIDs(c)
	if err != nil {
		return answer{}, err
	}
	out := bulkResult{bodies: []value.Raw{}}
	for _, name := range ids {
		ans, err := a.workflowNamed(c, name, tasks)
		if failureOfKind(err, http.StatusNotFound) {
			out.add(name, err)
			continue
		}
		if err != nil {
			return answer{}, err
		}
		out.bodies = append(out.bodies, ans.body)
	}
	return jsonOf(out.body())
}

func (a *API) workflowNamed(c *call, name string, tasks bool) (answer, error) {
	id, err := parseRun(name)
	if err != nil {
		return answer{}, err
	}
	return a.workflow(c.ctx(), id, tasks)
}
