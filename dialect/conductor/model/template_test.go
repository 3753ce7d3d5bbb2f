package model

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti/value"
)

func mustParse(t testing.TB, src string) any {
	t.Helper()
	v, err := value.Parse([]byte(src), value.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A mapScope serves a document of roots and notes what was looked up.
type mapScope struct {
	doc    *value.Object
	looked []string
}

func (s *mapScope) Lookup(root, field string) (any, bool) {
	s.looked = append(s.looked, root+"."+field)
	r, _ := s.doc.Get(root)
	return member(r, field)
}

func (s *mapScope) Roots() []string { return s.doc.Keys() }

func (s *mapScope) Env(name string) (string, bool) {
	switch name {
	case "REGION":
		return "eu", true
	case "CONF":
		return `{"a":{"b":[1,2]}}`, true
	}
	return "", false
}

func (s *mapScope) System(name string) (string, bool) { return "task-1", name == SystemTaskID }

const scopeDoc = `{
	"workflow": {
		"input": {"name":"conductor","n":5,"f":5.0,"big":1e10,"nil":null,"key":"b",
			"list":[1,"x",null],"map":{"a":1,"b":{"c":true}},"a-b":"dash","i":1,
			"text":"literal ${workflow.input.n}"},
		"status": "RUNNING", "version": 2, "correlationId": null, "variables": {"v": [1,2,3]}
	},
	"fetch": {"output": {"response":{"body":{"items":[{"id":1,"p":2},{"id":2,"p":9}]}}},
		"status": "COMPLETED", "retryCount": 0},
	"other_ref": {"output": {"id": "z"}, "iteration": 3}
}`

func TestResolve(t *testing.T) {
	tests := []struct{ name, template, want string }{
		{"constant", `{"a":[1,"x",{"b":null}]}`, `{"a":[1,"x",{"b":null}]}`},
		{
			"whole keeps kind", `["${workflow.input.n}","${workflow.input.f}",` +
				`"${workflow.input.map}","${workflow.input.nil}"]`,
			`[5,5.0,{"a":1,"b":{"c":true}},null]`,
		},
		{
			"embedded", `"n=${workflow.input.n} f=${workflow.input.f} b=${workflow.input.big}"`,
			`"n=5 f=5.0 b=1.0E10"`,
		},
		{
			"embedded collections", `"${workflow.input.list} ${workflow.input.map}"`,
			`"[1, x, null] {a=1, b={c=true}}"`,
		},
		{
			"missing", `["${workflow.input.none}","<${workflow.input.none}>","${gone.output.x}"]`,
			`[null,"<null>",null]`,
		},
		{"missing indefinite", `["${gone.output..x}","${workflow.input.none[*]}"]`, `[[],[]]`},
		{"blank", `["${}","${    }","a${ }b"]`, `["","","ab"]`},
		{
			"escape", `["$${x}","a $${workflow.input.n} ${workflow.input.n}","$$${x}"]`,
			`["${x}","a ${workflow.input.n} 5","$${x}"]`,
		},
		{"two in one", `"${workflow.input.name}${workflow.input.n}"`, `"conductor5"`},
		{"nested", `"${workflow.input.map.${workflow.input.key}}"`, `{"c":true}`},
		{
			"nested twice", `"${workflow.variables.v[${workflow.input.list[${zero.output}0]}]}"`,
			`null`,
		},
		{"nested index", `"${workflow.variables.v[${workflow.input.i}]}"`, `2`},
		{"nested in text", `"<${workflow.input.map.${workflow.input.key}}>"`, `"<{c=true}>"`},
		{
			"unbalanced", `["${workflow.input.n","${a ${workflow.input.n}","}${"]`,
			`["${workflow.input.n","${a 5","}${"]`,
		},
		{
			"lines", `"a\n${workflow.input.n}\r\nb\r${workflow.input.name}\n"`,
			`"a\n5\r\nb\rconductor\n"`,
		},
		{
			"keys stay", `{"${workflow.input.n}":"${workflow.input.n}"}`,
			`{"${workflow.input.n}":5}`,
		},
		{"filter", `"${fetch.output.response.body.items[?(@.p > 5)].id}"`, `[2]`},
		{"length", `"${fetch.output.response.body.items.length()}"`, `2`},
		{
			"bracket", `["${workflow.input['a-b']}","${$['workflow']['input']['a-b']}"]`,
			`["dash","dash"]`,
		},
		{"dollar", `"${$.workflow.input.n}"`, `5`},
		{"deep scan", `"${$..id}"`, `[1,2,"z"]`},
		{"root", `"${other_ref}"`, `{"output":{"id":"z"},"iteration":3}`},
		{
			"field of task", `["${fetch.status}","${fetch.retryCount}","${other_ref.iteration}"]`,
			`["COMPLETED",0,3]`,
		},
		{
			"no second pass", `["${workflow.input.text}","<${workflow.input.text}>"]`,
			`["literal ${workflow.input.n}","<literal ${workflow.input.n}>"]`,
		},
		{"broken path", `["${workflow.input[}","x${workflow..}y"]`, `[null,"xnully"]`},
		{
			"secret", `["${workflow.secrets.DB}","u:${workflow.secrets.DB.pw}@h"]`,
			`["${workflow.secrets.DB}","u:${workflow.secrets.DB.pw}@h"]`,
		},
		{"env", `["${workflow.env.REGION}","${workflow.env.CONF.a.b[1]}",` +
			`"${workflow.env.NONE}","${workflow.env.REGION.x}"]`, `["eu",2,null,null]`},
		{
			"system", `["${CPEWF_TASK_ID}","id ${CPEWF_TASK_ID}","${NETFLIX_ENV}"]`,
			`["task-1","id task-1","${NETFLIX_ENV}"]`,
		},
		{"process environment", `"${PATH}"`, `null`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := mustParse(t, tt.template)
			scope := &mapScope{doc: mustParse(t, scopeDoc).(*value.Object)}
			got, err := CompileTemplate(in).Resolve(scope)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(value.Marshal(got))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if !value.Equal(in, mustParse(t, tt.template)) {
				t.Error("the template was changed")
			}
			if !value.Equal(scope.doc, mustParse(t, scopeDoc)) {
				t.Error("the scope was changed")
			}
		})
	}
}

// TestResolveDocument holds the vectors of the official server's own test of its expressions.
func TestResolveDocument(t *testing.T) {
	const doc = `{"someString":"conductor","someNumber":2,"name":"conductor","version":2,
		"externalId":"{\"taskRefName\":\"t001\"}","map":{"a":1},"list":[{"x":[{"y":"deep"}]}]}`
	tests := []struct{ template, want string }{
		{
			`"${$.someString} $${$.someNumber}${$.someNumber} ${$.someNumber}$${$.someString}"`,
			`"conductor ${$.someNumber}2 2${$.someString}"`,
		},
		{`"${}"`, `""`},
		{`"${    }"`, `""`},
		{`"a ${name}\nb ${version}"`, `"a conductor\nb 2"`},
		{`"a ${name}\rb ${version}"`, `"a conductor\rb 2"`},
		{`"a ${name}\r\nb ${version}"`, `"a conductor\r\nb 2"`},
		{
			`{"k1":"${$.externalId}","k4":"${name}","k5":"${version}"}`,
			`{"k1":"{\"taskRefName\":\"t001\"}","k4":"conductor","k5":2}`,
		},
		{
			`{"map":{"name":"${name}"},"list":["${name}","${version}"]}`,
			`{"map":{"name":"conductor"},"list":["conductor",2]}`,
		},
		{`"${$..externalId}"`, `["{\"taskRefName\":\"t001\"}"]`},
		{`"${list[0].x[0].y}"`, `"deep"`},
		{`"${map.gone}"`, `null`},
		{`"${gone.deeper}"`, `null`},
	}
	for _, tt := range tests {
		got, err := CompileTemplate(mustParse(t, tt.template)).
			ResolveDocument(mustParse(t, doc))
		if err != nil {
			t.Errorf("%s: %v", tt.template, err)
		} else if s := string(value.Marshal(got)); s != tt.want {
			t.Errorf("%s: got %s, want %s", tt.template, s, tt.want)
		}
	}
	list := mustParse(t, `[{"name":"conductor"}]`)
	got, err := CompileTemplate("${$[0].name}").ResolveDocument(list)
	if err != nil || got != "conductor" {
		t.Errorf("list: got %v, %v", got, err)
	}
}

func TestTemplateIsLazy(t *testing.T) {
	scope := &mapScope{doc: mustParse(t, scopeDoc).(*value.Object)}
	tmpl := CompileTemplate(mustParse(t, `{"a":"${fetch.output.x}","b":"${workflow.input.n}"}`))
	if _, err := tmpl.Resolve(scope); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"fetch.output", "workflow.input"}, scope.looked); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRefs(t *testing.T) {
	tests := []struct {
		template string
		refs     string
		wide     bool
		constant bool
	}{
		{`{"a":1,"b":"x"}`, "", false, true},
		{`["${b.output.x} ${a.output}","${workflow.input.x}","$${c.output}"]`, "a b", false, false},
		{`"${a['output']['x']} ${['b'].output}"`, "a b", false, false},
		{`"${a.output.${b.output.k}}"`, "b", true, false},
		{`"${$..x}"`, "", true, false},
		{`"${a.output[?(@.x == $.b.output.y)]}"`, "", true, false},
	}
	for _, tt := range tests {
		c := CompileTemplate(mustParse(t, tt.template))
		if got := strings.Join(c.Refs(), " "); got != tt.refs || c.Wide() != tt.wide ||
			c.Constant() != tt.constant {
			t.Errorf("%s: got %q, wide %v, constant %v",
				tt.template, got, c.Wide(), c.Constant())
		}
	}
}

func TestTemplateLimits(t *testing.T) {
	deep := strings.Repeat("${a.", 40) + strings.Repeat("}", 40)
	_, err := CompileTemplate(deep).Resolve(&mapScope{doc: value.NewObject()})
	if !errors.Is(err, ErrExpressionLimit) {
		t.Errorf("depth: got %v", err)
	}
	doc := value.NewObject()
	doc.Set("x", strings.Repeat("x", 1<<20))
	many := make([]any, 100)
	for i := range many {
		many[i] = "${x}"
	}
	if _, err = CompileTemplate(many).ResolveDocument(doc); !errors.Is(err, ErrExpressionLimit) {
		t.Errorf("size: got %v", err)
	}
	open := strings.Repeat("${", 1<<20) // must not take quadratic time
	if v, err := CompileTemplate(open).ResolveDocument(doc); err != nil || v != open {
		t.Errorf("unclosed: got %v", err)
	}
}

func TestJavaString(t *testing.T) {
	tests := []struct{ in, want string }{
		{`null`, "null"},
		{`true`, "true"},
		{`"s"`, "s"},
		{`5`, "5"},
		{`-0`, "0"},
		{`5.0`, "5.0"},
		{`-0.0`, "-0.0"},
		{`0.1`, "0.1"},
		{`0.001`, "0.001"},
		{`0.0001`, "1.0E-4"},
		{`1e6`, "1000000.0"},
		{`9999999.5`, "9999999.5"},
		{`1e7`, "1.0E7"},
		{`12345678.9`, "1.23456789E7"},
		{`-1.5e-10`, "-1.5E-10"},
		{`1e400`, "Infinity"},
		{`-1e400`, "-Infinity"},
		{`123456789012345678901234567890`, "123456789012345678901234567890"},
		{`[]`, "[]"},
		{`{}`, "{}"},
		{`[1,"a",[null]]`, "[1, a, [null]]"},
		{`{"a":{"b":"c"},"d":[1.0]}`, "{a={b=c}, d=[1.0]}"},
	}
	for _, tt := range tests {
		if got := JavaString(mustParse(t, tt.in)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestTaskInput(t *testing.T) {
	scope := &mapScope{doc: mustParse(t, scopeDoc).(*value.Object)}
	params := mustParse(t, `{"a":"${workflow.input.none}","b":"${workflow.input.n}","c":null}`)
	template := mustParse(t, `{"a":"${workflow.input.n}","c":"${workflow.input.n}","d":"x"}`)
	in := CompileTaskInput(params.(*value.Object), template.(*value.Object))
	got, err := in.Resolve(scope)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a":"${workflow.input.n}","b":5,"c":5,"d":"x"}`
	if diff := cmp.Diff(want, string(value.Marshal(got))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, err := CompileTaskInput(nil, nil).Resolve(scope); err != nil || got.Len() != 0 {
		t.Errorf("empty: got %v, %v", got, err)
	}
}

func TestApplyInputTemplate(t *testing.T) {
	template := mustParse(t, `{"a":1,"b":2}`).(*value.Object)
	tests := []struct{ in, want string }{
		{`{}`, `{}`},
		{`{"a":null}`, `{"a":1,"b":2}`},
		{`{"b":3,"c":4}`, `{"b":3,"c":4,"a":1}`},
	}
	for _, tt := range tests {
		in := mustParse(t, tt.in).(*value.Object)
		if got := string(value.Marshal(ApplyInputTemplate(in, template))); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
		if s := string(value.Marshal(in)); s != tt.in {
			t.Errorf("the input became %s", s)
		}
	}
}

func TestHandoff(t *testing.T) {
	secrets := func(name string) (string, bool) {
		switch name {
		case "PW":
			return `p"w`, true
		case "DB":
			return `{"user":"u","port":5432}`, true
		}
		return "", false
	}
	tests := []struct{ in, want string }{
		{`{"a":1}`, `{"a":1}`},
		{`{"a":"${workflow.secrets.PW}"}`, `{"a":"p\"w"}`},
		{`["x ${workflow.secrets.PW} y ${workflow.secrets.PW}"]`, `["x p\"w y p\"w"]`},
		{
			`{"a":"${workflow.secrets.DB.port}","b":"p=${workflow.secrets.DB.port}"}`,
			`{"a":5432,"b":"p=5432"}`,
		},
		{`{"a":"${workflow.secrets.NO}","b":"<${workflow.secrets.NO}>"}`, `{"a":null,"b":"<>"}`},
		{`{"a":"${workflow.secrets.DB.none}"}`, `{"a":null}`},
		{
			`{"a":"${workflow.secrets.PW","b":"${workflow.secrets.}"}`,
			`{"a":"${workflow.secrets.PW","b":"${workflow.secrets.}"}`,
		},
	}
	for _, tt := range tests {
		if got := string(Handoff(value.Raw(tt.in), secrets)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{
		"${workflow.input.n}", "$${x}", "${a.${b}}", "${}", "${workflow.secrets.X}", "${$..x}",
		"${workflow.env.CONF.a}", "${fetch.output[?(@.p)]}", "{}${{}}", "${${${}}}",
	} {
		f.Add(s, scopeDoc)
	}
	f.Fuzz(func(t *testing.T, s, doc string) {
		v, err := value.Parse([]byte(doc), value.Limits{Depth: 100})
		o, ok := v.(*value.Object)
		if err != nil || !ok {
			return
		}
		before := string(value.Marshal(o))
		tmpl := CompileTemplate(s)
		first, err := tmpl.Resolve(&mapScope{doc: o})
		if err != nil {
			return
		}
		second, _ := tmpl.Resolve(&mapScope{doc: o})
		if got := value.Marshal(first); string(got) != string(value.Marshal(second)) {
			t.Errorf("%q resolves differently: %s", s, got)
		} else {
			Handoff(got, func(string) (string, bool) { return doc, true })
		}
		if string(value.Marshal(o)) != before {
			t.Errorf("%q changed the scope", s)
		}
		if tmpl.Constant() && first != any(s) {
			t.Errorf("constant %q became %v", s, first)
		}
	})
}
