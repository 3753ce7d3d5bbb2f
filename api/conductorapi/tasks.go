package conductorapi

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func taskRoutes() []route {
	const base = "/api/tasks"
	return []route{
		{
			"GET", base + "/poll/{tasktype}", api.PollTasks, "Poll for a task",
			(*API).poll,
			[]string{"workerid string", "domain string"},
			"", "Task",
		},
		{
			"GET", base + "/poll/batch/{tasktype}", api.PollTasks,
			"Poll for several tasks, waiting up to a time for the first",
			(*API).pollBatch,
			[]string{
				"workerid string", "domain string", "count integer=1", "timeout integer=100",
			},
			"", "[Task]",
		},
		{
			"POST", base, api.CompleteTasks, "Report on a task",
			(*API).updateTask, nil, "TaskResult", "text",
		},
		{
			"POST", base + "/update-v2", api.CompleteTasks,
			"Report on a task and get the next one",
			(*API).updateTaskV2, nil, "TaskResult", "Task",
		},
		{
			"POST", base + "/{workflowId}/{taskRefName}/{status}", api.CompleteTasks,
			"Report on the open task of a step",
			(*API).updateByRef,
			[]string{"workerid string"},
			"object", "text",
		},
		{
			"POST", base + "/{workflowId}/{taskRefName}/{status}/sync", api.CompleteTasks,
			"Report on the open task of a step and get the workflow",
			(*API).updateByRefSync,
			[]string{"workerid string"},
			"object", "Workflow",
		},
		{
			"POST", base + "/{taskId}/log", api.CompleteTasks, "Add a log line to a task",
			(*API).addLog, nil, "string", "",
		},
		{
			"GET", base + "/{taskId}/log", api.ReadRuns, "Get the log lines of a task",
			(*API).taskLogs, nil, "", "[TaskExecLog]",
		},
		{
			"GET", base + "/externalstoragelocation", api.ReadRuns,
			"Get where to keep a large payload",
			(*API).location, locationParams(), "", "ExternalStorageLocation",
		},
		{
			"GET", base + "/external-storage-location", api.ReadRuns,
			"Get where to keep a large payload",
			(*API).location, locationParams(), "", "ExternalStorageLocation",
		},
		{
			"GET", base + "/{taskId}", api.ReadRuns, "Get a task",
			(*API).getTask, nil, "", "Task",
		},
	}
}

// shortWait is how long polls without a time of their own wait for a task.
const shortWait = 100 * time.Millisecond

func (a *API) pollFor(
	c *call, taskType, worker, domain string, count int, wait time.Duration,
) ([]api.HandOut, error) {
	got, err := a.svc.Poll(c.ctx(), api.PollRequest{
		Namespace: namespace, Queue: conductor.QueueName(taskType, domain, "", ""),
		Worker: worker, Count: count, Wait: wait,
	})
	if err == nil && c.ctx().Err() != nil {
		a.giveBack(c.ctx(), got)
		return nil, &tutti.Error{
			Kind: tutti.Cancelled, Op: "poll", Code: "CallerGone", Err: context.Cause(c.ctx()),
		}
	}
	// A batch comes in the order in which the shards granted its tasks; workers expect the
	// order of the queue.
	slices.SortStableFunc(got, func(x, y api.HandOut) int {
		return cmp.Or(cmp.Compare(y.Run.Priority, x.Run.Priority),
			cmp.Compare(x.Task.ReadyMs, y.Task.ReadyMs))
	})
	return got, err
}

// giveBack returns tasks to their queue whose worker went away before it could be answered.
func (a *API) giveBack(ctx context.Context, tasks []api.HandOut) {
	ctx = context.WithoutCancel(ctx)
	for _, h := range tasks {
		err := a.svc.Return(ctx, namespace, h.Run.ID, h.Task.Seq, h.Task.Token, true)
		if err != nil {
			a.log.Warn("a task stays leased to a worker that is gone", "run", h.Run.ID,
				"task", h.Run.ID.TaskID(h.Task.Seq), "error", err)
		}
	}
}

// pollOne answers one task, or 204.
func (a *API) pollOne(c *call, taskType, worker, domain string) (answer, error) {
	got, err := a.pollFor(c, taskType, worker, domain, 1, shortWait)
	if err != nil {
		return answer{}, err
	}
	if len(got) == 0 {
		return noContent()
	}
	b, err := a.appendHandOut(c.ctx(), nil, got[0].Run, got[0].Task)
	return answer{body: b}, err
}

func (a *API) poll(c *call) (answer, error) {
	return a.pollOne(c, c.path("tasktype"), c.text("workerid", ""), c.text("domain", ""))
}

func (a *API) pollBatch(c *call) (answer, error) {
	count, err := c.integer("count", 1)
	if err != nil {
		return answer{}, err
	}
	timeout, err := c.integer("timeout", 100)
	if err != nil {
		return answer{}, err
	}
	if timeout > 5000 {
		return answer{}, fail(http.StatusBadRequest,
			"Long Poll Timeout value cannot be more than 5 seconds")
	}
	if count <= 0 {
		return jsonOf([]byte("[]"))
	}
	got, err := a.pollFor(c, c.path("tasktype"), c.text("workerid", ""), c.text("domain", ""),
		min(count, api.MaxPollCount), time.Duration(timeout)*time.Millisecond)
	if err != nil {
		return answer{}, err
	}
	b := []byte{'['}
	for i, h := range got {
		if b, err = a.appendHandOut(c.ctx(), comma(b, i), h.Run, h.Task); err != nil {
			return answer{}, err
		}
	}
	return jsonOf(append(b, ']'))
}

// resultStatus are the statuses that a worker may report.
var resultStatus = map[string]tutti.TaskStatus{
	"IN_PROGRESS": tutti.Running, "FAILED": tutti.Failed, "COMPLETED": tutti.Completed,
	"FAILED_WITH_TERMINAL_ERROR": tutti.Fatal, "CANCELED": tutti.CancelledTask,
}

func readStatus(name string) (tutti.TaskStatus, error) {
	if st, ok := resultStatus[name]; ok {
		return st, nil
	}
	return 0, badParameter("status", name,
		"com.netflix.conductor.common.metadata.tasks.TaskResult$Status")
}

// taskResult is the official TaskResult.
type taskResult struct {
	workflowID, taskID string
	status             tutti.TaskStatus
	outcome            engine.Outcome
}

// The bounds of what a report may carry; more is cut off.
const (
	maxReason = 500
	maxLogs   = 10
)

// readResult reads a TaskResult. Where names it in violations, which answer with a status.
func readResult(raw value.Raw, where string, status int) (*taskResult, error) {
	b := bodyReader{raw: raw}
	r := &taskResult{workflowID: b.text("workflowInstanceId"), taskID: b.text("taskId")}
	name := b.text("status")
	o := &r.outcome
	o.Reason, o.Worker = cut(b.text("reasonForIncompletion"), maxReason), b.text("workerId")
	o.CallbackMs = max(b.number("callbackAfterSeconds", 0), 0) * 1000
	o.ExtendOnly = b.flag("extendLease")
	o.Requeue = !o.ExtendOnly
	if o.Output = b.object("outputData"); o.Output == nil {
		o.Output = value.Raw("{}")
	}
	o.Logs = readLogs(raw)
	external := b.text("externalOutputPayloadStoragePath")
	if b.err != nil {
		return nil, b.err
	}
	if err := r.check(where, status); err != nil {
		return nil, err
	}
	if external != "" {
		return nil, noStorage()
	}
	var err error
	r.status, err = readStatus(name)
	o.Status = r.status
	if o.ExtendOnly && r.status.Open() {
		o.Output = nil
	}
	return r, err
}

func (r *taskResult) check(where string, status int) error {
	var list []violation
	if r.workflowID == "" {
		list = append(list, violation{
			path: where + ".workflowInstanceId", message: "Workflow Id cannot be null or empty",
		})
	}
	if r.taskID == "" {
		list = append(list, violation{
			path: where + ".taskId", message: "Task ID cannot be null or empty",
		})
	}
	if len(list) == 0 {
		return nil
	}
	f := failureOf(invalid(list...))
	f.status = status
	return f
}

// cut shortens a text to a number of bytes without breaking a character.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}

// readLogs reads the lines of a report. Entries that are no log lines are left out.
func readLogs(raw value.Raw) (lines [][]byte) {
	logs, _ := raw.Field("logs")
	for e := range logs.Elements() {
		line, ok := e.Text()
		if f, found := e.Field("log"); found {
			line, ok = f.Text()
		}
		if ok && len(lines) < maxLogs {
			lines = append(lines, []byte(line))
		}
	}
	return lines
}

// ids returns the run and number that the report is about.
func (r *taskResult) ids() (tutti.RunID, tutti.Seq, error) {
	run, err := tutti.ParseRunID(r.workflowID)
	if err != nil {
		return run, 0, noWorkflow(err, r.workflowID)
	}
	of, seq, err := tutti.ParseTaskID(r.taskID)
	if err != nil || of != run || seq == 0 {
		return run, 0, fail(http.StatusNotFound, "No such task found by id: %s", r.taskID)
	}
	return run, seq, nil
}

// update reports on a task and returns it as it is afterwards.
func (a *API) update(ctx context.Context, r *taskResult) (*tutti.Task, error) {
	run, seq, err := r.ids()
	if err != nil {
		return nil, err
	}
	t, err := a.svc.Complete(ctx, namespace, api.Completion{
		Run: run, Seq: seq, Outcome: r.outcome, IgnoreStale: true,
	})
	switch {
	case hasCode(err, "RunNotFound"):
		return nil, noWorkflow(err, r.workflowID)
	case err != nil:
		return nil, missing(err, "No such task found by id: %s", r.taskID)
	}
	return t, nil
}

func (a *API) updateTask(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	r, err := readResult(raw, "updateTask.taskResult", http.StatusBadRequest)
	if err != nil {
		return answer{}, err
	}
	_, err = a.update(c.ctx(), r)
	return textOr(r.taskID, err)
}

func (a *API) updateTaskV2(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	r, err := readResult(raw, "updateTaskV2.taskResult", http.StatusInternalServerError)
	if err != nil {
		return answer{}, err
	}
	t, err := a.update(c.ctx(), r)
	if err != nil {
		return answer{}, err
	}
	if t.Status.Open() {
		return noContent()
	}
	return a.pollOne(c, t.Type, r.outcome.Worker, t.Domain)
}

// pending returns the open task of a step: the one of exactly that name, else one of an
// iteration of it. It is nil when there is none.
func (r *reader) pending(name string) (*tutti.Task, error) {
	open, err := r.open()
	if err != nil {
		return nil, err
	}
	var other *tutti.Task
	for _, t := range open {
		if t.Name == name {
			return t, nil
		}
		if base, _, looped := strings.Cut(t.Name, "__"); looped && base == name && other == nil {
			other = t
		}
	}
	return other, nil
}

// byRef reports on the open task of a step. The identifier is empty when there is none.
func (a *API) byRef(c *call) (taskID string, err error) {
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return "", err
	}
	status, err := readStatus(c.path("status"))
	if err != nil {
		return "", err
	}
	output, err := c.json("object")
	if err != nil {
		return "", err
	}
	return a.report(c.ctx(), id, c.path("taskRefName"), engine.Outcome{
		Status: status, Output: output, Worker: c.text("workerid", ""), Merge: true,
		Requeue: true,
	})
}

// report gives the open task of a step an outcome and returns its identifier, or an empty one
// when there is no such task.
func (a *API) report(
	ctx context.Context, id tutti.RunID, step string, o engine.Outcome,
) (taskID string, err error) {
	var task *tutti.Task
	err = a.withRun(ctx, id, func(r *reader) (err error) {
		task, err = r.pending(step)
		return err
	})
	if err != nil || task == nil {
		return "", err
	}
	_, err = a.svc.Complete(ctx, namespace, api.Completion{
		Run: id, Seq: task.Seq, IgnoreStale: true, Outcome: o,
	})
	return id.TaskID(task.Seq), err
}

func (a *API) updateByRef(c *call) (answer, error) {
	taskID, err := a.byRef(c)
	return textOr(taskID, err)
}

func (a *API) updateByRefSync(c *call) (answer, error) {
	taskID, err := a.byRef(c)
	if err != nil {
		return answer{}, err
	}
	if taskID == "" {
		return answer{}, fail(http.StatusNotFound,
			"Found no running task %s of workflow %s to update",
			c.path("taskRefName"), c.path("workflowId"))
	}
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return answer{}, err
	}
	return a.workflow(c.ctx(), id, true)
}

// parseRun reads the identifier of a workflow.
func parseRun(s string) (tutti.RunID, error) {
	id, err := tutti.ParseRunID(s)
	return id, noWorkflow(err, s)
}

// parseTask reads the identifier of a task.
func parseTask(s string) (tutti.RunID, tutti.Seq, error) {
	run, seq, err := tutti.ParseTaskID(s)
	if err != nil || seq == 0 {
		return run, seq, noTask(s)
	}
	return run, seq, nil
}

func noTask(id string) error {
	return fail(http.StatusNotFound, "Task not found for taskId: %s", id)
}

func (a *API) getTask(c *call) (answer, error) {
	run, seq, err := parseTask(c.path("taskId"))
	if err != nil {
		return answer{}, err
	}
	var b []byte
	err = a.withRun(c.ctx(), run, func(r *reader) error {
		t := r.Task(seq)
		if t == nil {
			return noTask(c.path("taskId"))
		}
		b = r.appendTask(nil, t)
		return nil
	})
	if failureOfKind(err, http.StatusNotFound) {
		err = noTask(c.path("taskId"))
	}
	return answer{body: b}, err
}

// addLog takes a line as plain text, or as a JSON string.
func (a *API) addLog(c *call) (answer, error) {
	run, seq, err := parseTask(c.path("taskId"))
	if err != nil {
		return answer{}, err
	}
	line, err := c.body()
	if err != nil {
		return answer{}, err
	}
	if strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/json") {
		if s, ok := value.Raw(line).Text(); ok && value.Check(line, value.DefaultLimits) == nil {
			line = []byte(s)
		}
	}
	err = a.svc.AddLogs(c.ctx(), namespace, run, seq, [][]byte{line})
	return emptyOr(missing(err, "No such task found by id: %s", c.path("taskId")))
}

func (a *API) taskLogs(c *call) (answer, error) {
	run, seq, err := parseTask(c.path("taskId"))
	if err != nil {
		return noContent()
	}
	lines, err := a.svc.Logs(c.ctx(), namespace, run, seq)
	if isKind(err, tutti.NotFound) || err == nil && len(lines) == 0 {
		return noContent()
	}
	return answer{body: appendList(nil, lines, func(dst []byte, l engine.LogLine) []byte {
		o := newObject(dst)
		o.string("log", l.Text)
		o.text("taskId", c.path("taskId"))
		o.num("createdTime", l.TimeMs)
		return o.end()
	})}, err
}
