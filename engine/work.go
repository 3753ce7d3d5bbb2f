package engine

import (
	"cmp"
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Lease hands a ready task to a worker. The result is a LeaseResult.
type Lease struct {
	Run  tutti.RunID
	Seq  tutti.Seq
	Slot Slot
}

// LeaseResult says what came of a Lease.
type LeaseResult uint8

// The results of a lease.
const (
	// LeaseGone: the task is not there to be handed out any more.
	LeaseGone LeaseResult = iota
	// LeaseGiven: an effect HandOut carries the task.
	LeaseGiven
	// LeaseAsked: the task's limit is being asked; a HandOut or Freed follows.
	LeaseAsked
)

func (c Lease) apply(b *Batch) (any, error) {
	r := b.run(c.Run)
	if r == nil {
		return LeaseGone, nil
	}
	s := b.task(r, c.Seq)
	if s == nil || s.Kind != tutti.Work || s.Status != tutti.Queued || s.hold != holdNone ||
		!r.Status.Open() {
		return LeaseGone, nil
	}
	return b.offer(r, s, c.Slot), nil
}

// offer gives a ready task to a worker, if its limit lets it.
func (b *Batch) offer(r *runState, s *taskState, slot Slot) LeaseResult {
	s.offered = true
	if s.Limit == nil || s.permit {
		b.handOut(r, s, slot)
		return LeaseGiven
	}
	s.dirty, s.hold, s.UpdatedMs = true, holdAsk, b.now
	s.askPoll, s.askLease, s.Worker = slot.Poll, slot.LeaseMs, slot.Worker
	b.askPermit(r, s)
	return LeaseAsked
}

func (b *Batch) handOut(r *runState, s *taskState, slot Slot) {
	s.dirty, s.hold, s.Status = true, holdNone, tutti.Running
	s.Worker, s.session = slot.Worker, slot.LeaseMs > 0
	s.Polls++
	s.Token++
	s.UpdatedMs, s.CallbackMs = b.now, 0
	s.askPoll, s.askLease = 0, 0
	wait := b.now - s.ReadyMs
	if s.StartedMs == 0 {
		s.StartedMs = b.now
	}
	s.LeaseMs = b.leaseEnd(s, slot.LeaseMs)
	b.noteWait(r, HistoryTaskHandedOut, s, wait)
	b.fx.Handed = append(b.fx.Handed, HandOut{
		Poll: slot.Poll, Queue: QueueKey(r.Namespace, s.Queue), Run: r.Run, Task: s.Task,
	})
}

// leaseEnd is when a lease that begins now ends; Forever when nothing bounds it, which
// keeps "leased" apart from "not leased".
func (b *Batch) leaseEnd(s *taskState, sessionMs int64) int64 {
	switch {
	case sessionMs > 0:
		return b.now + sessionMs
	case s.Timeouts.ResponseMs > 0:
		return b.now + s.Timeouts.ResponseMs
	}
	return Forever
}

// handOutReady gives tasks that became ready in this batch to workers that wait.
func (b *Batch) handOutReady() {
	for i := 0; i < len(b.touched); i++ {
		r := b.touched[i]
		if !r.Status.Open() {
			continue
		}
		for _, seq := range r.readySeqs() {
			s := r.tasks[seq]
			slot, ok := b.s.opts.Matcher.Reserve(QueueKey(r.Namespace, s.Queue))
			if !ok {
				continue
			}
			b.load(r.ID, &s.in)
			s.Input = s.in.raw
			b.offer(r, s, slot)
			b.deliverLocal()
		}
	}
}

// readySeqs lists cached tasks that became ready in this batch, in order.
func (r *runState) readySeqs() (seqs []tutti.Seq) {
	for seq, s := range r.tasks {
		if s.dirty && s.ready == nil && s.readyRow(&r.Run) != nil {
			seqs = append(seqs, seq)
		}
	}
	sortSeqs(seqs)
	return seqs
}

// Outcome is what a worker says of a task.
type Outcome struct {
	Status     tutti.TaskStatus // a final status, or Running for progress
	Output     value.Raw        // nil keeps what is there
	Reason     string
	Worker     string
	CallbackMs int64 // Running: hand the task out again after this long
	Requeue    bool  // Running: give the lease back (Conductor's IN_PROGRESS)
	ExtendOnly bool  // Running: only lengthen the lease
	Merge      bool  // merge Output into the output that is there, key by key
	Logs       [][]byte
}

// Complete reports the outcome of an attempt. Token 0 stands for the newest lease: in
// Conductor's protocol the attempt's identifier is the token. The result is the task as it
// is afterwards.
type Complete struct {
	Run     tutti.RunID
	Seq     tutti.Seq
	Token   uint64
	Outcome Outcome
	// IgnoreStale makes a completion of what has ended a success without effect.
	IgnoreStale bool
}

func (c Complete) apply(b *Batch) (any, error) {
	r := b.run(c.Run)
	if r == nil {
		return nil, errNoRun(c.Run)
	}
	s := b.task(r, c.Seq)
	if s == nil {
		return nil, errNoTask(c.Run, c.Seq)
	}
	if err := c.stale(r, s); err != nil {
		if c.IgnoreStale {
			return s.Task, nil
		}
		return nil, err
	}
	if err := b.takeOutput(s, c.Outcome); err != nil {
		return nil, err
	}
	b.appendLogs(r, s, c.Outcome.Logs)
	if c.Outcome.Worker != "" {
		s.Worker = c.Outcome.Worker
	}
	if c.Outcome.Status.Open() {
		b.progress(r, s, c.Outcome)
		return s.Task, nil
	}
	if s.HoldOpen && c.Outcome.Status == tutti.Completed && c.Token != 0 {
		s.dirty, s.LeaseMs, s.UpdatedMs = true, 0, b.now
		b.releasePermit(r, s)
		return s.Task, nil
	}
	b.keepOutput(r, s, c.Outcome.Status)
	b.endTask(r, s, c.Outcome.Status, nil, c.Outcome.Reason)
	b.finished(r, s)
	return s.Task, nil
}

// stale refuses an outcome that the attempt cannot take any more (invariant I6).
func (c Complete) stale(r *runState, s *taskState) error {
	switch {
	case !r.Status.Open():
		return tutti.E(tutti.Conflict, "complete task", "RunEnded", fmt.Sprintf(
			"run %s has already ended as %s", r.ID, r.Status))
	case !s.Status.Open():
		return tutti.E(tutti.Conflict, "complete task", "TaskEnded", fmt.Sprintf(
			"task %s has already ended as %s", r.ID.TaskID(s.Seq), s.Status))
	case c.Token != 0 && (c.Token != s.Token || s.LeaseMs == 0):
		return &tutti.Error{
			Kind: tutti.Conflict, Op: "complete task", Code: "StaleLease",
			Err: fmt.Errorf("lease %d of task %s is no longer held; the newest is %d",
				c.Token, r.ID.TaskID(s.Seq), s.Token),
			Hint: "the task was handed to another worker; drop this result",
		}
	}
	return nil
}

func (b *Batch) takeOutput(s *taskState, o Outcome) error {
	if o.Output == nil {
		return nil
	}
	out := o.Output
	if o.Merge {
		out = mergeObjects(s.Output, out)
	}
	if err := checkPayload("the output", out); err != nil {
		return err
	}
	s.dirty = true
	s.out, s.Output = newPayload(out), out
	return nil
}

func mergeObjects(old, add value.Raw) value.Raw {
	into, err := value.Parse(old, value.DefaultLimits)
	if err != nil {
		return add
	}
	more, err := value.Parse(add, value.DefaultLimits)
	if err != nil {
		return add
	}
	base, ok1 := into.(*value.Object)
	extra, ok2 := more.(*value.Object)
	if !ok1 || !ok2 {
		return add
	}
	for k, v := range extra.All() {
		base.Set(k, v)
	}
	return value.Marshal(base)
}

// progress notes that a worker is still at it, or gives the task back for a while.
func (b *Batch) progress(r *runState, s *taskState, o Outcome) {
	s.dirty, s.UpdatedMs = true, b.now
	if o.Reason != "" {
		s.Reason = clip(o.Reason)
	}
	r.UpdateMs, r.hotDirty = b.now, true
	switch {
	case o.ExtendOnly || !o.Requeue || s.Kind != tutti.Work:
		if s.LeaseMs > 0 {
			session := int64(0)
			if s.session {
				session = max(o.CallbackMs, sessionLeaseMs)
			}
			s.LeaseMs = b.leaseEnd(s, session)
		}
		if s.Kind == tutti.Work && s.Status == tutti.Queued {
			b.refundPermit(r, s)
			s.Status, s.hold = tutti.Running, holdNone
			s.LeaseMs = b.leaseEnd(s, 0)
			if s.StartedMs == 0 {
				s.StartedMs = b.now
			}
		}
		return
	}
	s.CallbackMs = o.CallbackMs
	b.requeue(r, s, o.CallbackMs)
}

// sessionLeaseMs is the length of leases that a worker's session keeps alive.
const sessionLeaseMs = 30_000

func (b *Batch) requeue(r *runState, s *taskState, delayMs int64) {
	s.dirty, s.Status, s.LeaseMs = true, tutti.Queued, 0
	b.releasePermit(r, s)
	s.hold, s.ReadyMs = holdNone, b.now+delayMs
	if delayMs > 0 {
		s.hold = holdDelay
	}
	b.note(r, HistoryTaskReturned, s.Seq, 0)
}

// ReturnLease gives a task back to its queue: the worker went away, or drains. Undelivered
// says that the worker never got it, so that the hand-out does not count.
type ReturnLease struct {
	Run         tutti.RunID
	Seq         tutti.Seq
	Token       uint64
	Undelivered bool
}

func (c ReturnLease) apply(b *Batch) (any, error) {
	r := b.run(c.Run)
	if r == nil || !r.Status.Open() {
		return nil, nil
	}
	s := b.task(r, c.Seq)
	if s == nil || s.Status != tutti.Running || s.Token != c.Token || s.LeaseMs == 0 {
		return nil, nil
	}
	if c.Undelivered {
		if s.Polls--; s.Polls == 0 {
			s.StartedMs = 0
		}
		b.refundPermit(r, s)
	} else {
		s.InDoubt = true
		b.note(r, HistoryTaskInDoubt, s.Seq, 0)
	}
	b.requeue(r, s, 0)
	return nil, nil
}

// Extend keeps a session's lease alive.
type Extend struct {
	Run   tutti.RunID
	Seq   tutti.Seq
	Token uint64
	// LeaseMs is how long the lease lasts from now; 30 s when zero. It does not matter to
	// leases that last as long as their task says.
	LeaseMs int64
}

func (c Extend) apply(b *Batch) (any, error) {
	r := b.run(c.Run)
	if r == nil {
		return nil, errNoRun(c.Run)
	}
	s := b.task(r, c.Seq)
	if s == nil {
		return nil, errNoTask(c.Run, c.Seq)
	}
	if err := (Complete{Token: c.Token}).stale(r, s); err != nil {
		return nil, err
	}
	s.dirty, s.UpdatedMs = true, b.now
	session := int64(0)
	if s.session {
		session = cmp.Or(c.LeaseMs, sessionLeaseMs)
	}
	s.LeaseMs = b.leaseEnd(s, session)
	return nil, nil
}

func errNoRun(id tutti.RunID) error {
	return tutti.E(tutti.NotFound, "find run", "RunNotFound", "no run has the id "+id.String())
}

func errNoTask(id tutti.RunID, seq tutti.Seq) error {
	return tutti.E(tutti.NotFound, "find task", "TaskNotFound",
		"no task has the id "+id.TaskID(seq))
}

// The bounds of what is kept of one attempt's log; what is more is dropped or cut.
const (
	logsMax    = 1000
	logLineMax = 16 << 10
)

func (b *Batch) appendLogs(r *runState, s *taskState, lines [][]byte) {
	for _, l := range lines {
		if s.logs >= logsMax {
			return
		}
		s.logs++
		s.dirty = true
		var e enc
		e.msg(1, func(m *enc) {
			m.i(1, b.now)
			m.bytes(2, l[:min(len(l), logLineMax)])
		})
		b.w.Append(numberedKey(r.ID, partLog, uint32(s.Seq)), e.b)
	}
}

// AddLogs appends log lines to an attempt, ended or not. At most 1,000 lines are kept.
type AddLogs struct {
	Run   tutti.RunID
	Seq   tutti.Seq
	Lines [][]byte
}

func (c AddLogs) apply(b *Batch) (any, error) {
	r := b.run(c.Run)
	if r == nil {
		return nil, errNoRun(c.Run)
	}
	s := b.task(r, c.Seq)
	if s == nil {
		return nil, errNoTask(c.Run, c.Seq)
	}
	b.appendLogs(r, s, c.Lines)
	return nil, nil
}
