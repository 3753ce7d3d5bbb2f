package engine

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// msgKind is what one shard asks of another.
type msgKind uint8

const (
	msgStart      msgKind = iota + 1 // start run; body = encoded spec
	msgChildEnded                    // run's child of task seq has ended
	msgTerminate                     // end run, whose parent does not want it any more
	msgRetry                         // retry run, on behalf of its parent
	msgReopened                      // run's child of task seq, which had ended, goes on
	msgAsk                           // ask key's owner for a permit for task seq of from
	msgGranted                       // task seq of run has the permit it asked for
	msgRefused                       // it has not; it is called when there is hope
	msgCall                          // ask again
	msgRelease                       // the permit of task seq of from is free
	msgAdopted                       // run from, met by idempotency key, is the child of task seq
	msgLookUp                        // ask key's owner for the output it keeps, for task seq of run
	msgLookedUp                      // flag: it is body; else there is none
	msgKeep                          // keep body under key until n
)

// message goes from shard to shard, at least once, and is applied once.
type message struct {
	kind   msgKind
	run    tutti.RunID // whom it is for; for permits, whom it is about
	seq    tutti.Seq
	from   tutti.RunID
	status uint8
	body   []byte
	text   string
	limit  *tutti.Limit
	prio   int
	flag   bool
	n      uint64 // number of a question to an owner, and of the answer; a time
}

func (m message) encode() []byte {
	var e enc
	e.u(1, uint64(m.kind))
	e.bytes(2, m.run[:])
	e.u(3, uint64(m.seq))
	e.bytes(4, m.from[:])
	e.u(5, uint64(m.status))
	e.bytes(6, m.body)
	e.str(7, m.text)
	if m.limit != nil {
		e.msg(8, func(l *enc) { encodeLimit(l, m.limit) })
	}
	e.u(9, uint64(m.prio))
	e.flag(10, m.flag)
	e.u(11, m.n)
	return e.b
}

func decodeMessage(b []byte) (m message, err error) {
	err = decode(b, func(f field) (err error) {
		switch f.num {
		case 1:
			m.kind = msgKind(f.v)
		case 2:
			copy(m.run[:], f.b)
		case 3:
			m.seq = tutti.Seq(f.v)
		case 4:
			copy(m.from[:], f.b)
		case 5:
			m.status = uint8(f.v)
		case 6:
			m.body = f.own()
		case 7:
			m.text = f.s()
		case 8:
			m.limit, err = decodeLimit(f.b)
		case 9:
			m.prio = int(f.v)
		case 10:
			m.flag = f.flag()
		case 11:
			m.n = f.v
		}
		return err
	})
	return m, err
}

// Send is a stored message on its way to another shard. The runner delivers it with
// Deliver, again after a restart, until the receiver's Ack is applied with Acked.
type Send struct {
	To     int
	Number uint64
	Body   []byte
}

// Ack tells the shard From that its messages up to Number are applied.
type Ack struct {
	From   int
	Number uint64
}

// send passes a message to the shard that owns its addressee.
func (b *Batch) send(m message) {
	b.sendTo(m.run.Shard(b.s.shards), m)
}

func (b *Batch) sendTo(shard int, m message) {
	if shard == b.s.id && !b.backlog() {
		b.local = append(b.local, m)
		return
	}
	b.sendStored(uint16(shard), m)
}

// backlog reports whether messages of the shard to itself had to be stored and wait: later
// ones must not overtake them.
func (b *Batch) backlog() bool {
	self := uint16(b.s.id)
	return b.lastSent(self) > b.lastApplied(self)
}

func (b *Batch) lastSent(dst uint16) uint64 {
	n, ok := b.s.sent[dst]
	if !ok {
		n = b.counter(be16([]byte{tableSent}, dst))
		b.s.sent[dst] = n
	}
	return n
}

func (b *Batch) lastApplied(src uint16) uint64 {
	n, ok := b.s.applied[src]
	if !ok {
		n = b.counter(be16([]byte{tableApplied}, src))
		b.s.applied[src] = n
	}
	return n
}

// sendStored writes a message to the outbox.
func (b *Batch) sendStored(dst uint16, m message) {
	n := b.lastSent(dst) + 1
	b.s.sent[dst] = n
	body := m.encode()
	b.set(be16([]byte{tableSent}, dst), be64(nil, int64(n)))
	b.w.Set(outboxKey(dst, n), body)
	b.fx.Sends = append(b.fx.Sends, Send{To: int(dst), Number: n, Body: body})
}

func (b *Batch) counter(key []byte) uint64 {
	raw, ok := b.get(key)
	if !ok || len(raw) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(raw)
}

// Deliver applies a message of another shard, once.
type Deliver struct {
	From   int
	Number uint64
	Body   []byte
}

func (c Deliver) apply(b *Batch) (any, error) {
	src := uint16(c.From)
	last := b.lastApplied(src)
	if c.Number > last+1 {
		return nil, tutti.E(tutti.Conflict, "deliver", "MessageGap",
			"a message came before the one that precedes it")
	}
	if c.Number == last+1 {
		m, err := decodeMessage(c.Body)
		if err != nil {
			return nil, err
		}
		b.s.applied[src] = c.Number
		b.set(be16([]byte{tableApplied}, src), be64(nil, int64(c.Number)))
		b.receive(m)
	}
	b.fx.Acks = append(b.fx.Acks, Ack{From: c.From, Number: max(c.Number, last)})
	return nil, nil
}

// Acked deletes messages that their receiver has applied.
type Acked struct {
	By     int
	Number uint64
	After  uint64 // those up to here are deleted already
}

func (c Acked) apply(b *Batch) (any, error) {
	for n := c.After + 1; n <= c.Number; n++ {
		b.w.Delete(outboxKey(uint16(c.By), n))
	}
	return nil, nil
}

func (b *Batch) receive(m message) {
	switch m.kind {
	case msgStart:
		b.receiveStart(m)
	case msgChildEnded:
		b.receiveChildEnded(m)
	case msgTerminate:
		b.receiveTerminate(m)
	case msgRetry:
		b.receiveRetry(m)
	case msgReopened:
		b.receiveReopened(m)
	case msgAsk:
		b.receiveAsk(m)
	case msgGranted, msgRefused, msgCall:
		b.receivePermit(m)
	case msgRelease:
		b.receiveRelease(m)
	case msgAdopted:
		b.receiveAdopted(m)
	case msgLookUp:
		b.receiveLookUp(m)
	case msgLookedUp:
		b.receiveLookedUp(m)
	case msgKeep:
		b.receiveKeep(m)
	}
}

// startChild starts the run of a Child task.
func (b *Batch) startChild(r *runState, s *taskState, spec *tutti.RunSpec) {
	s.ChildRun = b.startElsewhere(r, spec, r.ID, s.Seq)
	b.note(r, HistoryChildStarted, s.Seq, 0)
}

// startElsewhere asks the shard of a new run to start it. Its identifier comes from the
// asking run's random source, which never repeats, also when that run is restarted.
func (b *Batch) startElsewhere(
	r *runState, spec *tutti.RunSpec, parent tutti.RunID, seq tutti.Seq,
) tutti.RunID {
	id := tutti.NewRunID(b.now, r.nextRandom())
	s := *spec
	if s.Namespace == "" {
		s.Namespace = r.Namespace
	}
	if s.Dialect == "" {
		s.Dialect = r.Dialect
	}
	if in := r.Labels[tutti.LabelTrace]; in != "" && s.Labels[tutti.LabelTrace] == "" {
		s.Labels = maps.Clone(s.Labels)
		if s.Labels == nil {
			s.Labels = map[string]string{}
		}
		s.Labels[tutti.LabelTrace] = in
	}
	if s.IdempotencyKey != "" {
		on := StartKeyShard(s.Namespace, s.Definition, s.IdempotencyKey, b.s.shards)
		id = id.OnShard(on, b.s.shards)
	}
	b.send(message{kind: msgStart, run: id, from: parent, seq: seq, body: encodeSpec(&s)})
	return id
}

// StartKeyShard is the shard on which all runs with an idempotency key must be started.
func StartKeyShard(namespace, definition, key string, shards int) int {
	return KeyShard(namespace+"\x00"+definition+"\x00"+key, shards)
}

func (b *Batch) receiveStart(m message) {
	spec, err := decodeSpec(m.body)
	if err != nil {
		b.fail(err)
		return
	}
	src := spec.Source
	if src == nil {
		src, err = b.s.opts.Resolve(spec.Namespace, spec.Dialect, spec.Definition, spec.Version)
	}
	if err == nil {
		var started any
		started, err = Start{
			ID: m.run, Spec: *spec, Source: src, Parent: m.from, ParentTask: m.seq,
		}.apply(b)
		if st, ok := started.(Started); ok && st.Existing && st.ID != m.run {
			b.adopt(st.ID, m)
			return
		}
	}
	if err != nil && !m.from.IsZero() {
		b.refuseChild(m, err.Error())
	}
}

// refuseChild tells a parent that the child run it asked for does not do its work.
func (b *Batch) refuseChild(m message, why string) {
	b.send(message{
		kind: msgChildEnded, run: m.from, seq: m.seq, from: m.run,
		status: uint8(tutti.RunFailed), text: why,
	})
}

// eachWaiting calls fn for the attempts that wait for a run: its parent's first.
func (r *runState) eachWaiting(fn func(holder)) {
	if !r.Parent.IsZero() {
		fn(holder{r.Parent, r.ParentTask})
	}
	for _, h := range r.watchers {
		fn(h)
	}
}

// reportEnd tells an attempt how the run that it waits for ended.
func (b *Batch) reportEnd(r *runState, h holder) {
	b.load(r.ID, &r.out)
	b.send(message{
		kind: msgChildEnded, run: h.run, seq: h.seq, from: r.ID,
		status: uint8(r.Status), body: r.out.raw, text: r.Reason,
	})
}

// maxWatchers bounds the attempts that wait for one run without being its parent.
const maxWatchers = 1000

// adopt lets the attempt that met a run by its idempotency key wait for that run.
func (b *Batch) adopt(id tutti.RunID, m message) {
	r := b.run(id)
	if r == nil || m.from.IsZero() {
		return
	}
	if !b.watch(r, m) {
		return
	}
	b.send(message{kind: msgAdopted, run: m.from, seq: m.seq, from: id, body: m.run[:]})
	if !r.Status.Open() {
		b.reportEnd(r, holder{m.from, m.seq})
	}
}

// watch lets one more attempt wait for a run; false when there are too many.
func (b *Batch) watch(r *runState, m message) bool {
	h := holder{m.from, m.seq}
	switch {
	case r.waits(h):
	case len(r.watchers) >= maxWatchers:
		b.refuseChild(m, fmt.Sprintf("%d steps of other runs wait for run %s, which is the limit",
			maxWatchers, r.ID))
		return false
	default:
		r.watchers, r.hotDirty = append(r.watchers, h), true
	}
	return true
}

// waits reports whether an attempt waits for the run.
func (r *runState) waits(h holder) bool {
	return h == holder{r.Parent, r.ParentTask} || slices.Contains(r.watchers, h)
}

// receiveTerminate ends a run whose parent does not want it any more. Of others that wait
// for it, none can do that.
func (b *Batch) receiveTerminate(m message) {
	r := b.run(m.run)
	if r == nil {
		return
	}
	h := holder{m.from, m.seq}
	if i := slices.Index(r.watchers, h); i >= 0 {
		r.watchers, r.hotDirty = slices.Delete(r.watchers, i, i+1), true
		return
	}
	if r.waits(h) {
		b.endRun(r, tutti.RunTerminated, nil, m.text, 0)
	}
}

// receiveAdopted notes which run an open attempt waits for.
func (b *Batch) receiveAdopted(m message) {
	if r := b.run(m.run); r != nil {
		s := b.task(r, m.seq)
		if s != nil && s.Status.Open() && string(s.ChildRun[:]) == string(m.body) {
			s.ChildRun, s.dirty = m.from, true
		}
	}
}

// receiveRetry goes on with a child run that its parent waits for again, or says why not.
func (b *Batch) receiveRetry(m message) {
	r := b.run(m.run)
	switch {
	case r == nil:
		b.refuseChild(m, fmt.Sprintf("run %s was removed and cannot be retried", m.run))
	case b.watch(r, m):
		_, err := Retry{Run: m.run, Deep: true, ByParent: true}.apply(b)
		if err != nil && !r.Status.Open() {
			b.reportEnd(r, holder{m.from, m.seq})
		}
	}
}

// childStatus maps a run's end to the end of the task that waited for it.
var childStatus = map[tutti.RunStatus]tutti.TaskStatus{
	tutti.RunCompleted:  tutti.Completed,
	tutti.RunFailed:     tutti.Failed,
	tutti.RunTimedOut:   tutti.TimedOut,
	tutti.RunTerminated: tutti.CancelledTask,
}

func (b *Batch) receiveChildEnded(m message) {
	r := b.run(m.run)
	if r == nil || !r.Status.Open() {
		return
	}
	s := b.task(r, m.seq)
	if s == nil || !s.Status.Open() || s.Kind != tutti.Child || s.ChildRun != m.from {
		return
	}
	var out value.Raw
	if len(m.body) > 0 {
		out = m.body
	}
	b.closeTask(r, s, childStatus[tutti.RunStatus(m.status)], out, m.text)
	b.finished(r, s)
}

func (b *Batch) receiveReopened(m message) {
	r := b.run(m.run)
	if r == nil || r.sweeping {
		return
	}
	s := b.task(r, m.seq)
	if s == nil || s.ChildRun != m.from || s.Retried {
		return
	}
	if !r.Status.Open() {
		b.reopen(r)
		b.reviveParent(r, false)
	}
	b.resume(r, tutti.Event{Kind: tutti.EventReopened, Seq: s.Seq, Frame: s.Frame})
}
