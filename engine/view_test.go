package engine_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

func TestViewOfARun(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	src := h.Define("d", `[{"fork":2,"steps":[{"task":"a"}]},{"task":"b"}]`)
	id := h.Start(tutti.RunSpec{Definition: "d"})
	v := h.View(0)
	got, err := v.Source(h.Run(id).SourceHash)
	if err != nil || got.Name != "d" || string(got.Body) != string(src.Body) {
		t.Errorf("source %+v, %v", got, err)
	}
	prog, _ := enginetest.Toy{}.Compile(src)
	for frame, open := range map[tutti.FrameID]bool{0: true, 1: true, 2: true, 3: false} {
		raw, err := v.FrameState(id, frame)
		if err != nil || (raw != nil) != open {
			t.Errorf("frame %d: state %x, %v", frame, raw, err)
		}
		if _, err := prog.DecodeState(raw); err != nil {
			t.Errorf("frame %d: %v", frame, err)
		}
	}
	var back []tutti.Seq
	if err := v.TasksBack(id, func(task *tutti.Task) bool {
		back = append(back, task.Seq)
		return len(back) < 2
	}); err != nil || fmt.Sprint(back) != "[3 2]" {
		t.Errorf("back from the end come %v, %v", back, err)
	}
	if queues, err := v.ReadyQueues(); err != nil || fmt.Sprint(queues) != "[/a]" {
		t.Errorf("queues %v, %v", queues, err)
	}
	nobody := tutti.NewRunID(1, 1)
	for name, err := range map[string]error{
		"Run":       second(v.Run(nobody)),
		"Open":      second(v.Open(nobody)),
		"AuditRun":  second(v.AuditRun(nobody)),
		"RootState": second(v.RootState(nobody)),
		"Task":      second(v.Task(id, 99)),
	} {
		if tutti.KindOf(err) != tutti.NotFound {
			t.Errorf("%s of what does not exist: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestViewOfTheIndex(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	h.Define("d", `[{"wait":0}]`)
	h.Define("e", `[{"local":1}]`)
	for _, ns := range []string{"", "one", "two"} {
		h.Start(tutti.RunSpec{Namespace: ns, Definition: "d"})
		h.Start(tutti.RunSpec{Namespace: ns, Definition: "e"})
	}
	v := h.View(0)
	if got, err := v.Namespaces(); err != nil || fmt.Sprintf("%q", got) != `["" "one" "two"]` {
		t.Errorf("namespaces %q, %v", got, err)
	}
	for want, statuses := range map[string][]tutti.RunStatus{
		"[d]": {tutti.RunRunning}, "[e]": {tutti.RunCompleted}, "[]": {tutti.RunFailed},
		"[d e]": tutti.RunStatuses[:],
	} {
		if got, err := v.Definitions("one", statuses...); err != nil || fmt.Sprint(got) != want {
			t.Errorf("definitions %v, %v, want %s", got, err, want)
		}
	}
}

func TestLimitHolders(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{Shards: 3})
	h.Define("d", `[{"task":"a","limit":{"key":"k","concurrency":2}}]`)
	id := h.Start(tutti.RunSpec{
		Definition: "d", Limit: &tutti.RunLimit{Key: "r", Concurrency: 5},
	})
	must(t, h.Poll("a", "w"))
	for _, c := range []struct {
		name engine.LimitName
		want string
	}{
		{engine.LimitName{Key: "k"}, fmt.Sprint(id, 1)},
		{engine.LimitName{Key: "r", Runs: true}, fmt.Sprint(id, 0)},
		{engine.LimitName{Key: "other"}, ""},
	} {
		got := ""
		err := h.View(c.name.Shard(3)).LimitHolders(c.name, func(run tutti.RunID, seq tutti.Seq) bool {
			got += fmt.Sprint(run, seq)
			return true
		})
		if err != nil || got != c.want {
			t.Errorf("%+v is held by %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

func TestWithinANamespace(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	h.Define("d", `[{"wait":0}]`)
	id := h.Start(tutti.RunSpec{Namespace: "mine", Definition: "d"})
	_, err := h.Do(engine.Within{Namespace: "other", Run: id, Command: engine.Terminate{Run: id}})
	wantCode(t, err, "RunNotFound")
	wantRun(t, h, id, tutti.RunRunning)
	h.MustDo(engine.Within{Namespace: "mine", Run: id, Command: engine.Terminate{Run: id}})
	wantRun(t, h, id, tutti.RunTerminated)
}

// picky rejects what operators ask for, after it has begun to write history.
type picky struct{ enginetest.Toy }

type pickyProgram struct{ tutti.Program }

func (d picky) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	p, diags := d.Toy.Compile(src)
	return pickyProgram{p}, diags
}

func (p pickyProgram) Resume(t tutti.Turn, ev tutti.Event) error {
	if ev.Kind == tutti.EventRetry || ev.Kind == tutti.EventRerun {
		return tutti.E(tutti.Conflict, "resume", "Picky", "not this one")
	}
	return p.Program.Resume(t, ev)
}

// A request that the program rejects leaves no trace, also when the run holds a limit.
func TestRejectedRequestLeavesNoTrace(t *testing.T) {
	for _, opts := range []enginetest.Options{{}, {Shards: 3, CrashEverywhere: true}} {
		opts.Dialects = map[string]tutti.Dialect{"picky": picky{}}
		h := enginetest.New(t, opts)
		h.DefineSource(&tutti.Source{
			Dialect: "picky", Name: "d", Body: value.Raw(`[{"loop":84,"steps":[{"draw":1}]},{"task":"a"}]`),
		})
		limit := &tutti.RunLimit{Key: "k", Concurrency: 1}
		id := h.Start(tutti.RunSpec{Definition: "d", Limit: limit})
		h.Fail(must(t, h.Poll("a", "w")), "no")
		wantRun(t, h, id, tutti.RunFailed)
		before := h.Dump(id) + fmt.Sprint(h.History(id))
		for _, cmd := range []engine.Command{
			engine.Retry{Run: id}, engine.Rerun{Run: id, Seq: 1}, engine.Retry{Run: id, Deep: true},
		} {
			_, err := h.Do(cmd)
			wantCode(t, err, "Picky")
			if after := h.Dump(id) + fmt.Sprint(h.History(id)); after != before {
				t.Errorf("%T, which was rejected, left a trace:\n%s", cmd, after)
			}
			h.CheckInvariants()
		}
		next := h.Start(tutti.RunSpec{Definition: "d", Limit: limit})
		if h.Run(next).HeldByLimit {
			t.Error("the rejected requests hold the limit")
		}
		if problems := strings.Join(h.Problems(), "\n"); problems != "" {
			t.Error(problems)
		}
	}
}
