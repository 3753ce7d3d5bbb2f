package conductorapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/query"
	"github.com/tutti-run/tutti/api/conductorapi/schedule"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func scheduleRoutes() []route {
	const base = "/api/scheduler"
	const one = base + "/schedules/{name}"
	rts := []route{
		{
			"POST", base + "/schedules", api.WriteDefinitions, "Create or replace a schedule",
			(*API).putSchedule, nil, "WorkflowSchedule", "WorkflowSchedule",
		},
		{
			"GET", base + "/schedules", api.ReadDefinitions, "Get all schedules",
			(*API).listSchedules,
			[]string{"workflowName string"},
			"", "[WorkflowSchedule]",
		},
		{
			"GET", base + "/schedules/search", api.ReadDefinitions, "Search schedules",
			(*API).searchSchedules, append([]string{
				"workflowName string", "scheduleName string", "paused boolean",
			}, pageParams()...), "", "SearchResultWorkflowSchedule",
		},
		{
			"GET", one, api.ReadDefinitions, "Get a schedule",
			(*API).getSchedule, nil, "", "WorkflowSchedule",
		},
		{
			"DELETE", one, api.WriteDefinitions, "Remove a schedule",
			(*API).deleteSchedule, nil, "", "",
		},
	}
	for _, method := range []string{"GET", "PUT"} {
		rts = append(rts, route{
			method, one + "/pause", api.WriteDefinitions, "Pause a schedule",
			(*API).pauseSchedule,
			[]string{"reason string"},
			"", "",
		}, route{
			method, one + "/resume", api.WriteDefinitions, "Resume a schedule",
			(*API).resumeSchedule, nil, "", "",
		})
	}
	return rts
}

func schedulerRoutes() []route {
	const base = "/api/scheduler"
	return []route{
		{
			"GET", base + "/nextFewSchedules", open, "Get the next times of a cron expression",
			(*API).nextTimes,
			[]string{
				"*cronExpression string", "scheduleStartTime integer", "scheduleEndTime integer",
				"limit integer=5",
			},
			"", "[integer]",
		},
		{
			"GET", base + "/search/executions", api.ReadDefinitions,
			"Search the starts that schedules made",
			(*API).searchExecutions, append([]string{"query string"}, pageParams()...), "",
			"SearchResultWorkflowScheduleExecution",
		},
		{
			"GET", base + "/admin/requeue", api.Administer,
			"Take up executions again that are stuck", (*API).requeueSchedules, nil, "", "object",
		},
		{
			"GET", base + "/admin/pause", api.Administer, "Pause all schedules on this server",
			(*API).pauseScheduler, nil, "", "",
		},
		{
			"GET", base + "/admin/resume", api.Administer, "Resume the schedules on this server",
			(*API).resumeScheduler, nil, "", "",
		},
		{
			"PUT", base + "/bulk/pause", api.WriteDefinitions, "Pause schedules",
			(*API).bulkPauseSchedules, nil, "[string]", "BulkResponse",
		},
		{
			"PUT", base + "/bulk/resume", api.WriteDefinitions, "Resume schedules",
			(*API).bulkResumeSchedules, nil, "[string]", "BulkResponse",
		},
	}
}

func pageParams() []string {
	return []string{"freeText string=*", "start integer=0", "size integer=100", "sort string"}
}

func scheduleRef(name string) api.DocumentRef {
	return api.DocumentRef{
		Namespace: namespace, Dialect: model.Dialect, Kind: schedule.Kind, Name: name,
	}
}

func (a *API) storeSchedule(ctx context.Context, s *schedule.Schedule) (*schedule.Schedule, error) {
	doc, err := a.svc.PutDocument(ctx, engine.Document{
		Namespace: namespace, Dialect: model.Dialect, Kind: schedule.Kind, Name: s.Name,
		Body: s.Encode(0),
	}, engine.PutAny)
	if err != nil {
		return nil, err
	}
	return schedule.FromDocument(doc)
}

func shown(s *schedule.Schedule) value.Raw { return s.Encode(time.Now().UnixMilli()) }

func (a *API) putSchedule(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	s, err := schedule.Decode(raw)
	if err != nil {
		return answer{}, err
	}
	if _, err := readStart(s.Request, "startWorkflowRequest"); err != nil {
		return answer{}, err
	}
	if s, err = a.storeSchedule(c.ctx(), s); err != nil {
		return answer{}, err
	}
	return rawOf(shown(s))
}

func (a *API) scheduleNamed(ctx context.Context, name string) (*schedule.Schedule, error) {
	doc, err := a.svc.Document(ctx, scheduleRef(name))
	if err != nil {
		return nil, missing(err, "Schedule '%s' not found", name)
	}
	return schedule.FromDocument(doc)
}

func (a *API) getSchedule(c *call) (answer, error) {
	s, err := a.scheduleNamed(c.ctx(), c.path("name"))
	if err != nil {
		return answer{}, err
	}
	return rawOf(shown(s))
}

// deleteSchedule removes a schedule and its executions. One that is not there is no error.
func (a *API) deleteSchedule(c *call) (answer, error) {
	name := c.path("name")
	err := a.svc.DeleteDocument(c.ctx(), scheduleRef(name))
	if err == nil {
		err = a.schedules.Forget(c.ctx(), name)
	}
	if isKind(err, tutti.NotFound) {
		err = nil
	}
	return answer{status: http.StatusNoContent}, err
}

// selectSchedules returns the schedules that keep accepts, in order of name.
func (a *API) selectSchedules(
	c *call, keep func(*schedule.Schedule) bool,
) ([]*schedule.Schedule, error) {
	docs, err := a.definitions(c, schedule.Kind)
	if err != nil {
		return nil, err
	}
	var list []*schedule.Schedule
	for _, d := range docs {
		s, err := schedule.FromDocument(d)
		if err != nil {
			return nil, err
		}
		if keep(s) {
			list = append(list, s)
		}
	}
	return list, nil
}

func workflowOf(s *schedule.Schedule) string {
	b := bodyReader{raw: s.Request}
	return b.text("name")
}

func (a *API) listSchedules(c *call) (answer, error) {
	want := strings.TrimSpace(c.text("workflowName", ""))
	list, err := a.selectSchedules(c, func(s *schedule.Schedule) bool {
		return want == "" || workflowOf(s) == want
	})
	return answer{body: appendList(nil, list, appendSchedule)}, err
}

func appendSchedule(dst []byte, s *schedule.Schedule) []byte { return append(dst, shown(s)...) }

func (a *API) searchSchedules(c *call) (answer, error) {
	s, err := readSearch(c, query.Fields{})
	if err != nil {
		return answer{}, err
	}
	paused, err := c.flag("paused", false)
	if err != nil {
		return answer{}, err
	}
	workflow, name := c.text("workflowName", ""), c.text("scheduleName", "")
	list, err := a.selectSchedules(c, func(e *schedule.Schedule) bool {
		return (workflow == "" || query.Contains(workflowOf(e), workflow)) &&
			(name == "" || query.Contains(e.Name, name)) &&
			(c.text("paused", "") == "" || e.Paused == paused) &&
			query.Contains(string(e.Encode(0)), s.text)
	})
	if err != nil {
		return answer{}, err
	}
	if strings.HasPrefix(c.text("sort", ""), "name:DESC") {
		slices.Reverse(list)
	}
	var results [][]byte
	for _, e := range cutPage(list, s) {
		results = append(results, shown(e))
	}
	return jsonOf(searchResult(len(list), join(results)))
}

// cutPage returns the part of a list that a search asks for.
func cutPage[T any](list []T, s *searchCall) []T {
	from := min(s.start, len(list))
	return list[from:min(from+max(s.size, 0), len(list))]
}

func (a *API) setPaused(ctx context.Context, name string, paused bool, reason string) error {
	s, err := a.scheduleNamed(ctx, name)
	if err != nil {
		return err
	}
	if !paused && !s.Paused {
		return fail(http.StatusNotFound, "Schedule '%s' not found", name)
	}
	s.Paused, s.PausedReason = paused, reason
	_, err = a.storeSchedule(ctx, s)
	return err
}

func (a *API) pauseSchedule(c *call) (answer, error) {
	return emptyOr(a.setPaused(c.ctx(), c.path("name"), true, c.text("reason", "")))
}

func (a *API) resumeSchedule(c *call) (answer, error) {
	return emptyOr(a.setPaused(c.ctx(), c.path("name"), false, ""))
}

func (a *API) bulkSchedules(c *call, paused bool) (answer, error) {
	names, err := c.names()
	if err != nil {
		return answer{}, err
	}
	var out bulkResult
	for _, name := range names {
		out.add(name, a.setPaused(c.ctx(), name, paused, ""))
	}
	return jsonOf(out.body())
}

func (a *API) bulkPauseSchedules(c *call) (answer, error) { return a.bulkSchedules(c, true) }

func (a *API) bulkResumeSchedules(c *call) (answer, error) { return a.bulkSchedules(c, false) }

// nextTimes previews an expression in UTC, five times at most.
func (a *API) nextTimes(c *call) (answer, error) {
	expr, err := c.required("cronExpression", "String")
	if err != nil {
		return answer{}, err
	}
	from, err := c.number("scheduleStartTime", 0)
	if err != nil {
		return answer{}, err
	}
	to, err := c.number("scheduleEndTime", 0)
	if err != nil {
		return answer{}, err
	}
	limit, err := c.integer("limit", 5)
	if err != nil {
		return answer{}, err
	}
	s, err := schedule.Preview(expr, from, to)
	if err != nil {
		return answer{}, err
	}
	b := []byte{'['}
	at, ok := time.Now().UnixMilli(), true
	for i := range min(limit, 5) {
		if at, _, ok = s.Next(at); !ok {
			break
		}
		b = value.Append(comma(b, i), value.Int(at))
	}
	return jsonOf(append(b, ']'))
}

func (a *API) scheduler(c *call, paused bool) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.Administer, namespace); err != nil {
		return answer{}, err
	}
	a.schedules.Pause(paused)
	return empty()
}

func (a *API) pauseScheduler(c *call) (answer, error) { return a.scheduler(c, true) }

func (a *API) resumeScheduler(c *call) (answer, error) { return a.scheduler(c, false) }

// requeueSchedules has nothing to do: an execution is recorded when it is over.
func (a *API) requeueSchedules(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.Administer, namespace); err != nil {
		return answer{}, err
	}
	return jsonOf([]byte(`{"recordIds.size":0,"sampleIds":[]}`))
}

// executionFields are the fields that searches for executions know.
var executionFields = query.Fields{
	"scheduleName": query.Text, "workflowName": query.Text, "workflowType": query.Text,
	"workflowId": query.Text, "executionId": query.Text, "state": query.Text,
	"status": query.Text, "reason": query.Body, "zoneId": query.Text,
	"scheduledTime": query.Time, "executionTime": query.Time, "startTime": query.Time,
}

// executionMember is the member of an execution that a field of a search stands for.
func executionMember(field string) string {
	switch field {
	case "workflowType":
		return "workflowName"
	case "status":
		return "state"
	case "startTime":
		return "executionTime"
	}
	return field
}

func executionField(raw value.Raw, field string) query.Value {
	b := bodyReader{raw: raw}
	name := executionMember(field)
	if executionFields[field] == query.Time {
		return query.OfNumber(b.number(name, 0))
	}
	return query.OfText(b.text(name))
}

func (a *API) searchExecutions(c *call) (answer, error) {
	s, err := readSearch(c, executionFields)
	if err != nil {
		return answer{}, err
	}
	only, narrowed := query.Only(s.expr, "scheduleName")
	schedules, err := a.selectSchedules(c, func(e *schedule.Schedule) bool {
		return !narrowed || slices.Contains(only, e.Name)
	})
	if err != nil {
		return answer{}, err
	}
	var found []value.Raw
	for _, e := range schedules {
		list, err := a.schedules.Executions(c.ctx(), e.Name)
		if err != nil {
			return answer{}, err
		}
		for _, x := range list {
			get := func(field string) query.Value { return executionField(x, field) }
			if executionFields.Match(s.expr, get) && query.Contains(string(x), s.text) {
				found = append(found, x)
			}
		}
	}
	sortExecutions(found, c.text("sort", ""))
	page := cutPage(found, s)
	return jsonOf(searchResult(len(found), join(asBytes(page))))
}

func asBytes(list []value.Raw) [][]byte {
	out := make([][]byte, len(list))
	for i, e := range list {
		out[i] = e
	}
	return out
}

// sortExecutions orders by field:ASC or field:DESC; newest first when nothing is asked for.
func sortExecutions(list []value.Raw, order string) {
	name, dir, _ := strings.Cut(order, ":")
	if _, ok := executionFields[name]; !ok {
		name, dir = "scheduledTime", "DESC"
	}
	slices.SortStableFunc(list, func(x, y value.Raw) int {
		p, q := executionField(x, name), executionField(y, name)
		n := cmp.Or(cmp.Compare(p.Number, q.Number), slices.Compare(p.Texts, q.Texts))
		if strings.EqualFold(dir, "DESC") {
			return -n
		}
		return n
	})
}
