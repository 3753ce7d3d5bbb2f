package runner_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/value"
)

const queue = "default/steps"

// world is a runner over a store in memory, within a bubble of fake time.
type world struct {
	t     *testing.T
	store *memstore.Store
	*runner.Runner
}

func newWorld(t *testing.T, opts memstore.Options) *world {
	t.Helper()
	st, err := memstore.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: st}
	w.open()
	return w
}

func (w *world) open() {
	w.t.Helper()
	r, err := runner.Open(w.t.Context(), runner.Options{
		Store: w.store, Dialects: []tutti.Dialect{line{}}, Seed: 7,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Runner = r
}

func (w *world) start(spec tutti.RunSpec, def string) tutti.RunID {
	w.t.Helper()
	spec.Namespace, spec.Dialect, spec.Definition = "default", "line", "line"
	src := &tutti.Source{Dialect: "line", Name: "line", Version: 1, Body: value.Raw(def)}
	st, err := w.Start(w.t.Context(), spec, src)
	if err != nil {
		w.t.Fatal(err)
	}
	return st.ID
}

func (w *world) poll(n int, wait time.Duration) []engine.HandOut {
	w.t.Helper()
	got, err := w.Poll(w.t.Context(), queue, "worker", n, wait)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func (w *world) complete(h engine.HandOut) error {
	_, err := w.ForRun(w.t.Context(), h.Run.ID, engine.Complete{
		Run: h.Run.ID, Seq: h.Task.Seq, Token: h.Task.Token,
		Outcome: engine.Outcome{Status: tutti.Completed, Output: value.Raw(`1`)},
	})
	return err
}

func (w *world) status(id tutti.RunID) tutti.RunStatus {
	w.t.Helper()
	var st tutti.RunStatus
	err := w.ReadRun(w.t.Context(), id, func(v engine.View) error {
		r, err := v.Run(id)
		if err == nil {
			st = r.Status
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

func bubble(t *testing.T, opts memstore.Options, fn func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, opts)
		defer w.Close()
		fn(t, w)
	})
}

func TestRunToEnd(t *testing.T) {
	bubble(t, memstore.Options{}, func(t *testing.T, w *world) {
		id := w.start(tutti.RunSpec{}, `{"steps":2}`)
		for step := range 2 {
			got := w.poll(10, time.Second)
			if len(got) != 1 || got[0].Task.Name != fmt.Sprintf("step%d", step) {
				t.Fatalf("poll %d gave %d tasks: %+v", step, len(got), got)
			}
			if err := w.complete(got[0]); err != nil {
				t.Fatal(err)
			}
		}
		if st := w.status(id); st != tutti.RunCompleted {
			t.Fatalf("the run is %s", st)
		}
	})
}

func TestPollWaitsForATask(t *testing.T) {
	bubble(t, memstore.Options{}, func(t *testing.T, w *world) {
		began := time.Now()
		if got := w.poll(1, 3*time.Second); len(got) != 0 || time.Since(began) != 3*time.Second {
			t.Fatalf("an empty queue gave %d tasks after %v", len(got), time.Since(began))
		}
		began = time.Now()
		var got []engine.HandOut
		var wait sync.WaitGroup
		wait.Go(func() { got = w.poll(1, time.Hour) })
		synctest.Wait()
		w.start(tutti.RunSpec{}, `{"steps":1}`)
		wait.Wait()
		if len(got) != 1 || time.Since(began) != 0 {
			t.Fatalf("a waiting poll got %d tasks after %v", len(got), time.Since(began))
		}
	})
}

func TestPriorityThenFairness(t *testing.T) {
	bubble(t, memstore.Options{}, func(t *testing.T, w *world) {
		for i := range 3 {
			w.start(tutti.RunSpec{CorrelationID: "a", Labels: nil, Input: in("a", i)}, `{"steps":1}`)
		}
		w.start(tutti.RunSpec{CorrelationID: "b", Input: in("b", 0)}, `{"steps":1}`)
		w.start(tutti.RunSpec{Priority: 9, Input: in("urgent", 0)}, `{"steps":1}`)
		var order []string
		for range 5 {
			got := w.poll(1, time.Second)
			order = append(order, string(got[0].Task.Input))
		}
		// The urgent one first; then the keys take turns, so b is not behind all of a.
		if order[0] != string(in("urgent", 0)) {
			t.Errorf("the first task is %s", order[0])
		}
		if at := indexOf(order, string(in("b", 0))); at > 2 {
			t.Errorf("key b was served at place %d: %v", at, order)
		}
	})
}

func in(s string, i int) value.Raw { return value.Raw(fmt.Sprintf(`"%s%d"`, s, i)) }

func indexOf(all []string, s string) int {
	for i, x := range all {
		if x == s {
			return i
		}
	}
	return -1
}

func TestDelayBeyondTheTimerWindow(t *testing.T) {
	bubble(t, memstore.Options{}, func(t *testing.T, w *world) {
		began := time.Now()
		w.start(tutti.RunSpec{}, `{"steps":1,"delay_ms":600000}`)
		got := w.poll(1, time.Hour)
		if len(got) != 1 || time.Since(began) != 10*time.Minute {
			t.Fatalf("got %d tasks after %v, want one after 10m", len(got), time.Since(began))
		}
	})
}

func TestRestartTakesUpWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memstore.Options{})
		for range 20 {
			w.start(tutti.RunSpec{}, `{"steps":1}`)
		}
		w.Close()
		w.store = w.store.Crash(0)
		w.open()
		defer w.Close()
		seen := 0
		for seen < 20 {
			got := w.poll(7, time.Minute)
			if len(got) == 0 {
				t.Fatalf("only %d of 20 tasks came back after the restart", seen)
			}
			for _, h := range got {
				if err := w.complete(h); err != nil {
					t.Fatal(err)
				}
				seen++
			}
		}
	})
}

// failing refuses commits while armed.
type failing struct {
	mu    sync.Mutex
	armed int
}

func (f *failing) Claim(store.ShardID) error { return nil }

func (f *failing) Commit(store.ShardID, uint64, *store.Batch) memstore.Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed > 0 {
		f.armed--
		return memstore.Refuse
	}
	return memstore.Sync
}

func TestFailedCommitRebuildsTheShard(t *testing.T) {
	faults := &failing{}
	bubble(t, memstore.Options{Shards: 1, Faults: faults}, func(t *testing.T, w *world) {
		id := w.start(tutti.RunSpec{}, `{"steps":1}`)
		got := w.poll(1, time.Second)
		if len(got) != 1 {
			t.Fatal("no task")
		}
		faults.mu.Lock()
		faults.armed = 1
		faults.mu.Unlock()
		err := w.complete(got[0])
		if k := tutti.KindOf(err); k != tutti.Unavailable && k != tutti.Exhausted {
			t.Fatalf("a completion that was not stored answered %v", err)
		}
		for w.Healthy() != nil {
			time.Sleep(10 * time.Millisecond)
		}
		if st := w.status(id); st != tutti.RunRunning {
			t.Fatalf("the run is %s although its completion was lost", st)
		}
		if err := w.complete(got[0]); err != nil {
			t.Fatalf("the completion cannot be repeated: %v", err)
		}
		if st := w.status(id); st != tutti.RunCompleted {
			t.Fatalf("the run is %s", st)
		}
	})
}

func TestMoreTasksThanTheWindowHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("starts 25,000 runs")
	}
	bubble(t, memstore.Options{}, func(t *testing.T, w *world) {
		const runs = 25_000
		var started sync.WaitGroup
		src := &tutti.Source{
			Dialect: "line", Name: "line", Version: 1,
			Body: value.Raw(`{"steps":1}`),
		}
		for range runs {
			spec := tutti.RunSpec{Namespace: "default", Dialect: "line", Definition: "line"}
			id := w.PlaceRun(&spec)
			started.Add(1)
			w.SubmitAsync(id.Shard(w.Shards()), engine.Start{ID: id, Spec: spec, Source: src},
				func(_ any, err error) {
					if err != nil {
						t.Error(err)
					}
					started.Done()
				})
		}
		started.Wait()
		done := map[tutti.RunID]bool{}
		for len(done) < runs {
			got := w.poll(1000, time.Minute)
			if len(got) == 0 {
				t.Fatalf("%d of %d tasks were never handed out", runs-len(done), runs)
			}
			for _, h := range got {
				if done[h.Run.ID] {
					t.Fatalf("run %s was handed out twice", h.Run.ID)
				}
				done[h.Run.ID] = true
			}
		}
	})
}

func TestWorkerThatGoesAway(t *testing.T) {
	bubble(t, memstore.Options{}, func(t *testing.T, w *world) {
		delivered := make(chan engine.HandOut, 1)
		c := w.Subscribe([]string{queue}, "gone", 30_000,
			func(h engine.HandOut) { delivered <- h }, nil)
		w.AddCredit(c, 1)
		w.start(tutti.RunSpec{}, `{"steps":1}`)
		first := <-delivered
		w.Unsubscribe(c)
		// Nobody keeps the lease alive, so the task comes back, in doubt, with a new token.
		began := time.Now()
		got := w.poll(1, time.Hour)
		if len(got) != 1 || time.Since(began) != 30*time.Second {
			t.Fatalf("got %d tasks after %v, want one after 30s", len(got), time.Since(began))
		}
		if !got[0].Task.InDoubt || got[0].Task.Token == first.Task.Token {
			t.Errorf("in doubt %v, token %d after %d", got[0].Task.InDoubt,
				got[0].Task.Token, first.Task.Token)
		}
		if err := w.complete(first); tutti.KindOf(err) != tutti.Conflict {
			t.Errorf("the stale completion answered %v", err)
		}
		if err := w.complete(got[0]); err != nil {
			t.Error(err)
		}
	})
}

func TestLostBatchLetsGoOfItsWorkers(t *testing.T) {
	faults := &failing{}
	bubble(t, memstore.Options{Shards: 1, Faults: faults}, func(t *testing.T, w *world) {
		delivered := make(chan engine.HandOut, 10)
		c := w.Subscribe([]string{queue}, "one", 0,
			func(h engine.HandOut) { delivered <- h }, nil)
		w.AddCredit(c, 1)
		faults.mu.Lock()
		faults.armed = 1
		faults.mu.Unlock()
		spec := tutti.RunSpec{Namespace: "default", Dialect: "line", Definition: "line"}
		src := &tutti.Source{
			Dialect: "line", Name: "line", Version: 1, Body: value.Raw(`{"steps":1}`),
		}
		if _, err := w.Start(t.Context(), spec, src); err == nil {
			t.Fatal("a start that was not stored was acknowledged")
		}
		for w.Healthy() != nil {
			time.Sleep(10 * time.Millisecond)
		}
		w.start(tutti.RunSpec{}, `{"steps":1}`)
		w.start(tutti.RunSpec{}, `{"steps":1}`)
		synctest.Wait()
		if len(delivered) != 1 {
			t.Fatalf("a worker with room for one task got %d", len(delivered))
		}
	})
}
