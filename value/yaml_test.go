package value

import (
	"errors"
	"strings"
	"testing"
)

func TestParseYAML(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"empty", " \n", `null`},
		{"comment only", "# nothing\n", `null`},
		{"order", "z: 1\na: {y: 2, b: [1, x]}\n", `{"z":1,"a":{"y":2,"b":[1,"x"]}}`},
		{"null", "- ~\n- null\n- Null\n-\n- ''", `[null,null,null,null,""]`},
		{"no value", "a:\nb: 1", `{"a":null,"b":1}`},
		{"bool", "[true, True, yes, on, 'true']", `[true,true,"yes","on","true"]`},
		{
			"numbers", "[5, 5.0, +3, -007, 0x1F, 0o17, .5, 5., 1e3, -.5e-3]",
			`[5,5.0,3,-7,31,15,0.5,5.0,1e3,-0.5e-3]`,
		},
		{
			"not numbers", "[1_000, 1.2.3, '5', 12:30, .inf, .nan, -x, +, ., 0x, 1e]",
			`["1_000","1.2.3","5","12:30",".inf",".nan","-x","+",".","0x","1e"]`,
		},
		{"dates", "[2024-01-02, 2024-01-02T03:04:05Z]", `["2024-01-02","2024-01-02T03:04:05Z"]`},
		{
			"names", "{200: ok, true: b, null: c, 1.5: d}",
			`{"200":"ok","true":"b","null":"c","1.5":"d"}`,
		},
		{"block", "a: |\n  x\n  y\nb: >-\n  x\n  y\n", `{"a":"x\ny\n","b":"x y"}`},
		{
			"tags", "[!!str 5, !!int '5', !!float '1.5', !!null '', !!bool 'true']",
			`["5",5,1.5,null,true]`,
		},
		{"alias", "a: &x {k: 1}\nb: *x\nc: [*x]", `{"a":{"k":1},"b":{"k":1},"c":[{"k":1}]}`},
		{"merge", "a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}", `{"a":{"k":1,"l":2},"b":{"k":3,"l":2}}`},
		{
			"merge list", "a: &x {k: 1}\nb: &y {k: 2, m: 3}\nc:\n  <<: [*x, *y]\n",
			`{"a":{"k":1},"b":{"k":2,"m":3},"c":{"k":1,"m":3}}`,
		},
		{"json", `{"a": [1, "x\ty", null]}`, `{"a":[1,"x\ty",null]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := ParseYAML([]byte(tt.text), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got := string(Marshal(v)); got != tt.want {
				t.Errorf("got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestParseYAMLErrors(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+", ", 9) + "x]\n"
	}
	for _, tt := range []struct {
		name, text string
		limits     Limits
		line       int
		want       string
	}{
		{"twice", "a: 1\nb: 2\na: 3", Limits{}, 3, "twice"},
		{"syntax", "a: 1\nb: [1, 2\nc: }", Limits{}, 3, ""},
		{"tab", "a:\n\tb: 1", Limits{}, 2, ""},
		{"custom tag", "a: !foo bar", Limits{}, 1, "tag !foo is not supported"},
		{"custom tag on a list", "a: !foo [1]", Limits{}, 1, "tag !foo is not supported"},
		{"not an int", "a: !!int x", Limits{}, 1, `"x" is no !!int`},
		{"complex name", "? [a]\n: 1", Limits{}, 1, "must be a scalar"},
		{"unknown alias", "a: *x", Limits{}, 1, ""},
		{"merge of a scalar", "a: {<<: 5}", Limits{}, 1, "merge key takes mappings"},
		{"two documents", "a: 1\n---\nb: 2", Limits{}, 2, "a second one"},
		{"bomb", bomb, Limits{}, 0, "limit of 1048576 values"},
		{"self alias", "&x [*x]", Limits{}, 1, ""},
		{"depth", "[[[1]]]", Limits{Depth: 2}, 1, "limit of 2 depth"},
		{"bytes", "[[[1]]]", Limits{Bytes: 2}, 0, "limit of 2 bytes"},
		{"number", "[12345]", Limits{Number: 4}, 1, "limit of 4 number bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := ParseYAML([]byte(tt.text), tt.limits)
			if err == nil {
				t.Fatalf("got %s, want an error", Marshal(v))
			}
			var syntax *SyntaxError
			var limit *LimitError
			if !errors.As(err, &syntax) && !errors.As(err, &limit) {
				t.Fatalf("%T: %v", err, err)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if d := Diagnose("f", err); tt.line != 0 && d.Line != tt.line {
				t.Errorf("%v: line %d, want %d", err, d.Line, tt.line)
			}
		})
	}
}

func FuzzParseYAML(f *testing.F) {
	f.Add("a: &x {k: 1}\nb: {<<: *x}\nc: [2024-01-02, 0x1F, !!str 5]")
	f.Add("&x [*x]")
	f.Add("? a\n: - b\n  - |\n   c")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseYAML([]byte(text), Limits{Depth: 50, Values: 10_000, Bytes: 10_000})
		if err != nil {
			return
		}
		if err := Check(Marshal(v), DefaultLimits); err != nil {
			t.Fatalf("%q gives %s: %v", text, Marshal(v), err)
		}
		LocateYAML([]byte(text), "/a/0")
	})
}

func TestLocate(t *testing.T) {
	const text = "{\n  \"tasks\": [\n" +
		"    {\"é\": 1, \"a/b\": {\"~x\": true}},\n    5\n  ]\n}"
	const yamlText = "x: &m {k: 1}\ntasks:\n  - é: 1\n    a/b: {~x: true}\n  - 5\nl:\n  <<: *m\n"
	for _, tt := range []struct {
		pointer string
		json    Position
		yaml    Position
	}{
		{"", Position{1, 1}, Position{1, 1}},
		{"/tasks", Position{2, 12}, Position{3, 3}},
		{"/tasks/0/é", Position{3, 11}, Position{3, 8}},
		{"/tasks/0/a~1b/~0x", Position{3, 28}, Position{4, 15}},
		{"/tasks/1", Position{4, 5}, Position{5, 5}},
		{"/tasks/7/x", Position{2, 12}, Position{3, 3}},
		{"/nope", Position{1, 1}, Position{1, 1}},
	} {
		if line, col := Locate([]byte(text), tt.pointer); (Position{line, col}) != tt.json {
			t.Errorf("Locate(%s) = %d, %d, want %v", tt.pointer, line, col, tt.json)
		}
		if line, col := LocateYAML([]byte(yamlText), tt.pointer); (Position{line, col}) != tt.yaml {
			t.Errorf("LocateYAML(%s) = %d, %d, want %v", tt.pointer, line, col, tt.yaml)
		}
	}
	if line, col := LocateYAML([]byte(yamlText), "/l/k"); line != 1 || col != 11 {
		t.Errorf("LocateYAML through a merge = %d, %d", line, col)
	}
	if got := JoinPointer("/a", "b/~c"); got != "/a/b~1~0c" {
		t.Errorf("JoinPointer = %s", got)
	}
}

func TestDiagnostic(t *testing.T) {
	src := []byte("a: 1\n\tb: é x\n")
	d := Diagnostic{File: "w.yaml", Line: 2, Column: 7, Message: "unknown name"}
	if got := d.String(); got != "w.yaml:2:7: unknown name" {
		t.Errorf("String() = %s", got)
	}
	if got, want := d.Excerpt(src), "   2 | \tb: é x\n     | \t     ^\n"; got != want {
		t.Errorf("Excerpt() = %q, want %q", got, want)
	}
	if got := (Diagnostic{Line: 9}).Excerpt(src); got != "" {
		t.Errorf("Excerpt() beyond the source = %q", got)
	}
	ds := Diagnostics{
		{File: "b", Line: 1, Message: "m", Severity: Warning}, {File: "a", Line: 2, Message: "n"},
	}
	ds.Sort()
	if got, want := ds.Error(), "a:2:1: n\nb:1:1: warning: m"; got != want || ds.Err() == nil {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if ds[1:].Err() != nil {
		t.Error("a warning is an error")
	}
	_, err := Parse([]byte("{\n x"), DefaultLimits)
	want := `f.json:2:2: expected a name in double quotes, found "x"`
	if got := Diagnose("f.json", err).String(); got != want {
		t.Errorf("Diagnose = %s", got)
	}
}
