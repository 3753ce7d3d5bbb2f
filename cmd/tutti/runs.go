package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// runView is a run as JSON, with the names of the native HTTP API.
type runView struct {
	ID            string            `json:"id"`
	Namespace     string            `json:"namespace"`
	Dialect       string            `json:"dialect"`
	Definition    string            `json:"definition"`
	Version       int32             `json:"version"`
	Status        string            `json:"status"`
	Reason        string            `json:"reason,omitempty"`
	Input         json.RawMessage   `json:"input,omitempty"`
	Output        json.RawMessage   `json:"output,omitempty"`
	CorrelationID string            `json:"correlationId,omitempty"`
	Priority      int32             `json:"priority,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
	ParentRun     string            `json:"parentRun,omitempty"`
	StartMs       int64             `json:"startMs"`
	UpdateMs      int64             `json:"updateMs"`
	EndMs         int64             `json:"endMs,omitempty"`
}

func viewOf(r *tuttipb.Run) runView {
	return runView{
		ID: r.RunId, Namespace: r.Namespace, Dialect: r.Dialect, Definition: r.Definition,
		Version: r.Version, Status: r.Status.String(), Reason: r.Reason, Input: r.Input,
		Output: r.Output, CorrelationID: r.CorrelationId, Priority: r.Priority,
		Labels: r.Labels, ParentRun: r.ParentRunId, StartMs: r.StartMs, UpdateMs: r.UpdateMs,
		EndMs: r.EndMs,
	}
}

// clock formats a time in Unix milliseconds for people.
func clock(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).Format("2006-01-02 15:04:05")
}

// took formats how long a run lasted, or lasts by now.
func took(r *tuttipb.Run) string {
	end := time.UnixMilli(r.EndMs)
	if r.EndMs == 0 {
		end = time.Now()
	}
	return round(end.Sub(time.UnixMilli(r.StartMs))).String()
}

// round leaves three digits or so.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

func ended(r *tuttipb.Run) bool {
	return r.Status != tuttipb.Run_RUNNING && r.Status != tuttipb.Run_PAUSED
}

type runCmd struct {
	remote
	Name           string            `arg:"" help:"Name of the definition."`
	Input          string            `short:"i" placeholder:"JSON" help:"Input: JSON text, @FILE, or - for the standard input."`
	Wait           bool              `short:"w" help:"Wait for the end and print the output; exit with 1 if the run failed."`
	Timeout        time.Duration     `default:"0s" help:"How long --wait waits; 0 is forever. The run goes on."`
	Dialect        string            `placeholder:"NAME" help:"Dialect of the definition; needed only when the name is not unique."`
	Revision       int32             `placeholder:"N" help:"Version of the definition; the newest by default."`
	CorrelationID  string            `placeholder:"ID" help:"Identifier that runs can be found by."`
	Priority       int32             `default:"0" help:"Priority of the run's tasks, 0 to 99; higher comes first."`
	Label          map[string]string `placeholder:"NAME=VALUE" help:"Labels that runs can be found by."`
	IdempotencyKey string            `placeholder:"KEY" help:"Start at most one run of the definition with this key; a repeated call answers that one."`
}

// Help describes the command.
func (runCmd) Help() string {
	return "Prints the identifier of the run or, with --wait, its output as JSON."
}

// Run starts a run.
func (c *runCmd) Run(s *session) error {
	input, err := s.readInput("--input", c.Input)
	if err != nil {
		return err
	}
	req := &tuttipb.StartRequest{
		Namespace: c.Namespace, Dialect: c.Dialect, Definition: c.Name, Version: c.Revision,
		Input: input, CorrelationId: c.CorrelationID, Priority: c.Priority, Labels: c.Label,
		IdempotencyKey: c.IdempotencyKey,
	}
	if c.IdempotencyKey != "" {
		req.IdempotencyStrategy = tuttipb.StartRequest_RETURN_EXISTING
	}
	return c.call(func(p *peer) error {
		rep, err := p.runs.Start(s.ctx, req)
		if err != nil {
			return err
		}
		if !c.Wait {
			return c.started(s, rep)
		}
		r, err := p.wait(s.ctx, c.Namespace, rep.RunId, c.Timeout)
		if err != nil {
			return err
		}
		return c.finished(s, r)
	})
}

func (c *runCmd) started(s *session, rep *tuttipb.StartReply) error {
	if s.format == formatJSON {
		return s.json(map[string]any{"id": rep.RunId, "existing": rep.Existing})
	}
	s.printf("%s\n", rep.RunId)
	return nil
}

func (c *runCmd) finished(s *session, r *tuttipb.Run) error {
	switch {
	case s.format == formatJSON:
		if err := s.json(viewOf(r)); err != nil {
			return err
		}
	case len(r.Output) > 0 && ended(r):
		s.printf("%s\n", r.Output)
	}
	switch {
	case r.Status == tuttipb.Run_COMPLETED:
		return nil
	case !ended(r):
		return fmt.Errorf("run %s is still %s after %v\n"+
			"hint: `tutti explain %s` says what it waits for", r.RunId, r.Status, c.Timeout, r.RunId)
	}
	return fmt.Errorf("run %s %s: %s\nhint: `tutti history %s` shows its steps, "+
		"`tutti retry %s` goes on from what failed", r.RunId, strings.ToLower(r.Status.String()),
		cmp.Or(r.Reason, "no reason was given"), r.RunId, r.RunId)
}

// waitStep bounds one request, so that proxies do not cut it off.
const waitStep = 20 * time.Second

// wait returns a run once it has ended, or as it is after a time; 0 waits forever.
func (p *peer) wait(
	ctx context.Context, ns, id string, timeout time.Duration,
) (*tuttipb.Run, error) {
	until := time.Now().Add(timeout)
	for {
		step := waitStep
		if timeout > 0 {
			step = min(step, max(time.Until(until), 0))
		}
		r, err := p.runs.Get(ctx, &tuttipb.GetRunRequest{
			Namespace: ns, RunId: id, WaitMs: step.Milliseconds(),
		})
		if err != nil || ended(r) || (timeout > 0 && !time.Now().Before(until)) {
			return r, err
		}
	}
}

type listCmd struct {
	remote
	Status        []string          `short:"s" placeholder:"STATUS" help:"Only runs in these states: running, paused, completed, failed, timed_out, terminated."`
	Definition    string            `short:"d" placeholder:"NAME" help:"Only runs of this definition."`
	CorrelationID string            `placeholder:"ID" help:"Only runs with this correlation identifier."`
	Label         map[string]string `placeholder:"NAME=VALUE" help:"Only runs with these labels."`
	Parent        string            `placeholder:"RUN" help:"Only child runs of this run."`
	Since         time.Duration     `placeholder:"DURATION" help:"Only runs started within this time, such as 1h."`
	Limit         int               `default:"50" help:"Most runs to print."`
	Definitions   bool              `help:"List the definitions in place of runs."`
}

// Help describes the command.
func (listCmd) Help() string { return "Lists runs, the newest first." }

// Run lists runs or definitions.
func (c *listCmd) Run(s *session) error {
	if c.Definitions {
		return c.call(func(p *peer) error { return c.listDefinitions(s, p) })
	}
	req := &tuttipb.ListRunsRequest{
		Namespace: c.Namespace, Definition: c.Definition, CorrelationId: c.CorrelationID,
		Labels: c.Label, ParentRunId: c.Parent,
	}
	for _, name := range c.Status {
		st, ok := tuttipb.Run_Status_value[strings.ToUpper(strings.ReplaceAll(name, "-", "_"))]
		if !ok || st == 0 {
			return usagef("--status %s is no state of a run", name)
		}
		req.Statuses = append(req.Statuses, tuttipb.Run_Status(st))
	}
	if c.Since > 0 {
		req.StartFromMs = time.Now().Add(-c.Since).UnixMilli()
	}
	return c.call(func(p *peer) error {
		runs, more, err := p.list(s.ctx, req, c.Limit)
		if err != nil {
			return err
		}
		return printRuns(s, runs, more)
	})
}

// list returns up to a number of runs, and whether there are more.
func (p *peer) list(
	ctx context.Context, req *tuttipb.ListRunsRequest, limit int,
) (runs []*tuttipb.Run, more bool, err error) {
	for len(runs) < limit {
		req.PageSize = int32(min(limit-len(runs), 1000))
		page, err := p.runs.List(ctx, req)
		if err != nil {
			return nil, false, err
		}
		runs = append(runs, page.Runs...)
		if req.Cursor = page.NextCursor; req.Cursor == "" {
			return runs, false, nil
		}
	}
	return runs[:limit], true, nil
}

func printRuns(s *session, runs []*tuttipb.Run, more bool) error {
	if s.format == formatJSON {
		views := make([]runView, len(runs))
		for i, r := range runs {
			views[i] = viewOf(r)
		}
		return s.json(map[string]any{"runs": views, "more": more})
	}
	t := table{head: []string{"RUN", "DEFINITION", "STATUS", "STARTED", "TOOK", "REASON"}}
	for _, r := range runs {
		t.add(r.RunId, r.Definition, r.Status, clock(r.StartMs), took(r), clip(r.Reason, 60))
	}
	if len(runs) == 0 {
		s.printf("no runs\n")
		return nil
	}
	t.print(s.Stdout)
	if more {
		s.printf("… and more; see them with --limit\n")
	}
	return nil
}

func (c *listCmd) listDefinitions(s *session, p *peer) error {
	var all []*tuttipb.Definition
	req := &tuttipb.ListDefinitionsRequest{Namespace: c.Namespace, NamePrefix: c.Definition}
	for len(all) < c.Limit {
		req.PageSize = int32(c.Limit - len(all))
		page, err := p.definitions.List(s.ctx, req)
		if err != nil {
			return err
		}
		all = append(all, page.Definitions...)
		if req.Cursor = page.NextCursor; req.Cursor == "" {
			break
		}
	}
	type view struct {
		Dialect  string `json:"dialect"`
		Name     string `json:"name"`
		Version  int32  `json:"version"`
		CreateMs int64  `json:"createMs"`
		UpdateMs int64  `json:"updateMs"`
	}
	views := make([]view, len(all))
	t := table{head: []string{"DEFINITION", "VERSION", "DIALECT", "UPDATED"}}
	for i, d := range all {
		views[i] = view{d.Ref.Dialect, d.Ref.Name, d.Ref.Version, d.CreateMs, d.UpdateMs}
		t.add(d.Ref.Name, d.Ref.Version, d.Ref.Dialect, clock(d.UpdateMs))
	}
	switch {
	case s.format == formatJSON:
		return s.json(map[string]any{"definitions": views})
	case len(all) == 0:
		s.printf("no definitions\n")
	default:
		t.print(s.Stdout)
	}
	return nil
}

// oneRun is a command about one run.
type oneRun struct {
	remote
	RunID string `arg:"" name:"run" help:"Identifier of the run."`
}

type getCmd struct{ oneRun }

// Run prints a run.
func (c *getCmd) Run(s *session) error {
	return c.call(func(p *peer) error {
		r, err := p.runs.Get(s.ctx, &tuttipb.GetRunRequest{
			Namespace: c.Namespace, RunId: c.RunID,
		})
		if err != nil {
			return err
		}
		if s.format == formatJSON {
			return s.json(viewOf(r))
		}
		printRun(s, r)
		return nil
	})
}

func printRun(s *session, r *tuttipb.Run) {
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		labels = append(labels, k+"="+r.Labels[k])
	}
	for _, line := range [][2]string{
		{"run", r.RunId},
		{"definition", fmt.Sprintf("%s version %d (%s)", r.Definition, r.Version, r.Dialect)},
		{"status", r.Status.String()},
		{"reason", r.Reason},
		{"started", clock(r.StartMs)},
		{"ended", clock(r.EndMs)},
		{"took", took(r)},
		{"correlation id", r.CorrelationId},
		{"parent", r.ParentRunId},
		{"labels", strings.Join(labels, " ")},
		{"input", string(r.Input)},
		{"output", string(r.Output)},
	} {
		if line[1] != "" {
			s.printf("%-15s %s\n", line[0], line[1])
		}
	}
}

type explainCmd struct{ oneRun }

// Run says what a run waits for.
func (c *explainCmd) Run(s *session) error {
	return c.call(func(p *peer) error {
		rep, err := p.runs.Explain(s.ctx, &tuttipb.ExplainRequest{
			Namespace: c.Namespace, RunId: c.RunID,
		})
		if err != nil {
			return err
		}
		if s.format == formatJSON {
			return s.json(explanationOf(c.RunID, rep))
		}
		s.printf("%s\n", rep.Summary)
		if len(rep.Waits) > 1 {
			for _, w := range rep.Waits {
				s.printf("- %s\n", w.Sentence)
			}
		}
		if rep.Omitted > 0 {
			s.printf("… and %d more\n", rep.Omitted)
		}
		return nil
	})
}

// explanationOf is an explanation as JSON, with the names of the native HTTP API.
func explanationOf(id string, rep *tuttipb.ExplainReply) any {
	type wait struct {
		Code    string `json:"code"`
		Text    string `json:"text"`
		Name    string `json:"name,omitempty"`
		Task    string `json:"task,omitempty"`
		Queue   string `json:"queue,omitempty"`
		Worker  string `json:"worker,omitempty"`
		SinceMs int64  `json:"sinceMs,omitempty"`
		UntilMs int64  `json:"untilMs,omitempty"`
	}
	waits := make([]wait, len(rep.Waits))
	for i, w := range rep.Waits {
		waits[i] = wait{
			w.Kind, w.Sentence, w.Name, w.TaskId, w.Queue, w.WorkerId, w.SinceMs, w.WakeMs,
		}
	}
	return map[string]any{
		"run": id, "status": rep.Status.String(), "text": rep.Summary, "waits": waits,
		"omitted": rep.Omitted,
	}
}

type historyCmd struct {
	oneRun
	Follow bool   `short:"f" help:"Wait for further events until the run ends."`
	After  uint64 `default:"0" help:"Begin after the event with this number."`
}

// Run prints the history of a run.
func (c *historyCmd) Run(s *session) error {
	return c.call(func(p *peer) error {
		stream, err := p.runs.History(s.ctx, &tuttipb.HistoryRequest{
			Namespace: c.Namespace, RunId: c.RunID, AfterSequence: c.After, Follow: c.Follow,
		})
		if err != nil {
			return err
		}
		for {
			ev, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if err := printEvent(s, ev); err != nil {
				return err
			}
		}
	})
}

// printEvent prints one event on one line, as JSON too, so that a stream can be followed.
func printEvent(s *session, ev *tuttipb.HistoryEvent) error {
	if s.format != formatJSON {
		s.printf("%5d  %s  %-14s %-24s %s\n", ev.Sequence,
			time.UnixMilli(ev.TimeMs).Format("15:04:05.000"), ev.Type, ev.Name,
			clip(string(ev.Data), 100))
		return nil
	}
	return json.NewEncoder(s.Stdout).Encode(struct {
		Number uint64          `json:"number"`
		TimeMs int64           `json:"timeMs"`
		Kind   string          `json:"kind"`
		Task   string          `json:"task,omitempty"`
		Name   string          `json:"name,omitempty"`
		Data   json.RawMessage `json:"data,omitempty"`
	}{ev.Sequence, ev.TimeMs, ev.Type, ev.TaskId, ev.Name, ev.Data})
}
