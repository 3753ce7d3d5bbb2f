package engine

import (
	"fmt"
	"iter"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// turn is the only thing a program sees of the engine.
type turn struct {
	b     *Batch
	r     *runState
	added int   // attempts
	err   error // the first bound that the program went over
}

func (t *turn) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func exhausted(code, format string, args ...any) error {
	return tutti.E(tutti.Exhausted, "turn", code, fmt.Sprintf(format, args...))
}

var _ tutti.Turn = (*turn)(nil)

func (t *turn) Run() *tutti.Run {
	t.b.load(t.r.ID, &t.r.in)
	t.r.Input = t.r.in.raw
	return &t.r.Run
}

func (t *turn) Now() int64     { return t.b.now }
func (t *turn) Random() uint64 { return t.r.nextRandom() }

func (t *turn) LastPoll(queue string) int64 {
	return t.b.s.opts.Matcher.LastPoll(QueueKey(t.r.Namespace, queue))
}

func (t *turn) Document(kind, name string, version int) (value.Raw, int, bool) {
	if t.b.s.opts.Documents == nil {
		return nil, 0, false
	}
	docs := t.b.s.opts.Documents(t.r.Namespace, t.r.Dialect)
	return docs.Document(kind, name, version)
}

func (t *turn) Frame(id tutti.FrameID) *tutti.Frame {
	f := t.b.frame(t.r, id)
	if f == nil || f.closed {
		return nil
	}
	return &f.Frame
}

func (b *Batch) frame(r *runState, id tutti.FrameID) *frameState {
	if f, ok := r.frames[id]; ok {
		return f
	}
	f := &frameState{Frame: tutti.Frame{ID: id}}
	state := r.root
	if id != 0 {
		raw, ok := b.get(numberedKey(r.ID, partFrame, uint32(id)))
		if !ok {
			return nil
		}
		b.fail(decode(raw, func(g field) error {
			switch g.num {
			case 1:
				f.Parent = tutti.FrameID(g.v)
			case 2:
				state = g.own()
			}
			return nil
		}))
	}
	st, err := r.prog.DecodeState(state)
	b.fail(err)
	f.State = st
	r.frames[id] = f
	return f
}

func (t *turn) OpenFrame(parent tutti.FrameID, state any) *tutti.Frame {
	t.r.nextFrame++
	t.r.hotDirty = true
	f := &frameState{dirty: true}
	f.Frame = tutti.Frame{ID: t.r.nextFrame, Parent: parent, State: state}
	t.r.frames[f.ID] = f
	return &f.Frame
}

func (t *turn) SaveFrame(id tutti.FrameID) {
	if f := t.b.frame(t.r, id); f != nil {
		f.dirty = true
	}
}

func (t *turn) CloseFrame(id tutti.FrameID) {
	if f := t.b.frame(t.r, id); f != nil && id != 0 {
		f.closed = true
	}
}

func (t *turn) Cell(key string) ([]byte, bool) { return t.b.get(cellKey(t.r.ID, key)) }

// maxCellKey bounds the names of cells, in bytes.
const maxCellKey = 512

func (t *turn) SetCell(key string, val []byte) {
	if len(key) > maxCellKey || len(val) > MaxPayload {
		t.fail(exhausted("CellTooLarge", "a cell's name may have %d bytes and its value %d",
			maxCellKey, MaxPayload))
		return
	}
	if val == nil {
		t.b.del(cellKey(t.r.ID, key))
		return
	}
	t.b.set(cellKey(t.r.ID, key), val)
}

func (t *turn) Task(seq tutti.Seq) *tutti.Task {
	if s := t.b.task(t.r, seq); s != nil {
		return &s.Task
	}
	return nil
}

func (t *turn) Tasks(from tutti.Seq) iter.Seq[*tutti.Task] {
	return func(yield func(*tutti.Task) bool) {
		for seq := max(from, 1); seq <= t.r.LastSeq; seq++ {
			if s := t.b.task(t.r, seq); s != nil && !yield(&s.Task) {
				return
			}
		}
	}
}

func (t *turn) OpenTasks() iter.Seq[*tutti.Task] {
	return func(yield func(*tutti.Task) bool) {
		for _, seq := range t.b.openSeqs(t.r) {
			s := t.b.task(t.r, seq)
			if s != nil && s.Status.Open() && !yield(&s.Task) {
				return
			}
		}
	}
}

func (t *turn) AddTask(spec tutti.TaskSpec) *tutti.Task {
	r, now := t.r, t.b.now
	if err := t.checkAdd(&spec); err != nil {
		t.fail(err)
		return &tutti.Task{Frame: spec.Frame, Name: spec.Name, Status: tutti.CancelledTask}
	}
	r.LastSeq++
	r.hotDirty = true
	s := &taskState{dirty: true}
	s.Task = tutti.Task{
		Seq: r.LastSeq, Frame: spec.Frame, Name: spec.Name, Type: spec.Type,
		DefName: spec.DefName, Kind: spec.Kind, Queue: spec.Queue, Node: spec.Node,
		Iteration: spec.Iteration, Attempt: spec.Attempt, RetryOf: spec.RetryOf,
		Status: spec.Status, Reason: spec.Reason, Input: spec.Input, Output: spec.Output,
		Domain: spec.Domain, Ext: spec.Ext, HoldOpen: spec.HoldOpen,
		ScheduledMs: now, ReadyMs: now + spec.DelayMs, FirstMs: spec.FirstAt,
		UpdatedMs: now, DelayMs: spec.DelayMs, Timeouts: spec.Timeouts,
		UntilMs: spec.UntilMs, Limit: spec.Limit, Cache: spec.Cache,
	}
	if s.FirstMs == 0 {
		s.FirstMs = now
	}
	s.in, s.out = newPayload(spec.Input), newPayload(spec.Output)
	r.tasks[s.Seq] = s
	t.b.begin(r, s, spec.Child)
	return &s.Task
}

// checkAdd says whether the program may add an attempt.
func (t *turn) checkAdd(spec *tutti.TaskSpec) error {
	t.added++
	switch {
	case t.added > MaxTurnTasks:
		return exhausted("TooManyTasksAtOnce", "a turn may add at most %d task attempts",
			MaxTurnTasks)
	case t.r.LastSeq >= tutti.MaxTasks:
		return exhausted("TooManyTasks", "a run may have at most %d task attempts",
			tutti.MaxTasks)
	}
	return checkTask(spec)
}

// begin brings a new attempt into the state its kind asks for.
func (b *Batch) begin(r *runState, s *taskState, child *tutti.RunSpec) {
	switch {
	case !s.Status.Open():
		s.StartedMs, s.EndedMs = b.now, b.now
		b.note(r, HistoryTaskDone, s.Seq, uint64(s.Status))
		return
	case s.Kind == tutti.Work && s.Status == tutti.Queued:
		if s.DelayMs > 0 {
			s.hold = holdDelay
		}
	default:
		s.StartedMs = b.now
	}
	b.addOpen(r, s.Seq)
	b.note(r, HistoryTaskScheduled, s.Seq, 0)
	if s.Kind == tutti.Work && s.Cache != nil && s.RetryOf == 0 {
		b.askCache(r, s)
	}
	if s.Kind == tutti.Child && child != nil {
		b.startChild(r, s, child)
	}
}

func (t *turn) EndTask(
	seq tutti.Seq, status tutti.TaskStatus, output value.Raw, reason string,
) {
	if err := checkPayload("the output of a step", output); err != nil {
		t.fail(err)
		return
	}
	if s := t.b.task(t.r, seq); s != nil {
		t.b.endTask(t.r, s, status, output, reason)
		t.b.settle(t.r, s)
	}
}

func (t *turn) ReopenTask(seq tutti.Seq) {
	s := t.b.task(t.r, seq)
	if s == nil || s.Status.Open() || s.Kind == tutti.Work {
		return
	}
	s.dirty, s.Status, s.Reason = true, tutti.Running, ""
	s.EndedMs, s.UpdatedMs, s.Retried = 0, t.b.now, false
	if !t.b.isOpen(t.r, seq) {
		t.b.addOpen(t.r, seq)
	}
	t.b.note(t.r, HistoryTaskReopened, seq, 0)
}

func (t *turn) AmendTask(seq tutti.Seq, input, output value.Raw) {
	s := t.b.task(t.r, seq)
	if s == nil {
		return
	}
	if err := firstError(checkPayload("the input of step "+s.Name, input),
		checkPayload("the output of step "+s.Name, output)); err != nil {
		t.fail(err)
		return
	}
	s.dirty = true
	if input != nil {
		s.in, s.Input = newPayload(input), input
	}
	if output != nil {
		s.out, s.Output = newPayload(output), output
	}
}

func (t *turn) MarkRetried(seq tutti.Seq) {
	if s := t.b.task(t.r, seq); s != nil {
		s.Retried, s.dirty = true, true
	}
}

func (t *turn) RemoveTask(seq tutti.Seq) {
	s := t.b.task(t.r, seq)
	if s == nil {
		return
	}
	if s.Status.Open() || t.b.isOpen(t.r, seq) {
		t.b.endTask(t.r, s, tutti.CancelledTask, nil, "removed")
		t.b.settle(t.r, s)
	}
	t.b.dropDerived(t.r, s)
	t.b.del(taskKey(t.r.ID, seq))
	delete(t.r.tasks, seq)
	t.b.note(t.r, HistoryTaskRemoved, seq, 0)
}

// dropDerived deletes the rows that a stored task implies.
func (b *Batch) dropDerived(r *runState, s *taskState) {
	b.moveWake(r.ID, s.Seq, s.wake, 0)
	if s.ready != nil {
		b.w.Delete(s.ready)
	}
	s.wake, s.ready = 0, nil
}

func (t *turn) StartRun(spec tutti.RunSpec) tutti.RunID {
	if err := checkSpec(&spec); err != nil {
		t.fail(err)
		return tutti.RunID{}
	}
	return t.b.startElsewhere(t.r, &spec, tutti.RunID{}, 0)
}

func (t *turn) RetryChild(seq tutti.Seq) {
	if s := t.b.task(t.r, seq); s != nil && !s.ChildRun.IsZero() {
		t.b.send(message{kind: msgRetry, run: s.ChildRun, from: t.r.ID, seq: seq})
	}
}

func (t *turn) Post(frame tutti.FrameID, payload []byte) {
	if len(t.r.posts) >= MaxPosts || len(payload) > MaxDetail {
		t.fail(exhausted("TooManyPosts", "a run may have %d posts of %d bytes waiting",
			MaxPosts, MaxDetail))
		return
	}
	t.r.posts = append(t.r.posts, post{frame: frame, payload: payload})
	t.r.hotDirty = true
	t.r.UpdateMs = t.b.now
}

func (t *turn) Note(kind string, detail value.Raw) {
	if len(kind)+len(detail) > MaxDetail {
		t.fail(exhausted("NoteTooLarge", "a note may have %d bytes", MaxDetail))
		return
	}
	t.b.noteDetail(t.r, kind, detail)
}

func (t *turn) EndRun(
	status tutti.RunStatus, output value.Raw, reason string, failed tutti.Seq,
) {
	t.b.endRun(t.r, status, output, reason, failed)
}

// resume hands an event to the run's program. An error or panic of the program ends the
// run; the shard goes on.
func (b *Batch) resume(r *runState, ev tutti.Event) {
	b.guard(r, func(t *turn) error { return r.prog.Resume(t, ev) })
}

func (b *Batch) guard(r *runState, fn func(*turn) error) {
	if b.err != nil || !b.loadProgram(r) {
		return
	}
	t := &turn{b: b, r: r}
	b.conclude(t, protect(func() error { return fn(t) }))
}

// conclude ends a run whose program failed, or left it with nothing to wait for.
func (b *Batch) conclude(t *turn, err error) {
	r := t.r
	if t.err != nil {
		err = t.err
	}
	switch {
	case err != nil && r.Status.Open():
		b.noteDetail(r, "program error", value.Marshal(clip(err.Error())))
		b.endRun(r, tutti.RunFailed, nil, err.Error(), 0)
	case r.Status == tutti.RunRunning && r.OpenTasks == 0 && len(r.posts) == 0:
		b.endRun(r, tutti.RunFailed, nil,
			"the definition left the run with nothing to wait for; "+
				"this is a fault of the server, please report it", 0)
	}
}

// protect turns a panic of pure code into an error: one run is lost, not the shard.
func protect(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = tutti.E(tutti.Internal, "turn", "ProgramPanic", fmt.Sprint(p))
		}
	}()
	return fn()
}

func (b *Batch) loadProgram(r *runState) bool {
	if r.prog != nil {
		return true
	}
	p, err := b.program(r.Dialect, r.SourceHash)
	if err != nil {
		b.endRun(r, tutti.RunFailed, nil, err.Error(), 0)
		return false
	}
	r.prog = p
	return true
}
