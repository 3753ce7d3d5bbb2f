package conductorapi

import (
	"context"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
)

func workflowRoutes() []route {
	const base = "/api/workflow"
	return []route{
		{
			"POST", base, api.StartRuns, "Start a workflow",
			(*API).startWorkflow, nil, "StartWorkflowRequest", "text",
		},
		{
			"POST", base + "/{name}", api.StartRuns, "Start a workflow with an input",
			(*API).startNamed, []string{
				"version integer", "correlationId string", "priority integer=0",
			}, "object", "text",
		},
		{
			"GET", base + "/{workflowId}", api.ReadRuns, "Get a workflow",
			(*API).getWorkflow, []string{"includeTasks boolean=true"}, "", "Workflow",
		},
	}
}

// workflow answers a run.
func (a *API) workflow(ctx context.Context, id tutti.RunID, tasks bool) (answer, error) {
	var b []byte
	err := a.withRun(ctx, id, func(r *reader) (err error) {
		b, err = r.appendWorkflow(nil, tasks)
		return err
	})
	return answer{body: b}, err
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
