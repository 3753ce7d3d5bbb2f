package conductor

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// fakeRun is a tutti.Turn over maps, with just enough of an engine around it to drive one run:
// it hands out no work by itself, and time moves only when a test says so.
type fakeRun struct {
	prog    tutti.Program
	run     tutti.Run
	tasks   []*tutti.Task // by Seq-1; nil when removed
	frames  map[tutti.FrameID]*tutti.Frame
	stored  map[tutti.FrameID][]byte
	nextID  tutti.FrameID
	cells   map[string][]byte
	posts   [][]byte
	now     int64
	random  uint64
	polls   map[string]int64
	docs    fakeDocs
	started []tutti.RunSpec
	retried []tutti.Seq // children asked to retry
	fired   map[string]bool
	effects []string // what the program asked for, in order
	calls   int      // writes and reads through the Turn
	weary   bool     // give a run up, rather than fail, that posts on and on
}

var _ tutti.Turn = (*fakeRun)(nil)

// fakeDocs is a catalogue.
type fakeDocs map[string]value.Raw

func (d fakeDocs) Document(kind, name string, version int) (value.Raw, int, bool) {
	if body, ok := d[kind+"/"+name]; ok {
		return body, max(version, 1), true
	}
	return nil, 0, false
}

const fakeStart = 1_800_000_000_000

// newFakeRun compiles a definition and starts a run of it.
func newFakeRun(t testing.TB, docs fakeDocs, name string, input value.Raw) *fakeRun {
	t.Helper()
	src, err := Dialect{}.Link(docs, name, 0)
	if err != nil {
		t.Fatal(err)
	}
	prog, diags := Dialect{}.Compile(src)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if input == nil {
		input = value.Raw("{}")
	}
	f := &fakeRun{
		prog: prog, frames: map[tutti.FrameID]*tutti.Frame{0: {}}, cells: map[string][]byte{},
		stored: map[tutti.FrameID][]byte{}, now: fakeStart, polls: map[string]int64{},
		docs: docs, fired: map[string]bool{},
	}
	f.run = tutti.Run{
		ID: tutti.NewRunID(fakeStart, 7<<40), Dialect: "conductor", Definition: src.Name,
		Version: src.Version, Input: input, StartMs: fakeStart, CorrelationID: "corr",
	}
	return f
}

func (f *fakeRun) start(t testing.TB) {
	t.Helper()
	f.turn(t, func() error { return f.prog.Start(f) })
	f.drain(t)
}

// turn runs one turn and stores the frames as the engine would.
func (f *fakeRun) turn(t testing.TB, fn func() error) {
	t.Helper()
	if err := fn(); err != nil {
		f.EndRun(tutti.RunFailed, nil, "program error: "+err.Error(), 0)
	}
	for id, frame := range f.frames {
		b := f.prog.EncodeState(nil, frame.State)
		state, err := f.prog.DecodeState(b)
		if err != nil {
			t.Fatalf("frame %d: %v: %+v\n%s", id, err, frame.State, f.dump())
		}
		if again := f.prog.EncodeState(nil, state); string(again) != string(b) {
			t.Fatalf("frame %d: encoding is not canonical: %x, %x", id, b, again)
		}
		frame.State = state
	}
	if f.run.Status == tutti.RunRunning && f.run.OpenTasks == 0 && len(f.posts) == 0 {
		t.Fatalf("the run is left with nothing to wait for:\n%s", f.dump())
	}
}

func (f *fakeRun) resume(t testing.TB, ev tutti.Event) {
	t.Helper()
	f.turn(t, func() error { return f.prog.Resume(f, ev) })
	f.drain(t)
}

// drain delivers what the program posted to itself.
func (f *fakeRun) drain(t testing.TB) {
	t.Helper()
	for n := 0; len(f.posts) > 0 && f.run.Status.Open(); n++ {
		if n > 10 && f.weary {
			f.EndRun(tutti.RunTerminated, nil, "given up", 0)
			f.weary = false
			return
		}
		if n > 10_000 {
			t.Fatal("the program posts without end")
		}
		p := f.posts[0]
		f.posts = f.posts[1:]
		f.turn(t, func() error {
			return f.prog.Resume(f, tutti.Event{Kind: tutti.EventPosted, Payload: p})
		})
	}
}

// finish ends a task from outside.
func (f *fakeRun) finish(t testing.TB, seq tutti.Seq, st tutti.TaskStatus, out value.Raw, why string) {
	t.Helper()
	if !f.run.Status.Open() || !f.tasks[seq-1].Status.Open() {
		t.Fatalf("task %d or its run has ended", seq)
	}
	f.end(seq, st, out, why)
	f.resume(t, tutti.Event{Kind: tutti.EventTaskEnded, Seq: seq})
}

func (f *fakeRun) open(name string) *tutti.Task {
	for _, t := range f.tasks {
		if t != nil && t.Name == name && t.Status.Open() {
			return t
		}
	}
	return nil
}

// advance moves the clock and fires waits and deadlines on the way.
func (f *fakeRun) advance(t testing.TB, ms int64) {
	t.Helper()
	until := f.now + ms
	for f.run.Status.Open() {
		task, kind, at := f.nextDue(until)
		if task == nil {
			break
		}
		f.now = max(f.now, at)
		if kind == "until" {
			f.finish(t, task.Seq, tutti.Completed, nil, "")
			continue
		}
		f.fired[fmt.Sprint(task.Seq, kind)] = true
		f.resume(t, tutti.Event{
			Kind: tutti.EventTaskTimeout, Seq: task.Seq, Timeout: timeoutKinds[kind],
		})
	}
	f.now = until
}

var timeoutKinds = map[string]tutti.TimeoutKind{
	"poll": tutti.TimeoutPoll, "response": tutti.TimeoutResponse, "task": tutti.TimeoutTask,
	"total": tutti.TimeoutTotal,
}

func (f *fakeRun) nextDue(until int64) (due *tutti.Task, kind string, when int64) {
	look := func(t *tutti.Task, k string, at int64) {
		if at <= until && !f.fired[fmt.Sprint(t.Seq, k)] && (due == nil || at < when) {
			due, kind, when = t, k, at
		}
	}
	for _, t := range f.tasks {
		if t == nil || !t.Status.Open() {
			continue
		}
		if t.UntilMs > 0 {
			look(t, "until", t.UntilMs)
		}
		if t.Timeouts.PollMs > 0 && t.Kind == tutti.Work && t.Status == tutti.Queued {
			look(t, "poll", t.ReadyMs+t.Timeouts.PollMs)
		}
		if t.Timeouts.ResponseMs > 0 && t.Kind == tutti.Work && t.Status == tutti.Running {
			look(t, "response", t.UpdatedMs+t.Timeouts.ResponseMs)
		}
		if t.Timeouts.TaskMs > 0 && t.Status == tutti.Running {
			look(t, "task", t.StartedMs+t.Timeouts.TaskMs)
		}
		if t.Timeouts.TotalAt > 0 {
			look(t, "total", t.Timeouts.TotalAt)
		}
	}
	return due, kind, when
}

// reopen puts an ended run back to running, as the engine does before an operator's event.
func (f *fakeRun) reopen() {
	f.run.Status, f.run.Reason, f.run.Output = tutti.RunRunning, "", nil
	f.run.RetriedMs = f.now
	f.posts = nil
}

func (f *fakeRun) note(format string, args ...any) {
	f.calls++
	f.effects = append(f.effects, fmt.Sprintf(format, args...))
}

func (f *fakeRun) Run() *tutti.Run { return &f.run }
func (f *fakeRun) Now() int64      { return f.now }

func (f *fakeRun) Random() uint64 {
	f.random += 0x9e3779b97f4a7c15
	return f.random
}

func (f *fakeRun) LastPoll(queue string) int64 { return f.polls[queue] }

func (f *fakeRun) Document(kind, name string, version int) (value.Raw, int, bool) {
	return f.docs.Document(kind, name, version)
}

func (f *fakeRun) Frame(id tutti.FrameID) *tutti.Frame {
	f.calls++
	return f.frames[id]
}

func (f *fakeRun) OpenFrame(parent tutti.FrameID, state any) *tutti.Frame {
	f.nextID++
	f.note("open frame %d in %d", f.nextID, parent)
	frame := &tutti.Frame{ID: f.nextID, Parent: parent, State: state}
	f.frames[f.nextID] = frame
	return frame
}

func (f *fakeRun) SaveFrame(tutti.FrameID) { f.calls++ }

func (f *fakeRun) CloseFrame(id tutti.FrameID) {
	f.note("close frame %d", id)
	delete(f.frames, id)
}

func (f *fakeRun) Cell(key string) ([]byte, bool) {
	f.calls++
	b, ok := f.cells[key]
	return b, ok
}

func (f *fakeRun) SetCell(key string, val []byte) {
	f.note("cell %s = %x", key, val)
	if val == nil {
		delete(f.cells, key)
		return
	}
	f.cells[key] = slices.Clone(val)
}

func (f *fakeRun) Task(seq tutti.Seq) *tutti.Task {
	f.calls++
	if seq == 0 || int(seq) > len(f.tasks) {
		return nil
	}
	return f.tasks[seq-1]
}

func (f *fakeRun) Tasks(from tutti.Seq) iter.Seq[*tutti.Task] {
	return func(yield func(*tutti.Task) bool) {
		for i := max(from, 1); int(i) <= len(f.tasks); i++ {
			f.calls++
			if t := f.tasks[i-1]; t != nil && !yield(t) {
				return
			}
		}
	}
}

func (f *fakeRun) OpenTasks() iter.Seq[*tutti.Task] {
	return func(yield func(*tutti.Task) bool) {
		for t := range f.Tasks(1) {
			if t.Status.Open() && !yield(t) {
				return
			}
		}
	}
}

func (f *fakeRun) AddTask(s tutti.TaskSpec) *tutti.Task {
	f.run.LastSeq++
	f.note("add %d %s %s %s", f.run.LastSeq, s.Name, s.Type, s.Input)
	t := &tutti.Task{
		Seq: f.run.LastSeq, Frame: s.Frame, Name: s.Name, Type: s.Type, DefName: s.DefName,
		Kind: s.Kind, Queue: s.Queue, Node: s.Node, Iteration: s.Iteration, Attempt: s.Attempt,
		RetryOf: s.RetryOf, Status: s.Status, Reason: s.Reason, Input: s.Input, Output: s.Output,
		Domain: s.Domain, Ext: s.Ext, HoldOpen: s.HoldOpen, ScheduledMs: f.now, FirstMs: s.FirstAt,
		ReadyMs: f.now + s.DelayMs, DelayMs: s.DelayMs, UpdatedMs: f.now, Timeouts: s.Timeouts,
		UntilMs: s.UntilMs, Limit: s.Limit, Cache: s.Cache,
	}
	if t.FirstMs == 0 {
		t.FirstMs = f.now
	}
	if t.Status != tutti.Queued {
		t.StartedMs = f.now
	}
	if t.Status.Open() {
		f.run.OpenTasks++
	}
	if s.Kind == tutti.Child {
		t.ChildRun = tutti.ChildRunID(f.run.ID, t.Seq, f.now)
		f.started = append(f.started, *s.Child)
		f.note("child %s %d %s", s.Child.Definition, s.Child.Version, s.Child.Input)
	}
	f.tasks = append(f.tasks, t)
	return t
}

func (f *fakeRun) end(seq tutti.Seq, st tutti.TaskStatus, out value.Raw, why string) {
	t := f.tasks[seq-1]
	if t.Status.Open() {
		f.run.OpenTasks--
		t.EndedMs = f.now
	}
	t.Status, t.Reason, t.UpdatedMs = st, why, f.now
	if out != nil {
		t.Output = out
	}
}

func (f *fakeRun) EndTask(seq tutti.Seq, st tutti.TaskStatus, out value.Raw, why string) {
	f.note("end %d %s %s", seq, st, why)
	f.end(seq, st, out, why)
}

func (f *fakeRun) ReopenTask(seq tutti.Seq) {
	f.note("reopen %d", seq)
	t := f.tasks[seq-1]
	if t.Kind == tutti.Work || t.Status.Open() {
		panic("only ended Wait, Scope and Child tasks can be reopened")
	}
	t.Status, t.Reason, t.EndedMs = tutti.Running, "", 0
	f.run.OpenTasks++
}

func (f *fakeRun) AmendTask(seq tutti.Seq, in, out value.Raw) {
	f.note("amend %d", seq)
	t := f.tasks[seq-1]
	if in != nil {
		t.Input = in
	}
	if out != nil {
		t.Output = out
	}
}

func (f *fakeRun) MarkRetried(seq tutti.Seq) {
	f.note("retried %d", seq)
	f.tasks[seq-1].Retried = true
}

func (f *fakeRun) RemoveTask(seq tutti.Seq) {
	f.note("remove %d", seq)
	if f.tasks[seq-1].Status.Open() {
		panic("only ended tasks can be removed")
	}
	f.tasks[seq-1] = nil
}

func (f *fakeRun) StartRun(s tutti.RunSpec) tutti.RunID {
	f.note("start %s %s", s.Definition, s.Input)
	f.started = append(f.started, s)
	return tutti.NewRunID(f.now, uint64(len(f.started))<<40)
}

func (f *fakeRun) RetryChild(seq tutti.Seq) {
	f.note("retry child %d", seq)
	f.retried = append(f.retried, seq)
}

func (f *fakeRun) Post(_ tutti.FrameID, payload []byte) {
	f.note("post %x", payload)
	f.posts = append(f.posts, slices.Clone(payload))
}

func (f *fakeRun) Note(kind string, detail value.Raw) { f.note("note %s %s", kind, detail) }

func (f *fakeRun) EndRun(st tutti.RunStatus, out value.Raw, why string, failed tutti.Seq) {
	f.note("end run %s %s", st, why)
	f.run.Status, f.run.Output, f.run.Reason, f.run.FailedTask = st, out, why, failed
	f.run.EndMs = f.now
	for t := range f.OpenTasks() {
		f.end(t.Seq, tutti.CancelledTask, nil, t.Reason)
	}
	f.posts = nil
}

// shorten replaces the identifiers of the run and its tasks, and the time of the start.
func (f *fakeRun) shorten(s string) string {
	s = strings.ReplaceAll(s, f.run.ID.String(), "<run>")
	for _, t := range f.tasks {
		if t != nil {
			s = strings.ReplaceAll(s, f.run.ID.TaskID(t.Seq), fmt.Sprintf("<task %d>", t.Seq))
			if !t.ChildRun.IsZero() {
				s = strings.ReplaceAll(s, t.ChildRun.String(), fmt.Sprintf("<child %d>", t.Seq))
			}
		}
	}
	for i := range f.started {
		id := tutti.NewRunID(f.now, uint64(i+1)<<40).String()
		s = strings.ReplaceAll(s, id, fmt.Sprintf("<started %d>", i+1))
	}
	return s
}

// line describes a task.
func (f *fakeRun) line(t *tutti.Task) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %s %s", t.Seq, t.Name, t.Type, StatusName(t.Status))
	if t.Attempt > 0 {
		fmt.Fprintf(&b, " attempt=%d of=%d", t.Attempt, t.RetryOf)
	}
	if t.DelayMs > 0 {
		fmt.Fprintf(&b, " delay=%d", t.DelayMs)
	}
	if t.Queue != "" && t.Queue != t.Type {
		fmt.Fprintf(&b, " queue=%s", t.Queue)
	}
	if t.UntilMs > 0 {
		fmt.Fprintf(&b, " until=+%d", t.UntilMs-fakeStart)
	}
	if string(t.Input) != "{}" {
		fmt.Fprintf(&b, " in=%s", t.Input)
	}
	if out := TaskOutput(f.prog, f, t); string(out) != "{}" {
		fmt.Fprintf(&b, " out=%s", out)
	}
	if t.Reason != "" {
		fmt.Fprintf(&b, " reason=%q", t.Reason)
	}
	return f.shorten(b.String())
}

func (f *fakeRun) status() string {
	s := "run " + f.run.Status.String()
	if f.run.Output != nil {
		s += " out=" + string(f.run.Output)
	}
	if f.run.Reason != "" {
		s += fmt.Sprintf(" reason=%q", f.run.Reason)
	}
	return f.shorten(s)
}

func (f *fakeRun) dump() string {
	var b strings.Builder
	for _, t := range f.tasks {
		if t != nil {
			b.WriteString(f.line(t) + "\n")
		}
	}
	return b.String() + f.status() + "\n"
}

// cellKeys lists the cells there are.
func (f *fakeRun) cellKeys() []string { return slices.Sorted(maps.Keys(f.cells)) }
