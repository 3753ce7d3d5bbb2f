package engine

import (
	"fmt"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Start begins a run. Source must be linked. The shard must be the one that ID names.
type Start struct {
	ID         tutti.RunID
	Spec       tutti.RunSpec
	Source     *tutti.Source
	Parent     tutti.RunID
	ParentTask tutti.Seq
	// Random seeds the run's random source; 0 derives it from the identifier.
	Random uint64
	// Prepared says that the program has prepared Spec already (tutti.Preparer).
	Prepared bool
	// Hash is the SourceHash of Source, when the caller knows it.
	Hash tutti.Hash
	// Fresh says that ID was made for this start alone, so that no run can have it: the
	// store need not be asked.
	Fresh bool
}

// Started is the result of Start: the run that was created, or that an earlier start with
// the same idempotency key had created.
type Started struct {
	ID       tutti.RunID
	Existing bool
}

func (c Start) apply(b *Batch) (any, error) {
	if err := checkSpec(&c.Spec); err != nil {
		return nil, err
	}
	if id, err := b.knownStart(&c.Spec); err != nil || !id.IsZero() {
		return Started{ID: id, Existing: true}, err
	}
	if !c.Fresh && b.exists(c.ID) {
		return Started{ID: c.ID, Existing: true}, nil // a repeated message
	}
	if el, ok := b.s.runs[c.ID]; ok {
		return Started{ID: el.Value.(*runState).ID, Existing: true}, nil
	}
	hash, prog, err := b.keepSource(c.Source, c.Hash)
	if err != nil {
		return nil, err
	}
	if p, ok := prog.(tutti.Preparer); ok && !c.Prepared {
		if err := p.Prepare(&c.Spec); err != nil {
			return nil, err
		}
	}
	if err := b.admit(&c); err != nil {
		return nil, err
	}
	r := b.createRun(&c, hash, prog)
	if c.Spec.IdempotencyKey != "" {
		key := startKeyKey(c.Spec.Namespace, c.Spec.Definition, c.Spec.IdempotencyKey)
		b.set(key, c.ID[:])
	}
	if r.Limit != nil && !r.permit {
		b.hold(r)
		return Started{ID: c.ID}, nil
	}
	b.firstTurn(r)
	return Started{ID: c.ID}, nil
}

// exists reports whether the store has a run of this identifier.
func (b *Batch) exists(id tutti.RunID) bool {
	_, ok := b.get(runKey(id, partHead))
	return ok
}

// knownStart applies the idempotency policy. A zero identifier means: go on.
func (b *Batch) knownStart(spec *tutti.RunSpec) (tutti.RunID, error) {
	var id tutti.RunID
	if spec.IdempotencyKey == "" {
		return id, nil
	}
	raw, ok := b.get(startKeyKey(spec.Namespace, spec.Definition, spec.IdempotencyKey))
	if !ok {
		return id, nil
	}
	copy(id[:], raw)
	r := b.run(id)
	if r == nil { // removed by retention: the key is free again
		return tutti.RunID{}, nil
	}
	refuse := spec.OnDuplicate == tutti.DuplicateFail ||
		spec.OnDuplicate == tutti.DuplicateFailOnRunning && r.Status.Open()
	if refuse {
		return id, &tutti.Error{
			Kind: tutti.Exists, Op: "start", Code: "IdempotencyKeyUsed",
			Err: fmt.Errorf("run %s of %s was already started with idempotency key %q",
				id, spec.Definition, spec.IdempotencyKey),
			Hint: "use another key, or ask for the known run to be returned",
		}
	}
	if spec.OnDuplicate == tutti.DuplicateFailOnRunning {
		return tutti.RunID{}, nil
	}
	return id, nil
}

func (b *Batch) createRun(c *Start, hash tutti.Hash, prog tutti.Program) *runState {
	r := newRunState(c.ID)
	s := &c.Spec
	r.Run = tutti.Run{
		ID: c.ID, Namespace: s.Namespace, Dialect: c.Source.Dialect,
		Definition: c.Source.Name, Version: c.Source.Version, SourceHash: hash,
		CorrelationID: s.CorrelationID, Priority: clampPriority(s.Priority),
		CreatedBy: s.CreatedBy, Event: s.Event, Labels: s.Labels, Routing: s.Routing,
		Ext: s.Ext, IdempotencyKey: s.IdempotencyKey, Limit: s.Limit,
		Parent: c.Parent, ParentTask: c.ParentTask,
		StartMs: b.now, UpdateMs: b.now, TimeoutMs: s.TimeoutMs,
	}
	input := s.Input
	if input == nil {
		input = value.Raw("{}")
	}
	r.in, r.Input = newPayload(input), input
	r.prog = prog
	r.random = c.Random
	if r.random == 0 {
		r.random = uint64(c.ID.StartMs()) ^ uint64(fairHash(c.ID.String()))<<32
	}
	r.permit = s.Limit != nil && b.holdsRunPermit(s.Namespace, s.Limit.Key, c.ID)
	r.isNew, r.headDirty, r.hotDirty = true, true, true
	r.frames[0] = &frameState{dirty: true}
	b.s.remember(r)
	b.touch(r)
	b.note(r, HistoryRunStarted, 0, 0)
	return r
}

func (b *Batch) firstTurn(r *runState) {
	r.begun, r.hotDirty = true, true
	r.frames[0] = &frameState{}
	b.guard(r, func(t *turn) error {
		if err := r.prog.Start(t); err != nil {
			return err
		}
		if f := r.frames[0]; f != nil {
			f.dirty = true
		}
		return nil
	})
}

// endRun closes a run, cancels what is open, and tells whoever waits for it.
func (b *Batch) endRun(
	r *runState, st tutti.RunStatus, output value.Raw, reason string, failed tutti.Seq,
) {
	if !r.Status.Open() {
		return
	}
	if st.Open() {
		st = tutti.RunFailed
	}
	if err := checkPayload("the output of the run", output); err != nil {
		st, output, reason = tutti.RunFailed, nil, err.Error()
	}
	r.Status, r.Reason, r.FailedTask = st, clip(reason), failed
	r.EndMs, r.UpdateMs = b.now, b.now
	r.out, r.Output = newPayload(output), output
	r.posts, r.HeldByLimit, r.hotDirty = nil, false, true
	b.note(r, HistoryRunEnded, failed, uint64(st))
	b.sweep(r)
	b.releaseRunPermit(r)
	r.eachWaiting(func(h holder) { b.reportEnd(r, h) })
	b.fx.Ended = append(b.fx.Ended, r.Run)
}

// sweepWindow is how many open tasks of an ended run are cancelled in one batch.
const sweepWindow = 2000

// sweep cancels open tasks of an ended run, a window at a time.
func (b *Batch) sweep(r *runState) {
	seqs := b.firstOpen(r, sweepWindow+1)
	r.sweeping = len(seqs) > sweepWindow
	for _, seq := range seqs[:min(len(seqs), sweepWindow)] {
		s := b.task(r, seq)
		if s == nil {
			b.dropOpen(r, seq)
			continue
		}
		if s.Status.Open() {
			b.endTask(r, s, tutti.CancelledTask, nil, s.Reason)
		}
		b.settle(r, s)
	}
	r.hotDirty = true
}

// endTask makes an attempt final and frees what it held; a child run that is still open is
// ended too. The caller settles the attempt.
func (b *Batch) endTask(
	r *runState, s *taskState, st tutti.TaskStatus, output value.Raw, reason string,
) {
	open := s.Status.Open() && s.Kind == tutti.Child && !s.ChildRun.IsZero()
	b.closeTask(r, s, st, output, reason)
	if open && st != tutti.Completed {
		why := "Parent workflow has been terminated with reason: " + r.Reason
		b.send(message{kind: msgTerminate, run: s.ChildRun, from: r.ID, seq: s.Seq, text: why})
	}
}

func (b *Batch) closeTask(
	r *runState, s *taskState, st tutti.TaskStatus, output value.Raw, reason string,
) {
	wasOpen := s.Status.Open()
	leased := wasOpen && s.Kind == tutti.Work && s.Status == tutti.Running && s.LeaseMs > 0
	s.dirty, s.Status, s.Reason = true, st, clip(reason)
	s.UpdatedMs = b.now
	if output != nil {
		s.out, s.Output = newPayload(output), output
	}
	b.note(r, HistoryTaskDone, s.Seq, uint64(st))
	if !wasOpen {
		return
	}
	s.EndedMs = b.now
	if s.StartedMs == 0 {
		s.StartedMs = b.now
	}
	if leased && st == tutti.CancelledTask || leased && st == tutti.TimedOut {
		b.revoke(r, s)
	}
	b.releasePermit(r, s)
	s.LeaseMs, s.hold = 0, holdNone
}

func (b *Batch) revoke(r *runState, s *taskState) {
	b.fx.Revoked = append(b.fx.Revoked, Revoked{
		Queue: QueueKey(r.Namespace, s.Queue), Run: r.ID, Seq: s.Seq,
		Token: s.Token, Worker: s.Worker,
	})
}

// settle takes an ended attempt out of the run's open set: its program knows of it.
func (b *Batch) settle(r *runState, s *taskState) {
	if !s.Status.Open() && b.isOpen(r, s.Seq) {
		b.dropOpen(r, s.Seq)
	}
	r.UpdateMs = b.now
	r.hotDirty = true
}

// finished tells the program that an attempt has ended, now or when the run is resumed.
func (b *Batch) finished(r *runState, s *taskState) {
	r.UpdateMs, r.hotDirty = b.now, true
	if r.Status != tutti.RunRunning {
		return // it stays in the open set until the run is resumed
	}
	b.settle(r, s)
	b.resume(r, tutti.Event{Kind: tutti.EventTaskEnded, Seq: s.Seq, Frame: s.Frame})
}

func sortSeqs(seqs []tutti.Seq) { slices.Sort(seqs) }

// Wake says that a wake-up time has come. Waking too often, too early or after the fact is
// harmless: what is due is decided by the records alone, and a wake-up that is still needed
// is told of again as an effect.
type Wake struct {
	DueMs int64
	Run   tutti.RunID
	Seq   tutti.Seq
}

func (c Wake) apply(b *Batch) (any, error) {
	switch c.Seq {
	case wakeLimit:
		b.wakeLimitOwner(c.DueMs, c.Run)
		return nil, nil
	case wakeCache:
		b.wakeCacheOwner(c.DueMs, c.Run)
		return nil, nil
	}
	r := b.run(c.Run)
	if r == nil {
		b.w.Delete(wakeKey(c.DueMs, c.Run, c.Seq)) // of a run that was removed
		return nil, nil
	}
	switch c.Seq {
	case wakeRunTimeout:
		r.fired[0] = true
		b.wakeRun(r)
	case wakePosts:
		r.fired[1] = true
		b.wakePosts(r)
	default:
		s := b.task(r, c.Seq)
		if s == nil {
			b.w.Delete(wakeKey(c.DueMs, c.Run, c.Seq))
			return nil, nil
		}
		s.fired, s.dirty = true, true
		b.wakeTask(r, s)
	}
	return nil, nil
}

func (b *Batch) wakeRun(r *runState) {
	due := r.wakes()[0]
	if due == 0 || due > b.now {
		return
	}
	r.outOfTime, r.hotDirty = true, true
	b.note(r, HistoryRunTimeout, 0, 0)
	b.resume(r, tutti.Event{Kind: tutti.EventRunTimeout})
}

// wakePosts handles what a run has to do on its own: a message of its program to itself,
// the cancelling of what an ended run left open, or asking again for its permit.
func (b *Batch) wakePosts(r *runState) {
	switch {
	case r.sweeping:
		b.sweep(r)
		r.UpdateMs = max(b.now, r.UpdateMs+1) // moves the wake row, so that it fires again
	case r.HeldByLimit && r.Status.Open():
		if b.now >= r.UpdateMs+askAgainMs {
			r.UpdateMs, r.hotDirty = b.now, true
			b.askRunPermit(r, false)
		}
	case len(r.posts) > 0 && r.Status == tutti.RunRunning:
		p := r.posts[0]
		r.posts = r.posts[1:]
		r.UpdateMs, r.hotDirty = max(b.now, r.UpdateMs+1), true
		b.resume(r, tutti.Event{Kind: tutti.EventPosted, Frame: p.frame, Payload: p.payload})
	}
}

// wakeTask does what is due for an attempt: its deadlines first, then its release.
func (b *Batch) wakeTask(r *runState, s *taskState) {
	if !s.Status.Open() || !r.Status.Open() {
		return
	}
	for _, kind := range []tutti.TimeoutKind{
		tutti.TimeoutTotal, tutti.TimeoutTask, tutti.TimeoutPoll, tutti.TimeoutResponse,
	} {
		if !b.due(s, kind) {
			continue
		}
		s.dirty = true
		lost := kind == tutti.TimeoutResponse && s.session
		if r.Status == tutti.RunPaused && !lost {
			continue // the run hears of it when it is resumed
		}
		if lost {
			s.InDoubt = true
			b.note(r, HistoryTaskInDoubt, s.Seq, 0)
			b.revoke(r, s)
			b.requeue(r, s, 0)
			return
		}
		s.clear(kind)
		b.note(r, HistoryTaskTimeout, s.Seq, uint64(kind))
		b.resume(r, tutti.Event{
			Kind: tutti.EventTaskTimeout, Seq: s.Seq, Frame: s.Frame, Timeout: kind,
		})
		if !s.Status.Open() || !r.Status.Open() {
			return
		}
	}
	b.release(r, s)
}

// release lets go of an attempt whose waiting time is over.
func (b *Batch) release(r *runState, s *taskState) {
	switch {
	case s.Kind == tutti.Wait && s.UntilMs > 0 && s.UntilMs <= b.now:
		b.endTask(r, s, tutti.Completed, nil, "")
		b.finished(r, s)
	case s.hold == holdDelay && s.ReadyMs <= b.now:
		s.hold, s.dirty = holdNone, true
	case s.hold == holdLimit && s.UpdatedMs+askAgainMs <= b.now:
		s.hold, s.dirty, s.UpdatedMs = holdNone, true, b.now // and keeps its place
	case s.hold == holdAsk && s.UpdatedMs+askAgainMs <= b.now:
		b.refundPermit(r, s)
		s.UpdatedMs = b.now
	case s.hold == holdCache && s.UpdatedMs+askAgainMs <= b.now:
		b.missed(s)
	}
}

// due reports whether a deadline has passed.
func (b *Batch) due(s *taskState, kind tutti.TimeoutKind) bool {
	at := int64(0)
	switch kind {
	case tutti.TimeoutTotal:
		at = s.Timeouts.TotalAt
	case tutti.TimeoutTask:
		if s.Timeouts.TaskMs > 0 && s.StartedMs > 0 {
			at = s.StartedMs + s.Timeouts.TaskMs
		}
	case tutti.TimeoutPoll:
		if s.Timeouts.PollMs > 0 && s.Status == tutti.Queued && s.Polls == 0 {
			at = s.ReadyMs + s.Timeouts.PollMs
		}
	case tutti.TimeoutResponse:
		if s.Kind == tutti.Work && s.Status == tutti.Running && s.LeaseMs != Forever {
			at = s.LeaseMs
		}
	}
	return at > 0 && at <= b.now
}

// clear takes a deadline that has passed off an attempt, so that it fires once.
func (s *taskState) clear(kind tutti.TimeoutKind) {
	switch kind {
	case tutti.TimeoutTotal:
		s.Timeouts.TotalAt = 0
	case tutti.TimeoutTask:
		s.Timeouts.TaskMs = 0
	case tutti.TimeoutPoll:
		s.Timeouts.PollMs = 0
	case tutti.TimeoutResponse:
		s.LeaseMs = Forever
	}
}
