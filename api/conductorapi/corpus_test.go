package conductorapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

// corpus returns the folder of workflows that others wrote, which lies beside the checkout.
func corpus(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("there is no go.mod above the test")
		}
	}
	dir = filepath.Join(filepath.Dir(dir), "shared", "corpora", "conductor")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the corpora are not beside the checkout: ", err)
	}
	return dir
}

// outside performs the tasks that call other hosts, as if each answered an empty object.
type outside struct{}

func (outside) Perform(_ context.Context, t connector.Task) connector.Outcome {
	out := value.Raw(`{"response":{"statusCode":200,"headers":{},"body":{},"reasonPhrase":"OK"}}`)
	if t.Type == "EVENT" {
		out = value.Raw(`{"event_produced":"stub"}`)
	}
	return connector.Outcome{Status: tutti.Completed, Output: out}
}

// connect runs the tasks that the server performs itself, with a connector in place of all.
func (s *server) connect(c connector.Connector) {
	s.t.Helper()
	src, err := s.svc.ConnectorSource(s.t.Context(), "test")
	if err != nil {
		s.t.Fatal(err)
	}
	pool := &connector.Pool{Source: src, Workers: []connector.Worker{
		{Queue: conductor.QueueHTTP, Connector: c},
		{Queue: conductor.QueueEvent, Connector: c},
		{Queue: conductor.QueueKafka, Connector: c},
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		pool.Run(ctx)
	}()
	s.t.Cleanup(func() { cancel(); <-done })
}

// corpusFiles reads every file of the corpus by what it holds.
func corpusFiles(t *testing.T, dir string) (workflows, taskDefs, handlers map[string]string) {
	t.Helper()
	workflows, taskDefs, handlers = map[string]string{}, map[string]string{}, map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		raw := value.Raw(b)
		name, _ := filepath.Rel(dir, path)
		_, tasks := raw.Field("tasks")
		_, actions := raw.Field("actions")
		switch {
		case tasks:
			workflows[name] = string(b)
		case actions:
			handlers[name] = string(b)
		case raw.Kind() == "array" && strings.Contains(string(b), `"name"`):
			taskDefs[name] = string(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return workflows, taskDefs, handlers
}

// TestCorpus registers everything and runs every workflow to its end.
func TestCorpus(t *testing.T) {
	workflows, taskDefs, handlers := corpusFiles(t, corpus(t))
	s := newServer(t)
	s.connect(outside{})
	for name, body := range taskDefs {
		if r := s.do("POST", "/api/metadata/taskdefs", body); r.status != 200 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	for name, body := range handlers {
		if r := s.do("POST", "/api/event", body); r.status != 200 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	for name, body := range workflows {
		if r := s.do("POST", "/api/metadata/workflow?overwrite=true", body); r.status != 200 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
	s.registerStubs(workflows)
	for _, name := range slices.Sorted(maps.Keys(workflows)) {
		t.Run(name, func(t *testing.T) { s.runToEnd(t, name, workflows[name]) })
	}
	open := s.ok("GET", "/api/workflow/search?query=status+IN+(RUNNING,PAUSED)", "")
	if open.text("totalHits") != "0" {
		t.Errorf("left open: %s", open.body)
	}
}

// registerStubs defines the sub-workflows that the corpus refers to and does not hold.
func (s *server) registerStubs(workflows map[string]string) {
	s.t.Helper()
	known := map[string]bool{}
	for _, body := range workflows {
		name, _ := value.Raw(body).Field("name")
		text, _ := name.Text()
		known[text] = true
	}
	stubs := []string{"stub"}
	for _, body := range workflows {
		def, err := model.DecodeWorkflowDef(value.Raw(body))
		if err != nil {
			s.t.Fatal(err)
		}
		model.Walk(def.Tasks, func(task *model.WorkflowTask) {
			if p := task.SubWorkflowParam; p != nil && p.Definition == nil && !known[p.Name] &&
				p.Name != "" && !strings.HasPrefix(p.Name, "$") {
				stubs = append(stubs, p.Name)
			}
		})
	}
	for _, name := range stubs {
		s.ok("POST", "/api/metadata/workflow?overwrite=true", fmt.Sprintf(
			`{"name":%q,"tasks":[{"name":"n","taskReferenceName":"n","type":"NOOP"}]}`, name))
	}
}

// endings are the workflows of the corpus that do not complete, and why.
var endings = map[string]string{
	// They end themselves by a TERMINATE task, or their sub-workflow does.
	"test_task_failed_parent_workflow.json":                  "FAILED",
	"test_task_failed_sub_workflow.json":                     "FAILED",
	"terminate_task_terminated_status_in_do_while_test.json": "TERMINATED",
	"terminate_task_terminated_status_test.json":             "TERMINATED",
	// Their INLINE scripts read a member of $ that is not among the input parameters.
	"do_while_cleanup_demo.json":     "FAILED",
	"do_while_timeline_ui_demo.json": "FAILED",
}

func (s *server) runToEnd(t *testing.T, name, body string) {
	def := value.Raw(body)
	wf, _ := def.Field("name")
	start := fmt.Sprintf(`{"name":%s,"input":%s}`, wf, corpusInput)
	if version, ok := def.Field("version"); ok {
		start = fmt.Sprintf(`{"name":%s,"version":%s,"input":%s}`, wf, version, corpusInput)
	}
	r := s.do("POST", "/api/workflow", start)
	if r.status != 200 {
		t.Fatalf("start: %d %s", r.status, r.body)
	}
	want := cmp.Or(endings[filepath.Base(name)], "COMPLETED")
	if end := s.drive(r.body); end.text("status") != want {
		t.Errorf("ended as %s, want %s: %s", end.text("status"), want,
			end.text("reasonForIncompletion"))
	}
}

const (
	corpusInput = `{"userId":"u1","amount":10,"count":2,"list":[1,2],"subwf":"stub",
		"startWorkflow":{"name":"stub"}}`
	corpusOutput = `{"result":"ok","done":true,"dynamicTasksInput":{"d1":{}},"dynamicTasks":[
		{"name":"forked","taskReferenceName":"d1","type":"SIMPLE"}]}`
)

// drive does the work of a workflow until it has ended, and returns it.
func (s *server) drive(id string) reply {
	s.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		wf := s.ok("GET", "/api/workflow/"+id, "")
		if st := wf.text("status"); st != "RUNNING" {
			return wf
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("still running: %s", wf.body)
		}
		s.advance(wf)
	}
}

// advance does whatever can be done for a workflow now.
func (s *server) advance(wf reply) {
	s.t.Helper()
	var run struct {
		Tasks []struct {
			TaskType, Status, ReferenceTaskName, SubWorkflowID, TaskID string
			WorkflowInstanceID, Domain                                 string
		}
	}
	if err := json.Unmarshal([]byte(wf.body), &run); err != nil {
		s.t.Fatal(err)
	}
	for _, task := range run.Tasks {
		switch {
		case task.Status != "SCHEDULED" && task.Status != "IN_PROGRESS":
		case task.SubWorkflowID != "":
			s.advance(s.ok("GET", "/api/workflow/"+task.SubWorkflowID, ""))
		case task.TaskType == "WAIT" || task.TaskType == "HUMAN":
			s.ok("POST", "/api/tasks/"+task.WorkflowInstanceID+"/"+task.ReferenceTaskName+
				"/COMPLETED", "{}")
		case task.Status == "SCHEDULED" && !strings.HasPrefix(task.TaskType, "HTTP"):
			polled := s.ok("GET", "/api/tasks/poll/"+task.TaskType, "")
			if polled.status == 204 {
				continue
			}
			s.ok("POST", "/api/tasks", fmt.Sprintf(`{"workflowInstanceId":%q,"taskId":%q,`+
				`"status":"COMPLETED","outputData":%s}`, polled.text("workflowInstanceId"),
				polled.text("taskId"), corpusOutput))
		}
	}
}
