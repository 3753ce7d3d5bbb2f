package sim

import (
	"fmt"
	"strconv"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// start lets a client start a run, perhaps one that it is not sure to have started.
func (w *world) start() {
	if s := w.oracle.unsure(); s != nil && w.chance(3) {
		w.ask(s)
		return
	}
	s := &start{
		spec: tutti.RunSpec{
			Definition: pick(w, w.names...), Priority: w.rng.IntN(3),
			CorrelationID: pick(w, "", "x", "y"),
			TimeoutMs:     pick[int64](w, 0, 0, 0, 8000),
		},
	}
	switch w.rng.IntN(5) {
	case 0:
		s.spec.IdempotencyKey = "k" + strconv.Itoa(w.rng.IntN(4))
		s.spec.OnDuplicate = tutti.DuplicatePolicy(w.rng.IntN(3))
	case 1:
		s.spec.Limit = &tutti.RunLimit{Key: "runs", Concurrency: 2, Reject: w.chance(2)}
	}
	s.id = w.place(&s.spec)
	w.oracle.starts = append(w.oracle.starts, s)
	w.ask(s)
}

// ask sends a start to its shard.
func (w *world) ask(s *start) {
	s.asked++
	w.submit(s.id, engine.Start{
		ID: s.id, Spec: s.spec, Source: w.sources[s.spec.Definition],
	}, func(val any, err error) {
		if err == nil {
			w.oracle.started(s, val.(engine.Started))
		} else if err != errGone {
			s.refused = true
		}
	})
}

// place draws the identifier of a new run, beside the row that must be unique for it.
func (w *world) place(spec *tutti.RunSpec) tutti.RunID {
	n := w.opts.Shards
	id := tutti.NewRunID(w.now, w.rng.Uint64())
	switch {
	case spec.IdempotencyKey != "":
		return id.OnShard(engine.StartKeyShard("", spec.Definition, spec.IdempotencyKey, n), n)
	case spec.Limit != nil:
		return id.OnShard(engine.RunLimitShard("", spec.Limit.Key, n), n)
	}
	return id
}

// operate lets an operator do something with a run.
func (w *world) operate() {
	s := w.oracle.any()
	if s == nil {
		return
	}
	id := s.id
	var cmd engine.Command
	switch w.rng.IntN(14) {
	case 0, 1:
		cmd = engine.Pause{Run: id, By: "op"}
	case 2, 3, 4:
		cmd = engine.Resume{Run: id, By: "op"}
	case 5:
		cmd = engine.Terminate{Run: id, Reason: "drawn"}
	case 6:
		cmd = engine.Retry{Run: id, Deep: w.chance(2)}
		s.repeated = true
	case 7:
		cmd = engine.Restart{Run: id}
		s.repeated = true
	case 8:
		cmd = engine.Rerun{Run: id, Seq: tutti.Seq(1 + w.rng.IntN(4))}
		s.repeated = true
	case 9:
		cmd = engine.Repair{Run: id}
	case 10:
		cmd = engine.Remove{Run: id}
		if w.chance(2) {
			s.removed = true // perhaps: it may be refused
		} else {
			cmd = engine.Decide{Run: id}
		}
	case 11:
		cmd = engine.ResetCallbacks{Run: id}
	default:
		w.signal(id)
		return
	}
	w.submit(id, cmd, func(_ any, err error) {
		w.say("operator's %T of %s: %v", cmd, id, err)
	})
}

// signal completes the first wait of a run that nothing else ends.
func (w *world) signal(id tutti.RunID) {
	v := w.nodes[id.Shard(w.opts.Shards)].view()
	err := v.Tasks(id, 1, func(t *tutti.Task) bool {
		if t.Kind != tutti.Wait || !t.Status.Open() || t.UntilMs != 0 {
			return true
		}
		w.submit(id, engine.Complete{Run: id, Seq: t.Seq, Outcome: engine.Outcome{
			Status: tutti.Completed, Worker: "signal",
		}}, nil)
		return false
	})
	w.check(err)
}

// calmRounds bounds how long everything may take to end once the faults are over.
const calmRounds = 600

// rest ends the faults and lets everybody do his work until all runs have ended.
func (w *world) rest() {
	w.say("calm")
	w.calm, w.disk.next = true, 0
	for i, q := range w.cast.Queues() {
		w.staff = append(w.staff, &worker{name: "calm" + strconv.Itoa(i), queue: q})
	}
	var open []tutti.RunID
	for range calmRounds {
		w.now += 500
		open = w.openRuns()
		if len(open) == 0 {
			break
		}
		for _, id := range open {
			w.ease(id)
		}
		for range 6 {
			w.pump()
		}
	}
	if len(open) > 0 {
		w.fail("%d runs do not end:%s", len(open), w.explain(open))
	}
	w.pump()
	w.oracle.examine()
	w.crash(0)
	w.oracle.final()
}

// explain says what runs wait for.
func (w *world) explain(ids []tutti.RunID) (text string) {
	for _, id := range ids {
		r, waits, err := w.nodes[id.Shard(w.opts.Shards)].view().Explain(id)
		w.check(err)
		text += fmt.Sprintf("\n%s of %s is %s", id, r.Definition, r.Status)
		for _, x := range waits {
			text += "\n  " + x.Text
		}
	}
	return text
}

// pump lets every shard, worker and message do what is to be done.
func (w *world) pump() {
	for _, p := range w.staff {
		for _, out := range p.held {
			w.report0(out, engine.Outcome{Status: tutti.Completed, Output: outputOf(out)})
		}
		p.held = nil
		if p.poll == 0 {
			w.queues.wait(p, 0)
		}
	}
	for len(w.net) > 0 {
		w.deliver()
	}
	for _, n := range w.nodes {
		w.turn(n)
	}
	w.sync(1 << 20)
}

// ease resumes and signals what waits for somebody.
func (w *world) ease(id tutti.RunID) {
	r, err := w.nodes[id.Shard(w.opts.Shards)].view().Run(id)
	w.check(err)
	if r.Status == tutti.RunPaused {
		w.submit(id, engine.Resume{Run: id}, nil)
	}
	w.signal(id)
}

func (w *world) openRuns() (ids []tutti.RunID) {
	for _, n := range w.nodes {
		err := n.view().ListRuns(engine.RunQuery{
			Statuses: []tutti.RunStatus{tutti.RunRunning, tutti.RunPaused},
		}, func(e engine.IndexEntry) bool {
			ids = append(ids, e.ID)
			return true
		})
		w.check(err)
	}
	return ids
}
