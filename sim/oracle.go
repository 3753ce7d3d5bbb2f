package sim

import (
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// oracle knows what the world was told, and compares the engine with it.
type oracle struct {
	w      *world
	starts []*start
	leases map[place]uint64 // highest token that a worker got
	told   []place          // keys of leases, in order
	done   map[place]engine.Outcome
	ended  []place // keys of done, in order
}

// start is a run that a client asked for.
type start struct {
	spec     tutti.RunSpec
	id       tutti.RunID
	asked    int
	acked    bool
	refused  bool
	repeated bool // an operator let it do things again
	removed  bool // an operator asked to remove it
}

// place names a task.
type place struct {
	run tutti.RunID
	seq tutti.Seq
}

func newOracle(w *world) *oracle {
	return &oracle{w: w, leases: map[place]uint64{}, done: map[place]engine.Outcome{}}
}

// unsure returns a start whose answer was lost, if there is one.
func (o *oracle) unsure() *start {
	for _, s := range o.starts {
		if !s.acked && !s.refused && s.asked < 3 && o.w.chance(4) {
			return s
		}
	}
	return nil
}

// any returns one of the runs that exist.
func (o *oracle) any() *start {
	var known []*start
	for _, s := range o.starts {
		if s.acked {
			known = append(known, s)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return pick(o.w, known...)
}

// started notes the answer to a start.
func (o *oracle) started(s *start, st engine.Started) {
	o.w.say("started %s: existing %v", st.ID, st.Existing)
	if st.ID == s.id {
		s.acked = true
		o.w.report.Starts++
		return
	}
	s.refused = true
	if s.spec.IdempotencyKey == "" {
		o.w.fail("a start of run %s was answered with run %s", s.id, st.ID)
	}
	for _, other := range o.starts {
		if other.id == st.ID && (other.spec.IdempotencyKey != s.spec.IdempotencyKey ||
			other.spec.Definition != s.spec.Definition) {
			o.w.fail("idempotency key %q of %s was answered with a run of key %q of %s",
				s.spec.IdempotencyKey, s.spec.Definition, other.spec.IdempotencyKey,
				other.spec.Definition)
		}
	}
}

// delivered notes that a worker got a task.
func (o *oracle) delivered(h *engine.HandOut) {
	at := place{h.Run.ID, h.Task.Seq}
	if _, ok := o.leases[at]; !ok {
		o.told = append(o.told, at)
	}
	if h.Task.Token <= o.leases[at] {
		o.w.fail("task %d of run %s was handed out with token %d after token %d",
			at.seq, at.run, h.Task.Token, o.leases[at])
	}
	o.leases[at] = h.Task.Token
}

// completed notes that a final report was accepted.
func (o *oracle) completed(out *engine.HandOut, oc engine.Outcome) {
	at := place{out.Run.ID, out.Task.Seq}
	o.w.say("%s/%d is %s", at.run, at.seq, oc.Status)
	if _, ok := o.done[at]; ok {
		o.w.fail("task %d of run %s was completed twice", at.seq, at.run)
	}
	if out.Task.Token < o.leases[at] {
		o.w.fail("task %d of run %s was completed with token %d, a worker has token %d",
			at.seq, at.run, out.Task.Token, o.leases[at])
	}
	o.done[at] = oc
	o.ended = append(o.ended, at)
	o.w.report.Done++
}

// examine proves the invariants over all that is stored.
func (o *oracle) examine() {
	problems, err := engine.Check(o.w.views())
	o.w.check(err)
	if len(problems) > 0 {
		var text []string
		for _, p := range problems {
			text = append(text, p.Run.String()+": "+p.Text)
		}
		o.w.fail("invariants are broken:\n%s", strings.Join(text, "\n"))
	}
	for _, n := range o.w.nodes {
		o.awake(n)
	}
}

// awake checks that a shard's memory knows every wake-up that is stored.
func (o *oracle) awake(n *node) {
	known := map[engine.Timer]bool{}
	for _, t := range n.timers {
		known[t] = true
	}
	v := n.view()
	o.w.check(v.Wakes(0, engine.Forever, func(t engine.Timer) bool {
		if known[t] {
			return true
		}
		r, err := v.Run(t.Run)
		if err == nil && r.Status == tutti.RunPaused {
			return true // it may have gone off; the run hears of it when it is resumed
		}
		o.w.fail("shard %d does not know of the wake-up of %s/%d", n.id, t.Run, t.Seq)
		return false
	}))
}

// lostAnswers forgets what a crash makes uncertain.
func (o *oracle) lostAnswers() {}

// compare holds what the world was told against what is stored: after a crash, nothing of
// it may be missing.
func (o *oracle) compare() {
	for _, s := range o.starts {
		if !s.acked || s.removed {
			continue
		}
		if _, err := o.viewOf(s.id).Run(s.id); err != nil {
			o.w.fail("run %s was acknowledged and is lost: %v", s.id, err)
		}
	}
	for _, at := range o.told {
		if t := o.task(at); t != nil && t.Token < o.leases[at] {
			o.w.fail("a worker has token %d of task %d of run %s, the newest stored is %d",
				o.leases[at], at.seq, at.run, t.Token)
		}
	}
	for _, at := range o.ended {
		o.stillDone(at, o.done[at])
	}
	o.examine()
}

// stillDone checks that an accepted report has not been lost or overwritten.
func (o *oracle) stillDone(at place, told engine.Outcome) {
	t := o.task(at)
	if t == nil {
		return // removed with its run, or by a restart or rerun
	}
	same := t.Status == told.Status ||
		told.Status == tutti.Failed && t.Status == tutti.CompletedWithErrors
	if !same {
		o.w.fail("task %d of run %s was reported as %s and is %s",
			at.seq, at.run, told.Status, t.Status)
	}
	if told.Output != nil && !sameJSON(told.Output, t.Output) {
		o.w.fail("task %d of run %s was reported with output %s and has %s",
			at.seq, at.run, told.Output, t.Output)
	}
}

func sameJSON(a, b value.Raw) bool {
	x, err1 := a.Parse()
	y, err2 := b.Parse()
	return err1 == nil && err2 == nil && value.Equal(x, y)
}

func (o *oracle) viewOf(id tutti.RunID) engine.View {
	return o.w.nodes[id.Shard(o.w.opts.Shards)].view()
}

// task reads a task, nil when it does not exist.
func (o *oracle) task(at place) *tutti.Task {
	t, err := o.viewOf(at.run).Task(at.run, at.seq)
	if tutti.KindOf(err) == tutti.NotFound && err != nil {
		return nil
	}
	o.w.check(err)
	return t
}

// final checks how every run that was acknowledged has ended.
func (o *oracle) final() {
	for _, s := range o.starts {
		if !s.acked || s.removed {
			continue
		}
		r, err := o.viewOf(s.id).Run(s.id)
		o.w.check(err)
		if r.Status.Open() {
			o.w.fail("run %s has not ended", s.id)
		}
		if r.Status == tutti.RunCompleted && !s.repeated {
			if err := o.w.cast.Expect(o.w.sources[s.spec.Definition], r); err != nil {
				o.w.fail("run %s of %s: %v", s.id, s.spec.Definition, err)
			}
		}
	}
}
