package engine_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

// play is the state of one script: runs and hand-outs are numbered in order.
type play struct {
	h    *enginetest.Harness
	runs []tutti.RunID
	outs []*engine.HandOut
}

// TestScripts plays testdata/scripts. Each is played with a crash after every batch, so the
// results must not depend on what a shard remembers.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		p := &play{h: enginetest.New(t, enginetest.Options{CrashEverywhere: true})}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			text, err := p.do(t, d)
			if err != nil {
				return "error: " + err.Error() + "\n"
			}
			p.h.CheckInvariants()
			return text
		})
	})
}

func (p *play) do(t *testing.T, d *datadriven.TestData) (string, error) {
	switch d.Cmd {
	case "define":
		p.h.Define(d.CmdArgs[0].Key, d.Input)
		return "", nil
	case "start":
		return p.start(t, d)
	case "poll":
		return p.poll(t, d), nil
	case "complete", "fail", "callback", "give-back", "undelivered":
		return p.report(t, d)
	case "signal", "pause", "resume", "terminate", "retry", "restart", "rerun", "skip", "remove":
		return p.operate(t, d)
	case "advance":
		ms, err := strconv.ParseInt(d.CmdArgs[0].Key, 10, 64)
		if err == nil {
			p.h.Advance(ms)
		}
		return "", err
	case "dump":
		return p.h.Dump(p.run(t, d)), nil
	case "explain":
		return p.explain(t, d), nil
	case "history":
		return p.history(t, d), nil
	}
	return "", fmt.Errorf("unknown command %s", d.Cmd)
}

func (p *play) start(t *testing.T, d *datadriven.TestData) (string, error) {
	spec := tutti.RunSpec{Definition: d.CmdArgs[0].Key}
	var limit string
	d.MaybeScanArgs(t, "corr", &spec.CorrelationID)
	d.MaybeScanArgs(t, "timeout", &spec.TimeoutMs)
	d.MaybeScanArgs(t, "priority", &spec.Priority)
	d.MaybeScanArgs(t, "key", &spec.IdempotencyKey)
	if d.MaybeScanArgs(t, "limit", &limit); limit != "" {
		spec.Limit = &tutti.RunLimit{Key: limit, Concurrency: 1}
	}
	st, err := p.h.StartError(spec)
	if err != nil {
		return "", err
	}
	p.runs = append(p.runs, st.ID)
	return fmt.Sprintf("run %d\n", len(p.runs)), nil
}

func (p *play) poll(t *testing.T, d *datadriven.TestData) string {
	worker, session := "w", int64(0)
	d.MaybeScanArgs(t, "worker", &worker)
	d.MaybeScanArgs(t, "session", &session)
	out := p.h.PollSession(d.CmdArgs[0].Key, worker, session)
	if out == nil {
		return "nothing\n"
	}
	p.outs = append(p.outs, out)
	return fmt.Sprintf("hand-out %d: %s, attempt %d, token %d, input %s\n", len(p.outs),
		out.Task.Name, out.Task.Attempt, out.Task.Token, out.Task.Input)
}

func (p *play) out(t *testing.T, d *datadriven.TestData) *engine.HandOut {
	n, err := strconv.Atoi(d.CmdArgs[0].Key)
	if err != nil || n < 1 || n > len(p.outs) {
		d.Fatalf(t, "there is no hand-out %s", d.CmdArgs[0].Key)
	}
	return p.outs[n-1]
}

func (p *play) report(t *testing.T, d *datadriven.TestData) (string, error) {
	out := p.out(t, d)
	o := engine.Outcome{Worker: "w"}
	if d.Input != "" {
		o.Output = value.Raw(d.Input)
	}
	switch d.Cmd {
	case "complete":
		o.Status = tutti.Completed
	case "fail":
		o.Status, o.Reason = tutti.Failed, "no luck"
	case "callback":
		o.Status, o.Requeue = tutti.Running, true
		d.MaybeScanArgs(t, "after", &o.CallbackMs)
	default:
		_, err := p.h.Do(engine.ReturnLease{
			Run: out.Run.ID, Seq: out.Task.Seq, Token: out.Task.Token,
			Undelivered: d.Cmd == "undelivered",
		})
		return "", err
	}
	task, err := p.h.CompleteError(out, o)
	return task.Status.String() + "\n", err
}

func (p *play) run(t *testing.T, d *datadriven.TestData) tutti.RunID {
	n, err := strconv.Atoi(d.CmdArgs[0].Key)
	if err != nil || n < 1 || n > len(p.runs) {
		d.Fatalf(t, "there is no run %s", d.CmdArgs[0].Key)
	}
	return p.runs[n-1]
}

func (p *play) operate(t *testing.T, d *datadriven.TestData) (string, error) {
	id := p.run(t, d)
	var seq int
	var name string
	d.MaybeScanArgs(t, "task", &seq)
	d.MaybeScanArgs(t, "name", &name)
	cmd := map[string]engine.Command{
		"signal": engine.Complete{Run: id, Seq: tutti.Seq(seq), Outcome: engine.Outcome{
			Status: tutti.Completed, Output: value.Raw(d.Input), Worker: "signal",
		}},
		"pause": engine.Pause{Run: id, By: "op"}, "resume": engine.Resume{Run: id, By: "op"},
		"terminate": engine.Terminate{Run: id, Reason: "told to"},
		"retry":     engine.Retry{Run: id}, "restart": engine.Restart{Run: id},
		"rerun":  engine.Rerun{Run: id, Seq: tutti.Seq(seq)},
		"skip":   engine.Skip{Run: id, Name: name, Output: value.Raw(`"skipped"`)},
		"remove": engine.Remove{Run: id},
	}[d.Cmd]
	_, err := p.h.Do(cmd)
	return "", err
}

func (p *play) explain(t *testing.T, d *datadriven.TestData) (text string) {
	for _, w := range p.h.Explain(p.run(t, d)) {
		text += w.Code + ": " + p.rename(w.Text) + "\n"
	}
	return text
}

// rename replaces identifiers of runs and tasks, which nobody can read.
func (p *play) rename(text string) string {
	for n, id := range p.runs {
		text = strings.ReplaceAll(text, id.String(), fmt.Sprintf("#%d", n+1))
		for seq := range tutti.Seq(20) {
			text = strings.ReplaceAll(text, id.TaskID(seq), fmt.Sprintf("#%d/%d", n+1, seq))
		}
	}
	return text
}

func (p *play) history(t *testing.T, d *datadriven.TestData) (text string) {
	id := p.run(t, d)
	for _, ev := range p.h.History(id) {
		text += fmt.Sprintf("%d +%d %s", ev.Number, ev.TimeMs-id.StartMs(), ev.Kind)
		if ev.Seq != 0 {
			text += fmt.Sprintf(" task %d", ev.Seq)
		}
		switch ev.Kind {
		case engine.HistoryTaskDone:
			text += " " + tutti.TaskStatus(ev.Status).String()
		case engine.HistoryRunEnded:
			text += " " + tutti.RunStatus(ev.Status).String()
		}
		for _, s := range []string{ev.Worker, ev.Note, string(ev.Detail)} {
			if s != "" {
				text += " " + s
			}
		}
		text += "\n"
	}
	return text
}
