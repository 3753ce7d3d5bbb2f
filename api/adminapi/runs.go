package adminapi

import (
	"cmp"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
)

var duplicatePolicies = map[string]tutti.DuplicatePolicy{
	"": tutti.DuplicateFail, "fail": tutti.DuplicateFail, "return": tutti.DuplicateReturn,
	"fail-on-running": tutti.DuplicateFailOnRunning,
}

func startRun(c *call) (any, error) {
	var in StartRequest
	if err := c.body(&in); err != nil {
		return nil, err
	}
	policy, ok := duplicatePolicies[in.OnDuplicate]
	if !ok {
		return nil, invalidQuery("onDuplicate", in.OnDuplicate, "fail, return or fail-on-running")
	}
	spec := tutti.RunSpec{
		Namespace: c.ns, Dialect: in.Dialect, Definition: in.Definition, Version: in.Version,
		Input: in.Input, CorrelationID: in.CorrelationID, Priority: in.Priority,
		CreatedBy: in.CreatedBy, Labels: in.Labels, IdempotencyKey: in.IdempotencyKey,
		OnDuplicate: policy,
	}
	if in.Source != nil {
		spec.Source = &tutti.Source{
			Dialect: in.Dialect, Name: cmp.Or(in.Definition, "inline"), Version: in.Version,
			Body: in.Source,
		}
	}
	st, err := c.svc.Start(c.ctx, spec)
	if err != nil {
		return nil, err
	}
	out := StartReply{ID: st.ID.String(), Existing: st.Existing}
	if in.WaitMs > 0 {
		r, err := c.svc.WaitEnd(c.ctx, c.ns, st.ID, time.Duration(in.WaitMs)*time.Millisecond)
		if err != nil {
			return nil, err
		}
		out.Run = showRun(r, true)
	}
	return out, nil
}

// listRuns answers from the index where that is enough, and searches otherwise.
func listRuns(c *call) (any, error) {
	q := &query{c: c}
	s := api.Query{
		Namespace: c.ns, Statuses: q.statuses(), Definitions: q.list("definition"),
		Version: int(q.num("version", 0)), FromMs: q.moment("from"), ToMs: q.moment("to"),
		EndFromMs: q.moment("endFrom"), EndToMs: q.moment("endTo"),
		CorrelationID: q.text("correlationId"), Labels: q.labels(), Text: q.text("text"),
		TopLevel: q.flag("topLevel"), Offset: int(q.num("offset", 0)), Limit: int(q.num("limit", 0)),
		Sort: q.sort(),
	}
	payloads, cursor := q.flag("payloads"), q.text("cursor")
	for _, id := range append(q.list("id"), q.list("parent")...) {
		run, err := tutti.ParseRunID(id)
		q.keep(err)
		s.IDs = append(s.IDs, run)
	}
	if n := len(q.list("parent")); n > 0 {
		s.Parent, s.IDs = s.IDs[len(s.IDs)-1], s.IDs[:len(s.IDs)-n]
	}
	switch {
	case q.err != nil:
		return nil, q.err
	case simple(&s):
		return c.list(&s, cursor, payloads)
	case cursor != "" && (len(s.Sort) > 0 || s.Offset > 0):
		return nil, invalidQuery("cursor", cursor, "possible together with sort or offset")
	}
	if err := s.PastCursor(cursor); err != nil {
		return nil, err
	}
	res, err := c.svc.Search(c.ctx, s)
	if err != nil {
		return nil, err
	}
	page := RunPage{
		Runs: []*Run{}, Total: res.Total, Partial: res.Partial, LagMs: res.Lag.Milliseconds(),
	}
	for _, r := range res.Runs {
		page.Runs = append(page.Runs, showRun(r, payloads))
	}
	if n := len(res.Runs); n > 0 && n < res.Total-s.Offset && len(s.Sort) == 0 {
		page.Next = api.CursorAfter(entryOf(res.Runs[n-1]))
	}
	return page, nil
}

func entryOf(r *tutti.Run) engine.IndexEntry {
	return engine.IndexEntry{ID: r.ID, StartMs: r.StartMs}
}

// simple reports whether the index alone can answer a query, a page at a time.
func simple(s *api.Query) bool {
	return s.Version == 0 && s.EndFromMs == 0 && s.EndToMs == 0 && s.CorrelationID == "" &&
		len(s.Labels) == 0 && s.Text == "" && !s.TopLevel && s.Offset == 0 && len(s.Sort) == 0 &&
		s.Parent.IsZero() && len(s.IDs) == 0
}

func (c *call) list(s *api.Query, cursor string, payloads bool) (any, error) {
	lq := api.ListQuery{Cursor: cursor, Limit: s.Limit}
	lq.RunQuery = engine.RunQuery{
		Namespace: s.Namespace, Statuses: s.Statuses, Definitions: s.Definitions,
		FromMs: s.FromMs, ToMs: s.ToMs,
	}
	found, err := c.svc.List(c.ctx, lq)
	if err != nil {
		return nil, err
	}
	page := RunPage{Runs: []*Run{}, Next: found.Next}
	for _, e := range found.Entries {
		r, err := c.svc.Run(c.ctx, c.ns, e.ID)
		switch {
		case err == nil:
			page.Runs = append(page.Runs, showRun(r, payloads))
		case tutti.KindOf(err) != tutti.NotFound: // else it was removed since
			return nil, err
		}
	}
	return page, nil
}

func (q *query) labels() map[string]string {
	labels := map[string]string{}
	for _, text := range q.c.r.URL.Query()["label"] {
		name, val, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			q.keep(invalidQuery("label", text, "name=value"))
		}
		labels[name] = val
	}
	return labels
}

var sortFields = map[string]api.SortField{
	"start": api.SortStart, "end": api.SortEnd, "definition": api.SortDefinition,
	"status": api.SortStatus, "update": api.SortUpdate, "priority": api.SortPriority,
}

func (q *query) sort() (keys []api.SortKey) {
	for _, text := range q.list("sort") {
		name, desc := strings.CutPrefix(text, "-")
		f, ok := sortFields[name]
		if !ok {
			q.keep(invalidQuery("sort", text, "start, end, definition, status, update or priority"))
		}
		keys = append(keys, api.SortKey{Field: f, Desc: desc})
	}
	return keys
}

func getRun(c *call) (any, error) {
	q := &query{c: c}
	wait := q.num("waitMs", 0)
	id, err := c.run()
	if err = cmp.Or(q.err, err); err != nil {
		return nil, err
	}
	r, err := c.svc.WaitEnd(c.ctx, c.ns, id, time.Duration(wait)*time.Millisecond)
	if err != nil {
		return nil, err
	}
	return showRun(r, true), nil
}

func explainRun(c *call) (any, error) {
	id, err := c.run()
	if err != nil {
		return nil, err
	}
	x, err := c.svc.Explain(c.ctx, c.ns, id)
	if err != nil {
		return nil, err
	}
	return showExplanation(x), nil
}

// maxTaskPage bounds the attempts of one page.
const maxTaskPage = 1000

func listTasks(c *call) (any, error) {
	q := &query{c: c}
	limit := int(min(max(q.num("limit", 100), 1), maxTaskPage))
	from := tutti.Seq(q.num("from", 1))
	onlyOpen := q.text("status") == "open"
	id, err := c.run()
	if err = cmp.Or(q.err, err); err != nil {
		return nil, err
	}
	page := TaskPage{Tasks: []Task{}}
	take := func(t *tutti.Task) bool {
		if len(page.Tasks) == limit {
			page.Next = int(t.Seq)
			return false
		}
		page.Tasks = append(page.Tasks, showTask(id, t))
		return true
	}
	err = c.svc.WithRun(c.ctx, c.ns, id, func(v *api.RunView) error {
		if onlyOpen {
			return openTasks(v, from, take)
		}
		return v.Tasks(from, take)
	})
	return page, err
}

func openTasks(v *api.RunView, from tutti.Seq, take func(*tutti.Task) bool) error {
	open, err := v.OpenTasks()
	if err != nil {
		return err
	}
	for _, seq := range open {
		if seq < from {
			continue
		}
		t, err := v.Task(seq)
		if err != nil {
			return err
		}
		if !take(t) {
			return nil
		}
	}
	return nil
}

func getTask(c *call) (any, error) {
	id, seq, err := c.task()
	if err != nil {
		return nil, err
	}
	_, t, err := c.svc.Task(c.ctx, c.ns, id, seq)
	if err != nil {
		return nil, err
	}
	return showTask(id, t), nil
}

// LogLine is a line that a worker logged.
type LogLine struct {
	TimeMs int64  `json:"timeMs"`
	Text   string `json:"text"`
}

func taskLogs(c *call) (any, error) {
	id, seq, err := c.task()
	if err != nil {
		return nil, err
	}
	lines, err := c.svc.Logs(c.ctx, c.ns, id, seq)
	out := make([]LogLine, len(lines))
	for i, l := range lines {
		out[i] = LogLine{TimeMs: l.TimeMs, Text: l.Text}
	}
	return out, err
}

func runDefinition(c *call) (any, error) {
	id, err := c.run()
	if err != nil {
		return nil, err
	}
	var out Definition
	err = c.svc.WithRun(c.ctx, c.ns, id, func(v *api.RunView) error {
		src, err := v.Source()
		if err == nil {
			out = Definition{
				Dialect: src.Dialect, Kind: tutti.DefinitionKind, Name: src.Name,
				Version: src.Version, Body: src.Body,
			}
		}
		return err
	})
	return out, err
}
