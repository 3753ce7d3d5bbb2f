package model

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// A catalogue is a set of documents: kind/name for unversioned, kind/name/version for others.
type catalogue map[string]string

func (c catalogue) Document(kind, name string, version int) (value.Raw, int, bool) {
	if body, ok := c[kind+"/"+name]; ok {
		return value.Raw(body), 0, true
	}
	for v := 9; v > 0; v-- {
		body, ok := c[kind+"/"+name+"/"+string(rune('0'+v))]
		if ok && (version == 0 || version == v) {
			return value.Raw(body), v, true
		}
	}
	return nil, 0, false
}

func TestLink(t *testing.T) {
	docs := catalogue{
		"workflow/w/1": `{"name":"w","version":1,"tasks":[]}`,
		"workflow/w/2": `{"name":"w","version":2,"tasks":[
			{"name":"known","taskReferenceName":"a"},
			{"name":"new","taskReferenceName":"b"},
			{"name":"own","taskReferenceName":"c","taskDefinition":{"name":"own","retryCount":9}},
			{"name":"known","taskReferenceName":"h","type":"HTTP"},
			{"name":"sw","taskReferenceName":"d","type":"SWITCH","decisionCases":{"x":[
				{"name":"sub","taskReferenceName":"e","type":"SUB_WORKFLOW",
					"subWorkflowParam":{"name":"child"}}]},"defaultCase":[
				{"name":"sub","taskReferenceName":"e2","type":"SUB_WORKFLOW",
					"subWorkflowParam":{"name":"child","version":3}}]},
			{"name":"f","taskReferenceName":"f","type":"FORK_JOIN","forkTasks":[[
				{"name":"loop","taskReferenceName":"g","type":"DO_WHILE","loopOver":[
					{"name":"sub","taskReferenceName":"i","type":"SUB_WORKFLOW",
						"subWorkflowParam":{"name":"gone"}}]}]]},
			{"name":"sub","taskReferenceName":"j","type":"SUB_WORKFLOW","subWorkflowParam":
				{"workflowDefinition":{"name":"in","tasks":[
					{"name":"known","taskReferenceName":"k"}]}}}]}`,
		"workflow/child/4": `{"name":"child","version":4}`,
		"workflow/child/3": `{"name":"child","version":3}`,
		"taskdef/known":    `{"name":"known","retryCount":1,"createTime":5}`,
	}
	src, err := Link(docs, "w", 0)
	if err != nil {
		t.Fatal(err)
	}
	if src.Dialect != "conductor" || src.Name != "w" || src.Version != 2 {
		t.Errorf("got %s %s %d", src.Dialect, src.Name, src.Version)
	}
	d, err := DecodeWorkflowDef(src.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	Walk(append(d.Tasks, d.Tasks[6].SubWorkflowParam.Definition.Tasks...),
		func(w *WorkflowTask) {
			f, _ := w.TaskDefinition.Encode().Field("retryCount")
			line := w.TaskReferenceName + " " + string(f)
			if p := w.SubWorkflowParam; p != nil && p.Version != nil {
				line += " v" + string(value.Int(int64(*p.Version)))
			}
			got = append(got, line)
		})
	want := "a 1, b 3, c 9, h 1, d 0, e 0 v4, e2 0 v3, f 0, g 0, i 0, j 0 v1, k 1"
	if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if simple, system := d.Tasks[1].TaskDefinition, d.Tasks[4].TaskDefinition; simple.Name != "new" ||
		simple.ResponseTimeoutSeconds != 3600 || system.ResponseTimeoutSeconds != 0 {
		t.Errorf("ad hoc: %+v, %+v", simple, system)
	}
	again, err := Link(docs, "w", 2)
	if err != nil || string(again.Body) != string(src.Body) {
		t.Errorf("linking again differs: %v", err)
	}
	inline, err := LinkInline(docs, src.Body)
	if err != nil || string(inline.Body) != string(src.Body) {
		t.Errorf("linking the linked differs: %v", err)
	}
}

func TestLinkFaults(t *testing.T) {
	docs := catalogue{
		"workflow/bad/1":    `{"tasks":5}`,
		"workflow/schema/1": `{"name":"schema","inputSchema":{"name":"s","version":2}}`,
		"workflow/off/1":    `{"name":"off","enforceSchema":false,"inputSchema":{"name":"s"}}`,
		"workflow/avro/1":   `{"name":"avro","inputSchema":{"name":"s","type":"AVRO"}}`,
		"workflow/task/1":   `{"name":"task","tasks":[{"name":"t","taskReferenceName":"t"}]}`,
		"taskdef/t":         `{"retryCount":"x"}`,
	}
	tests := []struct {
		name    string
		version int
		kind    tutti.Kind
		want    string
	}{
		{"none", 0, tutti.NotFound, "No such workflow defined. name=none, version=null"},
		{"task", 7, tutti.NotFound, "No such workflow defined. name=task, version=7"},
		{"bad", 0, tutti.Invalid, "/tasks: want a list, found 5"},
		{"schema", 0, tutti.NotFound, "no schema s of version 2 is defined"},
		{"task", 0, tutti.Invalid, `/retryCount: want an integer, found "x"`},
		{"off", 0, tutti.Internal, ""},
		{"avro", 0, tutti.Internal, ""},
	}
	for _, tt := range tests {
		_, err := Link(docs, tt.name, tt.version)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		var e *tutti.Error
		if !errors.As(err, &e) || e.Kind != tt.kind || !strings.Contains(e.Message(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func TestLinkSchema(t *testing.T) {
	docs := catalogue{
		"workflow/w/1": `{"name":"w","inputSchema":{"name":"s"},"tasks":[
			{"name":"t","taskReferenceName":"t"}]}`,
		"taskdef/t":  `{"name":"t","enforceSchema":true,"outputSchema":{"name":"s"}}`,
		"schema/s/1": `{"name":"s","type":"JSON","data":{"type":"object"}}`,
	}
	src, err := Link(docs, "w", 0)
	if err != nil {
		t.Fatal(err)
	}
	d, err := DecodeWorkflowDef(src.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*SchemaDef{d.InputSchema, d.Tasks[0].TaskDefinition.OutputSchema} {
		if s == nil || s.Data == nil {
			t.Errorf("schema without data: %+v", s)
		}
	}
}

func TestLinkInlineWithoutDocuments(t *testing.T) {
	src, err := LinkInline(nil, value.Raw(
		`{"name":"x","version":3,"tasks":[{"name":"t","taskReferenceName":"t"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := DecodeWorkflowDef(src.Body); err != nil || src.Version != 3 ||
		d.Tasks[0].TaskDefinition.RetryCount != 3 {
		t.Errorf("got %+v, %v", src, err)
	}
}

func TestSchema(t *testing.T) {
	compile := func(data string) (*Schema, error) {
		d := NewSchemaDef()
		d.Name = "order"
		d.Data, _ = mustParse(t, data).(*value.Object)
		return CompileSchema(d)
	}
	s, err := compile(`{"type":"object","required":["id"],"properties":{
		"id":{"type":"integer","minimum":1},"tags":{"items":{"type":"string"}},
		"half":{"multipleOf":0.5}}}`)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ doc, want string }{
		{`{"id":1,"tags":["a"]}`, ""},
		{`{"id":1e999999999,"half":1e-999999999}`, "/half"},
		{`{}`, "/: missing property 'id'"},
		{`{"id":0,"tags":[1]}`, "/id: minimum: got 0, want 1; /tags/0: got number, want string"},
		{`[]`, "/: got array, want object"},
	}
	for _, tt := range tests {
		err := s.Check(mustParse(t, tt.doc))
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %s", tt.doc, err, tt.want)
		}
	}
	for _, data := range []string{
		`{"type":5}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"http://localhost/x"}`,
		`{"pattern":"("}`, `{"$schema":"http://localhost/meta"}`, `{"$ref":"#"}`,
		`{"items":{"$dynamicRef":"#x"},"$defs":{"x":{"$dynamicAnchor":"x"}}}`,
	} {
		if _, err := compile(data); tutti.KindOf(err) != tutti.Invalid {
			t.Errorf("%s: got %v", data, err)
		}
	}
	for _, d := range []*SchemaDef{
		{Name: "a", Type: SchemaAvro},
		{Name: "p", Type: SchemaProtobuf},
		{Name: "e", Type: SchemaJSON, ExternalRef: "registry"},
	} {
		if _, err := CompileSchema(d); tutti.KindOf(err) != tutti.Unsupported {
			t.Errorf("%s: got %v", d.Name, err)
		}
	}
}

func TestSchemaWork(t *testing.T) {
	twice := `{"$defs":{"s0":{"type":"number"}`
	for i := 1; i <= 60; i++ {
		ref := fmt.Sprintf(`{"$ref":"#/$defs/s%d"}`, i-1)
		twice += fmt.Sprintf(`,"s%d":{"anyOf":[%s,%s]}`, i, ref, ref)
	}
	twice += `},"$ref":"#/$defs/s60"}`
	deep := strings.Repeat("[", 60) + strings.Repeat("]", 60)
	list := "[" + strings.Repeat(`{"left":{},"right":{"left":{}}},`, 1000) + "1]"
	tests := []struct {
		name, schema, doc string
		bounded           bool
	}{
		{"references twice", twice, `"x"`, true},
		{"elements twice", `{"items":{"$ref":"#"},"contains":{"$ref":"#"}}`, deep, true},
		{
			"members twice", `{"additionalProperties":{"$ref":"#"},
			"patternProperties":{".":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`,
			strings.Repeat(`{"a":`, 60) + "1" + strings.Repeat("}", 60), true,
		},
		{"tree", `{"items":{"$ref":"#"},"properties":{"left":{"$ref":"#"},
			"right":{"$ref":"#"}}}`, list, false},
		{"once", `{"items":{"$ref":"#"}}`, deep, false},
	}
	for _, tt := range tests {
		data := mustParse(t, tt.schema).(*value.Object)
		s, err := CompileSchema(&SchemaDef{Name: "s", Data: data})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		err = s.Check(mustParse(t, tt.doc))
		if bounded := err != nil && strings.Contains(err.Error(), "evaluations"); bounded != tt.bounded {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
}

func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"multipleOf":2}}}`, `{"a":3}`)
	f.Add(`{"$ref":"#/$defs/x","$defs":{"x":{"items":{"$ref":"#"}}}}`, `[[[]]]`)
	f.Fuzz(func(t *testing.T, schema, doc string) {
		limits := value.Limits{Bytes: 1 << 10, Depth: 20}
		data, err := value.Parse([]byte(schema), limits)
		o, ok := data.(*value.Object)
		v, err2 := value.Parse([]byte(doc), limits)
		if err != nil || err2 != nil || !ok {
			return
		}
		s, err := CompileSchema(&SchemaDef{Data: o})
		if err == nil {
			_ = s.Check(v)
		}
	})
}
