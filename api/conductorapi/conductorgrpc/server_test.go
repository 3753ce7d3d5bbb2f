package conductorgrpc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi"
	"github.com/tutti-run/tutti/api/conductorapi/conductorgrpc"
	"github.com/tutti-run/tutti/api/pb/conductor/conductorpb"
	"github.com/tutti-run/tutti/api/pb/conductor/eventspb"
	"github.com/tutti-run/tutti/api/pb/conductor/metadatapb"
	"github.com/tutti-run/tutti/api/pb/conductor/searchpb"
	"github.com/tutti-run/tutti/api/pb/conductor/taskspb"
	"github.com/tutti-run/tutti/api/pb/conductor/workflowspb"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client speaks all of Conductor's services to a server in memory.
type client struct {
	t testing.TB
	metadatapb.MetadataServiceClient
	tasks     taskspb.TaskServiceClient
	workflows workflowspb.WorkflowServiceClient
	events    eventspb.EventServiceClient
	svc       *api.Service
}

func newClient(t testing.TB) *client {
	t.Helper()
	st, err := memstore.Open(memstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dialects := []tutti.Dialect{conductor.Dialect{}}
	log := slog.New(slog.DiscardHandler)
	run, err := runner.Open(t.Context(), runner.Options{
		Store: st, Dialects: dialects, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	svc := api.New(api.Options{Runner: run, Dialects: dialects, Logger: log})
	g := grpc.NewServer(grpc.WaitForHandlers(true))
	conductorgrpc.Register(g, conductorapi.New(conductorapi.Options{Service: svc, Logger: log}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		<-served
		run.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return &client{
		t: t, MetadataServiceClient: metadatapb.NewMetadataServiceClient(conn),
		tasks:     taskspb.NewTaskServiceClient(conn),
		workflows: workflowspb.NewWorkflowServiceClient(conn),
		events:    eventspb.NewEventServiceClient(conn), svc: svc,
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wants checks the code of an error and a part of its text.
func wants(t testing.TB, err error, code codes.Code, part string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(err.Error(), part) {
		t.Errorf("got %v, want %s: …%s…", err, code, part)
	}
}

func values(pairs ...any) map[string]*structpb.Value {
	m := map[string]*structpb.Value{}
	for i := 0; i < len(pairs); i += 2 {
		v, err := structpb.NewValue(pairs[i+1])
		if err != nil {
			panic(err)
		}
		m[pairs[i].(string)] = v
	}
	return m
}

// twoTasks is a workflow of two tasks for workers, the second behind a switch.
func twoTasks() *conductorpb.WorkflowDef {
	return &conductorpb.WorkflowDef{
		Name: "two", OwnerEmail: "me@example.com", Restartable: true,
		TimeoutPolicy: conductorpb.WorkflowDef_ALERT_ONLY,
		Tasks: []*conductorpb.WorkflowTask{
			{
				Name: "first", TaskReferenceName: "a", Type: "SIMPLE",
				InputParameters: values("n", "${workflow.input.n}", "k", 7),
			},
			{
				Name: "sw", TaskReferenceName: "s", Type: "SWITCH",
				EvaluatorType: "value-param", Expression: "x",
				InputParameters: values("x", "${a.output.x}"),
				DecisionCases: map[string]*conductorpb.WorkflowTask_WorkflowTaskList{
					"go": {Tasks: []*conductorpb.WorkflowTask{
						{Name: "second", TaskReferenceName: "b", Type: "SIMPLE"},
					}},
				},
			},
		},
		OutputParameters: values("n", "${a.output.n}"),
	}
}

func (c *client) define() {
	c.t.Helper()
	ctx := c.t.Context()
	must(c.CreateTasks(ctx, &metadatapb.CreateTasksRequest{Defs: []*conductorpb.TaskDef{
		{
			Name: "first", OwnerEmail: "me@example.com", RetryCount: 1,
			TimeoutPolicy: conductorpb.TaskDef_TIME_OUT_WF,
		},
		{Name: "second", OwnerEmail: "me@example.com"},
	}}))(c.t)
	must(c.CreateWorkflow(ctx, &metadatapb.CreateWorkflowRequest{Workflow: twoTasks()}))(c.t)
}

func (c *client) start(corr string) string {
	c.t.Helper()
	return must(c.workflows.StartWorkflow(c.t.Context(), &conductorpb.StartWorkflowRequest{
		Name: "two", CorrelationId: corr, Input: values("n", 1<<53, "s", "ü"),
	}))(c.t).WorkflowId
}

func (c *client) status(id string, tasks bool) *conductorpb.Workflow {
	c.t.Helper()
	return must(c.workflows.GetWorkflowStatus(c.t.Context(),
		&workflowspb.GetWorkflowStatusRequest{WorkflowId: id, IncludeTasks: tasks}))(c.t)
}

func (c *client) poll(taskType string) *conductorpb.Task {
	c.t.Helper()
	return must(c.tasks.Poll(c.t.Context(), &taskspb.PollRequest{
		TaskType: taskType, WorkerId: "me",
	}))(c.t).Task
}

func (c *client) update(t *conductorpb.Task, st conductorpb.TaskResult_Status, out ...any) {
	c.t.Helper()
	got := must(c.tasks.UpdateTask(c.t.Context(), &taskspb.UpdateTaskRequest{
		Result: &conductorpb.TaskResult{
			WorkflowInstanceId: t.WorkflowInstanceId, TaskId: t.TaskId, Status: st,
			WorkerId: "me", OutputData: values(out...), ReasonForIncompletion: "why",
		},
	}))(c.t)
	if got.TaskId != t.TaskId {
		c.t.Errorf("the report was on task %q, not %q", got.TaskId, t.TaskId)
	}
}

func TestHappyPath(t *testing.T) {
	c := newClient(t)
	c.define()
	id := c.start("c1")
	a := c.poll("first")
	if a.GetWorkflowInstanceId() != id || a.ReferenceTaskName != "a" ||
		a.Status != conductorpb.Task_IN_PROGRESS || a.WorkerId != "me" ||
		a.InputData["n"].GetNumberValue() != 1<<53 || a.InputData["k"].GetNumberValue() != 7 ||
		a.WorkflowTask.GetName() != "first" || a.WorkflowTask.TaskDefinition.GetRetryCount() != 1 {
		t.Errorf("polled %v", a)
	}
	c.update(a, conductorpb.TaskResult_COMPLETED, "x", "go", "n", 1<<53)
	b := c.poll("second")
	c.update(b, conductorpb.TaskResult_COMPLETED)
	wf := c.status(id, true)
	if wf.Status != conductorpb.Workflow_COMPLETED || wf.CorrelationId != "c1" ||
		wf.Output["n"].GetNumberValue() != 1<<53 || len(wf.Tasks) != 3 ||
		wf.WorkflowDefinition.GetTasks()[1].DecisionCases["go"].Tasks[0].Name != "second" {
		t.Errorf("ended as %v", wf)
	}
	if got := c.status(id, false); len(got.Tasks) != 0 {
		t.Errorf("%d tasks that were not asked for", len(got.Tasks))
	}
	one := must(c.tasks.GetTask(t.Context(), &taskspb.GetTaskRequest{TaskId: a.TaskId}))(t).Task
	if one.Status != conductorpb.Task_COMPLETED || one.OutputData["x"].GetStringValue() != "go" {
		t.Errorf("the first task is %v", one)
	}
}

func TestFailureAndRetry(t *testing.T) {
	c := newClient(t)
	c.define()
	ctx := t.Context()
	id := c.start("")
	a := c.poll("first")
	c.update(a, conductorpb.TaskResult_FAILED_WITH_TERMINAL_ERROR)
	if wf := c.status(id, false); wf.Status != conductorpb.Workflow_FAILED ||
		!strings.Contains(wf.ReasonForIncompletion, "why") ||
		len(wf.FailedReferenceTaskNames) != 1 || wf.FailedReferenceTaskNames[0] != "a" {
		t.Errorf("failed as %v", wf)
	}
	must(c.workflows.RetryWorkflow(ctx, &workflowspb.RetryWorkflowRequest{WorkflowId: id}))(t)
	again := c.poll("first")
	if again.GetRetriedTaskId() != a.TaskId || again.RetryCount != 1 {
		t.Errorf("retried as %v", again)
	}
	c.update(again, conductorpb.TaskResult_COMPLETED, "x", "no")
	if wf := c.status(id, false); wf.Status != conductorpb.Workflow_COMPLETED {
		t.Errorf("ended as %v", wf)
	}
	must(c.workflows.RestartWorkflow(ctx, &workflowspb.RestartWorkflowRequest{WorkflowId: id}))(t)
	first := c.poll("first")
	_, err := c.workflows.RestartWorkflow(ctx, &workflowspb.RestartWorkflowRequest{WorkflowId: id})
	if err == nil {
		t.Error("an open workflow was restarted")
	}
	c.update(first, conductorpb.TaskResult_COMPLETED, "x", "go")
	c.update(c.poll("second"), conductorpb.TaskResult_COMPLETED)
	done := c.status(id, true)
	got := must(c.workflows.RerunWorkflow(ctx, &conductorpb.RerunWorkflowRequest{
		ReRunFromWorkflowId: id, ReRunFromTaskId: done.Tasks[0].TaskId,
		TaskInput: values("n", 3),
	}))(t)
	if again := c.poll("first"); got.WorkflowId != id ||
		again.GetInputData()["n"].GetNumberValue() != 3 {
		t.Errorf("rerun of %s as %v", got.WorkflowId, again)
	}
}

func TestControl(t *testing.T) {
	c := newClient(t)
	c.define()
	ctx := t.Context()
	id := c.start("")
	must(c.workflows.PauseWorkflow(ctx, &workflowspb.PauseWorkflowRequest{WorkflowId: id}))(t)
	if wf := c.status(id, false); wf.Status != conductorpb.Workflow_PAUSED {
		t.Errorf("paused: %s", wf.Status)
	}
	_, err := c.workflows.SkipTaskFromWorkflow(ctx, &workflowspb.SkipTaskRequest{
		WorkflowId: id, TaskReferenceName: "b",
	})
	wants(t, err, codes.FailedPrecondition, "is not running")
	must(c.workflows.ResumeWorkflow(ctx, &workflowspb.ResumeWorkflowRequest{WorkflowId: id}))(t)
	must(c.workflows.SkipTaskFromWorkflow(ctx, &workflowspb.SkipTaskRequest{
		WorkflowId: id, TaskReferenceName: "b",
		Request: &conductorpb.SkipTaskRequest{TaskOutput: values("skipped", true)},
	}))(t)
	must(c.workflows.DecideWorkflow(ctx, &workflowspb.DecideWorkflowRequest{WorkflowId: id}))(t)
	must(c.workflows.ResetWorkflowCallbacks(ctx,
		&workflowspb.ResetWorkflowCallbacksRequest{WorkflowId: id}))(t)
	c.update(c.poll("first"), conductorpb.TaskResult_COMPLETED, "x", "go")
	wf := c.status(id, true)
	if wf.Status != conductorpb.Workflow_COMPLETED ||
		wf.Tasks[2].Status != conductorpb.Task_SKIPPED ||
		!wf.Tasks[2].OutputData["skipped"].GetBoolValue() {
		t.Errorf("skipped as %v", wf)
	}
	other := c.start("")
	must(c.workflows.TerminateWorkflow(ctx, &workflowspb.TerminateWorkflowRequest{
		WorkflowId: other, Reason: "enough",
	}))(t)
	if wf := c.status(other, false); wf.Status != conductorpb.Workflow_TERMINATED ||
		wf.ReasonForIncompletion != "enough" {
		t.Errorf("terminated as %v", wf)
	}
	must(c.workflows.RemoveWorkflow(ctx, &workflowspb.RemoveWorkflowRequest{
		WorkflodId: other,
	}))(t)
	_, err = c.workflows.GetWorkflowStatus(ctx, &workflowspb.GetWorkflowStatusRequest{
		WorkflowId: other,
	})
	wants(t, err, codes.NotFound, "No such workflow found by id: "+other)
}

func TestBatchPoll(t *testing.T) {
	c := newClient(t)
	c.define()
	receive := func(r *taskspb.BatchPollRequest) (list []*conductorpb.Task) {
		t.Helper()
		stream := must(c.tasks.BatchPoll(t.Context(), r))(t)
		for {
			task, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				return list
			}
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, task)
		}
	}
	for range 5 {
		c.start("")
	}
	if got := receive(&taskspb.BatchPollRequest{TaskType: "first"}); len(got) != 1 {
		t.Errorf("%d tasks without a count", len(got))
	}
	seen := map[string]bool{}
	r := &taskspb.BatchPollRequest{TaskType: "first", WorkerId: "me", Count: 3, Timeout: 1000}
	for _, want := range []int{3, 1} {
		got := receive(r)
		if len(got) != want {
			t.Errorf("%d tasks instead of %d", len(got), want)
		}
		for _, task := range got {
			seen[task.TaskId] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d different tasks", len(seen))
	}
	waiting := make(chan []*conductorpb.Task, 1)
	go func() { waiting <- receive(r) }()
	c.start("")
	if got := <-waiting; len(got) != 1 {
		t.Errorf("%d tasks for a poll that waited", len(got))
	}
	stream := must(c.tasks.BatchPoll(t.Context(), &taskspb.BatchPollRequest{
		TaskType: "first", Timeout: 6000,
	}))(t)
	_, err := stream.Recv()
	wants(t, err, codes.InvalidArgument, "Long Poll Timeout")
	if task := c.poll("nobody"); task != nil {
		t.Errorf("polled %v", task)
	}
}

func TestLogsAndQueues(t *testing.T) {
	c := newClient(t)
	c.define()
	ctx := t.Context()
	c.start("")
	c.start("")
	sizes := must(c.tasks.GetQueueSizesForTasks(ctx, &taskspb.QueueSizesRequest{
		TaskTypes: []string{"first", "second"},
	}))(t).QueueForTask
	if sizes["first"] != 2 || sizes["second"] != 0 {
		t.Errorf("sizes %v", sizes)
	}
	if all := must(c.tasks.GetQueueInfo(ctx, &taskspb.QueueInfoRequest{}))(t).Queues; all["first"] != 2 {
		t.Errorf("queues %v", all)
	}
	verbose := must(c.tasks.GetQueueAllInfo(ctx, &taskspb.QueueAllInfoRequest{}))(t).Queues
	if verbose["first"].GetShards()["a"].GetSize() != 2 {
		t.Errorf("queues %v", verbose)
	}
	a := c.poll("first")
	none := must(c.tasks.GetTaskLogs(ctx, &taskspb.GetTaskLogsRequest{TaskId: a.TaskId}))(t)
	if len(none.Logs) != 0 {
		t.Errorf("logs %v", none.Logs)
	}
	for _, line := range []string{"one \"line\"", "{}"} {
		must(c.tasks.AddLog(ctx, &taskspb.AddLogRequest{TaskId: a.TaskId, Log: line}))(t)
	}
	logs := must(c.tasks.GetTaskLogs(ctx, &taskspb.GetTaskLogsRequest{TaskId: a.TaskId}))(t).Logs
	if len(logs) != 2 || logs[0].Log != "one \"line\"" || logs[1].Log != "{}" ||
		logs[0].TaskId != a.TaskId || logs[0].CreatedTime == 0 {
		t.Errorf("logs %v", logs)
	}
}

func TestSearch(t *testing.T) {
	c := newClient(t)
	c.define()
	ctx := t.Context()
	ids := map[string]bool{}
	for range 3 {
		ids[c.start("c1")] = true
	}
	c.start("c2")
	r := &searchpb.Request{
		Query: "correlationId = 'c1' AND status IN (RUNNING)", Size: 2, Sort: "startTime:ASC",
		FreeText: "*",
	}
	sum := must(c.workflows.Search(ctx, r))(t)
	if sum.TotalHits != 3 || len(sum.Results) != 2 || !ids[sum.Results[0].WorkflowId] ||
		sum.Results[0].WorkflowType != "two" || sum.Results[0].StartTime == "" {
		t.Errorf("found %v", sum)
	}
	whole := must(c.workflows.SearchV2(ctx, r))(t)
	if whole.TotalHits != 3 || len(whole.Results) != 2 || whole.Results[0].WorkflowId == "" {
		t.Errorf("found %v", whole)
	}
	tasks := &searchpb.Request{Query: "taskType = first AND status = SCHEDULED"}
	if got := must(c.tasks.Search(ctx, tasks))(t); got.TotalHits != 4 ||
		got.Results[0].TaskDefName != "first" ||
		got.Results[0].Status != conductorpb.Task_SCHEDULED {
		t.Errorf("found %v", got)
	}
	if got := must(c.tasks.SearchV2(ctx, tasks))(t); got.TotalHits != 4 ||
		got.Results[0].ReferenceTaskName != "a" {
		t.Errorf("found %v", got)
	}
	if got := must(c.workflows.SearchByTasks(ctx, tasks))(t); got.TotalHits != 4 {
		t.Errorf("found %v", got)
	}
	if got := must(c.workflows.SearchByTasksV2(ctx, tasks))(t); got.TotalHits != 4 {
		t.Errorf("found %v", got)
	}
	_, err := c.workflows.Search(ctx, &searchpb.Request{Query: "AND AND"})
	wants(t, err, codes.InvalidArgument, "")
	by := must(c.workflows.GetWorkflows(ctx, &workflowspb.GetWorkflowsRequest{
		Name: "two", CorrelationId: []string{"c1", "c3"}, IncludeTasks: true,
	}))(t).WorkflowsById
	if len(by["c1"].GetWorkflows()) != 3 || len(by["c3"].GetWorkflows()) != 0 ||
		len(by["c1"].Workflows[0].Tasks) != 1 {
		t.Errorf("by correlation id %v", by)
	}
	running := must(c.workflows.GetRunningWorkflows(ctx, &workflowspb.GetRunningWorkflowsRequest{
		Name: "two", Version: 1,
	}))(t).WorkflowIds
	if len(running) != 4 {
		t.Errorf("running %v", running)
	}
	late := time.Now().Add(time.Hour).UnixMilli()
	if got := must(c.workflows.GetRunningWorkflows(ctx, &workflowspb.GetRunningWorkflowsRequest{
		Name: "two", Version: 1, StartTime: late, EndTime: late + 1,
	}))(t).WorkflowIds; len(got) != 0 {
		t.Errorf("started later %v", got)
	}
}

func TestMetadata(t *testing.T) {
	c := newClient(t)
	c.define()
	ctx := t.Context()
	_, err := c.CreateWorkflow(ctx, &metadatapb.CreateWorkflowRequest{Workflow: twoTasks()})
	wants(t, err, codes.AlreadyExists, "already exists")
	bad := &conductorpb.WorkflowDef{Name: "bad"}
	_, err = c.CreateWorkflow(ctx, &metadatapb.CreateWorkflowRequest{Workflow: bad})
	wants(t, err, codes.InvalidArgument, "tasks")
	_, err = c.ValidateWorkflow(ctx, &metadatapb.ValidateWorkflowRequest{Workflow: bad})
	wants(t, err, codes.InvalidArgument, "tasks")
	_, err = c.ValidateWorkflow(ctx, &metadatapb.ValidateWorkflowRequest{})
	wants(t, err, codes.InvalidArgument, "name")
	must(c.ValidateWorkflow(ctx, &metadatapb.ValidateWorkflowRequest{Workflow: twoTasks()}))(t)
	next := twoTasks()
	next.Version, next.Description, next.Restartable = 2, "newer", false
	must(c.UpdateWorkflows(ctx, &metadatapb.UpdateWorkflowsRequest{
		Defs: []*conductorpb.WorkflowDef{next},
	}))(t)
	_, err = c.UpdateWorkflows(ctx, &metadatapb.UpdateWorkflowsRequest{})
	wants(t, err, codes.InvalidArgument, "")
	for version, want := range map[int32]string{0: "newer", 1: "", 2: "newer"} {
		got := must(c.GetWorkflow(ctx, &metadatapb.GetWorkflowRequest{
			Name: "two", Version: version,
		}))(t).Workflow
		if got.Description != want || got.SchemaVersion != 2 || got.Restartable == (want != "") ||
			got.TimeoutPolicy != conductorpb.WorkflowDef_ALERT_ONLY {
			t.Errorf("version %d is %v", version, got)
		}
	}
	_, err = c.GetWorkflow(ctx, &metadatapb.GetWorkflowRequest{Name: "two", Version: 3})
	wants(t, err, codes.NotFound, "No such workflow found by name: two, version: 3")

	must(c.UpdateTask(ctx, &metadatapb.UpdateTaskRequest{Task: &conductorpb.TaskDef{
		Name: "second", OwnerEmail: "me@example.com", RetryCount: 0, TimeoutSeconds: 20,
		ResponseTimeoutSeconds: 10, RetryLogic: conductorpb.TaskDef_EXPONENTIAL_BACKOFF,
		TimeoutPolicy: conductorpb.TaskDef_RETRY, InputTemplate: values("a", nil),
	}}))(t)
	got := must(c.GetTask(ctx, &metadatapb.GetTaskRequest{TaskType: "second"}))(t).Task
	if got.RetryCount != 0 || got.RetryLogic != conductorpb.TaskDef_EXPONENTIAL_BACKOFF ||
		got.TimeoutPolicy != conductorpb.TaskDef_RETRY || got.ResponseTimeoutSeconds != 10 {
		t.Errorf("the definition is %v", got)
	}
	if got := must(c.GetTask(ctx, &metadatapb.GetTaskRequest{TaskType: "first"}))(t).Task; got.RetryCount != 1 || got.ResponseTimeoutSeconds != 3600 {
		t.Errorf("the definition is %v", got)
	}
	_, err = c.UpdateTask(ctx, &metadatapb.UpdateTaskRequest{Task: &conductorpb.TaskDef{
		Name: "none", OwnerEmail: "me@example.com",
	}})
	wants(t, err, codes.NotFound, "No such task by name none")
	_, err = c.CreateTasks(ctx, &metadatapb.CreateTasksRequest{})
	wants(t, err, codes.InvalidArgument, "TaskDefList is empty")
	must(c.DeleteTask(ctx, &metadatapb.DeleteTaskRequest{TaskType: "second"}))(t)
	_, err = c.GetTask(ctx, &metadatapb.GetTaskRequest{TaskType: "second"})
	wants(t, err, codes.NotFound, "No such taskType found by name: second")
}

func TestRefused(t *testing.T) {
	c := newClient(t)
	ctx := t.Context()
	_, err := c.workflows.StartWorkflow(ctx, &conductorpb.StartWorkflowRequest{Name: "none"})
	wants(t, err, codes.NotFound, "none")
	_, err = c.workflows.StartWorkflow(ctx, &conductorpb.StartWorkflowRequest{})
	wants(t, err, codes.InvalidArgument, "Workflow name cannot be null or empty")
	_, err = c.workflows.StartWorkflow(ctx, &conductorpb.StartWorkflowRequest{
		Name: "none", Priority: 100,
	})
	wants(t, err, codes.InvalidArgument, "maximum 99")
	_, err = c.tasks.UpdateTask(ctx, &taskspb.UpdateTaskRequest{})
	wants(t, err, codes.InvalidArgument, "Task ID cannot be null or empty")
	_, err = c.tasks.GetTask(ctx, &taskspb.GetTaskRequest{TaskId: "x"})
	wants(t, err, codes.NotFound, "Task not found for taskId: x")
	_, err = c.workflows.PauseWorkflow(ctx, &workflowspb.PauseWorkflowRequest{WorkflowId: "x"})
	wants(t, err, codes.NotFound, "No such workflow found by id: x")
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = c.tasks.Poll(cancelled, &taskspb.PollRequest{TaskType: "first"})
	wants(t, err, codes.Canceled, "")
}

func TestInlineDefinition(t *testing.T) {
	c := newClient(t)
	id := must(c.workflows.StartWorkflow(t.Context(), &conductorpb.StartWorkflowRequest{
		Name: "inline", WorkflowDef: &conductorpb.WorkflowDef{
			Name: "inline", Tasks: []*conductorpb.WorkflowTask{{
				Name: "fork", TaskReferenceName: "f", Type: "FORK_JOIN",
				ForkTasks: []*conductorpb.WorkflowTask_WorkflowTaskList{
					{Tasks: []*conductorpb.WorkflowTask{
						{Name: "x", TaskReferenceName: "x1", Type: "SIMPLE"},
					}},
					{Tasks: []*conductorpb.WorkflowTask{
						{Name: "x", TaskReferenceName: "x2", Type: "SIMPLE"},
					}},
				},
			}, {
				Name: "join", TaskReferenceName: "j", Type: "JOIN", JoinOn: []string{"x1", "x2"},
			}},
		},
	}))(t).WorkflowId
	for range 2 {
		c.update(c.poll("x"), conductorpb.TaskResult_COMPLETED)
	}
	if wf := c.status(id, true); wf.Status != conductorpb.Workflow_COMPLETED || len(wf.Tasks) != 4 {
		t.Errorf("ended as %v", wf)
	}
}

func TestEventHandlers(t *testing.T) {
	c := newClient(t)
	ctx := t.Context()
	h := &conductorpb.EventHandler{
		Name: "h", Event: "conductor:two:done", Active: true, Condition: "true",
		Actions: []*conductorpb.EventHandler_Action{{
			Action: conductorpb.EventHandler_Action_START_WORKFLOW,
			StartWorkflow: &conductorpb.EventHandler_StartWorkflow{
				Name: "two", Input: values("n", "${n}"),
			},
			ExpandInlineJson: true,
		}},
	}
	list := func(r *eventspb.GetEventHandlersForEventRequest) (all []*conductorpb.EventHandler) {
		t.Helper()
		var stream grpc.ServerStreamingClient[conductorpb.EventHandler]
		var err error
		if r == nil {
			stream, err = c.events.GetEventHandlers(ctx, &eventspb.GetEventHandlersRequest{})
		} else {
			stream, err = c.events.GetEventHandlersForEvent(ctx, r)
		}
		for err == nil {
			var got *conductorpb.EventHandler
			if got, err = stream.Recv(); err == nil {
				all = append(all, got)
			}
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		return all
	}
	must(c.events.AddEventHandler(ctx, &eventspb.AddEventHandlerRequest{Handler: h}))(t)
	_, err := c.events.AddEventHandler(ctx, &eventspb.AddEventHandlerRequest{Handler: h})
	wants(t, err, codes.AlreadyExists, "EventHandler with name h already exists!")
	got := list(nil)
	if len(got) != 1 || got[0].Event != h.Event || !got[0].Active ||
		got[0].Actions[0].StartWorkflow.GetInput()["n"].GetStringValue() != "${n}" ||
		!got[0].Actions[0].ExpandInlineJson {
		t.Errorf("handlers %v", got)
	}
	h.Active = false
	must(c.events.UpdateEventHandler(ctx, &eventspb.UpdateEventHandlerRequest{Handler: h}))(t)
	for _, tt := range []struct {
		event  string
		active bool
		want   int
	}{{h.Event, false, 1}, {h.Event, true, 0}, {"conductor:other", false, 0}} {
		if got := list(&eventspb.GetEventHandlersForEventRequest{
			Event: tt.event, ActiveOnly: tt.active,
		}); len(got) != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
	must(c.events.RemoveEventHandler(ctx, &eventspb.RemoveEventHandlerRequest{Name: "h"}))(t)
	_, err = c.events.RemoveEventHandler(ctx, &eventspb.RemoveEventHandlerRequest{Name: "h"})
	wants(t, err, codes.NotFound, "h")
	if got := list(nil); len(got) != 0 {
		t.Errorf("handlers %v", got)
	}
}
