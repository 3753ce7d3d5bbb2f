package conductorapi

import (
	"fmt"
	"net/http"

	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/value"
)

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
			(*API).bulkRestart, []string{"useLatestDefinitions boolean=false"},
			"[string]", "BulkResponse",
		},
		{
			"POST", base + "/retry", api.ControlRuns, "Retry workflows",
			(*API).bulkRetry, nil, "[string]", "BulkResponse",
		},
		{
			"POST", base + "/terminate", api.ControlRuns, "Terminate workflows",
			(*API).bulkTerminate, []string{"reason string"}, "[string]", "BulkResponse",
		},
		{
			"DELETE", base + "/remove", api.RemoveRuns, "Remove workflows",
			(*API).bulkRemove, []string{"archiveWorkflow boolean=true"}, "[string]", "BulkResponse",
		},
		{
			"DELETE", base + "/terminate-remove", api.RemoveRuns,
			"Terminate and remove workflows",
			(*API).bulkTerminateRemove, []string{"reason string", "archiveWorkflow boolean=true"},
			"[string]", "BulkResponse",
		},
		{
			"POST", base + "/search", api.ReadRuns, "Get workflows",
			(*API).bulkGet, []string{"includeTasks boolean=true"}, "[string]", "BulkResponse",
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
