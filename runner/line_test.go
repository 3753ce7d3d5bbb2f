package runner_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store/pebblestore"
	"github.com/tutti-run/tutti/value"
)

// line is a dialect whose definitions are steps done one after the other.
type line struct{}

// lineDef is the body of a line's source.
type lineDef struct {
	Steps   int   `json:"steps"`
	DelayMs int64 `json:"delay_ms"` // before each step is handed out
}

func (line) Name() string { return "line" }

func (line) Link(_ tutti.Documents, name string, _ int) (*tutti.Source, error) {
	return &tutti.Source{Dialect: "line", Name: name, Version: 1, Body: value.Raw(`{"steps":3}`)}, nil
}

func (line) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	var p lineProgram
	if err := json.Unmarshal(src.Body, &p.lineDef); err != nil {
		return nil, value.Diagnostics{{Severity: value.Error, Message: err.Error()}}
	}
	return p, nil
}

type lineProgram struct{ lineDef }

func (p lineProgram) Start(t tutti.Turn) error {
	t.Frame(0).State = 0
	return p.next(t)
}

func (p lineProgram) next(t tutti.Turn) error {
	done := t.Frame(0).State.(int)
	if done == p.Steps {
		t.EndRun(tutti.RunCompleted, value.Raw(`{"ok":true}`), "", 0)
		return nil
	}
	t.Frame(0).State = done + 1
	t.SaveFrame(0)
	t.AddTask(tutti.TaskSpec{
		Name: fmt.Sprintf("step%d", done), Type: "STEP", Queue: "steps", Kind: tutti.Work,
		Input: t.Run().Input, Timeouts: tutti.Timeouts{ResponseMs: 3_600_000}, DelayMs: p.DelayMs,
	})
	return nil
}

func (p lineProgram) Resume(t tutti.Turn, ev tutti.Event) error {
	if ev.Kind == tutti.EventTaskEnded {
		return p.next(t)
	}
	return nil
}

func (lineProgram) EncodeState(dst []byte, s any) []byte {
	n, _ := s.(int)
	return binary.AppendUvarint(dst, uint64(n))
}

func (lineProgram) DecodeState(b []byte) (any, error) {
	n, _ := binary.Uvarint(b)
	return int(n), nil
}

func open(tb testing.TB) *runner.Runner {
	st, err := pebblestore.Open(tb.TempDir(), pebblestore.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	r, err := runner.Open(tb.Context(), runner.Options{
		Store: st, Dialects: []tutti.Dialect{line{}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		r.Close()
		if err := st.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// work serves the queue until the test ends.
func work(tb testing.TB, r *runner.Runner) {
	var c *runner.Consumer
	out := value.Raw(`{"answer":42}`)
	ready := make(chan struct{})
	deliver := func(h engine.HandOut) {
		<-ready
		r.SubmitAsync(h.Run.ID.Shard(r.Shards()), engine.Complete{
			Run: h.Run.ID, Seq: h.Task.Seq, Token: h.Task.Token,
			Outcome: engine.Outcome{Status: tutti.Completed, Output: out},
		}, func(_ any, err error) {
			if err != nil && tutti.KindOf(err) != tutti.Unavailable {
				tb.Error(err)
			}
		})
		r.AddCredit(c, 1)
	}
	c = r.Subscribe([]string{engine.QueueKey("default", "steps")}, "w", 0, deliver, nil)
	close(ready)
	r.AddCredit(c, 4096)
	tb.Cleanup(func() { r.Unsubscribe(c) })
}

func runOne(tb testing.TB, r *runner.Runner, input value.Raw, ended func(*tutti.Run)) {
	src, _ := line{}.Link(nil, "line", 1)
	spec := tutti.RunSpec{Namespace: "default", Dialect: "line", Definition: "line", Input: input}
	id := r.PlaceRun(&spec)
	var stop func()
	stop = r.Watch(id, func(run *tutti.Run) {
		if run != nil {
			stop()
			ended(run)
		}
	})
	r.SubmitAsync(id.Shard(r.Shards()), engine.Start{ID: id, Spec: spec, Source: src, Fresh: true},
		func(_ any, err error) {
			if err != nil {
				tb.Error(err)
			}
		})
}

func TestRunToEndOnDisk(t *testing.T) {
	r := open(t)
	work(t, r)
	ended := make(chan *tutti.Run, 1)
	runOne(t, r, value.Raw(`{"a":1}`), func(run *tutti.Run) { ended <- run })
	select {
	case run := <-ended:
		if run.Status != tutti.RunCompleted || string(run.Output) != `{"ok":true}` {
			t.Fatalf("run ended as %s with %s", run.Status, run.Output)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the run did not end")
	}
}

// BenchmarkRuns finishes runs of three steps, 512 at a time, in one process.
func BenchmarkRuns(b *testing.B) {
	r := open(b)
	work(b, r)
	input := value.Raw(fmt.Sprintf(`{"payload":%q}`, make([]byte, 30)))
	room := make(chan struct{}, 512)
	var done sync.WaitGroup
	var n atomic.Int64
	b.ResetTimer()
	for range b.N {
		room <- struct{}{}
		done.Add(1)
		runOne(b, r, input, func(*tutti.Run) {
			n.Add(1)
			<-room
			done.Done()
		})
	}
	done.Wait()
	b.StopTimer()
	b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "runs/s")
	st := r.Stats()
	b.ReportMetric(float64(st.Commands)/float64(st.Batches), "commands/batch")
}
