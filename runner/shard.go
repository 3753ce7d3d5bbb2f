package runner

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/store"
)

const (
	// batchCommands bounds the commands of one batch, so that an answer does not wait for
	// more work than this.
	batchCommands = 512
	// pipelineDepth is how many batches may be on their way to the disk while the next is
	// being computed.
	pipelineDepth = 4
)

// shard is one engine shard with its loop and releaser.
type shard struct {
	r   *Runner
	id  int
	box *mailbox

	store  store.Shard // replaced under mu
	eng    *engine.Shard
	match  *matcher
	timers timerQueue
	acked  map[int]uint64 // messages to each shard that are deleted from the outbox

	applied   atomic.Uint64 // batches given to the store
	durable   durability
	resending atomic.Bool

	mu  sync.Mutex
	err error // why the shard is not serving
}

func newShard(r *Runner, id int) *shard {
	return &shard{r: r, id: id, box: newMailbox(r.opts.MaxPending)}
}

func (s *shard) health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *shard) setHealth(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}

// open claims the shard and loads what is due.
func (s *shard) open(ctx context.Context) error {
	st, err := s.r.opts.Store.Claim(ctx, store.ShardID(s.id))
	if err != nil {
		return err
	}
	dialects := map[string]tutti.Dialect{}
	for _, d := range s.r.opts.Dialects {
		dialects[d.Name()] = d
	}
	s.match = &matcher{d: s.r.queues}
	s.eng = engine.NewShard(s.id, s.r.opts.Store.Shards(), engine.Options{
		Dialects: dialects, CacheRuns: s.r.opts.CacheRuns,
		Resolve: s.r.catalog.resolve, Matcher: s.match,
		Documents:  s.r.catalog.Documents,
		Unobserved: s.r.opts.Observe == nil,
	})
	s.timers = timerQueue{}
	s.mu.Lock()
	s.store, s.acked = st, map[int]uint64{}
	s.mu.Unlock()
	s.durable.reset(s.applied.Load())
	return s.recover()
}

// recover takes up what the store says is under way. Its cost depends on what is due and
// on the number of queues, not on the number of open runs (invariant I10).
func (s *shard) recover() error {
	view := engine.NewView(rows{s.store})
	if s.id == engine.DocumentShard {
		if err := s.r.catalog.load(view); err != nil {
			return err
		}
	}
	if err := s.timers.refill(view, nowMs()); err != nil {
		return err
	}
	queues, err := view.ReadyQueues()
	if err != nil {
		return err
	}
	s.r.queues.spilled(queues)
	boxes, err := view.Boxes()
	if err != nil {
		return err
	}
	s.r.watch.letters(boxes)
	sends, err := outbox(view, -1)
	s.resend(sends)
	return err
}

// outbox lists the stored messages for one shard, or for all (-1).
func outbox(view engine.View, to int) (sends []engine.Send, err error) {
	err = view.Outbox(func(m engine.Send) bool {
		if to < 0 || m.To == to {
			sends = append(sends, m)
		}
		return true
	})
	return sends, err
}

// resend delivers durable messages again.
func (s *shard) resend(sends []engine.Send) {
	for _, m := range sends {
		s.mu.Lock()
		if _, ok := s.acked[m.To]; !ok {
			s.acked[m.To] = m.Number - 1
		}
		s.mu.Unlock()
		s.forward(m)
	}
}

// supervise runs the shard and rebuilds it after a failure, until ctx ends.
func (s *shard) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.serve(ctx)
		if ctx.Err() != nil {
			return
		}
		s.setHealth(err)
		s.r.log.Error("shard stopped; it is being rebuilt from the store",
			"shard", s.id, "error", err)
		for wait := 10 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
			if err = s.open(ctx); err == nil {
				break
			}
			s.setHealth(err)
			s.refuseWaiting(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			}
		}
		s.setHealth(nil)
		s.r.log.Info("shard is serving again", "shard", s.id)
	}
}

func (s *shard) refuseWaiting(cause error) {
	for _, q := range s.box.take(1 << 30) {
		q.answer(nil, storeError("submit", cause))
	}
}

// storeError puts a failure of the store into the words of the root package.
func storeError(op string, err error) error {
	if errors.Is(err, store.ErrDiskFull) {
		return &tutti.Error{
			Kind: tutti.Exhausted, Op: op, Code: "DiskFull", Err: err,
			Hint: "free some space on the disk of the data folder; nothing acknowledged is lost",
		}
	}
	if errors.Is(err, store.ErrTooLarge) {
		return &tutti.Error{Kind: tutti.Exhausted, Op: op, Code: "BatchTooLarge", Err: err}
	}
	return unavailable(op, err)
}

// inflight is a batch that the store has but that may not be durable yet.
type inflight struct {
	ticket   store.Ticket
	number   uint64
	effects  *engine.Effects
	replies  []reply
	taken    []request
	began    time.Time
	size     int
	reserved []uint64 // polls of workers that were promised a task of the batch
}

type reply struct {
	to  request
	val any
	err error
}

// serve runs the loop until ctx ends or the store fails.
func (s *shard) serve(ctx context.Context) error {
	pipe := make(chan *inflight, pipelineDepth)
	failed := make(chan error, 1)
	released := make(chan struct{})
	go func() {
		defer close(released)
		s.release(pipe, failed)
	}()
	err := s.loop(ctx, pipe, failed)
	close(pipe)
	<-released
	select {
	case e := <-failed:
		return e
	default:
		return err
	}
}

func (s *shard) loop(ctx context.Context, pipe chan<- *inflight, failed chan error) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.timers.wait(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			failed <- err
			return err
		case <-s.box.wake:
		case <-timer.C:
		}
		f, err := s.batch()
		if err != nil {
			return err
		}
		if f != nil {
			pipe <- f
		}
	}
}

// batch turns what waits and what is due into one batch. It returns nil when there is
// nothing.
func (s *shard) batch() (*inflight, error) {
	now := time.Now()
	due, err := s.timers.due(engine.NewView(rows{s.store}), now.UnixMilli())
	if err != nil {
		return nil, err
	}
	taken := s.box.take(batchCommands)
	if len(due)+len(taken) == 0 {
		return nil, nil
	}
	w := batches.Get().(*store.Batch)
	defer batches.Put(w)
	w.Reset()
	b := s.eng.Begin(rows{s.store}, w, now.UnixMilli())
	f := &inflight{taken: taken, began: now, replies: make([]reply, 0, len(taken))}
	for _, t := range due {
		if _, err = b.Do(engine.Wake(t)); err != nil && !isRejection(err) {
			break
		}
	}
	for _, q := range taken {
		v, e := b.Do(q.cmd)
		f.replies = append(f.replies, reply{q, v, e})
	}
	f.effects, err = b.Finish()
	f.reserved = s.match.take()
	if err != nil {
		f.refuse(s, err)
		return nil, err
	}
	f.size = w.Len()
	f.number = s.applied.Add(1)
	f.ticket = s.store.Commit(w)
	for _, t := range f.effects.Timers {
		s.timers.add(t)
	}
	return f, nil
}

var batches = sync.Pool{New: func() any { return new(store.Batch) }}

func isRejection(err error) bool {
	var e *tutti.Error
	return errors.As(err, &e)
}

// refuse answers everybody in a batch that was lost, and lets go of the workers that were
// reserved for its tasks; those that asked for a lease themselves learn it from the answer.
func (f *inflight) refuse(s *shard, cause error) {
	for _, rep := range f.replies {
		rep.to.answer(nil, storeError("submit", cause))
	}
	for _, poll := range f.reserved {
		s.r.queues.freed(poll)
	}
}

// release waits for batches to become durable, in order, and lets their effects out.
func (s *shard) release(pipe <-chan *inflight, failed chan<- error) {
	var broken error
	for f := range pipe {
		if broken == nil {
			if err := f.ticket.Wait(); err != nil {
				broken = err
				s.setHealth(err)
				failed <- err
				s.durable.fail(err)
			}
		}
		if broken != nil {
			f.refuse(s, broken)
			continue
		}
		s.durable.reach(f.number)
		s.committed(f)
		s.letOut(f)
		s.box.recycle(f.taken)
	}
}

// letOut performs the effects of a durable batch.
func (s *shard) letOut(f *inflight) {
	fx := f.effects
	for _, h := range fx.Handed {
		s.r.queues.deliver(h)
	}
	if len(fx.Docs) > 0 {
		s.r.catalog.apply(fx.Docs) // first: whoever is answered must find the change
	}
	for _, rep := range f.replies {
		rep.to.answer(rep.val, rep.err)
	}
	s.r.queues.enqueue(fx.Ready)
	for _, p := range fx.Freed {
		s.r.queues.freed(p)
	}
	for _, v := range fx.Revoked {
		s.r.queues.revoked(v)
	}
	for _, m := range fx.Sends {
		s.forward(m)
	}
	for _, a := range fx.Acks {
		s.acknowledge(a)
	}
	s.r.watch.ended(fx.Ended)
	s.r.watch.moved(fx.Moved)
	s.r.watch.letters(fx.Letters)
	if s.r.opts.Observe != nil && len(fx.Notes) > 0 {
		s.r.opts.Observe(fx.Notes)
	}
}

// resendAfter is how long a message waits that its shard could not take.
const resendAfter = 200 * time.Millisecond

// forward delivers a stored message to its shard, and again from the outbox when that
// shard was being rebuilt.
func (s *shard) forward(m engine.Send) {
	_ = s.r.shards[m.To].box.force(request{
		cmd: engine.Deliver{From: s.id, Number: m.Number, Body: m.Body},
		reply: func(_ any, err error) {
			if err == nil || !s.resending.CompareAndSwap(false, true) {
				return
			}
			time.AfterFunc(resendAfter, func() {
				s.resending.Store(false)
				var sends []engine.Send
				err := s.read(context.Background(), func(v engine.View) (err error) {
					sends, err = outbox(v, m.To)
					return err
				})
				if err == nil { // what was read is durable, so it may leave
					s.resend(sends)
				}
			})
		},
	})
}

// acknowledge lets the sender of a message forget it.
func (s *shard) acknowledge(a engine.Ack) {
	from := s.r.shards[a.From]
	from.mu.Lock()
	after := from.acked[s.id]
	if a.Number > after {
		from.acked[s.id] = a.Number
	}
	from.mu.Unlock()
	if a.Number > after {
		cmd := engine.Acked{By: s.id, Number: a.Number, After: after}
		_ = from.box.force(request{cmd: cmd})
	}
}

// read runs fn on a snapshot and waits until what it saw is durable.
func (s *shard) read(ctx context.Context, fn func(engine.View) error) error {
	s.mu.Lock()
	st := s.store
	s.mu.Unlock()
	snap := st.Snapshot()
	seen := s.applied.Load()
	err := fn(engine.NewView(rows{snap}))
	if err != nil && !isRejection(err) {
		err = storeError("read", err)
	}
	if cerr := snap.Close(); err == nil && cerr != nil {
		err = storeError("read", cerr)
	}
	if werr := s.durable.wait(ctx, seen); werr != nil {
		return werr
	}
	return err
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
