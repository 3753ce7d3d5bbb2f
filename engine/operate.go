package engine

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

func errRunLimit(l *tutti.RunLimit) error {
	return fmt.Errorf("%d runs with limit key %q are open, which is the limit",
		l.Concurrency, l.Key)
}

func conflict(op, code, format string, args ...any) error {
	return tutti.E(tutti.Conflict, op, code, fmt.Sprintf(format, args...))
}

// find returns a run for an operator's command.
func (b *Batch) find(id tutti.RunID) (*runState, error) {
	if r := b.run(id); r != nil {
		return r, nil
	}
	return nil, errNoRun(id)
}

// Pause keeps a run from taking further steps. What is under way may end.
type Pause struct {
	Run tutti.RunID
	By  string
}

func (c Pause) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if !r.Status.Open() {
		return nil, conflict("pause", "RunEnded", "run %s has already ended as %s", r.ID, r.Status)
	}
	if r.Status == tutti.RunPaused {
		return nil, nil
	}
	r.Status, r.UpdateMs, r.hotDirty = tutti.RunPaused, b.now, true
	b.record(r, HistoryEvent{Kind: HistoryRunPaused, Note: c.By})
	return nil, nil
}

// Resume lets a paused run go on, with what ended in the meantime first.
type Resume struct {
	Run tutti.RunID
	By  string
}

func (c Resume) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if r.Status != tutti.RunPaused {
		return nil, conflict("resume", "RunNotPaused",
			"run %s is not paused, it is %s", r.ID, r.Status)
	}
	r.Status, r.UpdateMs, r.RetriedMs = tutti.RunRunning, b.now, b.now
	r.hotDirty = true
	b.record(r, HistoryEvent{Kind: HistoryRunResumed, Note: c.By})
	if r.HeldByLimit {
		return nil, nil
	}
	if !r.begun {
		b.firstTurn(r)
		return nil, nil
	}
	for _, seq := range b.openSeqs(r) {
		s := b.task(r, seq)
		switch {
		case s == nil || r.Status != tutti.RunRunning:
		case s.Status.Open():
			if s.wake != 0 && s.wake != Forever { // it may have gone off in vain
				s.fired, s.dirty = true, true
			}
			b.wakeTask(r, s)
		default:
			b.finished(r, s)
		}
	}
	return nil, nil
}

// Terminate ends a run at once.
type Terminate struct {
	Run    tutti.RunID
	Reason string
	Output value.Raw
}

func (c Terminate) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Status == tutti.RunTerminated:
		return nil, nil
	case !r.Status.Open():
		return nil, conflict("terminate", "RunEnded",
			"Cannot terminate a %s workflow.", r.Status)
	}
	b.endRun(r, tutti.RunTerminated, c.Output, c.Reason, 0)
	return nil, nil
}

// reopen makes an ended run running again and takes its place among open runs.
func (b *Batch) reopen(r *runState) {
	r.Status, r.Reason, r.FailedTask = tutti.RunRunning, "", 0
	r.EndMs, r.UpdateMs, r.RetriedMs = 0, b.now, b.now
	r.outOfTime, r.hotDirty = false, true
	r.out, r.Output = newPayload(nil), nil
	b.s.remember(r)
	b.note(r, HistoryRunReopened, 0, 0)
	if r.Limit != nil && r.begun {
		b.askRunPermit(r, true)
	}
}

// reviveParent takes the parent of a reopened run up again.
func (b *Batch) reviveParent(r *runState, byParent bool) {
	if byParent {
		return
	}
	r.eachWaiting(func(h holder) {
		b.send(message{kind: msgReopened, run: h.run, seq: h.seq, from: r.ID})
		if !r.Status.Open() { // again, at once, before anybody knew that it was reopened
			b.reportEnd(r, h)
		}
	})
}

// Retry goes on with a run that ended badly, from what failed.
type Retry struct {
	Run      tutti.RunID
	Deep     bool // reopen failed child runs instead of starting new ones
	ByParent bool
}

func (c Retry) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if err := b.checkRetry(r); err != nil {
		return nil, err
	}
	err = b.goOn(r, tutti.Event{Kind: tutti.EventRetry, Deep: c.Deep})
	if err != nil {
		return nil, err
	}
	b.reviveParent(r, c.ByParent)
	return nil, nil
}

// goOn reopens an ended run and hands its program an operator's event. When the program
// rejects it, the run is as it was.
func (b *Batch) goOn(r *runState, ev tutti.Event) error {
	if !b.loadProgram(r) {
		return conflict("reopen", "NoProgram", "%s", r.Reason)
	}
	run, hot, out := r.Run, r.hot, r.out
	hot.inline = slices.Clone(hot.inline)
	history, notes := r.history.mark(), len(b.fx.Notes)
	b.reopen(r)
	t := &turn{b: b, r: r}
	err := protect(func() error { return r.prog.Resume(t, ev) })
	var rejected *tutti.Error
	if !errors.As(err, &rejected) || !isRejection(rejected.Kind) {
		b.conclude(t, err)
		return nil
	}
	hot.asks = r.asks // numbers of questions are never used again
	r.Run, r.hot, r.out = run, hot, out
	r.history, b.fx.Notes = history, b.fx.Notes[:notes]
	b.releaseRunPermit(r)
	return rejected
}

func isRejection(k tutti.Kind) bool {
	return k == tutti.Conflict || k == tutti.Invalid || k == tutti.NotFound
}

func (b *Batch) checkRetry(r *runState) error {
	switch {
	case r.Status.Open():
		return tutti.E(tutti.Conflict, "retry", "RunOpen",
			fmt.Sprintf("Workflow is still running.  status=%s", r.Status))
	case r.sweeping:
		return errSweeping("retry", r)
	case r.Status == tutti.RunCompleted:
		return conflict("retry", "NothingToRetry", "There are no retryable tasks! "+
			"Use restart if you want to attempt entire workflow execution again.")
	case !r.begun:
		return conflict("retry", "NoTasks", "Workflow has not started yet")
	}
	return nil
}

func errSweeping(op string, r *runState) error {
	return conflict(op, "RunEnding", "run %s is still cancelling its open tasks; try again", r.ID)
}

// Restart begins a run again from its first step, under the same identifier.
type Restart struct {
	Run    tutti.RunID
	Source *tutti.Source // when set, the definition to use from now on
	Input  value.Raw     // when set, the new input
	Corr   *string       // when set, the new correlation id
}

func (c Restart) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if r.Status.Open() || r.sweeping {
		return nil, conflict("restart", "RunOpen",
			"Workflow: %s is not in terminal state, unable to restart.", r.ID)
	}
	if err := checkPayload("the input", c.Input); err != nil {
		return nil, err
	}
	if c.Corr != nil {
		if err := checkName("the correlation id", *c.Corr, MaxText); err != nil {
			return nil, err
		}
	}
	if c.Source != nil {
		hash, prog, err := b.keepSource(c.Source, tutti.Hash{})
		if err != nil {
			return nil, err
		}
		r.SourceHash, r.prog, r.Version = hash, prog, c.Source.Version
	}
	b.reset(r, c.Input, c.Corr)
	if r.Limit != nil {
		b.hold(r)
	} else {
		b.firstTurn(r)
	}
	b.reviveParent(r, false)
	return nil, nil
}

// reset deletes all that a run did and makes it as new.
func (b *Batch) reset(r *runState, input value.Raw, corr *string) {
	for seq := tutti.Seq(1); seq <= r.LastSeq; seq++ {
		if s := b.task(r, seq); s != nil {
			(&turn{b: b, r: r}).RemoveTask(seq)
		}
	}
	b.dropParts(r)
	b.dropIndex(r)
	r.begun = false
	b.reopen(r)
	r.StartMs, r.RetriedMs = b.now, 0
	r.nextFrame, r.posts = 0, nil // attempts are numbered on, so that old leases stay stale
	if input != nil {
		r.in, r.Input = newPayload(input), input
	}
	if corr != nil {
		r.CorrelationID = *corr
	}
	r.headDirty, r.isNew = true, true
	r.frames = map[tutti.FrameID]*frameState{0: {dirty: true}}
	r.tasks, r.spill = map[tutti.Seq]*taskState{}, nil
	b.note(r, HistoryRunReset, 0, 0)
}

// dropParts deletes a run's frames, cells and logs.
func (b *Batch) dropParts(r *runState) {
	for _, part := range []byte{partFrame, partCell, partLog} {
		lo := runKey(r.ID, part)
		var keys [][]byte
		b.scan(lo, prefixEnd(lo), func(k, _ []byte) bool {
			keys = append(keys, append([]byte(nil), k...))
			return true
		})
		for _, k := range keys {
			b.del(k)
		}
	}
}

// dropIndex deletes the rows by which a run is found.
func (b *Batch) dropIndex(r *runState) {
	if r.wasIndex != nil {
		b.w.Delete(r.wasIndex)
		eachLabelRow(r, b.w.Delete)
		r.wasIndex = nil
	}
}

// Rerun repeats a run from one of its attempts on. Later attempts are removed.
type Rerun struct {
	Run   tutti.RunID
	Seq   tutti.Seq
	Input value.Raw // new input of that attempt, or nil
}

func (c Rerun) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if r.Status.Open() {
		return nil, conflict("rerun", "RunOpen",
			"Workflow: %s is not in terminal state, unable to rerun.", r.ID)
	}
	if r.sweeping {
		return nil, errSweeping("rerun", r)
	}
	if b.task(r, c.Seq) == nil {
		return nil, tutti.E(tutti.Invalid, "rerun", "TaskNotFound",
			fmt.Sprintf("Task %s not found", r.ID.TaskID(c.Seq)))
	}
	err = b.goOn(r, tutti.Event{Kind: tutti.EventRerun, Seq: c.Seq, Input: c.Input})
	if err != nil {
		return nil, err
	}
	b.reviveParent(r, false)
	return nil, nil
}

// Skip steps over a step that has not started.
type Skip struct {
	Run           tutti.RunID
	Name          string
	Input, Output value.Raw
}

func (c Skip) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if r.Status != tutti.RunRunning {
		return nil, conflict("skip", "RunNotRunning",
			"Workflow %s is not running so the task referenced by %s cannot be skipped",
			r.ID, c.Name)
	}
	if !b.loadProgram(r) {
		return nil, conflict("skip", "RunEnded", "%s", r.Reason)
	}
	t := &turn{b: b, r: r}
	err = protect(func() error {
		return r.prog.Resume(t, tutti.Event{
			Kind: tutti.EventSkip, Name: c.Name, Input: c.Input, Output: c.Output,
		})
	})
	return nil, firstError(err, t.err)
}

// Decide asks a run's program to look again. Normally nothing is to be done.
type Decide struct{ Run tutti.RunID }

func (c Decide) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err == nil && r.Status == tutti.RunRunning && !r.HeldByLimit {
		b.resume(r, tutti.Event{Kind: tutti.EventDecide})
	}
	return nil, err
}

// ResetCallbacks makes tasks that asked to be handed out later ready now.
type ResetCallbacks struct{ Run tutti.RunID }

func (c ResetCallbacks) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if !r.Status.Open() {
		return nil, conflict("reset callbacks", "RunEnded",
			"Workflow: %s is in terminal state %s, unable to reset callbacks", r.ID, r.Status)
	}
	for _, seq := range b.openSeqs(r) {
		s := b.task(r, seq)
		if s != nil && s.hold == holdDelay && s.CallbackMs > 0 {
			s.hold, s.dirty, s.ReadyMs, s.CallbackMs = holdNone, true, b.now, 0
		}
	}
	return nil, nil
}

// SetVariables changes a cell of a run from outside, such as its variables.
type SetVariables struct {
	Run   tutti.RunID
	Cell  string
	Value value.Raw
	Merge bool // merge into the object that is there, key by key
}

func (c SetVariables) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if !r.Status.Open() {
		return nil, conflict("set variables", "RunEnded",
			"run %s has already ended as %s", r.ID, r.Status)
	}
	if len(c.Cell) > maxCellKey {
		return nil, checkName("the name of the variable", c.Cell, maxCellKey)
	}
	val := c.Value
	if old, ok := b.get(cellKey(r.ID, c.Cell)); ok && c.Merge {
		val = mergeObjects(old, val)
	}
	if err := checkPayload("the variables", val); err != nil {
		return nil, err
	}
	b.set(cellKey(r.ID, c.Cell), val)
	r.UpdateMs, r.hotDirty = b.now, true
	return nil, nil
}

// Remove deletes an ended run and all its rows.
type Remove struct{ Run tutti.RunID }

func (c Remove) apply(b *Batch) (any, error) {
	r, err := b.find(c.Run)
	if err != nil {
		return nil, err
	}
	if r.Status.Open() || r.sweeping {
		return nil, conflict("remove", "RunOpen",
			"Cannot archive workflow: %s with status: %s", r.ID, r.Status)
	}
	for _, seq := range slices.Sorted(maps.Keys(r.tasks)) {
		b.dropDerived(r, r.tasks[seq])
	}
	for i, seq := range []tutti.Seq{wakeRunTimeout, wakePosts} {
		b.moveWake(r.ID, seq, r.wasWakes[i], 0)
	}
	b.dropIndex(r)
	if r.IdempotencyKey != "" {
		b.dropStartKey(r)
	}
	lo, hi := runRange(r.ID)
	b.w.DeleteRange(lo, hi)
	for k := range b.over {
		if k >= string(lo) && k < string(hi) {
			b.over[k] = nil
		}
	}
	b.over[string(runKey(r.ID, partHead))] = nil
	r.removed = true
	b.s.forget(r.ID)
	return nil, nil
}

func (b *Batch) dropStartKey(r *runState) {
	key := startKeyKey(r.Namespace, r.Definition, r.IdempotencyKey)
	if raw, ok := b.get(key); ok && string(raw) == string(r.ID[:]) {
		b.del(key)
	}
}
