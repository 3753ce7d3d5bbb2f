package value

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
)

func TestRawField(t *testing.T) {
	r := Raw(` { "a" : [1, {"b":"}]\""}] , "b":"x\\", "\u0063":null,"n":-1.5e3 ,"a":{ } } `)
	for name, want := range map[string]string{
		"a": "{ }", "b": `"x\\"`, "c": "null", "n": "-1.5e3", "": "", "x": "",
	} {
		got, ok := r.Field(name)
		if string(got) != want || ok != (want != "") {
			t.Errorf("Field(%q) = %s, %v, want %s", name, got, ok, want)
		}
	}
	for _, r := range []Raw{nil, Raw(`[1]`), Raw(`{"a"`), Raw(`{"a":`), Raw(`{"a":[`), Raw(`"a"`)} {
		if got, ok := r.Field("a"); ok {
			t.Errorf("%s has a field: %s", r, got)
		}
	}
	var order []string
	for name, v := range r.Members() {
		order = append(order, name+"="+v.Kind())
	}
	if got := strings.Join(order, " "); got != "a=array b=string c=null n=number a=object" {
		t.Errorf("Members: %s", got)
	}
}

func TestRawScalars(t *testing.T) {
	if s, ok := Raw(` "a\nb" `).Text(); !ok || s != "a\nb" {
		t.Errorf("Text() = %q, %v", s, ok)
	}
	if i, ok := Raw(` 12 `).Int64(); !ok || i != 12 {
		t.Errorf("Int64() = %d, %v", i, ok)
	}
	if b, ok := Raw(` true`).Bool(); !ok || !b {
		t.Errorf("Bool() = %v, %v", b, ok)
	}
	if _, ok := Raw(`{}`).Text(); ok {
		t.Error("an object is a string")
	}
	if !Raw(" null ").IsNull() || !Raw("").IsNull() || Raw("0").IsNull() {
		t.Error("IsNull is wrong")
	}
	var got []string
	for v := range Raw(` [ 1 , "x,]" , [ ] , {"a":[]} ] `).Elements() {
		got = append(got, string(v))
	}
	if s := strings.Join(got, "|"); s != `1|"x,]"|[ ]|{"a":[]}` {
		t.Errorf("Elements: %s", s)
	}
}

func TestRawInStructs(t *testing.T) {
	type message struct {
		In  Raw     `json:"in"`
		Out *Object `json:"out"`
		N   Number  `json:"n"`
	}
	const text = `{"in":{"b":1,"a":[2.0]},"out":{"z":1,"a":2.50},"n":5.0}`
	var m1, m2 message
	if err := json.Unmarshal([]byte(text), &m1); err == nil {
		t.Error("encoding/json reads a number into a string type")
	}
	const plain = `{"in":{"b":1,"a":[2.0]},"out":{"z":1,"a":2.50}}`
	if err := json.Unmarshal([]byte(plain), &m1); err != nil {
		t.Fatal(err)
	}
	if err := jsonv2.Unmarshal([]byte(plain), &m2); err != nil {
		t.Fatal(err)
	}
	m1.N, m2.N = "5.0", "5.0"
	b1, err := json.Marshal(m1)
	if err != nil || string(b1) != text {
		t.Errorf("encoding/json: %s, %v", b1, err)
	}
	b2, err := jsonv2.Marshal(m2)
	if err != nil || string(b2) != text {
		t.Errorf("json/v2: %s, %v", b2, err)
	}
}

func sample() []byte {
	var b strings.Builder
	b.WriteString(`{"workflowInstanceId":"3f1c9a52-7d0e-4b1a-9f2c-0a1b2c3d4e5f","taskId":"a1",`)
	b.WriteString(`"outputData":{"order":{"id":12345,"total":99.95,"currency":"EUR","items":[`)
	for i := range 12 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"sku":"SKU-%05d","quantity":%d,"price":%d.5,`, i, i, i*3)
		b.WriteString(`"tags":["a","b"],"gift":false}`)
	}
	b.WriteString(`],"address":{"street":"Main St. 1","city":"Berlin","zip":"10115"}},"retries":0},`)
	b.WriteString(`"logs":[{"log":"started","time":1700000000000},{"log":"said \"done\"","time":17}],`)
	b.WriteString(`"note":"` + strings.Repeat("lorem ipsum ", 20) + `",`)
	b.WriteString(`"status":"COMPLETED","workerId":"worker-7","last":null}`)
	return []byte(b.String())
}

func TestParseAllocations(t *testing.T) {
	b := sample()
	const most = 200
	if got := testing.AllocsPerRun(50, func() { _, _ = Parse(b, DefaultLimits) }); got > most {
		t.Errorf("Parse of %d bytes: %v allocations, want at most %d", len(b), got, most)
	}
	if got := testing.AllocsPerRun(50, func() { _ = Check(b, DefaultLimits) }); got > 8 {
		t.Errorf("Check: %v allocations", got)
	}
	r := Raw(b)
	if got := testing.AllocsPerRun(50, func() { r.Field("workerId") }); got > 0 {
		t.Errorf("Field: %v allocations", got)
	}
}

func BenchmarkParse(b *testing.B) {
	text := sample()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text, DefaultLimits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	text := sample()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(text, DefaultLimits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	text := sample()
	v := mustParse(b, string(text))
	var buf []byte
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		buf = Append(buf[:0], v)
	}
}

func BenchmarkField(b *testing.B) {
	r := Raw(sample())
	b.SetBytes(int64(len(r)))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.Field("workerId"); !ok {
			b.Fatal("not found")
		}
	}
}
