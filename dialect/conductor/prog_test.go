package conductor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// script is the state of one datadriven file: a catalogue and a run.
type runScript struct {
	docs  fakeDocs
	run   *fakeRun
	lines map[tutti.Seq]string // tasks as they were last shown
	state string
}

// TestPrograms runs the scripts in testdata/program. Each command prints the tasks that it
// changed, and the run's status if it changed.
func TestPrograms(t *testing.T) {
	datadriven.Walk(t, "testdata/program", func(t *testing.T, path string) {
		s := &runScript{docs: fakeDocs{}}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			return s.do(t, d)
		})
	})
}

func (s *runScript) do(t *testing.T, d *datadriven.TestData) string {
	in := value.Raw(d.Input)
	if d.Input == "" {
		in = nil
	}
	switch d.Cmd {
	case "define", "taskdef":
		kind := map[string]string{"define": KindWorkflow, "taskdef": KindTaskDef}[d.Cmd]
		name, _ := in.Field("name")
		key, _ := name.Text()
		if _, err := in.Parse(); err != nil {
			d.Fatalf(t, "%v", err)
		}
		s.docs[kind+"/"+key] = in
		return ""
	case "start":
		s.run = newFakeRun(t, s.docs, argument(d, "name", "w"), in)
		s.lines, s.state = map[tutti.Seq]string{}, "run RUNNING"
		if d.HasArg("domains") {
			s.run.run.Routing = map[string]string{"*": argument(d, "domains", "")}
		}
		s.run.start(t)
	case "polled":
		s.run.polls[argument(d, "queue", "")] = s.run.now
		return ""
	case "complete", "fail", "fatal", "cancel", "timedout":
		s.end(t, d, in)
	case "poll":
		task := s.open(t, d)
		task.Status, task.StartedMs, task.UpdatedMs = tutti.Running, s.run.now, s.run.now
		task.Polls++
	case "advance":
		var ms int64
		d.ScanArgs(t, "ms", &ms)
		s.run.advance(t, ms)
	case "timeout":
		s.run.resume(t, tutti.Event{Kind: tutti.EventRunTimeout})
	case "terminate":
		s.run.EndRun(tutti.RunTerminated, nil, "by hand", 0)
	case "retry":
		s.run.reopen()
		s.run.resume(t, tutti.Event{Kind: tutti.EventRetry, Deep: d.HasArg("deep")})
	case "rerun", "reopened", "skip":
		s.operate(t, d, in)
	case "dump":
		return s.run.dump()
	case "cells":
		return strings.Join(s.run.cellKeys(), "\n")
	case "explain":
		return Explain(s.run.prog, s.run, s.open(t, d))
	case "ref":
		return s.run.line(NewestByRef(s.run.prog, s.run, argument(d, "name", "")))
	case "failed":
		var names []string
		for _, task := range FailedTasks(s.run.prog, s.run) {
			names = append(names, task.Name)
		}
		return strings.Join(names, " ")
	case "started":
		var b strings.Builder
		for _, spec := range s.run.started {
			fmt.Fprintf(&b, "%s v%d corr=%s prio=%d inline=%v in=%s\n", spec.Definition, spec.Version,
				spec.CorrelationID, spec.Priority, spec.Source != nil, spec.Input)
		}
		return s.run.shorten(b.String())
	default:
		d.Fatalf(t, "unknown command %s", d.Cmd)
	}
	return s.changes()
}

func argument(d *datadriven.TestData, name, fallback string) string {
	for _, a := range d.CmdArgs {
		if a.Key == name {
			return strings.Join(a.Vals, ",")
		}
	}
	return fallback
}

func (s *runScript) open(t *testing.T, d *datadriven.TestData) *tutti.Task {
	task := s.run.open(argument(d, "ref", ""))
	if task == nil {
		d.Fatalf(t, "no open task of that name in\n%s", s.run.dump())
	}
	return task
}

func (s *runScript) end(t *testing.T, d *datadriven.TestData, out value.Raw) {
	status := map[string]tutti.TaskStatus{
		"complete": tutti.Completed, "fail": tutti.Failed, "fatal": tutti.Fatal,
		"cancel": tutti.CancelledTask, "timedout": tutti.TimedOut,
	}[d.Cmd]
	why := ""
	if status != tutti.Completed {
		why = argument(d, "why", "broke")
	}
	for _, ref := range strings.Split(argument(d, "ref", ""), ",") {
		task := s.run.open(ref)
		if task == nil {
			d.Fatalf(t, "no open task %s in\n%s", ref, s.run.dump())
		}
		s.run.finish(t, task.Seq, status, out, why)
	}
}

func (s *runScript) operate(t *testing.T, d *datadriven.TestData, in value.Raw) {
	name := argument(d, "ref", "")
	var seq tutti.Seq
	for _, task := range s.run.tasks {
		if task != nil && task.Name == name {
			seq = task.Seq
		}
	}
	switch d.Cmd {
	case "rerun":
		s.run.reopen()
		if seq == 0 {
			s.run.wipe()
		}
		s.run.resume(t, tutti.Event{Kind: tutti.EventRerun, Seq: seq, Input: in})
	case "reopened":
		s.run.reopen()
		s.run.resume(t, tutti.Event{Kind: tutti.EventReopened, Seq: seq})
	case "skip":
		s.run.resume(t, tutti.Event{Kind: tutti.EventSkip, Name: name, Output: in})
	}
}

// wipe removes all tasks, frames and cells, as the engine does for a restart.
func (f *fakeRun) wipe() {
	for i := range f.tasks {
		f.tasks[i] = nil
	}
	f.cells = map[string][]byte{}
	f.frames = map[tutti.FrameID]*tutti.Frame{0: {}}
}

// changes shows what changed since the last command.
func (s *runScript) changes() string {
	var b strings.Builder
	for i, task := range s.run.tasks {
		seq := tutti.Seq(i + 1)
		line := "gone"
		if task != nil {
			line = s.run.line(task)
		}
		if line != s.lines[seq] && (task != nil || s.lines[seq] != "") {
			if task == nil {
				fmt.Fprintf(&b, "%d ", seq)
			}
			b.WriteString(line + "\n")
		}
		s.lines[seq] = line
	}
	if state := s.run.status(); state != s.state {
		b.WriteString(state + "\n")
		s.state = state
	}
	return b.String()
}
