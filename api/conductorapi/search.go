package conductorapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/query"
	"github.com/tutti-run/tutti/dialect/conductor"
)

func searchRoutes() []route {
	params := []string{
		"start integer=0", "size integer=100", "sort string", "freeText string=*", "query string",
	}
	workflows := append(slices.Clone(params), "classifier string", "topLevelOnly boolean=false")
	const wf, tasks = "/api/workflow", "/api/tasks"
	return []route{
		{
			"GET", wf + "/search", api.ReadRuns, "Search workflows",
			searchWith((*API).findWorkflows, (*API).summaries), workflows, "", "SearchResultWorkflowSummary",
		},
		{
			"GET", wf + "/search-v2", api.ReadRuns, "Search workflows and get them whole",
			searchWith((*API).findWorkflows, (*API).wholes), workflows, "", "SearchResultWorkflow",
		},
		{
			"GET", wf + "/search-by-tasks", api.ReadRuns, "Search workflows by their tasks",
			searchWith((*API).findByTasks, (*API).summaries), params, "", "SearchResultWorkflowSummary",
		},
		{
			"GET", wf + "/search-by-tasks-v2", api.ReadRuns,
			"Search workflows by their tasks and get them whole",
			searchWith((*API).findByTasks, (*API).wholes), params, "", "SearchResultWorkflow",
		},
		{
			"GET", tasks + "/search", api.ReadRuns, "Search tasks",
			searchTasksWith((*API).taskSummary), params, "", "SearchResultTaskSummary",
		},
		{
			"GET", tasks + "/search-v2", api.ReadRuns, "Search tasks and get them whole",
			searchTasksWith((*API).wholeTask), params, "", "SearchResultTask",
		},
	}
}

// searchCall is what all searches take.
type searchCall struct {
	start, size int
	sort        []api.SortKey
	text        string // empty = not asked for
	expr        query.Expr
}

func readSearch(c *call, fields query.Fields) (*searchCall, error) {
	s := new(searchCall)
	var err error
	if s.start, err = c.integer("start", 0); err != nil {
		return nil, err
	}
	if s.size, err = c.integer("size", 100); err != nil {
		return nil, err
	}
	if s.start < 0 {
		return nil, fail(http.StatusBadRequest, "start must not be negative")
	}
	if s.size > api.MaxListLimit {
		return nil, invalid(violation{
			path: "searchWorkflows.size", invalid: strconv.Itoa(s.size),
			message: fmt.Sprintf("Cannot return more than %d workflows. Please use pagination.",
				api.MaxListLimit),
		})
	}
	s.sort = readSort(c.text("sort", ""))
	s.text = strings.Trim(strings.TrimSpace(c.text("freeText", "")), `"*`)
	if s.expr, err = query.Parse(c.text("query", "")); err != nil {
		return nil, err
	}
	return s, fields.Check(s.expr)
}

var sortFields = map[string]api.SortField{
	"startTime": api.SortStart, "createTime": api.SortStart, "endTime": api.SortEnd,
	"updateTime": api.SortUpdate, "workflowType": api.SortDefinition,
	"status": api.SortStatus, "workflowId": api.SortID, "correlationId": api.SortCorrelation,
	"version": api.SortVersion, "priority": api.SortPriority,
}

// readSort reads field:ASC|field:DESC. What is no field to sort by is left out.
func readSort(s string) (keys []api.SortKey) {
	for _, part := range strings.FieldsFunc(s, func(r rune) bool { return r == '|' || r == ',' }) {
		name, order, _ := strings.Cut(strings.TrimSpace(part), ":")
		if f, ok := sortFields[name]; ok {
			keys = append(keys, api.SortKey{Field: f, Desc: strings.EqualFold(order, "DESC")})
		}
	}
	return keys
}

// foundRuns is the page of a search.
type foundRuns struct {
	runs   []*tutti.Run
	total  int
	header http.Header
}

// searchWith makes the handler of a workflow search from how it finds and how it shows.
func searchWith(
	find func(*API, *call) (*foundRuns, error),
	show func(*API, context.Context, []*tutti.Run) ([][]byte, error),
) func(*API, *call) (answer, error) {
	return func(a *API, c *call) (answer, error) {
		f, err := find(a, c)
		if err != nil {
			return answer{}, err
		}
		list, err := show(a, c.ctx(), f.runs)
		if err != nil {
			return answer{}, err
		}
		return answer{body: searchResult(f.total, join(list)), header: f.header}, nil
	}
}

func join(list [][]byte) []byte {
	var b []byte
	for _, e := range list {
		if len(e) > 0 {
			b = append(comma(b, len(b)), e...)
		}
	}
	return b
}

// page cuts a page to what was asked for, since no search is asked for nothing.
func (s *searchCall) page(runs []*tutti.Run) []*tutti.Run {
	return runs[:min(len(runs), max(s.size, 0))]
}

func (a *API) findWorkflows(c *call) (*foundRuns, error) {
	s, err := readSearch(c, workflowFields)
	if err != nil {
		return nil, err
	}
	top, err := c.flag("topLevelOnly", false)
	if err != nil {
		return nil, err
	}
	q := runQuery(s.expr)
	narrow(&q, s.expr)
	q.Sort, q.Offset, q.Limit, q.TopLevel = s.sort, s.start, max(s.size, 1), top
	q.Text = s.text
	if id, err := tutti.ParseRunID(s.text); err == nil {
		q.Text, q.IDs = "", []tutti.RunID{id}
	}
	class := c.text("classifier", "")
	q.Where = func(r *tutti.Run) bool {
		if !ours(r) || class != "" && !strings.EqualFold(class, a.classifier(c.ctx(), r)) {
			return false
		}
		return workflowFields.Match(s.expr, func(field string) query.Value {
			return a.workflowField(c.ctx(), r, field)
		})
	}
	res, err := a.svc.Search(c.ctx(), q)
	if err != nil {
		return nil, err
	}
	f := &foundRuns{runs: s.page(res.Runs), total: res.Total, header: http.Header{}}
	if res.Partial {
		f.header.Set("Warning", partialWarning)
	}
	if q.Text != "" {
		f.header.Set("Tutti-Index-Lag-Ms", strconv.FormatInt(res.Lag.Milliseconds(), 10))
	}
	return f, nil
}

const partialWarning = `299 tutti "the search ended at its bound of rows: narrow the query"`

// runQuery is what a query over workflows says of the rows to look at. It must select no less
// than the query.
func runQuery(e query.Expr) api.Query {
	q := api.Query{Namespace: namespace}
	if names, ok := query.Only(e, "workflowType"); ok {
		q.Definitions = names
	}
	if names, ok := query.Only(e, "correlationId"); ok && len(names) == 1 {
		q.CorrelationID = names[0]
	}
	if ids, ok := query.Only(e, "workflowId"); ok {
		q.IDs = []tutti.RunID{}
		for _, text := range ids {
			if id, err := tutti.ParseRunID(text); err == nil {
				q.IDs = append(q.IDs, id)
			}
		}
	}
	return q
}

// narrow adds what only a query over workflows says, since tasks have these fields too.
func narrow(q *api.Query, e query.Expr) {
	if names, ok := query.Only(e, "status"); ok {
		for _, name := range names {
			if st, ok := tutti.ParseRunStatus(name); ok {
				q.Statuses = append(q.Statuses, st)
			}
		}
	}
	if parents, ok := query.Only(e, "parentWorkflowId"); ok && len(parents) == 1 {
		if id, err := tutti.ParseRunID(parents[0]); err == nil {
			q.Parent = id
		}
	}
	from, to := workflowFields.Range(e, "startTime")
	q.FromMs = max(from, 0)
	if to < 1<<62 {
		q.ToMs = to + 1
	}
}

// each makes the parts of a page, several at a time, so that they wait for the disk together.
func each[T any](
	ctx context.Context, list []T, fn func(context.Context, T) ([]byte, error),
) ([][]byte, error) {
	out := make([][]byte, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i, e := range list {
		g.Go(func() (err error) {
			out[i], err = fn(ctx, e)
			if failureOfKind(err, http.StatusNotFound) {
				return nil // removed in the meantime
			}
			return err
		})
	}
	return out, g.Wait()
}

func (a *API) wholes(ctx context.Context, runs []*tutti.Run) ([][]byte, error) {
	return each(ctx, runs, func(ctx context.Context, r *tutti.Run) ([]byte, error) {
		return a.appendRun(ctx, nil, r.ID, true)
	})
}

func (a *API) summaries(ctx context.Context, runs []*tutti.Run) ([][]byte, error) {
	return each(ctx, runs, func(ctx context.Context, r *tutti.Run) (b []byte, err error) {
		err = a.withRun(ctx, r.ID, func(r *reader) error {
			b = r.appendSummary(nil)
			return nil
		})
		return b, err
	})
}

// taskQuery reads a search over tasks.
func (a *API) taskQuery(c *call) (*searchCall, api.TaskQuery, error) {
	s, err := readSearch(c, taskFields)
	if err != nil {
		return nil, api.TaskQuery{}, err
	}
	q := api.TaskQuery{
		Runs: runQuery(s.expr), Text: s.text, Offset: s.start, Limit: max(s.size, 1),
	}
	if ids, ok := query.Only(s.expr, "taskId"); ok && q.Runs.IDs == nil {
		q.Runs.IDs = []tutti.RunID{}
		for _, text := range ids {
			if id, _, err := tutti.ParseTaskID(text); err == nil {
				q.Runs.IDs = append(q.Runs.IDs, id)
			}
		}
	}
	q.Runs.Where = ours
	q.Where = func(r *tutti.Run, t *tutti.Task) bool {
		return !conductor.Hidden(t) && taskFields.Match(s.expr, func(field string) query.Value {
			return taskField(r, t, field)
		})
	}
	return s, q, nil
}

// findByTasks finds the workflows of the tasks that a query selects. Its total counts tasks,
// as that of the official server does.
func (a *API) findByTasks(c *call) (*foundRuns, error) {
	s, q, err := a.taskQuery(c)
	if err != nil {
		return nil, err
	}
	res, err := a.svc.SearchTasks(c.ctx(), q)
	if err != nil {
		return nil, err
	}
	f := &foundRuns{total: res.Total, header: http.Header{}}
	seen := map[tutti.RunID]bool{}
	for _, t := range res.Tasks {
		if !seen[t.Run.ID] {
			seen[t.Run.ID] = true
			f.runs = append(f.runs, t.Run)
		}
	}
	f.runs = s.page(f.runs)
	if res.Partial {
		f.header.Set("Warning", partialWarning)
	}
	return f, nil
}

// searchTasksWith makes the handler of a task search from how it shows a task.
func searchTasksWith(
	show func(*API, context.Context, api.FoundTask) ([]byte, error),
) func(*API, *call) (answer, error) {
	return func(a *API, c *call) (answer, error) {
		s, q, err := a.taskQuery(c)
		if err != nil {
			return answer{}, err
		}
		res, err := a.svc.SearchTasks(c.ctx(), q)
		if err != nil {
			return answer{}, err
		}
		ans := answer{header: http.Header{}}
		if res.Partial {
			ans.header.Set("Warning", partialWarning)
		}
		tasks := res.Tasks[:min(len(res.Tasks), max(s.size, 0))]
		list, err := each(c.ctx(), tasks, func(ctx context.Context, t api.FoundTask) ([]byte, error) {
			return show(a, ctx, t)
		})
		ans.body = searchResult(res.Total, join(list))
		return ans, err
	}
}

func (a *API) wholeTask(ctx context.Context, f api.FoundTask) (b []byte, err error) {
	err = a.withRun(ctx, f.Run.ID, func(r *reader) error {
		b = r.appendTask(nil, f.Task)
		return nil
	})
	return b, err
}
