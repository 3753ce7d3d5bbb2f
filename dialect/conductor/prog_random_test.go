package conductor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// author writes random definitions.
type author struct {
	rng   *rand.Rand
	steps int
}

func (a *author) chain(depth int) string {
	list := make([]string, 1+a.rng.IntN(3))
	for i := range list {
		list[i] = a.step(depth)
	}
	return strings.Join(list, ",")
}

func (a *author) ref(prefix string) string {
	a.steps++
	return fmt.Sprintf("%s%d", prefix, a.steps)
}

func (a *author) step(depth int) string {
	kind := a.rng.IntN(10)
	if depth == 0 {
		kind = a.rng.IntN(5)
	}
	switch kind {
	case 0, 1, 2:
		extra := []string{"", "", "", `,"optional":true`, `,"permissive":true`}[a.rng.IntN(5)]
		return fmt.Sprintf(`{"name":"t","taskReferenceName":"%s","retryCount":%d%s}`,
			a.ref("t"), a.rng.IntN(2), extra)
	case 3:
		return fmt.Sprintf(`{"name":"n","taskReferenceName":"%s","type":"NOOP"}`, a.ref("n"))
	case 4:
		return fmt.Sprintf(`{"name":"s","taskReferenceName":"%s","type":"SUB_WORKFLOW",`+
			`"subWorkflowParam":{"name":"sub"}}`, a.ref("s"))
	case 5, 6:
		return a.fork(depth)
	case 7:
		return fmt.Sprintf(`{"name":"f","taskReferenceName":"%s","type":"FORK_JOIN_DYNAMIC",`+
			`"dynamicForkTasksParam":"d","inputParameters":{"d":[%s,%s]}},`+
			`{"name":"j","taskReferenceName":"%s","type":"JOIN"}`,
			a.ref("d"), a.single(depth-1), a.single(depth-1), a.ref("j"))
	case 8:
		return fmt.Sprintf(`{"name":"c","taskReferenceName":"%s","type":"SWITCH",`+
			`"evaluatorType":"value-param","expression":"x","inputParameters":{"x":"%d"},`+
			`"decisionCases":{"0":[%s],"1":[%s]}}`,
			a.ref("c"), a.rng.IntN(3), a.chain(depth-1), a.chain(depth-1))
	}
	ref := a.ref("l")
	return fmt.Sprintf(`{"name":"l","taskReferenceName":"%s","type":"DO_WHILE",`+
		`"loopCondition":"$.%s.iteration < %d","loopOver":[%s]}`,
		ref, ref, 1+a.rng.IntN(3), a.chain(depth-1))
}

// single is a step that is one task of a dynamic fork; those that come with a JOIN are not.
func (a *author) single(depth int) string {
	for {
		if s := a.step(max(depth, 0)); !strings.Contains(s, `"JOIN"`) ||
			strings.Contains(s[:60], "SWITCH") || strings.Contains(s[:60], "DO_WHILE") {
			return s
		}
	}
}

func (a *author) fork(depth int) string {
	n := 1 + a.rng.IntN(3)
	branches := make([]string, n)
	var last []string
	for i := range branches {
		chain := a.chain(depth - 1)
		ref := a.ref("e")
		branches[i] = fmt.Sprintf(`[%s,{"name":"t","taskReferenceName":"%s"}]`, chain, ref)
		last = append(last, `"`+ref+`"`)
	}
	joinOn := strings.Join(last, ",")
	if a.rng.IntN(3) == 0 {
		joinOn = ""
	}
	return fmt.Sprintf(`{"name":"f","taskReferenceName":"%s","type":"FORK_JOIN","forkTasks":[%s]},`+
		`{"name":"j","taskReferenceName":"%s","type":"JOIN","joinOn":[%s]}`,
		a.ref("f"), strings.Join(branches, ","), a.ref("j"), joinOn)
}

// TestRandomRuns drives random definitions with random outcomes, and random operators who
// retry and rerun what failed. In the end everything succeeds, and the run must complete with
// all its books balanced.
func TestRandomRuns(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomRun(t, seed) })
	}
}

func randomRun(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	a := &author{rng: rng}
	def := fmt.Sprintf(`{"name":"w","tasks":[%s]}`, a.chain(3))
	var history []string
	defer func() {
		if t.Failed() {
			t.Logf("%s\n%s", def, strings.Join(history, "\n"))
		}
	}()
	docs := fakeDocs{KindWorkflow + "/w": value.Raw(def)}
	run := newFakeRun(t, docs, "w", nil)
	run.start(t)
	trouble, again := 12, 2
	for n := 0; run.run.Status != tutti.RunCompleted || again > 0; n++ {
		if n > 5000 {
			t.Fatalf("the run does not end\n%s", run.brief())
		}
		if strings.Contains(run.run.Reason, "can never end") ||
			strings.Contains(run.run.Reason, "program error") {
			t.Fatalf("%s\n%s", run.run.Reason, run.brief())
		}
		if run.run.Status == tutti.RunCompleted {
			again--
			checkBooks(t, run)
		}
		if !run.run.Status.Open() {
			history = append(history, operate(t, run, rng))
			continue
		}
		var open []*tutti.Task
		for task := range run.OpenTasks() {
			if task.Kind != tutti.Scope {
				open = append(open, task)
			}
		}
		if len(open) == 0 {
			t.Fatalf("nothing to do, but the run is open\n%s", run.brief())
		}
		task := open[rng.IntN(len(open))]
		status := tutti.Completed
		if trouble > 0 && rng.IntN(4) == 0 {
			trouble--
			status = []tutti.TaskStatus{tutti.Failed, tutti.Fatal, tutti.TimedOut}[rng.IntN(3)]
		}
		if trouble > 0 && rng.IntN(25) == 0 {
			trouble--
			history = append(history, "terminate")
			run.EndRun(tutti.RunTerminated, nil, "by hand", 0)
			continue
		}
		history = append(history, fmt.Sprintf("%d %s %s", task.Seq, task.Name, status))
		run.finish(t, task.Seq, status, value.Raw(`{"v":1}`), "why")
	}
	checkBooks(t, run)
}

// checkBooks looks at a run that has completed.
func checkBooks(t *testing.T, run *fakeRun) {
	t.Helper()
	if len(run.frames) != 1 {
		t.Errorf("%d frames are left open\n%s", len(run.frames)-1, run.brief())
	}
	root := run.frames[0].State.(*rootState)
	if root.scopes != 0 || root.pending != 0 || run.run.OpenTasks != 0 {
		t.Errorf("books do not balance: %+v, %d tasks open", root, run.run.OpenTasks)
	}
	for _, task := range run.tasks {
		if task != nil && !task.Retried && !task.Status.Successful() {
			t.Errorf("task %s of a completed run is %s\n%s", task.Name, task.Status, run.brief())
		}
	}
}

// operate retries or reruns a run that ended badly, and says which.
func operate(t *testing.T, run *fakeRun, rng *rand.Rand) string {
	t.Helper()
	run.reopen()
	var tasks []*tutti.Task
	for _, task := range run.tasks {
		if task != nil && !task.Retried {
			tasks = append(tasks, task)
		}
	}
	if rng.IntN(2) == 0 || !slices.ContainsFunc(tasks, bad) {
		task := tasks[rng.IntN(len(tasks))]
		run.resume(t, tutti.Event{Kind: tutti.EventRerun, Seq: task.Seq})
		return fmt.Sprintf("rerun %d %s", task.Seq, task.Name)
	}
	deep := rng.IntN(2) == 0
	run.resume(t, tutti.Event{Kind: tutti.EventRetry, Deep: deep})
	return fmt.Sprintf("retry deep=%v", deep)
}

// brief lists the tasks without their payloads.
func (f *fakeRun) brief() string {
	var b strings.Builder
	for _, t := range f.tasks {
		if t != nil {
			fmt.Fprintf(&b, "%d %s %s %s frame=%d of=%d\n", t.Seq, t.Name, t.Type,
				StatusName(t.Status), t.Frame, t.RetryOf)
		}
	}
	for id := range f.nextID + 1 {
		if frame, ok := f.frames[id]; ok {
			fmt.Fprintf(&b, "frame %d in %d: %+v\n", id, frame.Parent, frame.State)
		}
	}
	return b.String() + f.status()
}
