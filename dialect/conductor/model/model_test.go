package model

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

func TestWorkflowDefDefaults(t *testing.T) {
	src := `{"name":"w","tasks":[{"name":"a","taskReferenceName":"r"}]}`
	d, err := DecodeWorkflowDef(value.Raw(src))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"createTime":0,"updateTime":0,"name":"w","version":1,"tasks":[{"name":"a",` +
		`"taskReferenceName":"r","inputParameters":{},"type":"SIMPLE","decisionCases":{},` +
		`"defaultCase":[],"forkTasks":[],"startDelay":0,"joinOn":[],"optional":false,` +
		`"defaultExclusiveJoinTask":[],"asyncComplete":false,"loopOver":[],"onStateChange":{},` +
		`"permissive":false,"metadata":{}}],"inputParameters":[],"outputParameters":{},` +
		`"schemaVersion":2,"restartable":true,"workflowStatusListenerEnabled":false,` +
		`"timeoutPolicy":"ALERT_ONLY","timeoutSeconds":0,"variables":{},"inputTemplate":{},` +
		`"enforceSchema":true,"metadata":{},"maskedFields":[]}`
	if diff := cmp.Diff(want, string(d.Encode())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTaskDefDefaults(t *testing.T) {
	d, err := DecodeTaskDef(value.Raw(`{"name":"t"}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"createTime":0,"updateTime":0,"name":"t","retryCount":3,"timeoutSeconds":0,` +
		`"inputKeys":[],"outputKeys":[],"runtimeMetadata":[],"timeoutPolicy":"TIME_OUT_WF",` +
		`"retryLogic":"FIXED","retryDelaySeconds":60,"responseTimeoutSeconds":3600,` +
		`"inputTemplate":{},"rateLimitPerFrequency":0,"rateLimitFrequencyInSeconds":1,` +
		`"backoffScaleFactor":1,"maxRetryDelaySeconds":0,"backoffJitterMs":0,` +
		`"totalTimeoutSeconds":0,"taskStatusListenerEnabled":true,"enforceSchema":false}`
	if diff := cmp.Diff(want, string(d.Encode())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestCoercions(t *testing.T) {
	tests := []struct{ member, value, want string }{
		{"retryCount", `"7"`, "7"},
		{"retryCount", `7.9`, "7"},
		{"retryCount", `null`, "0"},
		{"retryCount", `""`, "0"},
		{"backoffScaleFactor", `null`, "1"},
		{"timeoutSeconds", `5000000000`, "5000000000"},
		{"enforceSchema", `"true"`, "true"},
		{"enforceSchema", `1`, "true"},
		{"taskStatusListenerEnabled", `null`, "false"},
		{"description", `5`, `"5"`},
		{"description", `true`, `"true"`},
		{"description", `""`, `""`},
		{"inputKeys", `["a",1,null]`, `["a","1",""]`},
		{"inputKeys", `null`, `[]`},
		{"inputTemplate", `null`, `{}`},
		{"timeoutPolicy", `null`, `"TIME_OUT_WF"`},
		{"retryLogic", `2`, `"LINEAR_BACKOFF"`},
		{"concurrentExecLimit", `"3"`, "3"},
	}
	for _, tt := range tests {
		d, err := DecodeTaskDef(value.Raw(`{"name":"t","` + tt.member + `":` + tt.value + `}`))
		if err != nil {
			t.Errorf("%s %s: %v", tt.member, tt.value, err)
			continue
		}
		if got, _ := d.Encode().Field(tt.member); string(got) != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.member, tt.value, got, tt.want)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"syntax", "{\n \"name\": }", "2:10: expected"},
		{"kind", `[]`, "1:1: want an object, found array"},
		{"text", `{"name":{}}`, `1:9: /name: want a string, found object`},
		{
			"integer", "{\"tasks\":[\n{\"startDelay\":\"x\"}]}",
			`2:15: /tasks/0/startDelay: want an integer, found "x"`,
		},
		{"range", `{"version":3000000000}`, `1:12: /version: integer 3000000000 is out of range`},
		{
			"enum", `{"timeoutPolicy":"alert_only"}`,
			`want one of "TIME_OUT_WF", "ALERT_ONLY", found "alert_only"`,
		},
		{"list", `{"tasks":{}}`, `/tasks: want a list, found object`},
		{"branch", `{"tasks":[{"forkTasks":[{}]}]}`, `/tasks/0/forkTasks/0: want a list`},
		{
			"case", `{"tasks":[{"decisionCases":{"a/b":[1]}}]}`,
			`/tasks/0/decisionCases/a~1b/0: want an object, found number`,
		},
		{
			"inline", `{"tasks":[{"subWorkflowParam":{"workflowDefinition":"x"}}]}`,
			`workflowDefinition must be either null, or WorkflowDef, or a valid DSL string`,
		},
		{
			"depth", strings.Repeat(`{"tasks":[{"loopOver":[`, 1) +
				strings.Repeat(`{"loopOver":[`, 80) + strings.Repeat(`]}`, 80) + `]}]}`,
			`nested deeper than 64 levels`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := DecodeWorkflowDef(value.Raw(tt.src))
			var diags value.Diagnostics
			if tutti.KindOf(err) != tutti.Invalid || !errors.As(err, &diags) {
				t.Fatalf("got %v", err)
			}
			if tt.name != "syntax" && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want %q in it", err, tt.want)
			}
			if diags[0].Line == 0 {
				t.Errorf("no position in %+v", diags[0])
			}
		})
	}
}

func TestInlineDefinition(t *testing.T) {
	src := `{"name":"p","tasks":[
		{"name":"a","taskReferenceName":"a","type":"SUB_WORKFLOW","subWorkflowParam":
			{"name":"x","version":9,"workflowDefinition":{"name":"c","version":2}}},
		{"name":"b","taskReferenceName":"b","type":"SUB_WORKFLOW","subWorkflowParam":
			{"name":"x","workflowDefinition":"${workflow.input.def}","priority":"${a.output.p}"}}]}`
	d, err := DecodeWorkflowDef(value.Raw(src))
	if err != nil {
		t.Fatal(err)
	}
	first, second := d.Tasks[0].SubWorkflowParam, d.Tasks[1].SubWorkflowParam
	if first.Name != "c" || *first.Version != 2 || first.Definition == nil {
		t.Errorf("first: %+v", first)
	}
	if second.DefinitionExpression != "${workflow.input.def}" || second.Definition != nil {
		t.Errorf("second: %+v", second)
	}
}

func TestEventHandler(t *testing.T) {
	src := `{"name":"h","event":"conductor:e","condition":"$.a == 1","actions":[{"action":` +
		`"complete_task","complete_task":{"workflowId":"${w}","taskRefName":"t","output":{"a":1}},` +
		`"expandInlineJSON":true}],"active":true}`
	h, err := DecodeEventHandler(value.Raw(src))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(h.Encode()); got != src {
		t.Errorf("got %s\nwant %s", got, src)
	}
}

// corpus calls visit with every JSON document of the public Conductor corpora.
func corpus(t *testing.T, visit func(file string, src value.Raw)) {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "..", "shared", "corpora", "conductor")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the corpora are not here: ", err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		src, err := os.ReadFile(path)
		if err == nil && value.Check(src, value.DefaultLimits) == nil {
			visit(strings.TrimPrefix(path, dir+"/"), src)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// definitions yields the workflow and task definitions of a corpus file, alone or in a list.
func definitions(src value.Raw) (workflows, tasks []value.Raw) {
	list := []value.Raw{src}
	if src.Kind() == "array" {
		list = nil
		for e := range src.Elements() {
			list = append(list, e)
		}
	}
	for _, e := range list {
		if _, ok := e.Field("tasks"); ok {
			workflows = append(workflows, e)
		} else if _, ok := e.Field("name"); ok {
			if _, ok := e.Field("event"); !ok {
				tasks = append(tasks, e)
			}
		}
	}
	return workflows, tasks
}

func TestCorpusRoundTrip(t *testing.T) {
	count := 0
	corpus(t, func(file string, src value.Raw) {
		workflows, _ := definitions(src)
		for _, w := range workflows {
			d, err := DecodeWorkflowDef(w)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			count++
			once := d.Encode()
			again, err := DecodeWorkflowDef(once)
			if err != nil {
				t.Errorf("%s: encoded: %v", file, err)
				continue
			}
			if diff := cmp.Diff(string(once), string(again.Encode())); diff != "" {
				t.Errorf("%s: not idempotent:\n%s", file, diff)
			}
		}
	})
	if count < 200 {
		t.Errorf("only %d definitions found", count)
	}
}
