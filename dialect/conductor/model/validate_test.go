package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// describe lists findings of one severity as "path: message".
func describe(r *Report, s value.Severity) []string {
	var list []string
	for _, f := range r.Findings {
		if f.Severity == s {
			list = append(list, f.Path+": "+f.Message)
		}
	}
	return list
}

func checkWorkflow(t *testing.T, rules Rules, src string, docs tutti.Documents) *Report {
	t.Helper()
	d, err := DecodeWorkflowDef(value.Raw(src))
	if err != nil {
		t.Fatal(err)
	}
	return rules.Workflow(d, docs)
}

func TestWorkflowViolations(t *testing.T) {
	const task = `{"name":"t","taskReferenceName":"r"}`
	tests := []struct {
		name  string
		rules Rules
		src   string
		want  []string
	}{
		{"good", Rules{}, `{"name":"w","tasks":[` + task + `]}`, nil},
		{"empty", Rules{}, `{}`, []string{
			"name: WorkflowDef name cannot be null or empty",
			"tasks: WorkflowTask list cannot be empty",
		}},
		{"owner", Rules{OwnerEmail: true}, `{"name":"w","tasks":[` + task + `]}`, []string{
			"ownerEmail: ownerEmail cannot be empty",
		}},
		{
			"schema version",
			Rules{},
			`{"name":"w","schemaVersion":1,"tasks":[` + task + `]}`,
			[]string{"schemaVersion: workflowDef schemaVersion: 2 is only supported"},
		},
		{"name", Rules{Names: true}, `{"name":"w!","tasks":[` + task + `]}`, []string{
			"name: Invalid name 'w!'. Allowed characters are alphanumeric, underscores, spaces," +
				" hyphens, and special characters like <, >, {, }, #",
		}},
		{"name good", Rules{Names: true}, `{"name":"w <a>{b}#_- 1","tasks":[` + task + `]}`, nil},
		{"task names", Rules{}, `{"name":"w","tasks":[{"startDelay":-1}]}`, []string{
			"tasks[0].name: WorkflowTask name cannot be empty or null",
			"tasks[0].taskReferenceName: WorkflowTask taskReferenceName name cannot be empty or" +
				" null",
			"tasks[0].startDelay: must be greater than or equal to 0",
		}},
		{"nested", Rules{}, `{"name":"w","tasks":[{"name":"s","taskReferenceName":"s",
			"type":"SWITCH","evaluatorType":"value-param","expression":"x",
			"decisionCases":{"a":[{"taskReferenceName":"n1"}]},
			"defaultCase":[{"taskReferenceName":"n2"}]},
			{"name":"f","taskReferenceName":"f","type":"FORK_JOIN",
			"forkTasks":[[{"taskReferenceName":"n3"}]]},
			{"name":"j","taskReferenceName":"j","type":"JOIN","joinOn":["n3"]}]}`, []string{
			"tasks[0].decisionCases[a].<map value>[0].name: WorkflowTask name cannot be empty or" +
				" null",
			"tasks[0].defaultCase[0].name: WorkflowTask name cannot be empty or null",
			"tasks[1].forkTasks[0].<list element>[0].name: WorkflowTask name cannot be empty or" +
				" null",
		}},
		{"state change", Rules{}, `{"name":"w","tasks":[{"name":"t","taskReferenceName":"r",
			"onStateChange":{"onStart":[{}]}}]}`, []string{
			"tasks[0].onStateChange[onStart].<map value>[0].type: must not be null",
		}},
		{"unique", Rules{}, `{"name":"w","tasks":[` + task + `,{"name":"l","taskReferenceName":"l",
			"type":"DO_WHILE","loopCondition":"true","loopOver":[` + task + `]}]}`, []string{
			": taskReferenceName: r should be unique across tasks for a given" +
				" workflowDefinition: w",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := checkWorkflow(t, tt.rules, tt.src, nil)
			if diff := cmp.Diff(tt.want, describe(r, value.Error)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestInputViolations(t *testing.T) {
	tests := []struct{ input, want string }{
		{`"${workflow.input.a} ${r.output.b} $${gone.x}"`, ""},
		{`"${CPEWF_TASK_ID}"`, ""},
		{`"${workflow.env.X} ${workflow.secrets.Y}"`, ""},
		{`"${r.output.${workflow.input.k}}"`, ""},
		{`5`, ""},
		{`"${gone.output.a}"`, "taskReferenceName: gone for given task: t input value: k of" +
			" input parameter: ${gone.output.a} is not defined in workflow definition."},
		{`{"x":["a ${gone.output.a}"]}`, "taskReferenceName: gone for given task: t input" +
			" value: x of input parameter: a ${gone.output.a} is not defined in workflow" +
			" definition."},
		{`"${$.r.output}"`, "taskReferenceName: $ for given task: t input value: k of input" +
			" parameter: ${$.r.output} is not defined in workflow definition."},
		{`"${r.output[}"`, "key: k input parameter value: r.output[ is not valid"},
		{`"${}"`, "key: k input parameter value:  is not valid"},
	}
	for _, tt := range tests {
		src := `{"name":"w","tasks":[{"name":"t","taskReferenceName":"r",` +
			`"inputParameters":{"k":` + tt.input + `}}]}`
		got := ""
		for _, f := range checkWorkflow(t, Rules{}, src, nil).Violations() {
			got += f.Message
		}
		if got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.input, got, tt.want)
		}
	}
	// Steps in branches are not checked by the official server.
	r := checkWorkflow(t, Rules{}, `{"name":"w","tasks":[{"name":"f","taskReferenceName":"f",
		"type":"FORK_JOIN","forkTasks":[[{"name":"a","taskReferenceName":"a","inputParameters":
		{"x":"${gone.output}"}}]]},{"name":"j","taskReferenceName":"j","type":"JOIN",
		"joinOn":["a"]}]}`, nil)
	if r.Err() != nil || len(r.Findings) != 1 || r.Findings[0].Code != "unknown-reference" {
		t.Errorf("nested: %+v", r.Findings)
	}
}

func TestTypeRules(t *testing.T) {
	tests := []struct{ task, want string }{
		{`"type":"EVENT"`, "sink field is required for taskType: EVENT taskName: t"},
		{`"type":"EVENT","sink":"conductor"`, ""},
		{`"type":"DECISION"`, "caseValueParam or caseExpression field is required for taskType:" +
			" DECISION taskName: t; decisionCases should have atleast one task for taskType:" +
			" DECISION taskName: t"},
		{
			`"type":"DECISION","caseExpression":"1 +","decisionCases":{"a":[]}`,
			"Expression is not well formatted: *, taskType: DECISION taskName t",
		},
		{`"type":"SWITCH"`, "evaluatorType field is required for taskType: SWITCH taskName: t; " +
			"decisionCases should have atleast one task for taskType: SWITCH taskName: t"},
		{
			`"type":"SWITCH","evaluatorType":"javascript","decisionCases":{"a":[]}`,
			"expression field is required for taskType: SWITCH taskName: t",
		},
		{
			`"type":"SWITCH","evaluatorType":"javascript","expression":"$.a ? 'x' : ",` +
				`"decisionCases":{"a":[]}`,
			"Expression is not well formatted: *, taskType: SWITCH taskName t",
		},
		{`"type":"SWITCH","evaluatorType":"javascript","expression":"$.none.gone == 1",` +
			`"decisionCases":{"a":[]}`, ""},
		{`"type":"SWITCH","evaluatorType":"value-param","expression":"1 +",` +
			`"decisionCases":{"a":[]}`, ""},
		{`"type":"DO_WHILE"`, "loopCondition field is required for taskType: DO_WHILE taskName:" +
			" t; loopOver field is required for taskType: DO_WHILE taskName: t"},
		{`"type":"DO_WHILE","items":"${workflow.input.x}","loopOver":[{"name":"x",` +
			`"taskReferenceName":"x"}]`, ""},
		{`"type":"DO_WHILE","loopCondition":"","loopOver":[{"name":"x",` +
			`"taskReferenceName":"x"}]`, ""},
		{
			`"type":"DYNAMIC"`,
			"dynamicTaskNameParam field is required for taskType: DYNAMIC taskName: t",
		},
		{`"type":"FORK_JOIN_DYNAMIC"`, "dynamicForkTasksParam field is required for taskType:" +
			" FORK_JOIN_DYNAMIC taskName: t; dynamicForkTasksInputParamName field is required for" +
			" taskType: FORK_JOIN_DYNAMIC taskName: t"},
		{
			`"type":"FORK_JOIN_DYNAMIC","dynamicForkTasksParam":"a"`,
			"dynamicForkTasksInputParamName field is required for taskType: FORK_JOIN_DYNAMIC" +
				" taskName: t",
		},
		{`"type":"FORK_JOIN_DYNAMIC","dynamicForkJoinTasksParam":"a"`, ""},
		{`"type":"FORK_JOIN_DYNAMIC","inputParameters":{"forkTaskInputs":[]}`, ""},
		{
			`"type":"FORK_JOIN_DYNAMIC","dynamicForkJoinTasksParam":"a","dynamicForkTasksParam":"b"`,
			"dynamicForkJoinTasksParam or combination of dynamicForkTasksInputParamName and" +
				" dynamicForkTasksParam cam be used for taskType: FORK_JOIN_DYNAMIC taskName: t",
		},
		{`"type":"HTTP"`, "inputParameters.http_request or inputParameters.uri field is required" +
			" for taskType: HTTP taskName: t"},
		{`"type":"HTTP","inputParameters":{"uri":"http://x"}`, ""},
		{`"type":"HTTP","inputParameters":{"http_request":{}}`, ""},
		{`"type":"HTTP","name":"templated"`, ""},
		{`"type":"HTTP","taskDefinition":{"name":"x","inputTemplate":{"http_request":{}}}`, ""},
		{
			`"type":"FORK_JOIN"`,
			"forkTasks should have atleast one task for taskType: FORK_JOIN taskName: t",
		},
		{`"type":"TERMINATE","optional":true`, "terminate task cannot be optional, taskName: t; " +
			"terminate task must have an terminationStatus parameter and must be set to" +
			" COMPLETED or FAILED, taskName: t"},
		{
			`"type":"TERMINATE","inputParameters":{"terminationStatus":"${r.output}"}`,
			"terminate task must have an terminationStatus parameter and must be set to" +
				" COMPLETED or FAILED, taskName: t",
		},
		{`"type":"TERMINATE","inputParameters":{"terminationStatus":"TERMINATED"}`, ""},
		{
			`"type":"KAFKA_PUBLISH"`,
			"inputParameters.kafka_request field is required for taskType: KAFKA_PUBLISH" +
				" taskName: t",
		},
		{
			`"type":"SUB_WORKFLOW"`,
			"subWorkflowParam field is required for taskType: SUB_WORKFLOW taskName: t",
		},
		{`"type":"JSON_JQ_TRANSFORM"`, "inputParameters.queryExpression field is required for" +
			" taskType: JSON_JQ_TRANSFORM taskName: t"},
		{`"type":"WAIT"`, ""},
		{
			`"type":"WAIT","inputParameters":{"duration":"1 m","until":"2022-04-16"}`,
			"Both 'duration' and 'until' specified. Please provide only one input",
		},
		{
			`"type":"WAIT","inputParameters":{"duration":"1 week"}`,
			"Either date or duration is passed as null ",
		},
		{`"type":"WAIT","inputParameters":{"duration":"${workflow.input.d}"}`, ""},
		{`"type":"WAIT","inputParameters":{"until":"soon"}`, "Unable to parse date "},
		{`"type":"WAIT","inputParameters":{"until":"2022-04-16 10:00 GMT"}`, ""},
		{`"type":"MY_OWN"`, ""},
	}
	docs := catalogue{"taskdef/templated": `{"name":"templated","inputTemplate":
		{"http_request":{}}}`}
	for _, tt := range tests {
		src := `{"name":"w","tasks":[{"name":"t","taskReferenceName":"r",` + tt.task + `}]}`
		var got []string
		for _, f := range checkWorkflow(t, Rules{}, src, docs).Violations() {
			if !strings.HasPrefix(f.Message, "taskReferenceName:") {
				got = append(got, f.Message)
			}
		}
		before, after, _ := strings.Cut(tt.want, "*")
		s := strings.Join(got, "; ")
		if !strings.HasPrefix(s, before) || !strings.HasSuffix(s, after) || (tt.want == "") != (s == "") {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.task, s, tt.want)
		}
	}
}

func TestTaskDefViolations(t *testing.T) {
	tests := []struct {
		rules     Rules
		src, want string
	}{
		{Rules{}, `{"name":"t"}`, ""},
		{Rules{}, `{}`, "name: TaskDef name cannot be null or empty"},
		{Rules{OwnerEmail: true}, `{"name":"t"}`, "ownerEmail: ownerEmail cannot be empty"},
		{Rules{}, `{"name":"t","retryCount":-1}`, "retryCount: TaskDef retryCount: 0 must be >= 0"},
		{
			Rules{},
			`{"name":"t","pollTimeoutSeconds":-1,"maxRetryDelaySeconds":-1}`,
			"pollTimeoutSeconds: TaskDef pollTimeoutSeconds: 0 must be >= 0; " +
				"maxRetryDelaySeconds: TaskDef maxRetryDelaySeconds: 0 must be >= 0",
		},
		{
			Rules{},
			`{"name":"t","backoffJitterMs":-1,"totalTimeoutSeconds":-1}`,
			"backoffJitterMs: TaskDef backoffJitterMs: 0 must be >= 0; " +
				"totalTimeoutSeconds: TaskDef totalTimeoutSeconds: 0 must be >= 0",
		},
		{
			Rules{},
			`{"name":"t","backoffScaleFactor":0}`,
			"backoffScaleFactor: Backoff scale factor. Applicable for LINEAR_BACKOFF",
		},
		{Rules{}, `{"name":"t","responseTimeoutSeconds":0}`, "responseTimeoutSeconds: TaskDef" +
			" responseTimeoutSeconds: 0 should be minimum 1 second"},
		{Rules{}, `{"name":"t","timeoutSeconds":3600}`, ""},
		{
			Rules{},
			`{"name":"t","timeoutSeconds":10,"responseTimeoutSeconds":11}`,
			": TaskDef: t responseTimeoutSeconds: 11 must be less than timeoutSeconds: 10",
		},
		{Rules{}, `{"name":"t","timeoutSeconds":9000,"totalTimeoutSeconds":8000}`, ": TaskDef:" +
			" t timeoutSeconds: 9000 must be less than or equal to totalTimeoutSeconds: 8000"},
	}
	for _, tt := range tests {
		d, err := DecodeTaskDef(value.Raw(tt.src))
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(describe(tt.rules.TaskDef(d), value.Error), "; ")
		if got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.src, got, tt.want)
		}
	}
}

func TestEventHandlerViolations(t *testing.T) {
	tests := []struct{ src, want string }{
		{`{}`, "name: Missing event handler name; event: Missing event location; " +
			"actions: No actions specified. Please specify at-least one action"},
		{`{"name":"h","event":"e:q","actions":[{"action":"fail_task","fail_task":{}}]}`, ""},
	}
	for _, tt := range tests {
		h, err := DecodeEventHandler(value.Raw(tt.src))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(describe(Rules{}.EventHandler(h), value.Error), "; "); got != tt.want {
			t.Errorf("%s: got %s", tt.src, got)
		}
	}
	h, _ := DecodeEventHandler(value.Raw(`{"name":"h","event":"e","actions":[
		{"action":"start_agent"},{"action":"complete_task"},{}]}`))
	if got := describe(Rules{}.EventHandler(h), value.Warning); len(got) != 3 {
		t.Errorf("warnings: %q", got)
	}
}

func TestLint(t *testing.T) {
	docs := catalogue{
		"workflow/b/1": `{"name":"b","tasks":[{"name":"x","taskReferenceName":"x",
			"type":"SUB_WORKFLOW","subWorkflowParam":{"name":"c"}}]}`,
		"workflow/c/1": `{"name":"c","tasks":[{"name":"x","taskReferenceName":"x",
			"type":"SUB_WORKFLOW","subWorkflowParam":{"name":"w"}},
			{"name":"y","taskReferenceName":"y","type":"SUB_WORKFLOW",
			"subWorkflowParam":{"name":"b"}}]}`,
	}
	tests := []struct{ code, tasks, want string }{
		{"fork-without-join", `{"name":"f","taskReferenceName":"f","type":"FORK_JOIN",
			"forkTasks":[[]]}`, "fork f is not followed by a JOIN"},
		{
			"empty-join-on", `{"name":"j","taskReferenceName":"j","type":"JOIN"}`,
			"JOIN j has an empty joinOn",
		},
		{"unknown-reference", `{"name":"j","taskReferenceName":"j","type":"JOIN",
			"joinOn":["gone"]}`, "JOIN j waits for gone, which is no task"},
		{
			"unknown-reference", `{"name":"l","taskReferenceName":"l","type":"DO_WHILE",
			"loopCondition":"true","loopOver":[{"name":"a","taskReferenceName":"a",
			"inputParameters":{"x":"${b.output} ${l__1.output} ${a.output}"}}]}`,
			"a refers to b, which is no task",
		},
		{"broken-expression", `{"name":"l","taskReferenceName":"l","type":"DO_WHILE",
			"loopCondition":"true","loopOver":[{"name":"a","taskReferenceName":"a",
			"inputParameters":{"x":"${l.output[}"}}]}`, "${l.output[} in a is no path"},
		{
			"unreachable", `{"name":"t","taskReferenceName":"t","type":"TERMINATE","inputParameters":
			{"terminationStatus":"FAILED"}},{"name":"a","taskReferenceName":"a"}`,
			"task a is never reached",
		},
		{"sub-workflow-cycle", `{"name":"s","taskReferenceName":"s","type":"SUB_WORKFLOW",
			"subWorkflowParam":{"name":"b"}}`, "in a circle: w → b → c → w"},
		{"sub-workflow-cycle", `{"name":"s","taskReferenceName":"s","type":"SUB_WORKFLOW",
			"subWorkflowParam":{"name":"w"}}`, "in a circle: w → w"},
		{"unknown-workflow", `{"name":"s","taskReferenceName":"s","type":"SUB_WORKFLOW",
			"subWorkflowParam":{"name":"nowhere"}}`, "workflow nowhere is not defined"},
		{
			"external-worker", `{"name":"s","taskReferenceName":"s","type":"LLM_CHAT_COMPLETE"}`,
			"task s has type LLM_CHAT_COMPLETE, which this server leaves to a worker",
		},
		{
			"unknown-type", `{"name":"s","taskReferenceName":"s","type":"HTTP_POLL"}`,
			"task s has type HTTP_POLL",
		},
		{
			"unknown-evaluator", `{"name":"s","taskReferenceName":"s","type":"SWITCH",
			"evaluatorType":"python","expression":"1","decisionCases":{"a":[]}}`,
			"No evaluator registered for type: python",
		},
		{"script", `{"name":"s","taskReferenceName":"s","type":"INLINE","inputParameters":
			{"expression":"return 1"}}`, "the script of s is malformed"},
		{"invalid-in-loop", `{"name":"l","taskReferenceName":"l","type":"DO_WHILE",
			"loopCondition":"true","loopOver":[{"name":"a","taskReferenceName":"a",
			"type":"EVENT"}]}`, "sink field is required"},
	}
	for _, tt := range tests {
		r := checkWorkflow(t, Rules{}, `{"name":"w","tasks":[`+tt.tasks+`]}`, docs)
		if err := r.Err(); err != nil {
			t.Errorf("%s: %v", tt.code, err)
		}
		if !slices.ContainsFunc(r.Findings, func(f Finding) bool {
			return f.Code == tt.code && strings.Contains(f.Message, tt.want)
		}) || len(r.Findings) != 1 {
			t.Errorf("%s: got %+v", tt.code, r.Findings)
		}
	}
}

func TestExternalTasks(t *testing.T) {
	d, err := DecodeWorkflowDef(value.Raw(`{"tasks":[{"type":"LLM_TEXT_COMPLETE"},
		{"type":"DO_WHILE","loopOver":[{"type":"CALL_MCP_TOOL"},{"type":"CALL_MCP_TOOL"}]},
		{"type":"HTTP"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"CALL_MCP_TOOL", "LLM_TEXT_COMPLETE"}
	if diff := cmp.Diff(want, ExternalTasks(d)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestReport(t *testing.T) {
	src := value.Raw("{\"name\":\"w\",\n \"tasks\":[\n  {\"name\":\"\"}]}")
	d, err := DecodeWorkflowDef(src)
	if err != nil {
		t.Fatal(err)
	}
	r := Rules{}.Workflow(d, nil)
	var invalid *ValidationError
	if err := r.Err(); tutti.KindOf(err) != tutti.Invalid || !errors.As(err, &invalid) {
		t.Fatalf("got %v", err)
	}
	first := invalid.Violations[0]
	if first.InvalidValue != "" || first.Pointer != "/tasks/0/name" {
		t.Errorf("got %+v", first)
	}
	var lines []string
	for _, g := range r.Diagnostics(src) {
		lines = append(lines, fmt.Sprintf("%d:%d", g.Line, g.Column))
	}
	if got := strings.Join(lines, " "); got != "3:3 3:11" {
		t.Errorf("positions: %s", got)
	}
}

func TestCorpusIsAccepted(t *testing.T) {
	corpus(t, func(file string, src value.Raw) {
		workflows, tasks := definitions(src)
		for _, w := range workflows {
			d, err := DecodeWorkflowDef(w)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if err := (Rules{}).Workflow(d, nil).Err(); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
		for _, td := range tasks {
			d, err := DecodeTaskDef(td)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			if err := (Rules{}).TaskDef(d).Err(); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	})
}

func FuzzWorkflowDef(f *testing.F) {
	f.Add(`{"name":"w","tasks":[{"name":"t","taskReferenceName":"r","type":"SWITCH",` +
		`"decisionCases":{"a":[{"name":"x"}]},"inputParameters":{"a":"${r.output}"}}]}`)
	f.Add(`{"tasks":[{"type":"SUB_WORKFLOW","subWorkflowParam":{"workflowDefinition":{}}}]}`)
	f.Add(`{"tasks":[{"type":"DO_WHILE","loopOver":[{"type":"WAIT"}],"joinOn":[null]}]}`)
	f.Fuzz(func(t *testing.T, src string) {
		d, err := DecodeWorkflowDef(value.Raw(src))
		if err != nil {
			return
		}
		Rules{OwnerEmail: true, Names: true}.Workflow(d, catalogue{}).Diagnostics(value.Raw(src))
		once := d.Encode()
		again, err := DecodeWorkflowDef(once)
		if err != nil {
			t.Fatalf("encoded form is refused: %v\n%s", err, once)
		}
		if got := again.Encode(); string(got) != string(once) {
			t.Errorf("not idempotent:\n%s\n%s", once, got)
		}
		linked, err := LinkInline(catalogue{}, once)
		if err != nil {
			return
		}
		twice, err := LinkInline(catalogue{}, linked.Body)
		if err != nil || string(twice.Body) != string(linked.Body) {
			t.Errorf("linking is not idempotent: %v", err)
		}
	})
}
