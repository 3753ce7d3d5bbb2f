package conductorapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/events"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/value"
)

// newEventServer is a server whose event handlers and EVENT tasks work.
func newEventServer(t *testing.T) (*server, eventbus.Bus) {
	t.Helper()
	var bus *eventbus.Registry
	s := newServer(t, func(o *Options) {
		bus = eventbus.New(eventbus.Config{Internal: events.NewQueues(o.Service)})
		o.Bus = bus
	})
	s.connect(&eventbus.EventTask{Bus: bus})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.api.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		bus.Close()
	})
	return s, bus
}

// await waits for a workflow to reach a status, moved by its changes.
func (s *server) await(id, status string) reply {
	s.t.Helper()
	run, err := tutti.ParseRunID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	got := ""
	met, err := s.svc.WaitUntil(s.t.Context(), namespace, run, 10*time.Second,
		func(v *api.RunView) (bool, error) {
			got = v.Run.Status.String()
			return got == status, nil
		})
	if err != nil || !met {
		s.t.Fatalf("workflow is %s, want %s; error %v", got, status, err)
	}
	return s.ok("GET", "/api/workflow/"+id, "")
}

// found waits until a search finds a number of workflows.
func (s *server) found(query string, n int) (r reply) {
	s.t.Helper()
	s.eventually(fmt.Sprintf("%s finds %d", query, n), func() bool {
		r = s.ok("GET", "/api/workflow/search-v2?query="+query, "")
		return r.text("totalHits") == fmt.Sprint(n)
	})
	return r
}

const noop = `{"name":%q,"tasks":[{"name":"n","taskReferenceName":"n","type":"NOOP"}]}`

func TestEventStartsWorkflow(t *testing.T) {
	s, _ := newEventServer(t)
	s.ok("POST", "/api/metadata/workflow", fmt.Sprintf(noop, "target"))
	s.ok("POST", "/api/metadata/workflow", `{"name":"source","tasks":[{"name":"e","type":"EVENT",
		"taskReferenceName":"e1","sink":"conductor:out","inputParameters":{
		"who":"${workflow.input.who}","doc":"{\"deep\":[1]}"}}]}`)
	s.ok("POST", "/api/event", `{"name":"h","event":"conductor:source:out","active":true,
		"condition":"$.who == 'you' && $.doc.deep[0] == 1","actions":[{"action":"start_workflow",
		"expandInlineJSON":true,"start_workflow":{"name":"target","correlationId":"${who}",
		"input":{"name":"${who}","deep":"${doc.deep}"}}}]}`)
	for _, who := range []string{"me", "you"} {
		id := s.ok("POST", "/api/workflow", `{"name":"source","input":{"who":"`+who+`"}}`).body
		end := s.await(id, "COMPLETED")
		if got := end.text("tasks", 0, "outputData", "event_produced"); got != "conductor:source:out" {
			t.Errorf("the event was sent to %q", got)
		}
	}
	wf := s.found("workflowType=target", 1)
	for _, check := range []struct {
		path []any
		want string
	}{
		{[]any{"correlationId"}, "you"},
		{[]any{"event"}, "conductor:source:out"},
		{[]any{"input", "name"}, "you"},
		{[]any{"input", "deep", 0}, "1"},
		{[]any{"input", "conductor.event.name"}, "conductor:source:out"},
	} {
		path := append([]any{"results", 0}, check.path...)
		if got := wf.text(path...); got != check.want {
			t.Errorf("%v is %q, want %q", check.path, got, check.want)
		}
	}
}

func TestEventActions(t *testing.T) {
	s, bus := newEventServer(t)
	s.ok("POST", "/api/metadata/workflow", `{"name":"w","variables":{"list":[1]},"tasks":[
		{"name":"a","taskReferenceName":"a1","type":"WAIT"},
		{"name":"b","taskReferenceName":"b1","type":"HUMAN"}]}`)
	for name, action := range map[string]string{
		"vars": `{"action":"update_workflow_variables","update_workflow_variables":{"workflowId":
			"${id}","appendArray":true,"variables":{"list":"${n}","other":"x"}}}`,
		"done": `{"action":"complete_task","complete_task":{"workflowId":"${id}",
			"taskRefName":"a1","output":{"n":"${n}"}}}`,
		"fail": `{"action":"fail_task","fail_task":{"taskId":"${task}",
			"reasonForIncompletion":"told so"}}`,
		"stop": `{"action":"terminate_workflow","terminate_workflow":{"workflowId":"${id}",
			"terminationReason":"of ${why}"}}`,
	} {
		s.ok("POST", "/api/event", fmt.Sprintf(
			`{"name":%q,"event":"conductor:%s","active":true,"actions":[%s]}`, name, name, action))
	}
	sent := 0
	send := func(queue, body string) {
		t.Helper()
		sent++
		err := bus.Publish(t.Context(), eventbus.Message{
			ID: fmt.Sprint("m", sent), Queue: "conductor:" + queue, Body: value.Raw(body),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	first := s.ok("POST", "/api/workflow", `{"name":"w"}`).body
	send("vars", `{"id":"`+first+`","n":2}`)
	s.holds(first, func(wf reply) bool { return wf.text("variables", "other") == "x" })
	send("done", `{"id":"`+first+`","n":3}`)
	s.holds(first, func(wf reply) bool { return wf.text("tasks", 0, "status") == "COMPLETED" })
	wf := s.ok("GET", "/api/workflow/"+first, "")
	if a, b := wf.text("variables", "list", 0), wf.text("variables", "list", 1); a+b != "12" {
		t.Errorf("the list is %s, %s; want 1, 2", a, b)
	}
	out := []any{"tasks", 0, "outputData"}
	n, name := wf.text(append(out, "n")...), wf.text(append(out, "conductor.event.name")...)
	if n != "3" || name != "conductor:done" {
		t.Errorf("output of the task: n is %q, the event %q", n, name)
	}
	send("stop", `{"id":"`+first+`","why":"boredom"}`)
	if got := s.await(first, "TERMINATED").text("reasonForIncompletion"); got != "of boredom" {
		t.Errorf("terminated because %q", got)
	}
	second := s.ok("POST", "/api/workflow", `{"name":"w"}`).body
	task := s.ok("GET", "/api/workflow/"+second, "").text("tasks", 0, "taskId")
	send("fail", `{"task":"`+task+`"}`)
	if got := s.await(second, "FAILED").text("tasks", 0, "reasonForIncompletion"); got != "told so" {
		t.Errorf("the task failed because %q", got)
	}
}

// holds waits for a condition on a workflow, moved by its changes.
func (s *server) holds(id string, cond func(reply) bool) {
	s.t.Helper()
	run, err := tutti.ParseRunID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	met, err := s.svc.WaitUntil(s.t.Context(), namespace, run, 10*time.Second,
		func(*api.RunView) (bool, error) {
			return cond(s.ok("GET", "/api/workflow/"+id, "")), nil
		})
	if err != nil || !met {
		s.t.Fatalf("condition does not hold; error %v", err)
	}
}

// TestEventOnce checks that a message that comes twice starts one workflow, and that a handler
// takes up messages that came before it.
func TestEventOnce(t *testing.T) {
	s, bus := newEventServer(t)
	s.ok("POST", "/api/metadata/workflow", fmt.Sprintf(noop, "once"))
	m := eventbus.Message{ID: "same", Queue: "conductor:q", Body: value.Raw(`{}`)}
	for range 2 {
		if err := bus.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	s.ok("POST", "/api/event", `{"name":"h","event":"conductor:q","active":false,"actions":[
		{"action":"start_workflow","start_workflow":{"name":"once"}}]}`)
	waiting := s.ok("GET", "/api/admin/queues?verbose=true", "")
	if waiting.body != "{}" {
		t.Errorf("queues of active handlers: %s", waiting.body)
	}
	s.ok("PUT", "/api/event", `{"name":"h","event":"conductor:q","active":true,"actions":[
		{"action":"start_workflow","start_workflow":{"name":"once"}}]}`)
	s.found("workflowType=once", 1)
	m.ID = "another"
	if err := bus.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	s.found("workflowType=once", 2)
}

func TestEventQueueThatCannotBeHeard(t *testing.T) {
	s, _ := newEventServer(t)
	for event, want := range map[string]string{
		"conductor:x": "", "kafka:t": "is not configured", "sqs:q": "is not supported",
	} {
		r := s.ok("POST", "/api/event", fmt.Sprintf(`{"name":%q,"event":%q,"active":true,"actions":
			[{"action":"complete_task","complete_task":{"taskId":"x"}}]}`, event, event))
		got := r.header.Get("Warning")
		if got == "" != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: warning %q, want %q", event, got, want)
		}
	}
}

func TestScheduleOverHTTP(t *testing.T) {
	s, _ := newEventServer(t)
	s.ok("POST", "/api/metadata/workflow", fmt.Sprintf(noop, "timed"))
	s.ok("POST", "/api/scheduler/schedules", `{"name":"s","cronExpression":"* * * * * *",
		"startWorkflowRequest":{"name":"timed","correlationId":"c"}}`)
	s.eventually("the schedule starts a workflow", func() bool {
		const query = "?query=scheduleName=s+AND+state=EXECUTED"
		r := s.ok("GET", "/api/scheduler/search/executions"+query, "")
		if r.text("totalHits") == "0" {
			return false
		}
		s.await(r.text("results", 0, "workflowId"), "COMPLETED")
		return true
	})
}
