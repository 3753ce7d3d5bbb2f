package engine

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// payloads collects the rows that encoders put beside a record.
type payloads map[tutti.Hash][]byte

func (p payloads) put(h tutti.Hash, raw []byte) { p[h] = bytes.Clone(raw) }

func (p payloads) load(pl *payload) {
	if !pl.loaded {
		pl.raw, pl.loaded = p[pl.hash], true
	}
}

var millis = rapid.Int64Range(1, 1<<45)

func drawPayload(t *rapid.T, name string) value.Raw {
	n := rapid.SampledFrom([]int{0, 1, 20, inlineMax, inlineMax + 1, 5000}).Draw(t, name)
	if n == 0 {
		return nil
	}
	return value.Raw(strings.Repeat("p", n))
}

func drawTask(t *rapid.T) *taskState {
	s := &taskState{Task: rapid.Make[tutti.Task]().Draw(t, "task")}
	s.Status %= tutti.Skipped + 1
	s.Kind %= tutti.Local + 1
	s.ScheduledMs = millis.Draw(t, "scheduled")
	for _, ms := range []*int64{&s.ReadyMs, &s.FirstMs, &s.StartedMs, &s.UpdatedMs, &s.EndedMs} {
		*ms = max(0, s.ScheduledMs+rapid.Int64Range(-3, 1000).Draw(t, "time"))
	}
	s.LeaseMs = rapid.SampledFrom([]int64{0, 1, s.ScheduledMs, Forever}).Draw(t, "lease")
	s.Attempt, s.Iteration, s.Polls = s.Attempt&0xffff, s.Iteration&0xffff, s.Polls&0xffff
	if s.Limit != nil {
		s.Limit.Concurrency, s.Limit.Rate = s.Limit.Concurrency&0xffff, s.Limit.Rate&0xffff
		s.hold, s.permit = hold(rapid.IntRange(0, 3).Draw(t, "hold")), rapid.Bool().Draw(t, "permit")
	}
	if len(s.Ext) == 0 {
		s.Ext = nil
	}
	s.session, s.askPoll, s.askLease, s.ask, s.logs = true, 1, 2, 3, 4
	s.Input, s.Output = drawPayload(t, "input"), drawPayload(t, "output")
	s.in, s.out = newPayload(s.Input), newPayload(s.Output)
	return s
}

func TestTaskRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTask(t)
		rows := payloads{}
		raw := want.encode(rows.put)
		got, err := decodeTask(want.Seq, raw)
		if err != nil {
			t.Fatal(err)
		}
		rows.load(&got.in)
		rows.load(&got.out)
		got.Input, got.Output = got.in.raw, got.out.raw
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(taskState{}),
			cmpopts.IgnoreFields(taskState{}, "in", "out"), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if again := got.encode(rows.put); !bytes.Equal(again, raw) {
			t.Fatalf("encoded again it is\n%x, it was\n%x", again, raw)
		}
	})
}

func TestRunRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := newRunState(tutti.NewRunID(1, rapid.Uint64().Draw(t, "id")))
		id := want.ID
		want.Run = rapid.Make[tutti.Run]().Draw(t, "run")
		want.ID = id
		want.Status %= tutti.RunTerminated + 1
		want.Version, want.Priority = want.Version&0xffff, clampPriority(want.Priority)
		if want.Limit != nil {
			want.Limit.Concurrency &= 0xffff
		}
		if want.Parent.IsZero() {
			want.ParentTask = 0
		}
		want.hot = hot{
			root: []byte("root"), nextFrame: 3, random: 4, events: 5, spilled: 6,
			inline:    []tutti.Seq{1, 2, 300, 1 << 27},
			posts:     []post{{frame: 1, payload: []byte("x")}, {frame: 2}},
			outOfTime: true, permit: true, sweeping: true, begun: true, asks: 7, ask: 8,
			watchers: []holder{{run: id, seq: 9}},
		}
		want.OpenTasks = len(want.inline) + want.spilled
		want.Input, want.Output = drawPayload(t, "input"), drawPayload(t, "output")
		want.in, want.out = newPayload(want.Input), newPayload(want.Output)
		rows := payloads{}
		head := encodeHead(&want.Run, &want.in, rows.put)
		hotRow := encodeHot(&want.Run, &want.hot, &want.out, rows.put)
		got := newRunState(id)
		if err := decodeHead(&got.Run, &got.in, head); err != nil {
			t.Fatal(err)
		}
		if err := decodeHot(&got.Run, &got.hot, &got.out, hotRow); err != nil {
			t.Fatal(err)
		}
		rows.load(&got.in)
		rows.load(&got.out)
		got.Input, got.Output = got.in.raw, got.out.raw
		opts := []cmp.Option{
			cmp.AllowUnexported(hot{}, post{}, holder{}), cmpopts.EquateEmpty(),
		}
		if diff := cmp.Diff(want.Run, got.Run, opts...); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want.hot, got.hot, opts...); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestSpecRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Make[tutti.RunSpec]().Draw(t, "spec")
		want.Version, want.Priority = want.Version&0xffff, clampPriority(want.Priority)
		if want.Limit != nil {
			want.Limit.Concurrency &= 0xffff
		}
		if want.Source != nil {
			want.Source.Version &= 0xffff
		}
		got, err := decodeSpec(encodeSpec(&want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestMessageRoundTrip(t *testing.T) {
	want := message{
		kind: msgAsk, run: tutti.NewRunID(1, 2), seq: 3, from: tutti.NewRunID(4, 5), status: 6,
		body: []byte("body"), text: "text", prio: 7, flag: true, n: 8,
		limit: &tutti.Limit{Key: "k", Concurrency: 1, Rate: 2, WindowMs: 3},
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[message]()) {
		if reflect.ValueOf(want).FieldByIndex(f.Index).IsZero() {
			t.Errorf("the test leaves field %s out", f.Name)
		}
	}
	got, err := decodeMessage(want.encode())
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(message{})); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
}

// Keys sort as their parts do, and read back as they were written.
func TestKeys(t *testing.T) {
	word := rapid.StringOf(rapid.SampledFrom([]rune{0, 1, 2, 'a', 'b', 255}))
	rapid.Check(t, func(t *rapid.T) {
		a := []string{word.Draw(t, "a0"), word.Draw(t, "a1")}
		b := []string{word.Draw(t, "b0"), word.Draw(t, "b1")}
		ka, kb := text(nil, a...), text(nil, b...)
		if got, want := bytes.Compare(ka, kb), compareWords(a, b); got != want {
			t.Fatalf("%q and %q compare as %d, want %d", a, b, got, want)
		}
		if bytes.HasPrefix(ka, kb) && !reflect.DeepEqual(a, b) {
			t.Fatalf("%q looks like the beginning of %q", b, a)
		}
		got, tail := splitText(append(ka, "tail\x00\x01"...), 2)
		if !reflect.DeepEqual(got, a) || string(tail) != "tail\x00\x01" {
			t.Fatalf("%q reads back as %q and %q", a, got, tail)
		}
		want := Ready{
			Queue: a[0], Priority: rapid.IntRange(0, 99).Draw(t, "priority"),
			ReadyMs: millis.Draw(t, "ready"), Run: tutti.NewRunID(1, 2), Seq: 3,
		}
		k := readyKey(want.Queue, want.Priority, want.ReadyMs, want.Run, want.Seq)
		if r, ok := decodeReady(k); !ok || r != want {
			t.Fatalf("%+v reads back as %+v", want, r)
		}
	})
}

func compareWords(a, b []string) int {
	for i := range a {
		if c := strings.Compare(a[i], b[i]); c != 0 {
			return c
		}
	}
	return 0
}

func TestPrefixEnd(t *testing.T) {
	for in, want := range map[string]string{
		"a": "b", "a\xff": "b", "a\xff\xff": "b", "\xff": "", "": "", "ab": "ac",
	} {
		if got := prefixEnd([]byte(in)); string(got) != want {
			t.Errorf("prefixEnd(%q) = %q, want %q", in, got, want)
		}
	}
}

// Records of a newer version have fields that this one does not know.
func TestUnknownFieldsAreSkipped(t *testing.T) {
	var e enc
	e.str(2, "name")
	e.u(99, 7)
	e.str(98, "new")
	got, err := decodeTask(1, e.b)
	if err != nil || got.Name != "name" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	s := &taskState{Task: tutti.Task{Name: "n", Limit: &tutti.Limit{Key: "k"}}}
	s.in, s.out = newPayload(value.Raw(`{}`)), newPayload(nil)
	f.Add(s.encode(func(tutti.Hash, []byte) {}))
	f.Add(encodeSpec(&tutti.RunSpec{Definition: "d", Source: &tutti.Source{Name: "n"}}))
	f.Add(message{kind: msgStart, text: "x"}.encode())
	f.Add(encodeDocument(&Document{Body: value.Raw("1")}))
	f.Add(wakeKey(5, tutti.NewRunID(1, 2), 3))
	f.Add(readyKey("q", 1, 2, tutti.NewRunID(1, 2), 3))
	f.Fuzz(func(_ *testing.T, b []byte) {
		var r tutti.Run
		var h hot
		var p payload
		_ = decodeHead(&r, &p, b)
		_ = decodeHot(&r, &h, &p, b)
		if t, err := decodeTask(1, b); err == nil {
			_, _ = t.explain(&r).Text, t.wakeAt()
			_ = t.encode(func(tutti.Hash, []byte) {})
		}
		_, _ = decodeSpec(b)
		_, _ = decodeMessage(b)
		_, _ = decodeSource(b)
		_, _ = decodeHistory(1, 2, b)
		_, _ = decodePost(b)
		_, _ = decodeLimitConf(b)
		_ = unpackSeqs(b)
		decodeWake(b)
		decodeReady(b)
		_, _ = decodeDocument(append([]byte{tableDoc}, b...), b)
		_, _ = decodeLetter(append([]byte{tableMail}, b...), b)
		splitText(b, 3)
	})
}

func TestNamesOfKinds(t *testing.T) {
	for k := HistoryRunStarted; k <= HistoryNote; k++ {
		if k.String() == "" || k.String() == "Unknown" {
			t.Errorf("entry kind %d has no name", k)
		}
	}
	if got := HistoryKind(200).String(); got != "Unknown" {
		t.Errorf("kind 200 is called %s", got)
	}
	if got := fmt.Sprint(LeaseGone, LeaseGiven, LeaseAsked); got != "0 1 2" {
		t.Errorf("lease results are %s", got)
	}
}
