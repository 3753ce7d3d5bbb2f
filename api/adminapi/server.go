package adminapi

import (
	"net/url"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func listDefinitions(c *call) (any, error) {
	q := &query{c: c}
	kind := q.text("kind")
	if kind == "" {
		kind = tutti.DefinitionKind
	}
	out := []Definition{}
	for _, dialect := range c.svc.Dialects() {
		if want := q.text("dialect"); want != "" && want != dialect {
			continue
		}
		docs, err := c.svc.Documents(c.ctx, c.ns, dialect, kind)
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			out = append(out, showDefinition(d, false))
		}
	}
	return out, nil
}

func getDefinition(c *call) (any, error) {
	q := &query{c: c}
	ref := api.DocumentRef{
		Namespace: c.ns, Dialect: c.param("dialect"), Kind: q.text("kind"),
		Version: int(q.num("version", 0)),
	}
	if ref.Kind == "" {
		ref.Kind = tutti.DefinitionKind
	}
	name, err := url.PathUnescape(c.param("name"))
	if err != nil {
		q.keep(invalidQuery("name", c.param("name"), "an escaped name"))
	}
	if q.err != nil {
		return nil, q.err
	}
	ref.Name = name
	d, err := c.svc.Document(c.ctx, ref)
	if err != nil {
		return nil, err
	}
	return showDefinition(d, true), nil
}

func applyDefinitions(c *call) (any, error) {
	q := &query{c: c}
	dry := q.flag("dryRun")
	if q.err != nil {
		return nil, q.err
	}
	source, err := c.rawBody()
	if err != nil {
		return nil, err
	}
	res, err := c.opts.Appliers.Apply(
		c.ctx, c.ns, q.text("dialect"), q.text("filename"), source, dry)
	if err != nil {
		return nil, err
	}
	out := Applied{
		Stored: !dry && !res.Diagnostics.HasErrors(), Definitions: []Definition{},
		Diagnostics: append(value.Diagnostics{}, res.Diagnostics...),
	}
	for _, r := range res.Refs {
		out.Definitions = append(out.Definitions, showDefinition(engine.Document{
			Dialect: r.Dialect, Kind: r.Kind, Name: r.Name, Version: r.Version,
		}, false))
	}
	return out, nil
}

func listQueues(c *call) (any, error) {
	queues, err := c.svc.Queues(c.ctx, c.ns)
	out := make([]Queue, len(queues))
	for i, q := range queues {
		out[i] = showQueue(q)
	}
	return out, err
}

func getQueue(c *call) (any, error) {
	name, err := url.PathUnescape(c.param("queue"))
	if err != nil {
		return nil, invalidQuery("queue", c.param("queue"), "an escaped name")
	}
	q, err := c.svc.Queue(c.ctx, c.ns, name)
	if err != nil {
		return nil, err
	}
	out := showQueue(q)
	polls, err := c.svc.PollData(c.ctx, c.ns, name)
	for _, p := range polls {
		out.Workers = append(out.Workers, Worker{Name: p.Worker, LastPollMs: p.AtMs})
	}
	return out, err
}

func stats(c *call) (any, error) {
	st, err := c.svc.Stats(c.ctx, c.ns)
	if err != nil {
		return nil, err
	}
	by, exact, err := c.svc.Count(c.ctx, engine.RunQuery{Namespace: c.ns})
	if err != nil {
		return nil, err
	}
	out := Stats{
		Version: c.opts.Version, Healthy: true, Shards: st.Shards, Batches: st.Batches,
		Rows: st.Rows, Pending: st.Pending, Runs: map[string]int{}, Exact: exact,
		LagMs: st.TextLag.Milliseconds(),
	}
	if err := c.svc.Healthy(); err != nil {
		out.Healthy, out.Problem = false, err.Error()
	}
	for status, n := range by {
		out.Runs[status.String()] = n
	}
	return out, nil
}

func audit(c *call) (any, error) {
	st, err := c.svc.Audit(c.ctx, c.ns)
	if err != nil {
		return nil, err
	}
	out := Audit{
		Rounds: st.Rounds, Runs: st.Runs, Problems: st.Problems, Repairs: st.Repairs,
		TookMs: st.LastTook.Milliseconds(), Recent: []Problem{},
	}
	if !st.LastRound.IsZero() {
		out.LastMs = st.LastRound.UnixMilli()
	}
	for _, p := range st.Recent {
		v := Problem{Run: p.Run.String(), Text: p.Text}
		if p.Seq != 0 {
			v.Task = p.Run.TaskID(p.Seq)
		}
		out.Recent = append(out.Recent, v)
	}
	return out, nil
}

func openAPI(c *call) (any, error) {
	c.streaming = true
	c.w.Header().Set("Content-Type", "application/json")
	_, err := c.w.Write(c.doc)
	return nil, err
}
