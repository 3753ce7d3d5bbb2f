package conductorapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/value"
)

func workflowRoutes() []route {
	const base = "/api/workflow"
	lists := []string{"includeClosed boolean=false", "includeTasks boolean=false"}
	return []route{
		{
			"POST", base, api.StartRuns, "Start a workflow",
			(*API).startWorkflow, nil, "StartWorkflowRequest", "text",
		},
		{
			"POST", base + "/{name}", api.StartRuns, "Start a workflow with an input",
			(*API).startNamed,
			[]string{
				"version integer", "correlationId string", "priority integer=0",
			},
			"object", "text",
		},
		{
			"GET", base + "/{workflowId}", api.ReadRuns, "Get a workflow",
			(*API).getWorkflow,
			[]string{"includeTasks boolean=true"},
			"", "Workflow",
		},
		{
			"GET", base + "/{workflowId}/tasks", api.ReadRuns,
			"Get a part of the tasks of a workflow",
			(*API).workflowTasks,
			[]string{"start integer=0", "count integer=15", "status string"},
			"", "SearchResultTask",
		},
		{
			"GET", base + "/{workflowId}/status", api.ReadRuns,
			"Get the status of a workflow",
			(*API).workflowStatus,
			[]string{
				"includeOutput boolean=false", "includeVariables boolean=false",
			},
			"", "WorkflowStatus",
		},
		{
			"GET", base + "/{name}/correlated/{correlationId}", api.ReadRuns,
			"Get the workflows with a correlation id",
			(*API).correlated, lists, "", "[Workflow]",
		},
		{
			"POST", base + "/{name}/correlated", api.ReadRuns,
			"Get the workflows with each of several correlation ids",
			(*API).correlatedAll, lists, "[string]", "object",
		},
		{
			"POST", base + "/correlated/batch", api.ReadRuns,
			"Get the workflows of several definitions with each of several correlation ids",
			(*API).correlatedBatch, lists, "object", "object",
		},
		{
			"GET", base + "/running/{name}", api.ReadRuns,
			"Get the ids of the running workflows of a definition",
			(*API).running,
			[]string{
				"version integer=1", "startTime integer", "endTime integer",
			},
			"", "[string]",
		},
	}
}

// payloadRoutes answer where large payloads of workflows are kept.
func payloadRoutes() []route {
	const base = "/api/workflow"
	return []route{
		{
			"GET", base + "/externalstoragelocation", api.ReadRuns,
			"Get where to keep a large payload", (*API).location, locationParams(), "",
			"ExternalStorageLocation",
		},
		{
			"GET", base + "/external-storage-location", api.ReadRuns,
			"Get where to keep a large payload", (*API).location, locationParams(), "",
			"ExternalStorageLocation",
		},
	}
}

// workflow answers a run.
func (a *API) workflow(ctx context.Context, id tutti.RunID, tasks bool) (answer, error) {
	b, err := a.appendRun(ctx, nil, id, tasks)
	return answer{body: b}, err
}

func (a *API) appendRun(
	ctx context.Context, dst []byte, id tutti.RunID, tasks bool,
) (out []byte, err error) {
	err = a.withRun(ctx, id, func(r *reader) (err error) {
		out, err = r.appendWorkflow(dst, tasks)
		return err
	})
	return out, err
}

func (a *API) getWorkflow(c *call) (answer, error) {
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return answer{}, err
	}
	tasks, err := c.flag("includeTasks", true)
	if err != nil {
		return answer{}, err
	}
	return a.workflow(c.ctx(), id, tasks)
}

func (a *API) workflowTasks(c *call) (answer, error) {
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return answer{}, err
	}
	start, err := c.integer("start", 0)
	if err != nil {
		return answer{}, err
	}
	count, err := c.integer("count", 15)
	if err != nil {
		return answer{}, err
	}
	statuses := c.list("status")
	for i := range statuses {
		statuses[i] = strings.ToUpper(statuses[i])
	}
	var list []byte
	total := 0
	err = a.withRun(c.ctx(), id, func(r *reader) error {
		return r.view.Tasks(0, func(t *tutti.Task) bool {
			if conductor.Hidden(t) || len(statuses) > 0 &&
				!slices.Contains(statuses, conductor.StatusName(t.Status)) {
				return true
			}
			if total >= start && total < start+count {
				list = r.appendTask(comma(list, len(list)), t)
			}
			total++
			return true
		})
	})
	return answer{body: searchResult(total, list)}, err
}

// searchResult is the official SearchResult of a list without its brackets.
func searchResult(total int, list []byte) []byte {
	o := newObject(make([]byte, 0, len(list)+64))
	o.num("totalHits", int64(total))
	o.name("results")
	o.b = append(append(append(o.b, '['), list...), ']')
	return o.end()
}

func (a *API) workflowStatus(c *call) (answer, error) {
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return answer{}, err
	}
	output, err := c.flag("includeOutput", false)
	if err != nil {
		return answer{}, err
	}
	variables, err := c.flag("includeVariables", false)
	if err != nil {
		return answer{}, err
	}
	o := newObject(nil)
	err = a.withRun(c.ctx(), id, func(r *reader) error {
		o.text("workflowId", id.String())
		o.text("correlationId", r.view.Run.CorrelationID)
		if output {
			o.payload("output", r.view.Run.Output)
		}
		if variables {
			o.payload("variables", conductor.Variables(r.prog, r))
		}
		o.text("status", r.view.Run.Status.String())
		return nil
	})
	return answer{body: o.end()}, err
}

// correlation finds the workflows of the names with a correlation id.
func (a *API) correlation(c *call, names []string, id string) (value.Raw, error) {
	closed, err := c.flag("includeClosed", false)
	if err != nil {
		return nil, err
	}
	tasks, err := c.flag("includeTasks", false)
	if err != nil {
		return nil, err
	}
	q := api.Query{
		Namespace: namespace, Definitions: names, CorrelationID: id,
		Limit: api.MaxListLimit, Where: ours,
	}
	if !closed {
		q.Statuses = []tutti.RunStatus{tutti.RunRunning}
	}
	found, err := a.svc.Search(c.ctx(), q)
	if err != nil {
		return nil, err
	}
	return a.appendRuns(c.ctx(), nil, found.Runs, tasks)
}

// ours selects the runs that Conductor's API shows.
func ours(r *tutti.Run) bool { return r.Dialect == conductor.DialectName }

// appendRuns writes runs as a list. Those that were removed in the meantime are left out.
func (a *API) appendRuns(
	ctx context.Context, dst []byte, runs []*tutti.Run, tasks bool,
) ([]byte, error) {
	dst = append(dst, '[')
	n := 0
	for _, r := range runs {
		out, err := a.appendRun(ctx, comma(dst, n), r.ID, tasks)
		switch {
		case failureOfKind(err, 404):
			continue
		case err != nil:
			return nil, err
		}
		dst = out
		n++
	}
	return append(dst, ']'), nil
}

func (a *API) correlated(c *call) (answer, error) {
	list, err := a.correlation(c, []string{c.path("name")}, c.path("correlationId"))
	return answer{body: list}, err
}

func (a *API) correlatedAll(c *call) (answer, error) {
	ids, err := c.names()
	if err != nil {
		return answer{}, err
	}
	return a.correlations(c, []string{c.path("name")}, ids)
}

// correlatedBatch is correlatedAll for several definitions. The official server lacks it; the
// SDKs have no other way to ask for correlation ids.
func (a *API) correlatedBatch(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	b := bodyReader{raw: raw}
	names, ids := b.list("workflowNames"), b.list("correlationIds")
	if b.err != nil {
		return answer{}, b.err
	}
	if len(names) == 0 {
		return answer{}, fail(http.StatusBadRequest, "workflowNames cannot be empty.")
	}
	return a.correlations(c, names, ids)
}

// correlations answers the workflows of the names by correlation id.
func (a *API) correlations(c *call, names, ids []string) (answer, error) {
	b := []byte{'{'}
	for i, id := range ids {
		list, err := a.correlation(c, names, id)
		if err != nil {
			return answer{}, err
		}
		b = append(value.AppendString(comma(b, i), id), ':')
		b = append(b, list...)
	}
	return jsonOf(append(b, '}'))
}

func (a *API) running(c *call) (answer, error) {
	version, err := c.integer("version", 1)
	if err != nil {
		return answer{}, err
	}
	from, err := c.number("startTime", 0)
	if err != nil {
		return answer{}, err
	}
	to, err := c.number("endTime", 0)
	if err != nil {
		return answer{}, err
	}
	q := api.Query{
		Namespace: namespace, Definitions: []string{c.path("name")}, Version: version,
		Limit: api.MaxListLimit, Where: ours,
	}
	if from != 0 && to != 0 {
		q.FromMs, q.ToMs = from, to+1
	} else {
		q.Statuses = []tutti.RunStatus{tutti.RunRunning, tutti.RunPaused}
	}
	var ids []string
	for {
		found, err := a.svc.Search(c.ctx(), q)
		if err != nil {
			return answer{}, err
		}
		for _, r := range found.Runs {
			ids = append(ids, r.ID.String())
		}
		if q.Offset += len(found.Runs); len(found.Runs) < q.Limit {
			return jsonOf(appendTexts(nil, ids))
		}
	}
}

func locationParams() []string {
	return []string{"*path string", "*operation string", "*payloadType string"}
}

// location answers as the official server's default storage does: there is no place to keep
// payloads in, only the path that was asked for.
func (a *API) location(c *call) (answer, error) {
	path, err := c.required("path", "String")
	if err != nil {
		return answer{}, err
	}
	for _, p := range [...]struct{ name, known string }{
		{"operation", "READ WRITE"},
		{"payloadType", "WORKFLOW_INPUT WORKFLOW_OUTPUT TASK_INPUT TASK_OUTPUT"},
	} {
		got, err := c.required(p.name, "String")
		if err != nil {
			return answer{}, err
		}
		if !slices.Contains(strings.Fields(p.known), strings.ToUpper(got)) {
			return answer{}, badParameter(p.name, got, "enum of "+p.known)
		}
	}
	o := newObject(nil)
	o.string("path", path)
	return jsonOf(o.end())
}
