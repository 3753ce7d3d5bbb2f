package conductorapi

import (
	"net/http"
	"strings"
	"testing"
)

const dryFlow = `{"name":"dry","version":1,"tasks":[
	{"name":"work","taskReferenceName":"w","type":"SIMPLE"},
	{"name":"call","taskReferenceName":"call","type":"HTTP",
	 "inputParameters":{"uri":"http://127.0.0.1:1/never","method":"GET"}},
	{"name":"wait","taskReferenceName":"gate","type":"WAIT"},
	{"name":"sub","taskReferenceName":"sub","type":"SUB_WORKFLOW",
	 "subWorkflowParam":{"name":"inner","version":1}},
	{"name":"loop","taskReferenceName":"loop","type":"DO_WHILE",
	 "loopCondition":"$.loop['iteration'] < 2",
	 "loopOver":[{"name":"step","taskReferenceName":"step","type":"SIMPLE"}]}],
	"outputParameters":{"w":"${w.output.v}","call":"${call.output.response.statusCode}",
	 "gate":"${gate.output.v}","sub":"${sub.output.v}","step":"${step.output.v}"}}`

const innerFlow = `{"name":"inner","version":1,"tasks":[
	{"name":"deep","taskReferenceName":"deep","type":"SIMPLE"}],
	"outputParameters":{"v":"${deep.output.v}"}}`

func TestDryRun(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/taskdefs",
		`[{"name":"work","retryCount":1,"retryDelaySeconds":60,"responseTimeoutSeconds":600}]`)
	s.ok("POST", "/api/metadata/workflow", innerFlow)
	s.ok("POST", "/api/metadata/workflow", dryFlow)
	got := s.ok("POST", "/api/workflow/test", `{"name":"dry","version":1,"input":{},
		"taskRefToMockOutput":{
			"w":[{"status":"FAILED"},{"output":{"v":1}}],
			"call":[{"status":"COMPLETED","output":{"response":{"statusCode":299}}}],
			"gate":[{"output":{"v":2}}],
			"step":[{"output":{"v":4}},{"output":{"v":5}}]},
		"subWorkflowTestRequest":{"sub":{"name":"inner",
			"taskRefToMockOutput":{"deep":[{"output":{"v":3}}]}}}}`)
	if got.text("status") != "COMPLETED" {
		t.Fatalf("got %s", got.body)
	}
	for name, want := range map[string]string{
		"w": "1", "call": "299", "gate": "2", "sub": "3", "step": "5",
	} {
		if v := got.text("output", name); v != want {
			t.Errorf("output %s is %q, want %s", name, v, want)
		}
	}
	if n := got.text("tasks", 1, "retryCount"); n != "1" {
		t.Errorf("the second attempt has retry count %s", n)
	}
}

func TestDryRunThatWaits(t *testing.T) {
	s := newServer(t)
	s.ok("POST", "/api/metadata/workflow", innerFlow)
	got := s.ok("POST", "/api/workflow/test", `{"name":"inner","version":1,"input":{}}`)
	if got.text("status") != "RUNNING" || got.text("tasks", 0, "status") != "SCHEDULED" {
		t.Fatalf("got %s", got.body)
	}
	if r := s.do("GET", "/api/tasks/poll/deep?workerid=real", ""); r.status != http.StatusNoContent {
		t.Errorf("a worker got a task of a dry run: %s", r.body)
	}
	after := s.ok("GET", "/api/workflow/"+got.text("workflowId"), "")
	if after.text("status") != "TERMINATED" {
		t.Errorf("what is left of the dry run is %s", after.text("status"))
	}
}

func TestDryRunRefuses(t *testing.T) {
	s := newServer(t)
	for _, c := range []struct{ name, body, want string }{
		{"no definition", `{"name":"nobody","input":{}}`, "No such workflow defined"},
		{"no name", `{"input":{}}`, "Validation failed"},
		{"status", `{"name":"x","taskRefToMockOutput":{"a":[{"status":"DONE"}]}}`, "DONE"},
		{"output", `{"name":"x","taskRefToMockOutput":{"a":[{"output":7}]}}`, "output"},
		{"child", `{"name":"x","subWorkflowTestRequest":{"a":7}}`, "subWorkflowTestRequest.a"},
	} {
		r := s.do("POST", "/api/workflow/test", c.body)
		if r.status < 400 || !strings.Contains(r.body, c.want) {
			t.Errorf("%s: answered %d %s", c.name, r.status, r.body)
		}
	}
}
