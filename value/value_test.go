package value

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, text string) any {
	t.Helper()
	v, err := Parse([]byte(text), DefaultLimits)
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return v
}

func TestParseKeepsTheText(t *testing.T) {
	for _, text := range []string{
		`null`, `true`, `false`, `0`, `-0`, `5`, `5.0`, `1E+2`, `123456789012345678901234567890`,
		`""`, `"a\"b\\c\n"`, `"é😀"`, `[]`, `{}`, `[1,[2,[]],{"a":{}}]`,
		`{"z":1,"a":2,"m":[null,true]}`,
		`{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"j":10,"k":11,"l":12,"m":13,"n":14}`,
	} {
		v := mustParse(t, text)
		if got := string(Marshal(v)); got != text {
			t.Errorf("Marshal(Parse(%s)) = %s", text, got)
		}
		if err := Check([]byte(text), DefaultLimits); err != nil {
			t.Errorf("Check(%s): %v", text, err)
		}
	}
}

func TestParseDecodes(t *testing.T) {
	for _, tt := range []struct {
		text string
		want any
	}{
		{" [ 1 , \"x\" ]\n", []any{Number("1"), "x"}},
		{`"\u00e9\ud83d\ude00\/\b\f\r\t"`, "é😀/\b\f\r\t"},
		{`"\ud800"`, "\ufffd"},
		{`"\ud800\u0041"`, "\ufffdA"},
		{`"\ud800\ud800\udc00"`, "\ufffd\U00010000"},
	} {
		if diff := cmp.Diff(tt.want, mustParse(t, tt.text)); diff != "" {
			t.Errorf("Parse(%s): (-want +got)\n%s", tt.text, diff)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{``, `line 1, column 1: expected a value, found the end of the text`},
		{`nul`, `line 1, column 1: expected a value, found "nul"`},
		{"{\n  \"é\": 01}", `line 2, column 10: malformed number "01"`},
		{"{\"é\" 1}", `line 1, column 6: expected ':' after the name, found "1"`},
		{`{a:1}`, `line 1, column 2: expected a name in double quotes, found "a"`},
		{`[1,]`, `line 1, column 4: expected a value, found "]"`},
		{`[1 2]`, `line 1, column 4: expected ',' or ']', found "2"`},
		{`{"a":1,}`, `line 1, column 8: expected a name in double quotes, found "}"`},
		{`[1] x`, `line 1, column 5: expected the end of the document, found "x"`},
		{`"abc`, `line 1, column 1: string is not closed`},
		{"\"a\tb\"", `line 1, column 3: control character U+0009 in a string must be escaped`},
		{`"\x"`, `line 1, column 2: malformed escape in a string`},
		{`"\u12g4"`, `line 1, column 2: malformed escape in a string`},
		{"\"\xff\"", `line 1, column 1: string is not valid UTF-8`},
		{`-`, `line 1, column 2: malformed number "-"`},
		{`1.`, `line 1, column 3: malformed number "1."`},
		{`1e+`, `line 1, column 4: malformed number "1e+"`},
		{`.5`, `line 1, column 1: expected a value, found ".5"`},
	} {
		for name, err := range map[string]error{
			"Parse": second(Parse([]byte(tt.text), Limits{})),
			"Check": Check([]byte(tt.text), Limits{}),
		} {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || err.Error() != tt.want {
				t.Errorf("%s(%q) = %v, want %s", name, tt.text, err, tt.want)
			}
		}
	}
}

func second(_ any, err error) error { return err }

func TestLimits(t *testing.T) {
	for _, tt := range []struct {
		text   string
		limits Limits
		want   string
	}{
		{`[1,2]`, Limits{Bytes: 4}, `document passes the limit of 4 bytes`},
		{`[[[]]]`, Limits{Depth: 2}, `line 1, column 3: document passes the limit of 2 depth`},
		{`[12345]`, Limits{Number: 4}, `line 1, column 2: document passes the limit of 4 number bytes`},
		{
			strings.Repeat("[", 5000),
			Limits{},
			`line 1, column 1001: document passes the limit of 1000 depth`,
		},
		{
			`{"a":{"b":1,"\u0062":2}}`,
			Limits{RejectDuplicates: true},
			`line 1, column 13: the name "b" occurs twice in one object`,
		},
	} {
		for name, err := range map[string]error{
			"Parse": second(Parse([]byte(tt.text), tt.limits)),
			"Check": Check([]byte(tt.text), tt.limits),
		} {
			if err == nil || err.Error() != tt.want {
				t.Errorf("%s(%.20q) = %v, want %s", name, tt.text, err, tt.want)
			}
		}
	}
	if _, err := Parse([]byte(`[[]]`), Limits{Depth: 2}); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if got := string(Marshal(mustParse(t, `{"a":1,"b":2,"a":3}`))); got != `{"a":3,"b":2}` {
		t.Errorf("duplicates: got %s", got)
	}
}

func TestObject(t *testing.T) {
	for _, n := range []int{1, scanMax, scanMax + 1, 200} {
		o := NewObject()
		var want []string
		for i := range n {
			name := string(Int(int64(i)))
			o.Set(name, i)
			want = append(want, name)
		}
		c := o.Clone()
		for i := 0; i < n; i += 2 {
			if !o.Delete(string(Int(int64(i)))) {
				t.Errorf("n=%d: Delete(%d) found nothing", n, i)
			}
		}
		if o.Delete("0") {
			t.Errorf("n=%d: deleted twice", n)
		}
		var odd []string
		for i := 1; i < n; i += 2 {
			odd = append(odd, want[i])
			if v, ok := o.Get(want[i]); !ok || v != i {
				t.Errorf("n=%d: Get(%d) = %v, %v", n, i, v, ok)
			}
		}
		if got := o.Keys(); !cmp.Equal(got, odd) && n > 1 {
			t.Errorf("n=%d: after delete %v, want %v", n, got, odd)
		}
		if o.Len() != n/2 {
			t.Errorf("n=%d: Len() = %d", n, o.Len())
		}
		o.Set("0", "again")
		if keys := o.Keys(); keys[len(keys)-1] != "0" {
			t.Errorf("n=%d: a new name is not last: %v", n, keys)
		}
		if got := c.Keys(); !cmp.Equal(got, want) {
			t.Errorf("n=%d: clone changed: %v", n, got)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, tt := range []struct {
		n     Number
		i     int64
		ok    bool
		isInt bool
	}{
		{"5", 5, true, true},
		{"-5.00", -5, true, false},
		{"0.5e1", 5, true, false},
		{"1e3", 1000, true, false},
		{"-0.0", 0, true, false},
		{"9223372036854775807", math.MaxInt64, true, true},
		{"9223372036854775808", 0, false, true},
		{"-9223372036854775808.0", math.MinInt64, true, false},
		{"1.5", 0, false, false},
		{"1e999999999999", 0, false, false},
		{"x", 0, false, true},
		{"", 0, false, false},
	} {
		i, ok := tt.n.Int64()
		if i != tt.i || ok != tt.ok || tt.n.IsInt() != tt.isInt {
			t.Errorf("%q: Int64() = %d, %v, IsInt() = %v", tt.n, i, ok, tt.n.IsInt())
		}
	}
	for f, want := range map[float64]Number{
		5: "5.0", -0.25: "-0.25", 1e21: "1e+21", 1e-7: "1e-07", 0: "0.0", 1e20: "100000000000000000000.0",
	} {
		if got := Float(f); got != want || !got.Valid() {
			t.Errorf("Float(%v) = %s, want %s", f, got, want)
		}
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		if n := Float(f); n.Valid() || string(Marshal(n)) != "null" {
			t.Errorf("Float(%v) = %s is valid", f, n)
		}
	}
}

func TestNumberCompare(t *testing.T) {
	sorted := [][]Number{
		{"x"},
		{"-1e400"},
		{"-12", "-12.0"},
		{"-2"},
		{"-0.1", "-1e-1"},
		{"0", "-0", "0.00", "0e5"},
		{"1e-400"},
		{"0.1"},
		{"1", "1.0", "10e-1"},
		{"1.5"},
		{"9"},
		{"10", "1e1"},
		{"9007199254740993"},
		{"9007199254740994"},
		{"1e400"},
	}
	for i, as := range sorted {
		for j, bs := range sorted {
			for _, a := range as {
				for _, b := range bs {
					if got := a.Compare(b); got != min(max(i-j, -1), 1) {
						t.Errorf("%s.Compare(%s) = %d", a, b, got)
					}
				}
			}
		}
	}
}

func TestEqual(t *testing.T) {
	same := mustParse(t, `{"b":[1,"x",null],"a":{"c":true}}`)
	if !Equal(same, mustParse(t, `{"a":{"c":true},"b":[1.0,"x",null]}`)) {
		t.Error("order or spelling matters")
	}
	for _, other := range []string{
		`{"b":[1,"x"],"a":{"c":true}}`, `{"b":[1,"x",null],"a":{"d":true}}`, `null`, `[]`, `"x"`, `1`,
		`{"b":[1,"x",null],"a":{"c":true},"d":1}`, `true`,
	} {
		if Equal(same, mustParse(t, other)) || Equal(mustParse(t, other), same) {
			t.Errorf("equal to %s", other)
		}
	}
}

func TestCloneIsDeep(t *testing.T) {
	v := mustParse(t, `{"a":[1,{"b":2}]}`)
	c := Clone(v)
	a, _ := v.(*Object).Get("a")
	a.([]any)[1].(*Object).Set("b", "changed")
	a.([]any)[0] = "changed"
	if got := string(Marshal(c)); got != `{"a":[1,{"b":2}]}` {
		t.Errorf("the clone is now %s", got)
	}
}

func TestFromGoToGo(t *testing.T) {
	in := map[string]any{
		"z": 1, "a": 2.5, "l": []string{"x"}, "m": map[string]any{"k": int64(3), "f": 5.0},
		"n": nil, "r": Raw(`{"q":1}`), "j": json.Number("7"), "b": true,
	}
	v, err := FromGo(in)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"a":2.5,"b":true,"j":7,"l":["x"],"m":{"f":5.0,"k":3},"n":null,"r":{"q":1},"z":1}`
	if got := string(Marshal(v)); got != want {
		t.Errorf("FromGo: %s\nwant %s", got, want)
	}
	wantGo := map[string]any{
		"a": 2.5, "b": true, "j": int64(7), "l": []any{"x"}, "n": nil, "z": int64(1),
		"m": map[string]any{"f": 5.0, "k": int64(3)}, "r": map[string]any{"q": int64(1)},
	}
	if diff := cmp.Diff(wantGo, ToGo(v)); diff != "" {
		t.Errorf("ToGo: (-want +got)\n%s", diff)
	}
	loop := map[string]any{}
	loop["self"] = loop
	for _, bad := range []any{math.NaN(), Number("x"), make(chan int), loop} {
		if v, err := FromGo(bad); err == nil {
			t.Errorf("FromGo(%T) = %v, want an error", bad, v)
		}
	}
}

func TestAppendIsAlwaysValid(t *testing.T) {
	v := []any{"a\x00\x1f\xff\u2028<", Number("zz"), struct{}{}, (*Object)(nil)}
	want := "[\"a\\u0000\\u001f\ufffd\u2028<\",null,null,null]"
	if got := string(Marshal(v)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,2.50,"x\u00e9\ud83d\ude00",null,true],"a":{}}`, `[[[]]]`, `"\ud800"`, `-0.1e+5`, ` 1 `,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b, DefaultLimits)
		if checked := Check(b, DefaultLimits); (err == nil) != (checked == nil) {
			t.Fatalf("Parse: %v, Check: %v", err, checked)
		}
		var limit *LimitError
		if errors.As(err, &limit) {
			return
		}
		if valid := json.Valid(b) && utf8.Valid(b); valid != (err == nil) {
			t.Fatalf("encoding/json valid: %v, Parse: %v", valid, err)
		}
		if err != nil {
			return
		}
		out := Marshal(v)
		again, err := Parse(out, DefaultLimits)
		if err != nil || !Equal(v, again) {
			t.Fatalf("%s does not read back: %v", out, err)
		}
		var want any
		if json.Unmarshal(b, &want) == nil {
			var got any
			if err := json.Unmarshal(out, &got); err != nil || !cmp.Equal(want, got) {
				t.Fatalf("encoding/json reads %v from the source, %v from %s", want, got, out)
			}
		}
		if o, ok := v.(*Object); ok {
			for name, member := range o.All() {
				raw, ok := Raw(b).Field(name)
				if got, err := raw.Parse(); !ok || err != nil || !Equal(got, member) {
					t.Fatalf("Field(%q) = %s, %v", name, raw, ok)
				}
			}
		}
	})
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":"]"}],"c`), "a", "/a/0")
	f.Fuzz(func(_ *testing.T, b []byte, name, pointer string) {
		r := Raw(b)
		r.Field(name)
		r.Kind()
		r.Text()
		r.Int64()
		r.Bool()
		for range r.Elements() {
		}
		Locate(b, pointer)
	})
}
