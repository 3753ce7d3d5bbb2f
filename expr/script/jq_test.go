package script

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tutti-run/tutti/value"
)

func runJQ(t testing.TB, src, input string, limits Limits) (string, error) {
	t.Helper()
	jq, err := CompileJQ(src)
	if err != nil {
		return "", err
	}
	list, err := jq.Run(decode(t, input), JQOptions{Now: time.Unix(1700000000, 0), Limits: limits})
	if err != nil {
		return "", err
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = string(value.Marshal(v))
	}
	return strings.Join(texts, " "), nil
}

func TestJQ(t *testing.T) {
	for _, tt := range []struct{ src, input, want string }{
		{`.`, `{"b":1,"a":[1.5,"x",null,true]}`, `{"a":[1.5,"x",null,true],"b":1}`},
		{`.a[]`, `{"a":[1,2,3]}`, `1 2 3`},
		{`.n`, `{"n":123456789012345678901234567890}`, `123456789012345678901234567890`},
		{`.n + 1`, `{"n":9007199254740993}`, `9007199254740994`},
		{`.n * 2`, `{"n":2.5}`, `5`},
		{`empty`, `null`, ``},
		{`now`, `null`, `1700000000`},
		{`def f: now; f`, `null`, `1700000000`},
		{`def now: 5; now`, `null`, `5`},
		{`now | todate`, `null`, `"2023-11-14T22:13:20Z"`},
		{`env, $ENV`, `null`, `{} {}`},
		{`nan, infinite`, `null`, `null 1.7976931348623157e+308`},
		{
			`[.users[] | select(.age > 30) | {name, old: true}]`,
			`{"users":[{"name":"a","age":31},{"name":"b","age":3}]}`, `[{"name":"a","old":true}]`,
		},
		{`1, halt`, `null`, `1`},
		{
			`{key3: (.key1.value1 + .key2.value2)}`,
			`{"key1":{"value1":["a"]},"key2":{"value2":["b"]}}`, `{"key3":["a","b"]}`,
		},
	} {
		got, err := runJQ(t, tt.src, tt.input, Limits{})
		if err != nil || got != tt.want {
			t.Errorf("%s\n got %s %v\nwant %s", tt.src, got, err, tt.want)
		}
	}
}

func TestJQErrors(t *testing.T) {
	for _, tt := range []struct {
		src          string
		line, column int
		want         string
	}{
		{".a |\n  | .b", 2, 3, "unexpected token"},
		{".a +", 1, 5, "unexpected EOF"},
		{"nope", 0, 0, "function not defined: nope/0"},
		{"input", 0, 0, "input"},
		{`import "a" as a; .`, 0, 0, "a"},
		{"debug", 0, 0, "debug"},
		{".a.b.c", 0, 0, "expected an object"},
		{`error("boom")`, 0, 0, "boom"},
		{`halt_error`, 0, 0, "halt"},
	} {
		_, err := runJQ(t, tt.src, `{"a":1}`, Limits{})
		var script *ScriptError
		if !errors.As(err, &script) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s", tt.src, err, tt.want)
			continue
		}
		if script.Line != tt.line || script.Column != tt.column {
			t.Errorf("%q: %v, want line %d, column %d", tt.src, err, tt.line, tt.column)
		}
	}
}

func TestJQLimits(t *testing.T) {
	for _, tt := range []struct {
		src    string
		limits Limits
		want   error
	}{
		{`last(repeat(1))`, Limits{Time: 30 * time.Millisecond}, ErrTimeout},
		{`def f: f; f`, Limits{Time: 30 * time.Millisecond}, ErrTimeout},
		{`range(1e9)`, Limits{}, ErrLimit},
		{`[range(1e9)]`, Limits{Time: 20 * time.Second, Memory: 32 << 20}, ErrLimit},
		{`"x" * 1000`, Limits{Output: 100}, ErrLimit},
		{`reduce range(60) as $i ("x"; [., .])`, Limits{}, ErrLimit},
		{`reduce range(2000) as $i (1; [.])`, Limits{}, ErrLimit},
		{`1, 2, 3`, Limits{Results: 2}, ErrLimit},
	} {
		got, err := runJQ(t, tt.src, `null`, tt.limits)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s gives %.50s, %v, want %v", tt.src, got, err, tt.want)
		}
	}
	if _, err := CompileJQ(strings.Repeat(" ", maxSource+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("long source: %v", err)
	}
}

func FuzzJQ(f *testing.F) {
	f.Add(`.list | map(. + 1) | add`)
	f.Add(`def f(x): x | tojson; f(.o) as $x | {$x, now: now, "a\(1)": .s}`)
	f.Fuzz(func(t *testing.T, src string) {
		if _, err := runJQ(t, src, input, Limits{Time: 200 * time.Millisecond}); err != nil {
			var script *ScriptError
			if !errors.As(err, &script) && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrTimeout) {
				t.Fatalf("%T: %v", err, err)
			}
		}
	})
}

func BenchmarkJQ(b *testing.B) {
	jq, err := CompileJQ(`{key3: (.key1.value1 + .key2.value2)}`)
	if err != nil {
		b.Fatal(err)
	}
	in := decode(b, `{"key1":{"value1":["a","b"]},"key2":{"value2":["c","d"]}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := jq.Run(in, JQOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
