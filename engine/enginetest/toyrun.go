package enginetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// forkWindow is how many branches of a fork are opened in one turn.
const forkWindow = 100

// toyTurn is one turn of a Toy program.
type toyTurn struct {
	tutti.Turn
	p *program
}

// Start implements tutti.Program.
func (p *program) Start(t tutti.Turn) error {
	t.Frame(0).State = &state{}
	t.SaveFrame(0)
	return (&toyTurn{t, p}).advance(0)
}

// Resume implements tutti.Program.
func (p *program) Resume(t tutti.Turn, ev tutti.Event) error {
	tt := &toyTurn{t, p}
	switch ev.Kind {
	case tutti.EventTaskEnded:
		return tt.ended(t.Task(ev.Seq))
	case tutti.EventTaskTimeout:
		t.EndTask(ev.Seq, tutti.TimedOut, nil, fmt.Sprintf("deadline %d passed", ev.Timeout))
		return tt.ended(t.Task(ev.Seq))
	case tutti.EventRunTimeout:
		t.EndRun(tutti.RunTimedOut, nil, "the run took too long", 0)
	case tutti.EventPosted:
		return tt.posted(ev)
	case tutti.EventRetry:
		return tt.retryAll(ev.Deep)
	case tutti.EventRerun:
		return tt.rerun(ev.Seq, ev.Input)
	case tutti.EventSkip:
		t.SetCell("skip/"+ev.Name, append([]byte{'='}, ev.Output...))
	case tutti.EventReopened:
		t.ReopenTask(ev.Seq)
		_ = tt.retryAll(true) // what was cancelled when the run had ended
	}
	return nil
}

func (t *toyTurn) frame(id tutti.FrameID) *state {
	if f := t.Frame(id); f != nil {
		return f.State.(*state)
	}
	return nil
}

// advance takes a frame, and those that end with it, as far as they go.
func (t *toyTurn) advance(id tutti.FrameID) error {
	for {
		s := t.frame(id)
		if s == nil {
			return nil
		}
		t.SaveFrame(id)
		list := t.p.lists[s.list]
		if s.pc == len(list) {
			next, goOn := t.endFrame(id)
			if !goOn {
				return nil
			}
			id = next
			continue
		}
		goOn, err := t.begin(id, s, &list[s.pc])
		if err != nil || !goOn {
			return err
		}
		t.step(s)
	}
}

// step counts a step that ended well and goes to the next.
func (t *toyTurn) step(s *state) {
	s.pc, s.cur, s.opened = s.pc+1, 0, 0
	n := 0
	if b, ok := t.Cell("done"); ok {
		n, _ = strconv.Atoi(string(b))
	}
	t.SetCell("done", strconv.AppendInt(nil, int64(n+1), 10))
}

// endFrame ends a frame at the end of its list; true if its parent goes on.
func (t *toyTurn) endFrame(id tutti.FrameID) (tutti.FrameID, bool) {
	if id == 0 {
		n, _ := t.Cell("done")
		t.EndRun(tutti.RunCompleted, value.Raw(fmt.Sprintf(`{"done":%s}`, orZero(n))), "", 0)
		return 0, false
	}
	s, parent := t.frame(id), t.Frame(id).Parent
	up := t.frame(parent)
	nd := t.p.lists[up.list][up.pc]
	if nd.Loop > s.iter && nd.Fork == 0 {
		s.iter, s.pc = s.iter+1, 0
		return id, true
	}
	t.CloseFrame(id)
	up.left--
	t.SaveFrame(parent)
	if up.left > 0 {
		return 0, false
	}
	t.EndTask(up.cur, tutti.Completed, nil, "")
	t.step(up)
	return parent, true
}

func orZero(b []byte) []byte {
	if len(b) == 0 {
		return []byte{'0'}
	}
	return b
}

// begin starts a step; true when it ended at once.
func (t *toyTurn) begin(id tutti.FrameID, s *state, nd *node) (bool, error) {
	if out, ok := t.Cell("skip/" + nd.Name); ok {
		t.local(id, s, nd, tutti.Skipped, out[1:])
		return true, nil
	}
	switch {
	case nd.Task != "", nd.Wait != nil, nd.Child != "":
		t.attempt(id, s, nd, nil)
		return false, nil
	case nd.Start != "":
		run := t.StartRun(tutti.RunSpec{Definition: nd.Start})
		t.local(id, s, nd, tutti.Completed, value.Marshal(run.String()))
	case nd.Fork > 0, nd.Loop > 0:
		return false, t.open(id, s, nd)
	case nd.Posts > 0:
		s.cur, s.left = t.scope(id, s, nd), nd.Posts
		t.Post(id, []byte("turn"))
		return false, nil
	case nd.Note != "":
		t.Note(nd.Note, value.Marshal(t.Now()))
	case nd.Draw > 0:
		var draws []any
		for range nd.Draw {
			draws = append(draws, value.Int(int64(t.Random()>>12)))
		}
		t.local(id, s, nd, tutti.Completed, value.Marshal(draws))
	case nd.Fail != "":
		s.cur = t.local(id, s, nd, tutti.Fatal, nil)
		t.EndRun(tutti.RunFailed, nil, nd.Fail, s.cur)
		return false, nil
	case nd.Error != "":
		return false, errors.New(nd.Error)
	case nd.Panic != "":
		panic(nd.Panic)
	case nd.Stop:
		return false, nil
	default:
		out, err := json.Marshal(nd.Local)
		if err != nil {
			return false, err
		}
		t.local(id, s, nd, tutti.Completed, out)
	}
	return true, nil
}

func (t *toyTurn) local(
	id tutti.FrameID, s *state, nd *node, st tutti.TaskStatus, out value.Raw,
) tutti.Seq {
	return t.AddTask(tutti.TaskSpec{
		Frame: id, Name: nd.Name, Type: "local", Kind: tutti.Local, Node: int32(s.pc),
		Status: st, Output: out,
	}).Seq
}

func (t *toyTurn) scope(id tutti.FrameID, s *state, nd *node) tutti.Seq {
	return t.AddTask(tutti.TaskSpec{
		Frame: id, Name: nd.Name, Type: "scope", Kind: tutti.Scope, Node: int32(s.pc),
		Status: tutti.Running,
	}).Seq
}

// attempt schedules a task, the first time or, with the attempt before it, again.
func (t *toyTurn) attempt(id tutti.FrameID, s *state, nd *node, last *tutti.Task) {
	spec := tutti.TaskSpec{
		Frame: id, Name: nd.Name, Node: int32(s.pc), Iteration: int32(s.iter),
		DelayMs: nd.DelayMs, HoldOpen: nd.HoldOpen, Input: t.input(nd),
		Timeouts: tutti.Timeouts{
			PollMs: nd.PollMs, ResponseMs: nd.ResponseMs, TaskMs: nd.TaskMs,
		},
	}
	if nd.TotalMs > 0 {
		spec.Timeouts.TotalAt = t.Now() + nd.TotalMs
	}
	if last != nil {
		spec.Attempt, spec.RetryOf, spec.FirstAt = last.Attempt+1, last.Seq, last.FirstMs
		spec.Input, spec.DelayMs = last.Input, nd.RetryDelayMs
		if nd.TotalMs > 0 {
			spec.Timeouts.TotalAt = last.FirstMs + nd.TotalMs
		}
		t.MarkRetried(last.Seq)
	}
	switch {
	case nd.Task != "":
		spec.Type, spec.Kind, spec.Queue = "task", tutti.Work, nd.Task
		if l := nd.Limit; l != nil {
			spec.Limit = &tutti.Limit{
				Key: l.Key, Concurrency: l.Concurrency, Rate: l.Rate, WindowMs: l.WindowMs,
			}
		}
		if c := nd.Cache; c != nil {
			spec.Cache = &tutti.CacheSpec{Key: c.Key, TTLMs: c.TTL}
		}
	case nd.Wait != nil:
		spec.Type, spec.Kind, spec.Status = "wait", tutti.Wait, tutti.Running
		if *nd.Wait > 0 {
			spec.UntilMs = t.Now() + *nd.Wait
		}
	default:
		spec.Type, spec.Kind, spec.Status = "child", tutti.Child, tutti.Running
		spec.Child = &tutti.RunSpec{
			Definition: nd.Child, IdempotencyKey: nd.Key, OnDuplicate: tutti.DuplicateReturn,
		}
	}
	s.cur = t.AddTask(spec).Seq
	t.SaveFrame(id)
}

func (t *toyTurn) input(nd *node) value.Raw {
	switch {
	case nd.Big > 0:
		return value.Marshal(strings.Repeat("x", nd.Big))
	case nd.Input != nil:
		if in, err := json.Marshal(nd.Input); err == nil {
			return in
		}
	}
	return value.Raw("{}")
}

// open opens a fork's or loop's frames: forks in windows.
func (t *toyTurn) open(id tutti.FrameID, s *state, nd *node) error {
	if s.opened == 0 {
		s.cur, s.left = t.scope(id, s, nd), max(nd.Fork, 1)
	}
	cur := s.cur
	// A branch that ends at once may end the fork, and more.
	for n := 0; s.cur == cur && s.opened < max(nd.Fork, 1) && t.Run().Status.Open(); n++ {
		if n == forkWindow {
			t.Post(id, []byte("fork"))
			return nil
		}
		s.opened++
		t.SaveFrame(id)
		f := t.OpenFrame(id, &state{list: nd.body, iter: 1})
		if err := t.advance(f.ID); err != nil {
			return err
		}
	}
	return nil
}

func (t *toyTurn) posted(ev tutti.Event) error {
	s := t.frame(ev.Frame)
	if s == nil || s.pc >= len(t.p.lists[s.list]) {
		return nil
	}
	nd := &t.p.lists[s.list][s.pc]
	if string(ev.Payload) == "fork" {
		return t.open(ev.Frame, s, nd)
	}
	s.left--
	t.SaveFrame(ev.Frame)
	if s.left > 0 {
		t.Post(ev.Frame, ev.Payload)
		return nil
	}
	t.EndTask(s.cur, tutti.Completed, nil, "")
	t.step(s)
	return t.advance(ev.Frame)
}

// ended goes on after an attempt.
func (t *toyTurn) ended(task *tutti.Task) error {
	s := t.frame(task.Frame)
	if s == nil || s.cur != task.Seq {
		return nil
	}
	nd := &t.p.lists[s.list][s.pc]
	switch {
	case task.Status.Successful():
	case task.Status != tutti.Fatal && int(task.Attempt) < nd.Retries:
		t.attempt(task.Frame, s, nd, task)
		return nil
	case nd.Optional:
		t.EndTask(task.Seq, tutti.CompletedWithErrors, nil, task.Reason)
	default:
		st := tutti.RunFailed
		if task.Status == tutti.TimedOut {
			st = tutti.RunTimedOut
		}
		t.EndRun(st, nil, task.Reason, task.Seq)
		return nil
	}
	t.step(s)
	return t.advance(task.Frame)
}

// retryAll repeats whatever ended badly and was waited for.
func (t *toyTurn) retryAll(deep bool) error {
	var again []*tutti.Task
	for task := range t.Tasks(1) {
		s := t.frame(task.Frame)
		if s != nil && s.cur == task.Seq && !task.Retried && !task.Status.Open() &&
			!task.Status.Successful() {
			again = append(again, task)
		}
	}
	for _, task := range again {
		s := t.frame(task.Frame)
		nd := &t.p.lists[s.list][s.pc]
		switch {
		case task.Kind == tutti.Local:
			t.MarkRetried(task.Seq)
			if err := t.advance(task.Frame); err != nil {
				return err
			}
		case task.Kind == tutti.Scope:
			t.ReopenTask(task.Seq)
			if s.opened > 0 && s.opened < nd.Fork {
				t.Post(task.Frame, []byte("fork"))
			} else if nd.Posts > 0 {
				t.Post(task.Frame, []byte("turn"))
			}
		case task.Kind == tutti.Child && deep:
			t.ReopenTask(task.Seq)
			t.RetryChild(task.Seq)
		default:
			t.attempt(task.Frame, s, nd, task)
		}
	}
	if len(again) == 0 {
		return errors.New("there is nothing to retry")
	}
	return nil
}

// rerun repeats from an attempt of the outermost list on.
func (t *toyTurn) rerun(seq tutti.Seq, input value.Raw) error {
	first := t.Task(seq)
	if first.Frame != 0 {
		return errors.New("a run can be repeated only from a step of its outermost list")
	}
	pc := int(first.Node)
	for task := range t.Tasks(seq) {
		if task.Frame != 0 {
			t.CloseFrame(task.Frame)
		}
		t.RemoveTask(task.Seq)
	}
	s := t.frame(0)
	*s = state{pc: pc}
	t.SaveFrame(0)
	if err := t.advance(0); err != nil {
		return err
	}
	if input != nil && s.cur != 0 {
		t.AmendTask(s.cur, input, nil)
	}
	return nil
}
