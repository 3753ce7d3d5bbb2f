package sim

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/memstore"
)

// pipelineDepth is how many batches of a shard may be in flight.
const pipelineDepth = 4

// node is one shard of the process: its loop and what it keeps in memory.
type node struct {
	w      *world
	id     int
	store  store.Shard
	eng    *engine.Shard
	match  *matcher
	inbox  []request
	timers []engine.Timer
	acked  map[int]uint64
	// released are the numbers of the newest messages to each shard that are durable.
	released map[int]uint64
	deep     int // batches in flight
}

// request is a command and what to do with its answer.
type request struct {
	cmd    engine.Command
	answer func(val any, err error) // nil = nobody waits
}

var errGone = &tutti.Error{Kind: tutti.Unavailable, Op: "submit", Code: "Gone"}

func (q request) reply(val any, err error) {
	if q.answer != nil {
		q.answer(val, err)
	}
}

// inflight is a batch that the store has and that may not be durable yet.
type inflight struct {
	n       *node
	ticket  store.Ticket
	err     error // why the batch was lost
	fx      *engine.Effects
	taken   []request
	vals    []any
	errs    []error
	reserve []uint64 // polls that were reserved while it was formed
	early   bool     // its effects have been let out already
}

func (n *node) view() engine.View { return engine.NewView(rows{n.store}) }

// claim makes the process the shard's writer.
func (n *node) claim() {
	st, err := n.w.store.Claim(context.Background(), store.ShardID(n.id))
	n.w.check(err)
	n.store, n.acked, n.timers, n.deep = st, map[int]uint64{}, nil, 0
	n.released = map[int]uint64{}
}

// load takes up what the store says is under way.
func (n *node) load() {
	n.match = &matcher{queues: n.w.queues}
	if n.eng == nil || n.w.opts.Break != MemoryKept {
		n.eng = engine.NewShard(n.id, n.w.opts.Shards, engine.Options{
			Dialects: map[string]tutti.Dialect{
				"toy": enginetest.Toy{}, "conductor": conductor.Dialect{},
			},
			Documents: func(string, string) tutti.Documents { return n.w.cast.Documents() },
			Resolve:   n.w.resolve, Matcher: n.match, CacheRuns: 3, Unobserved: true,
		})
	}
	v := n.view()
	if n.w.opts.Break != TimersNotReloaded {
		n.w.check(v.Wakes(0, engine.Forever, func(t engine.Timer) bool {
			n.timers = append(n.timers, t)
			return true
		}))
	}
	n.w.check(v.ReadyTasks("", func(r engine.Ready) bool {
		n.w.queues.add(r)
		return true
	}))
	n.w.check(v.Outbox(func(m engine.Send) bool {
		n.released[m.To] = m.Number
		return true
	}))
	n.resend()
}

// resend sends what has left the outbox before once more.
func (n *node) resend() {
	n.w.check(n.view().Outbox(func(m engine.Send) bool {
		if m.Number > n.released[m.To] {
			return true // its batch may not be durable yet
		}
		if _, ok := n.acked[m.To]; !ok {
			n.acked[m.To] = m.Number - 1
		}
		n.w.send(n.id, m)
		return true
	}))
}

func (w *world) resolve(_, _, name string, _ int) (*tutti.Source, error) {
	if src, ok := w.sources[name]; ok {
		return src, nil
	}
	return nil, tutti.E(tutti.NotFound, "resolve", "NoSuchDefinition", "no definition "+name)
}

// turn forms a batch of a shard from what waits and what is due.
func (w *world) turn(n *node) {
	if n.deep >= pipelineDepth {
		return
	}
	due := n.due()
	taken := n.inbox[:min(len(n.inbox), 1+w.rng.IntN(6))]
	n.inbox = slices.Clone(n.inbox[len(taken):])
	if len(due)+len(taken) == 0 {
		return
	}
	batch := new(store.Batch)
	n.match.taken = nil
	b := n.eng.Begin(rows{n.store}, w.breakWrites(batch), w.now)
	f := &inflight{n: n, taken: taken}
	for _, t := range due {
		_, err := b.Do(engine.Wake(t))
		w.rejectionOnly(err)
		w.say("shard %d wakes %s/%d", n.id, t.Run, t.Seq)
	}
	for _, q := range taken {
		val, err := b.Do(w.breakCommand(q.cmd))
		w.rejectionOnly(err)
		f.vals, f.errs = append(f.vals, val), append(f.errs, err)
		w.say("shard %d does %T: %v", n.id, q.cmd, err)
	}
	fx, err := b.Finish()
	w.check(err)
	w.commit(f, fx, batch)
}

func (w *world) commit(f *inflight, fx *engine.Effects, batch *store.Batch) {
	n := f.n
	f.fx, f.reserve = fx, n.match.taken
	f.ticket = n.store.Commit(batch)
	w.report.Batches++
	for op := range batch.Ops() {
		_, _ = w.trace.Write(op.Key)
		_, _ = w.trace.Write(op.Value)
	}
	if d := w.disk.decided; d == memstore.Refuse || d == memstore.Unknown {
		w.say("the commit of shard %d fails: %d", n.id, w.disk.decided)
		w.rebuild(n, f)
		return
	}
	n.deep++
	n.timers = append(n.timers, fx.Timers...)
	w.flying = append(w.flying, f)
	if w.opts.Break == EffectsTooEarly {
		w.letOut(f)
		f.early = true
	}
	if !w.calm || w.report.Batches%16 == 0 {
		w.oracle.examine()
	}
}

// rejectionOnly ends the game when a command failed for another reason than its own.
func (w *world) rejectionOnly(err error) {
	var e *tutti.Error
	if err != nil && !errors.As(err, &e) {
		w.fail("a shard failed: %v", err)
	}
	if e != nil && e.Kind == tutti.Internal {
		w.fail("an internal error: %v", err)
	}
}

// due takes the wake-ups whose time has come, in order.
func (n *node) due() (due []engine.Timer) {
	n.timers = slices.DeleteFunc(n.timers, func(t engine.Timer) bool {
		if t.DueMs > n.w.now {
			return false
		}
		due = append(due, t)
		return true
	})
	slices.SortFunc(due, func(a, b engine.Timer) int {
		return cmp.Or(cmp.Compare(a.DueMs, b.DueMs), bytes.Compare(a.Run[:], b.Run[:]),
			cmp.Compare(a.Seq, b.Seq))
	})
	return slices.Compact(due)
}

// sync makes the oldest batches durable and lets their effects out.
func (w *world) sync(n int) {
	w.store.Sync(n)
	w.settleFlying()
}

// settleFlying deals with the batches whose fate is known, which are the oldest.
func (w *world) settleFlying() {
	known := w.flying[:len(w.flying)-w.store.Pending()]
	w.flying = w.flying[len(known):]
	var broken []*node
	for _, f := range known {
		f.n.deep = max(0, f.n.deep-1)
		if f.err = f.ticket.Wait(); f.err != nil && !slices.Contains(broken, f.n) {
			broken = append(broken, f.n)
		}
	}
	for _, n := range broken {
		n.claim()
	}
	for _, f := range known {
		if f.err != nil {
			w.refuse(f)
		} else {
			w.letOut(f)
		}
	}
	for _, n := range broken {
		w.report.Rebuilt++
		n.load()
	}
}

// rebuild replaces a shard whose commit failed at once. What was committed before becomes
// durable by the claim, and its effects go out first.
func (w *world) rebuild(n *node, failed *inflight) {
	w.report.Rebuilt++
	n.claim()
	w.settleFlying()
	w.refuse(failed)
	n.load()
}

// refuse answers everybody in a batch that was lost.
func (w *world) refuse(f *inflight) {
	if f.early {
		return
	}
	for _, q := range f.taken {
		q.reply(nil, errGone)
	}
	for _, poll := range f.reserve {
		w.queues.freed(poll)
	}
	for _, h := range f.fx.Handed {
		w.queues.freed(h.Poll)
	}
	for _, poll := range f.fx.Freed {
		w.queues.freed(poll)
	}
}

// letOut performs the effects of a durable batch.
func (w *world) letOut(f *inflight) {
	if f.early {
		return
	}
	fx := f.fx
	for _, h := range fx.Handed {
		w.queues.deliver(h)
	}
	for i, q := range f.taken {
		q.reply(f.vals[i], f.errs[i])
	}
	for _, r := range fx.Ready {
		w.queues.add(r)
	}
	for _, poll := range fx.Freed {
		w.queues.freed(poll)
	}
	for _, m := range fx.Sends {
		f.n.released[m.To] = m.Number
		w.send(f.n.id, m)
	}
	for _, a := range fx.Acks {
		w.acknowledge(f.n.id, a)
	}
}

// rows shows a store.Reader as engine.Rows.
type rows struct{ store.Reader }

func (r rows) Scan(lo, hi []byte, reverse bool, fn func(k, v []byte) bool) error {
	for kv, err := range r.Reader.Scan(lo, hi, store.ScanOptions{Reverse: reverse}) {
		if err != nil {
			return err
		}
		if !fn(kv.Key, kv.Value) {
			return nil
		}
	}
	return nil
}

// breakWrites loses writes when that is the breakage.
func (w *world) breakWrites(b *store.Batch) engine.Writes {
	switch w.opts.Break {
	case MessagesTwice:
		return loser{b, 'n', false}
	case PermitsLeak:
		return loser{b, 'L', true}
	case WakeUpsLost:
		return loser{b, 'w', false}
	case IndexForgotten:
		return loser{b, 'i', true}
	default:
		return b
	}
}

// loser loses the sets or the deletes of one table.
type loser struct {
	*store.Batch
	table   byte
	deletes bool
}

// Set implements engine.Writes.
func (l loser) Set(key, val []byte) {
	if l.deletes || key[0] != l.table {
		l.Batch.Set(key, val)
	}
}

// Delete implements engine.Writes.
func (l loser) Delete(key []byte) {
	if !l.deletes || key[0] != l.table {
		l.Batch.Delete(key)
	}
}

func (w *world) breakCommand(cmd engine.Command) engine.Command {
	if c, ok := cmd.(engine.Complete); ok && w.opts.Break == NoFencing {
		c.Token = 0
		return c
	}
	return cmd
}
