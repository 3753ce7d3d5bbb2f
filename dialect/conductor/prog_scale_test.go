package conductor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// wide returns a run of a dynamic fork with n branches.
func wide(t testing.TB, n int) *fakeRun {
	docs := fakeDocs{KindWorkflow + "/w": value.Raw(`{"name": "w", "tasks": [
		{"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN_DYNAMIC", "inputParameters": {
			"forkTaskName": "tx", "forkTaskInputs": "${workflow.input.list}"}},
		{"name": "j", "taskReferenceName": "j", "type": "JOIN"},
		{"name": "z", "taskReferenceName": "z", "inputParameters": {"v": "${j.output._tx_7.v}"}}]}`)}
	items := strings.TrimSuffix(strings.Repeat("1,", n), ",")
	run := newFakeRun(t, docs, "w", value.Raw(`{"list": [`+items+`]}`))
	run.start(t)
	return run
}

// TestWideForkCostsTheSamePerBranch holds the invariant that a step does not cost more in a
// wider run: calls are counted, not timed.
func TestWideForkCostsTheSamePerBranch(t *testing.T) {
	perBranch := func(n int) (start, step, stored int) {
		run := wide(t, n)
		start = run.calls / n
		if run.run.OpenTasks != n+1 {
			t.Fatalf("%d tasks are open, want %d", run.run.OpenTasks, n+1)
		}
		for seq := tutti.Seq(2); int(seq) < n; seq++ {
			before := run.calls
			run.quietly(t, seq)
			step = max(step, run.calls-before)
		}
		for _, f := range run.frames {
			stored = max(stored, len(run.prog.EncodeState(nil, f.State)))
		}
		run.quietly(t, tutti.Seq(n))
		run.quietly(t, tutti.Seq(n+1))
		if in := run.tasks[n+2].Input; string(in) != `{"v":1}` {
			t.Fatalf("task behind the join has input %s", in)
		}
		return start, step, stored
	}
	smallStart, smallStep, smallState := perBranch(100)
	largeStart, largeStep, largeState := perBranch(10_000)
	if largeStart > smallStart+1 {
		t.Errorf("starting a branch of 10,000 takes %d calls, of 100 %d", largeStart, smallStart)
	}
	if largeStep > smallStep {
		t.Errorf("ending a branch of 10,000 takes %d calls, of 100 %d", largeStep, smallStep)
	}
	if largeState > smallState+8 {
		t.Errorf("a frame takes %d bytes with 10,000 branches, %d with 100", largeState, smallState)
	}
}

// quietly completes a task without the checks of turn, which look at the whole run.
func (f *fakeRun) quietly(t testing.TB, seq tutti.Seq) {
	t.Helper()
	f.end(seq, tutti.Completed, value.Raw(`{"v":1}`), "")
	ev := tutti.Event{Kind: tutti.EventTaskEnded, Seq: seq}
	if err := f.prog.Resume(f, ev); err != nil {
		t.Fatal(err)
	}
}

// TestLongLoopCostsTheSamePerStep does the same for length.
func TestLongLoopCostsTheSamePerStep(t *testing.T) {
	docs := fakeDocs{KindWorkflow + "/w": value.Raw(`{"name": "w", "tasks": [
		{"name": "l", "taskReferenceName": "l", "type": "DO_WHILE",
		 "loopCondition": "$.l.iteration < 5000 && $.a.v == 1 && $.l['1'].a.v == 1", "loopOver": [
			{"name": "ta", "taskReferenceName": "a", "inputParameters": {
				"n": "${l.output.iteration}", "last": "${a.output.v}", "first": "${l.output.1.a.v}"}}]}]}`)}
	run := newFakeRun(t, docs, "w", nil)
	run.start(t)
	calls := map[int]int{}
	for n := 1; n <= 3000; n++ {
		before := run.calls
		run.quietly(t, tutti.Seq(n+1))
		calls[n] = run.calls - before
	}
	if calls[3000] > calls[10] {
		t.Errorf("iteration 3000 takes %d calls, iteration 10 %d", calls[3000], calls[10])
	}
	if in := string(run.tasks[3000].Input); in != `{"n":3000,"last":1,"first":1}` {
		t.Errorf("input of iteration 3000 is %s", in)
	}
}

// TestDeterministic runs the same events twice and compares all effects.
func TestDeterministic(t *testing.T) {
	docs := fakeDocs{
		KindTaskDef + "/ta": value.Raw(`{"name": "ta", "retryCount": 2, "backoffJitterMs": 500}`),
		KindWorkflow + "/w": value.Raw(`{"name": "w", "tasks": [
		{"name": "i", "taskReferenceName": "i", "type": "INLINE", "inputParameters": {
			"expression": "({r: Math.random(), t: Date.now()})"}},
		{"name": "s", "taskReferenceName": "s", "type": "SWITCH", "evaluatorType": "javascript",
		 "expression": "'x'", "decisionCases": {"y": [{"name": "q", "taskReferenceName": "q"}],
			"x": [{"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN", "forkTasks": [
				[{"name": "ta", "taskReferenceName": "a"}], [{"name": "ta", "taskReferenceName": "b"}]]},
				{"name": "j", "taskReferenceName": "j", "type": "JOIN", "joinOn": ["a", "b"]}]}}]}`),
	}
	play := func() []string {
		run := newFakeRun(t, docs, "w", nil)
		run.start(t)
		for _, ref := range []string{"b", "a", "b"} {
			run.finish(t, run.open(ref).Seq, tutti.Failed, nil, "broke")
		}
		run.EndRun(tutti.RunTerminated, nil, "by hand", 0)
		run.reopen()
		run.resume(t, tutti.Event{Kind: tutti.EventRetry})
		run.finish(t, run.open("a").Seq, tutti.Completed, nil, "")
		return run.effects
	}
	first := play()
	for range 3 {
		if diff := cmp.Diff(first, play()); diff != "" {
			t.Fatalf("the same events had other effects:\n%s", diff)
		}
	}
	if !slices.ContainsFunc(first, func(s string) bool { return strings.HasPrefix(s, "add") }) {
		t.Error("nothing was recorded")
	}
}

// TestDeferredWorkSurvives ends a run in the middle of a wide fork; a retry starts the rest.
func TestDeferredWorkSurvives(t *testing.T) {
	docs := fakeDocs{KindWorkflow + "/w": value.Raw(`{"name": "w", "tasks": [
		{"name": "f", "taskReferenceName": "f", "type": "FORK_JOIN_DYNAMIC", "inputParameters": {
			"forkTaskName": "tx", "forkTaskInputs": "${workflow.input.list}"}},
		{"name": "j", "taskReferenceName": "j", "type": "JOIN"}]}`)}
	const branches = 3*branchesAtOnce + 7
	items := strings.TrimSuffix(strings.Repeat("1,", branches), ",")
	run := newFakeRun(t, docs, "w", value.Raw(`{"list": [`+items+`]}`))
	run.turn(t, func() error { return run.prog.Start(run) })
	if got := len(run.tasks); got != 1+branchesAtOnce {
		t.Fatalf("the first turn created %d tasks", got)
	}
	run.EndRun(tutti.RunTerminated, nil, "by hand", 0)
	run.reopen()
	run.resume(t, tutti.Event{Kind: tutti.EventRetry})
	if got, want := len(run.tasks), 1+branches+branchesAtOnce+1; got != want {
		t.Fatalf("there are %d tasks, want %d: those cancelled, again, the rest and the join",
			got, want)
	}
	for _, task := range run.tasks {
		if task.Kind == tutti.Work && task.Status.Open() {
			run.quietly(t, task.Seq)
		}
	}
	if run.run.Status != tutti.RunCompleted {
		t.Errorf("the run is %s", run.status())
	}
}

func FuzzDecodeState(f *testing.F) {
	p := &program{body: compileBody(nil)}
	for _, state := range []any{
		&rootState{newest: []tutti.Seq{1, 0, 9}, finished: true, scopes: 2},
		&forkState{node: -1, suffix: "__1", dynamic: true, total: 3},
		&loopState{items: -1, loop: 4, iteration: 2},
	} {
		f.Add(p.EncodeState(nil, state))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		state, err := p.DecodeState(b)
		if err != nil || len(b) == 0 {
			return
		}
		again, err := p.DecodeState(p.EncodeState(nil, state))
		if err != nil {
			t.Fatalf("%+v: %v", state, err)
		}
		if diff := fmt.Sprintf("%+v", again); diff != fmt.Sprintf("%+v", state) {
			t.Fatalf("%+v became %+v", state, again)
		}
	})
}

// FuzzRun drives random definitions with random outcomes: nothing may panic, and a run may
// not be left without anything to wait for.
func FuzzRun(f *testing.F) {
	f.Add([]byte(`{"name":"w","tasks":[{"name":"a","taskReferenceName":"a"}]}`), uint64(1))
	f.Add([]byte(`{"name":"w","tasks":[{"name":"f","taskReferenceName":"f","type":"FORK_JOIN",
		"forkTasks":[[{"name":"a","taskReferenceName":"a"}],[{"name":"b","taskReferenceName":"b"}]]},
		{"name":"j","taskReferenceName":"j","type":"JOIN","joinOn":["a","b"]}]}`), uint64(7))
	f.Add([]byte(`{"name":"w","tasks":[{"name":"l","taskReferenceName":"l","type":"DO_WHILE",
		"loopCondition":"$.l.iteration<3","loopOver":[{"name":"a","taskReferenceName":"a",
		"permissive":true}]}]}`), uint64(3))
	f.Fuzz(func(t *testing.T, def []byte, choices uint64) {
		d, err := DecodeWorkflowDef(def)
		if err != nil {
			return
		}
		docs := fakeDocs{KindWorkflow + "/w": d.Encode()}
		run := newFakeRun(t, docs, "w", nil)
		run.weary = true
		run.start(t)
		for range 40 {
			open := slices.Collect(run.OpenTasks())
			if len(open) == 0 || !run.run.Status.Open() || !run.weary {
				break
			}
			pick := open[choices%uint64(len(open))]
			choices = choices*6364136223846793005 + 1442695040888963407
			if pick.Kind == tutti.Scope {
				continue
			}
			status := []tutti.TaskStatus{
				tutti.Completed, tutti.Completed, tutti.Failed,
				tutti.TimedOut,
			}[choices>>60%4]
			run.finish(t, pick.Seq, status, nil, "why")
			if !run.run.Status.Open() && choices>>50&1 == 1 && run.run.Status != tutti.RunCompleted {
				run.reopen()
				if err := run.prog.Resume(run, tutti.Event{Kind: tutti.EventRetry}); err != nil {
					return
				}
				run.drain(t)
			}
		}
	})
}

func BenchmarkThreeSteps(b *testing.B) {
	docs := fakeDocs{KindWorkflow + "/w": value.Raw(`{"name": "w", "tasks": [
		{"name": "ta", "taskReferenceName": "a", "inputParameters": {"x": "${workflow.input.x}"}},
		{"name": "tb", "taskReferenceName": "b", "inputParameters": {"x": "${a.output.v}"}},
		{"name": "tc", "taskReferenceName": "c", "inputParameters": {"x": "${b.output.v}"}}],
		"outputParameters": {"v": "${c.output.v}"}}`)}
	first := newFakeRun(b, docs, "w", value.Raw(`{"x": 1}`))
	b.ReportAllocs()
	for b.Loop() {
		run := *first
		run.frames = map[tutti.FrameID]*tutti.Frame{0: {}}
		if err := run.prog.Start(&run); err != nil {
			b.Fatal(err)
		}
		for seq := tutti.Seq(1); seq <= 3; seq++ {
			run.quietly(b, seq)
		}
	}
}
