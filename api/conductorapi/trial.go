package conductorapi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/value"
)

func trialRoutes() []route {
	return []route{{
		"POST", "/api/workflow/test", api.StartRuns,
		"Run a workflow with given outcomes of its tasks, without a trace",
		(*API).tryWorkflow, nil, "WorkflowTestRequest", "Workflow",
	}}
}

// The bounds of a trial.
const (
	trialTime  = 30 * time.Second
	trialSteps = 10_000
	trialDocs  = 10_000 // definitions that the workflow may refer to
	// trialQuiet is how long nothing must happen for a trial to be over.
	trialQuiet = 100 * time.Millisecond
)

// mocks are the outcomes of tasks by reference name, each list in the order of attempts.
type mocks struct {
	tasks map[string][]engine.Outcome
	subs  map[string]*mocks
}

// readMocks reads the members of a WorkflowTestRequest that a start request does not have.
func readMocks(raw value.Raw, depth int) (*mocks, error) {
	if depth > maxNesting {
		return nil, malformed(fmt.Errorf("sub-workflows are nested too deep"))
	}
	m := &mocks{tasks: map[string][]engine.Outcome{}, subs: map[string]*mocks{}}
	b := bodyReader{raw: raw}
	for ref, list := range b.object("taskRefToMockOutput").Members() {
		for e := range list.Elements() {
			inner := bodyReader{raw: e}
			st, err := readStatus(orCompleted(inner.text("status")))
			if err != nil {
				return nil, err
			}
			o := engine.Outcome{Status: st, Output: inner.object("output"), Requeue: true}
			if o.Output == nil {
				o.Output = value.Raw("{}")
			}
			if inner.err != nil {
				return nil, inner.err
			}
			m.tasks[ref] = append(m.tasks[ref], o)
		}
	}
	for ref, sub := range b.object("subWorkflowTestRequest").Members() {
		inner, err := readMocks(sub, depth+1)
		if err != nil {
			return nil, err
		}
		m.subs[ref] = inner
	}
	return m, b.err
}

func orCompleted(status string) string {
	if status == "" {
		return "COMPLETED"
	}
	return status
}

// plain returns the name of a task without the iterations that it is in.
func plain(name string) string {
	base, _, _ := strings.Cut(name, "__")
	return base
}

// take returns the next outcome of a step.
func (m *mocks) take(name string) (o engine.Outcome, ok bool) {
	for _, ref := range []string{name, plain(name)} {
		if list := m.tasks[ref]; len(list) > 0 {
			m.tasks[ref] = list[1:]
			return list[0], true
		}
	}
	return o, false
}

func (m *mocks) sub(name string) *mocks {
	for _, ref := range []string{name, plain(name)} {
		if s := m.subs[ref]; s != nil {
			return s
		}
	}
	return &mocks{}
}

// trial is a server in memory with the definitions of the real one, in which nothing performs
// tasks: their outcomes are the given ones.
type trial struct {
	api   *API
	run   *runner.Runner
	store *memstore.Store
	steps int
}

func (a *API) newTrial(ctx context.Context) (*trial, error) {
	st, err := memstore.Open(memstore.Options{Shards: 1})
	if err != nil {
		return nil, err
	}
	dialects := []tutti.Dialect{conductor.Dialect{}}
	run, err := runner.Open(ctx, runner.Options{Store: st, Dialects: dialects, Logger: a.log})
	if err != nil {
		return nil, err
	}
	svc := api.New(api.Options{Runner: run, Dialects: dialects, Logger: a.log})
	t := &trial{api: New(Options{Service: svc, Logger: a.log}), run: run, store: st}
	if err := a.copyDefinitions(ctx, svc); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *trial) close() {
	t.run.Close()
	_ = t.store.Close() // memory only
}

func (a *API) copyDefinitions(ctx context.Context, to *api.Service) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, kind := range []string{model.KindWorkflow, model.KindTaskDef, model.KindSchema} {
		docs, err := a.svc.Documents(ctx, namespace, model.Dialect, kind)
		if err != nil {
			return err
		}
		if len(docs) > trialDocs {
			return tutti.E(tutti.Exhausted, "test workflow", "TooManyDefinitions", fmt.Sprintf(
				"there are %d definitions; a test can be run among %d", len(docs), trialDocs))
		}
		for _, d := range docs {
			g.Go(func() error {
				_, err := to.PutDocument(gctx, d, engine.PutAny)
				return err
			})
		}
	}
	return g.Wait()
}

// tryWorkflow runs a workflow until it has ended or waits for what no outcome was given for.
func (a *API) tryWorkflow(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.StartRuns, namespace); err != nil {
		return answer{}, err
	}
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	req, err := readStart(raw, "testWorkflow.request")
	if err != nil {
		return answer{}, err
	}
	m, err := readMocks(raw, 0)
	if err != nil {
		return answer{}, err
	}
	ctx, cancel := context.WithTimeout(c.ctx(), trialTime)
	defer cancel()
	t, err := a.newTrial(ctx)
	if err != nil {
		return answer{}, err
	}
	defer t.close()
	id, err := t.api.start(ctx, req)
	if err != nil {
		return answer{}, err
	}
	if err := t.play(ctx, id, m); err != nil {
		return answer{}, err
	}
	return t.api.workflow(ctx, id, true)
}

// play gives the open tasks of a run their outcomes, round by round, until there is nothing
// left to do.
func (t *trial) play(ctx context.Context, id tutti.RunID, m *mocks) error {
	w := t.api.newWait(nil)
	defer w.close()
	if err := w.watch(ctx, id); err != nil {
		return err
	}
	for {
		moved, err := t.round(ctx, id, m, 0)
		if err != nil {
			return err
		}
		run, err := t.api.svc.Run(ctx, namespace, id)
		if err != nil || !run.Status.Open() || !moved && !w.settle(ctx) {
			return err
		}
	}
}

// settle waits for a change, and is false when none comes.
func (w *wait) settle(ctx context.Context) bool {
	timer := time.NewTimer(trialQuiet)
	defer timer.Stop()
	select {
	case <-w.changed:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// round looks at every open task once. It reports whether something was done.
func (t *trial) round(
	ctx context.Context, id tutti.RunID, m *mocks, depth int,
) (moved bool, err error) {
	var open []*tutti.Task
	err = t.api.withRun(ctx, id, func(r *reader) (err error) {
		if r.view.Run.Status.Open() {
			open, err = r.open()
		}
		return err
	})
	if err != nil {
		return false, err
	}
	for _, task := range open {
		o, ok := m.take(task.Name)
		switch {
		case ok:
			if t.steps++; t.steps > trialSteps {
				return false, tutti.E(tutti.Exhausted, "test workflow", "TooManySteps",
					fmt.Sprintf("the test took more than %d outcomes", trialSteps))
			}
			moved = true
			_, err = t.api.svc.Complete(ctx, namespace, api.Completion{
				Run: id, Seq: task.Seq, Outcome: o, IgnoreStale: true,
			})
		case !task.ChildRun.IsZero() && depth < maxNesting:
			var inner bool
			inner, err = t.round(ctx, task.ChildRun, m.sub(task.Name), depth+1)
			moved = moved || inner
		}
		if err != nil && !failureOfKind(err, 404) {
			return moved, err
		}
	}
	return moved, nil
}
