package engine

import (
	"crypto/sha256"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// inlineMax is the largest payload, in bytes, kept inside a record; a larger one has a row
// of its own, named by its content, so that it is written once however often the record is.
const inlineMax = 1024

// hold says why a queued task may not be handed out.
type hold uint8

const (
	holdNone  hold = iota // it may
	holdDelay             // its ready time has not come
	holdLimit             // its limit is reached
	holdAsk               // its permit has been asked for on behalf of a worker
	holdCache             // the cache has been asked for its output
)

// payload is a JSON value of a record: inline, or known by hash and loaded when needed.
type payload struct {
	raw    value.Raw
	hash   tutti.Hash
	stored bool // a row with this hash exists
	loaded bool
}

func newPayload(raw value.Raw) payload { return payload{raw: raw, loaded: true} }

func (p *payload) big() bool { return p.hash != tutti.Hash{} || len(p.raw) > inlineMax }

// encode writes the payload into e, and its own row through put when it needs one.
func (p *payload) encode(e *enc, num protowire.Number, put func(tutti.Hash, []byte)) {
	if !p.big() {
		e.bytes(num, p.raw)
		return
	}
	if p.hash == (tutti.Hash{}) {
		p.hash = HashOf(p.raw)
	}
	if !p.stored {
		put(p.hash, p.raw)
		p.stored = true
	}
	e.bytes(num+1, p.hash[:])
}

func (p *payload) decodeInline(f field) { *p = newPayload(f.own()) }

func (p *payload) decodeHash(f field) {
	*p = payload{stored: true}
	copy(p.hash[:], f.b)
}

// HashOf names content.
func HashOf(b []byte) tutti.Hash {
	sum := sha256.Sum256(b)
	return tutti.Hash(sum[:16])
}

// taskState is a task as the shard works on it.
type taskState struct {
	tutti.Task
	hold     hold
	session  bool   // the lease lives and dies with a worker's session
	ask      uint64 // number of its newest question for a permit
	permit   bool   // holds a permit of its Limit
	askPoll  uint64
	askLease int64
	logs     uint32
	in, out  payload

	dirty   bool
	wake    int64  // due time of the stored wake row; 0 = none
	ready   []byte // key of the stored ready row; nil = none
	fired   bool   // the stored wake-up went off in this batch
	offered bool   // was taken out of its queue in this batch
}

// wakeAt is the next time at which the task needs attention without anybody's doing, 0 for
// never. It is what the task's wake row must say.
func (t *taskState) wakeAt() int64 {
	if !t.Status.Open() {
		return 0
	}
	at := Forever
	earlier := func(ms int64) { at = min(at, ms) }
	if t.Timeouts.TotalAt > 0 {
		earlier(t.Timeouts.TotalAt)
	}
	if t.Timeouts.TaskMs > 0 && t.StartedMs > 0 {
		earlier(t.StartedMs + t.Timeouts.TaskMs)
	}
	switch {
	case t.Kind == tutti.Wait:
		if t.UntilMs > 0 {
			earlier(t.UntilMs)
		}
	case t.Kind != tutti.Work:
		if at == Forever {
			return 0 // other tasks of the run, or a child's message, wake it
		}
	case t.Status == tutti.Running:
		if t.LeaseMs > 0 {
			earlier(t.LeaseMs)
		}
	default:
		t.wakeQueued(earlier)
		if t.hold == holdNone && at == Forever {
			return 0 // its ready row is its wake-up
		}
	}
	return at
}

// askAgainMs bounds how long a task held by a limit, or by the cache, waits for the owner to
// call.
const askAgainMs = 30_000

func (t *taskState) wakeQueued(earlier func(int64)) {
	if t.Timeouts.PollMs > 0 && t.Polls == 0 {
		earlier(t.ReadyMs + t.Timeouts.PollMs)
	}
	switch t.hold {
	case holdDelay:
		earlier(t.ReadyMs)
	case holdLimit, holdAsk, holdCache:
		earlier(t.UpdatedMs + askAgainMs)
	}
}

// readyRow is the key under which the task waits for a worker, nil when it does not.
func (t *taskState) readyRow(r *tutti.Run) []byte {
	if t.Kind != tutti.Work || t.Status != tutti.Queued || t.hold != holdNone {
		return nil
	}
	return readyKey(QueueKey(r.Namespace, t.Queue), r.Priority, t.ReadyMs, r.ID, t.Seq)
}

func (t *taskState) encode(put func(tutti.Hash, []byte)) []byte {
	var e enc
	e.u(1, uint64(t.Frame))
	e.str(2, t.Name)
	e.str(3, t.Type)
	e.str(4, t.DefName)
	e.u(5, uint64(t.Kind))
	e.str(6, t.Queue)
	e.i(7, int64(t.Node))
	e.u(8, uint64(t.Iteration))
	e.u(9, uint64(t.Attempt))
	e.u(10, uint64(t.RetryOf))
	e.flag(11, t.Retried)
	e.u(12, uint64(t.Status))
	e.str(13, t.Reason)
	t.in.encode(&e, 14, put)
	t.out.encode(&e, 16, put)
	e.str(18, t.Domain)
	e.bytes(19, t.Ext)
	e.flag(20, t.HoldOpen)
	t.encodeTimes(&e)
	e.str(40, t.Worker)
	e.u(41, uint64(t.Polls))
	e.u(42, t.Token)
	e.flag(44, t.InDoubt)
	if !t.ChildRun.IsZero() {
		e.bytes(45, t.ChildRun[:])
	}
	if t.Limit != nil {
		e.msg(46, func(l *enc) { encodeLimit(l, t.Limit) })
	}
	e.u(47, uint64(t.hold))
	e.flag(48, t.session)
	e.flag(49, t.permit)
	e.u(50, t.askPoll)
	e.i(51, t.askLease)
	e.u(52, uint64(t.logs))
	e.u(53, t.ask)
	if t.Cache != nil {
		e.msg(54, func(m *enc) {
			m.str(1, t.Cache.Key)
			m.i(2, t.Cache.TTLMs)
		})
	}
	return e.b
}

// encodeTimes writes times relative to the attempt's creation, which keeps them short.
func (t *taskState) encodeTimes(e *enc) {
	rel := func(ms int64) int64 {
		switch {
		case ms == 0:
			return 0
		case ms < t.ScheduledMs:
			return ms - t.ScheduledMs
		}
		return ms - t.ScheduledMs + 1
	}
	e.i(21, t.ScheduledMs)
	e.i(22, rel(t.ReadyMs))
	e.i(23, rel(t.FirstMs))
	e.i(24, rel(t.StartedMs))
	e.i(25, rel(t.UpdatedMs))
	e.i(26, rel(t.EndedMs))
	e.i(27, t.DelayMs)
	e.i(28, t.Timeouts.PollMs)
	e.i(29, t.Timeouts.ResponseMs)
	e.i(30, t.Timeouts.TaskMs)
	e.i(31, t.Timeouts.TotalAt)
	e.i(32, t.UntilMs)
	e.i(33, rel(t.LeaseMs))
	e.i(34, t.CallbackMs)
}

func encodeLimit(e *enc, l *tutti.Limit) {
	e.str(1, l.Key)
	e.u(2, uint64(l.Concurrency))
	e.u(3, uint64(l.Rate))
	e.i(4, l.WindowMs)
}

func decodeLimit(b []byte) (*tutti.Limit, error) {
	l := new(tutti.Limit)
	err := decode(b, func(f field) error {
		switch f.num {
		case 1:
			l.Key = f.s()
		case 2:
			l.Concurrency = int(f.v)
		case 3:
			l.Rate = int(f.v)
		case 4:
			l.WindowMs = f.i()
		}
		return nil
	})
	return l, err
}

func decodeTask(seq tutti.Seq, b []byte) (*taskState, error) {
	t := &taskState{}
	t.Seq = seq
	t.in, t.out = newPayload(nil), newPayload(nil)
	err := decode(b, func(f field) error {
		if f.num > 20 && f.num < 40 {
			t.decodeTime(f)
			return nil
		}
		return t.decodeField(f)
	})
	for _, ms := range []*int64{
		&t.ReadyMs, &t.FirstMs, &t.StartedMs, &t.UpdatedMs, &t.EndedMs, &t.LeaseMs,
	} {
		switch {
		case *ms < 0:
			*ms += t.ScheduledMs
		case *ms > 0:
			*ms += t.ScheduledMs - 1
		}
	}
	t.Input, t.Output = t.in.raw, t.out.raw
	if err == nil && (t.Status > tutti.Skipped || t.Kind > tutti.Local || t.hold > holdCache) {
		err = errCorrupt
	}
	asks := t.hold == holdLimit || t.hold == holdAsk
	if err == nil && (t.Limit == nil && (t.permit || asks) ||
		t.Cache == nil && t.hold == holdCache) {
		err = errCorrupt
	}
	return t, err
}

func (t *taskState) decodeTime(f field) {
	switch f.num {
	case 21:
		t.ScheduledMs = f.i()
	case 22:
		t.ReadyMs = f.i()
	case 23:
		t.FirstMs = f.i()
	case 24:
		t.StartedMs = f.i()
	case 25:
		t.UpdatedMs = f.i()
	case 26:
		t.EndedMs = f.i()
	case 27:
		t.DelayMs = f.i()
	case 28:
		t.Timeouts.PollMs = f.i()
	case 29:
		t.Timeouts.ResponseMs = f.i()
	case 30:
		t.Timeouts.TaskMs = f.i()
	case 31:
		t.Timeouts.TotalAt = f.i()
	case 32:
		t.UntilMs = f.i()
	case 33:
		t.LeaseMs = f.i()
	case 34:
		t.CallbackMs = f.i()
	}
}

func (t *taskState) decodeField(f field) (err error) {
	switch f.num {
	case 1:
		t.Frame = tutti.FrameID(f.v)
	case 2:
		t.Name = f.s()
	case 3:
		t.Type = f.s()
	case 4:
		t.DefName = f.s()
	case 5:
		t.Kind = tutti.TaskKind(f.v)
	case 6:
		t.Queue = f.s()
	case 7:
		t.Node = int32(f.i())
	case 8:
		t.Iteration = int32(f.v)
	case 9:
		t.Attempt = int32(f.v)
	case 10:
		t.RetryOf = tutti.Seq(f.v)
	case 11:
		t.Retried = f.flag()
	case 12:
		t.Status = tutti.TaskStatus(f.v)
	case 13:
		t.Reason = f.s()
	case 14:
		t.in.decodeInline(f)
	case 15:
		t.in.decodeHash(f)
	case 16:
		t.out.decodeInline(f)
	case 17:
		t.out.decodeHash(f)
	case 18:
		t.Domain = f.s()
	case 19:
		t.Ext = f.own()
	case 20:
		t.HoldOpen = f.flag()
	case 40:
		t.Worker = f.s()
	case 41:
		t.Polls = int32(f.v)
	case 42:
		t.Token = f.v
	case 44:
		t.InDoubt = f.flag()
	case 45:
		copy(t.ChildRun[:], f.b)
	case 46:
		t.Limit, err = decodeLimit(f.b)
	case 47:
		t.hold = hold(f.v)
	case 48:
		t.session = f.flag()
	case 49:
		t.permit = f.flag()
	case 50:
		t.askPoll = f.v
	case 51:
		t.askLease = f.i()
	case 52:
		t.logs = uint32(f.v)
	case 53:
		t.ask = f.v
	case 54:
		t.Cache, err = decodeCache(f.b)
	}
	return err
}
