package conductorapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func signalRoutes() []route {
	const execute = "/api/workflow/execute/{name}/{version}"
	return []route{
		{
			"POST", execute, api.StartRuns,
			"Start a workflow and wait until it ends or is blocked",
			(*API).execute,
			[]string{
				"requestId string", "waitUntilTaskRef string", "waitForSeconds integer=10",
				"consistency string=DURABLE", "returnStrategy string=TARGET_WORKFLOW",
			},
			"StartWorkflowRequest", "SignalResponse",
		},
		{
			"POST", "/api/tasks/{workflowId}/{status}/signal", api.ControlRuns,
			"Complete the WAIT task that a workflow is blocked by",
			(*API).signal, nil, "object", "",
		},
		{
			"POST", "/api/tasks/{workflowId}/{status}/signal/sync", api.ControlRuns,
			"Complete the WAIT task that a workflow is blocked by, and wait for what follows",
			(*API).signalSync,
			[]string{
				"returnStrategy string=TARGET_WORKFLOW", "timeoutMillis integer=5000",
			},
			"object", "SignalResponse",
		},
	}
}

// The strategies: what a synchronous call answers.
const (
	targetWorkflow    = "TARGET_WORKFLOW"
	blockingWorkflow  = "BLOCKING_WORKFLOW"
	blockingTask      = "BLOCKING_TASK"
	blockingTaskInput = "BLOCKING_TASK_INPUT"
)

func readStrategy(c *call) (string, error) {
	s := c.text("returnStrategy", targetWorkflow)
	known := []string{targetWorkflow, blockingWorkflow, blockingTask, blockingTaskInput}
	if !slices.Contains(known, s) {
		return "", badParameter("returnStrategy", s, "WorkflowSignalReturnStrategy")
	}
	return s, nil
}

// block is the task that a run waits for somebody to complete. It may belong to a sub-workflow.
type block struct {
	run tutti.RunID
	seq tutti.Seq // 0 = none
}

// wait waits for a run to end or to be blocked, moved by changes alone.
type wait struct {
	a       *API
	refs    []string // steps whose end counts as being blocked
	changed chan struct{}
	stops   map[tutti.RunID]func()
}

func (a *API) newWait(refs []string) *wait {
	return &wait{
		a: a, refs: refs, changed: make(chan struct{}, 1),
		stops: map[tutti.RunID]func(){},
	}
}

func (w *wait) close() {
	for _, stop := range w.stops {
		stop()
	}
}

// watch makes changes of a run wake the waiter.
func (w *wait) watch(ctx context.Context, id tutti.RunID) error {
	if w.stops[id] != nil {
		return nil
	}
	stop, err := w.a.svc.Watch(ctx, namespace, id, func() {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	})
	if err == nil {
		w.stops[id] = stop
	}
	return err
}

// until waits at most for a time. It returns what blocks the run, and whether the time was
// over before the run ended or was blocked.
func (w *wait) until(
	ctx context.Context, id tutti.RunID, timeout time.Duration,
) (b block, late bool, err error) {
	timer := time.NewTimer(min(timeout, api.MaxWait))
	defer timer.Stop()
	for {
		b, over, err := w.look(ctx, id, 0)
		if err != nil || over || b.seq != 0 {
			return b, false, err
		}
		select {
		case <-w.changed:
		case <-timer.C:
			return b, true, nil
		case <-ctx.Done():
			return b, true, &tutti.Error{
				Kind: tutti.Cancelled, Op: "wait for workflow", Err: context.Cause(ctx),
			}
		}
	}
}

// look finds out whether a run has ended, and what blocks it: in itself, or in one of its
// open sub-workflows.
func (w *wait) look(
	ctx context.Context, id tutti.RunID, depth int,
) (b block, over bool, err error) {
	if err := w.watch(ctx, id); err != nil {
		return b, false, err
	}
	var children []tutti.RunID
	err = w.a.withRun(ctx, id, func(r *reader) (err error) {
		over = !r.view.Run.Status.Open()
		if over {
			return nil
		}
		b.run = id
		b.seq, children, err = w.blocked(r)
		return err
	})
	if err != nil || over || b.seq != 0 || depth >= maxNesting {
		return b, over, err
	}
	for _, child := range children {
		inner, _, err := w.look(ctx, child, depth+1)
		if err != nil && !failureOfKind(err, http.StatusNotFound) {
			return b, false, err
		}
		if inner.seq != 0 {
			return inner, false, nil
		}
	}
	return b, false, nil
}

// blocked returns the task that blocks a run, or else its open sub-workflows.
func (w *wait) blocked(r *reader) (tutti.Seq, []tutti.RunID, error) {
	for _, ref := range w.refs {
		if t := conductor.NewestByRef(r.prog, r, ref); t != nil && !t.Status.Open() {
			return t.Seq, nil, r.err
		}
	}
	tasks, err := r.open()
	if err != nil {
		return 0, nil, err
	}
	var children []tutti.RunID
	for _, t := range tasks {
		switch {
		case t.Type == model.TypeWait && t.UntilMs == 0:
			return t.Seq, nil, nil
		case !t.ChildRun.IsZero():
			children = append(children, t.ChildRun)
		}
	}
	return 0, children, nil
}

func (a *API) execute(c *call) (answer, error) {
	strategy, err := readStrategy(c)
	if err != nil {
		return answer{}, err
	}
	seconds, err := c.integer("waitForSeconds", 10)
	if err != nil {
		return answer{}, err
	}
	if seconds <= 0 {
		seconds = 10
	}
	req, err := readExecute(c)
	if err != nil {
		return answer{}, err
	}
	id, err := a.start(c.ctx(), req)
	if err != nil {
		return answer{}, err
	}
	w := a.newWait(c.list("waitUntilTaskRef"))
	defer w.close()
	b, late, err := w.until(c.ctx(), id, time.Duration(seconds)*time.Second)
	if err != nil {
		return answer{}, err
	}
	return a.signalResponse(c, id, b, strategy, late)
}

// readExecute reads a start request whose name and version are in the path.
func readExecute(c *call) (*startRequest, error) {
	version, err := readVersion(c.path("version"))
	if err != nil {
		return nil, err
	}
	raw, err := c.json("object")
	if err != nil {
		return nil, err
	}
	o := newObject(make([]byte, 0, len(raw)+64))
	o.string("name", c.path("name"))
	o.num("version", int64(version))
	for name, v := range raw.Members() {
		if name == "name" || name == "version" {
			continue
		}
		o.b = append(value.AppendString(append(o.b, ','), name), ':')
		o.b = append(o.b, v...)
	}
	req, err := readStart(o.end(), "executeWorkflow.startWorkflowRequest")
	if err != nil || req.def == nil {
		return req, err
	}
	req.input, err = withMember(req.input, "_systemMetadata", value.Raw(`{"dynamic":true}`))
	return req, err
}

// withMember returns an object with a member added.
func withMember(raw value.Raw, name string, v value.Raw) (value.Raw, error) {
	if raw == nil {
		raw = value.Raw("{}")
	}
	decoded, err := raw.Parse()
	if err != nil {
		return nil, err
	}
	o, ok := decoded.(*value.Object)
	if !ok {
		return nil, fmt.Errorf("want an object, found %s", raw.Kind())
	}
	member, err := v.Parse()
	if err != nil {
		return nil, err
	}
	o.Set(name, member)
	return value.Marshal(o), nil
}

// waiting finds the open WAIT task of a run, or else of its open sub-workflows in order.
func (a *API) waiting(ctx context.Context, id tutti.RunID, depth int) (b block, err error) {
	var children []tutti.RunID
	err = a.withRun(ctx, id, func(r *reader) error {
		open, err := r.open()
		for _, t := range open {
			switch {
			case t.Type == model.TypeWait && b.seq == 0:
				b = block{id, t.Seq}
			case !t.ChildRun.IsZero():
				children = append(children, t.ChildRun)
			}
		}
		return err
	})
	if err != nil || b.seq != 0 || depth >= maxNesting {
		return b, err
	}
	for _, child := range children {
		b, err := a.waiting(ctx, child, depth+1)
		if err != nil && !failureOfKind(err, http.StatusNotFound) || b.seq != 0 {
			return b, err
		}
	}
	return block{}, nil
}

// sendSignal completes the WAIT task that a workflow is blocked by, if there is one.
func (a *API) sendSignal(c *call) (id tutti.RunID, found bool, err error) {
	id, err = parseRun(c.path("workflowId"))
	if err != nil {
		return id, false, err
	}
	status, err := readStatus(c.path("status"))
	if err != nil {
		return id, false, err
	}
	output, err := c.json("object")
	if err != nil {
		return id, false, err
	}
	b, err := a.waiting(c.ctx(), id, 0)
	if err != nil || b.seq == 0 {
		return id, false, err
	}
	_, err = a.svc.Complete(c.ctx(), namespace, api.Completion{
		Run: b.run, Seq: b.seq, IgnoreStale: true,
		Outcome: engine.Outcome{Status: status, Output: output, Merge: true},
	})
	return id, true, err
}

func (a *API) signal(c *call) (answer, error) {
	_, _, err := a.sendSignal(c)
	return emptyOr(err)
}

func (a *API) signalSync(c *call) (answer, error) {
	strategy, err := readStrategy(c)
	if err != nil {
		return answer{}, err
	}
	timeout, err := c.integer("timeoutMillis", 5000)
	if err != nil {
		return answer{}, err
	}
	id, found, err := a.sendSignal(c)
	if err != nil {
		return answer{}, err
	}
	if !found {
		return answer{}, fail(http.StatusNotFound,
			"No blocking task found for workflow %s to signal", id)
	}
	w := a.newWait(nil)
	defer w.close()
	b, late, err := w.until(c.ctx(), id, time.Duration(max(timeout, 0))*time.Millisecond)
	if err != nil {
		return answer{}, err
	}
	return a.signalResponse(c, id, b, strategy, late)
}

// signalResponse answers the official SignalResponse.
func (a *API) signalResponse(
	c *call, id tutti.RunID, b block, strategy string, late bool,
) (answer, error) {
	task := strategy == blockingTask || strategy == blockingTaskInput
	if task && b.seq == 0 {
		return empty()
	}
	target, err := a.svc.Run(c.ctx(), namespace, id)
	if err != nil {
		return answer{}, noWorkflow(err, id.String())
	}
	o := newObject(nil)
	o.text("responseType", strategy)
	o.text("targetWorkflowId", id.String())
	o.text("targetWorkflowStatus", target.Status.String())
	o.text("requestId", c.text("requestId", id.String()))
	shown := id
	if b.seq != 0 && strategy != targetWorkflow {
		shown = b.run
	}
	err = a.withRun(c.ctx(), shown, func(r *reader) error {
		o.text("workflowId", shown.String())
		o.text("correlationId", r.view.Run.CorrelationID)
		o.flag("signalTimeout", late)
		if task {
			return r.taskRun(o, b.seq)
		}
		return r.workflowRun(o)
	})
	return answer{body: o.end()}, err
}

// workflowRun writes what a SignalResponse says of a run.
func (r *reader) workflowRun(o *object) (err error) {
	run := r.view.Run
	o.payload("input", conductor.WorkflowInput(r.prog, run))
	o.payload("output", run.Output)
	o.num("priority", int64(run.Priority))
	o.payload("variables", conductor.Variables(r.prog, r))
	o.name("tasks")
	if o.b, err = r.appendTasks(o.b); err != nil {
		return err
	}
	o.text("createdBy", run.CreatedBy)
	o.num("createTime", run.StartMs)
	o.text("status", run.Status.String())
	o.num("updateTime", run.UpdateMs)
	return nil
}

// taskRun writes what a SignalResponse says of a task.
func (r *reader) taskRun(o *object, seq tutti.Seq) error {
	run, t := r.view.Run, r.Task(seq)
	if t == nil {
		return r.err
	}
	o.payload("input", t.Input)
	o.payload("output", conductor.TaskOutput(r.prog, r, t))
	o.text("taskType", t.Type)
	o.text("taskId", run.ID.TaskID(seq))
	o.text("referenceTaskName", t.Name)
	o.num("retryCount", int64(t.Attempt))
	o.text("taskDefName", t.DefName)
	if t.RetryOf != 0 {
		o.text("retriedTaskId", run.ID.TaskID(t.RetryOf))
	}
	o.text("workflowType", run.Definition)
	o.text("reasonForIncompletion", t.Reason)
	o.num("priority", int64(run.Priority))
	o.payload("variables", conductor.Variables(r.prog, r))
	o.name("tasks")
	o.b = append(r.appendTask(append(o.b, '['), t), ']')
	o.text("createdBy", t.Worker)
	o.num("createTime", t.StartedMs)
	o.num("updateTime", t.UpdatedMs)
	o.text("status", conductor.StatusName(t.Status))
	return nil
}
