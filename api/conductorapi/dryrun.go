package conductorapi

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// The bounds of a dry run.
const (
	maxDryTime   = 30 * time.Second
	maxDryRounds = 20_000
	// dryHold is for how many seconds a task that the server would carry out itself is held
	// back, so that nothing but the answer of the request ends it.
	dryHold = 24 * 60 * 60
)

// dryRun is what the tasks of a workflow answer in a dry run. Workers do not come by them, since
// all are put into a domain of their own.
type dryRun struct {
	answers  map[string][]dryAnswer // by step; each attempt takes the next one
	children map[string]*dryRun     // by step, for sub-workflows
}

type dryAnswer struct {
	status tutti.TaskStatus
	output value.Raw
}

func dryRoutes() []route {
	return []route{{
		"POST", "/api/workflow/test", api.StartRuns,
		"Run a workflow with given outputs of its tasks",
		(*API).testWorkflow, nil, "WorkflowTestRequest", "Workflow",
	}}
}

// readDryRun reads the mocked outputs of a WorkflowTestRequest.
func readDryRun(raw value.Raw, depth int) (*dryRun, error) {
	d := &dryRun{answers: map[string][]dryAnswer{}, children: map[string]*dryRun{}}
	b := bodyReader{raw: raw}
	for step, list := range b.object("taskRefToMockOutput").Members() {
		for one := range list.Elements() {
			m := bodyReader{raw: one}
			output, name := m.object("output"), m.text("status")
			if m.err != nil {
				return nil, m.err
			}
			if output == nil {
				output = value.Raw("{}")
			}
			if name == "" {
				name = "COMPLETED"
			}
			status, err := readStatus(name)
			if err != nil {
				return nil, err
			}
			d.answers[step] = append(d.answers[step], dryAnswer{status, output})
		}
	}
	children := b.object("subWorkflowTestRequest")
	if b.err != nil {
		return nil, b.err
	}
	for step, one := range children.Members() {
		if depth >= maxNesting || one.Kind() != "object" {
			return nil, fail(http.StatusBadRequest,
				"subWorkflowTestRequest.%s is no object, or nested too deep", step)
		}
		child, err := readDryRun(one, depth+1)
		if err != nil {
			return nil, err
		}
		d.children[step] = child
	}
	return d, nil
}

// stepOf returns the name of a task's step without the number of its iteration.
func stepOf(taskName string) string {
	base, _, _ := strings.Cut(taskName, "__")
	return base
}

// child returns what the sub-workflow of a task answers.
func (d *dryRun) child(taskName string) *dryRun {
	for _, step := range []string{taskName, stepOf(taskName)} {
		if c := d.children[step]; c != nil {
			return c
		}
	}
	return &dryRun{}
}

// next takes the next answer of a task.
func (d *dryRun) next(taskName string) (dryAnswer, bool) {
	for _, step := range []string{taskName, stepOf(taskName)} {
		if list := d.answers[step]; len(list) > 0 {
			d.answers[step] = list[1:]
			return list[0], true
		}
	}
	return dryAnswer{}, false
}

// hold keeps the steps that have answers, and that the server would carry out itself, from
// starting, in a definition and in those of its sub-workflows.
func (d *dryRun) hold(docs tutti.Documents, def *model.WorkflowDef) {
	model.Walk(def.Tasks, func(t *model.WorkflowTask) {
		switch t.Type {
		case model.TypeHTTP, model.TypeEvent, model.TypeKafkaPublish:
			if len(d.answers[t.TaskReferenceName]) > 0 {
				t.StartDelay = dryHold
			}
		case model.TypeSubWorkflow:
			if c, p := d.children[t.TaskReferenceName], t.SubWorkflowParam; c != nil && p != nil {
				c.holdChild(docs, p)
			}
		}
	})
}

func (d *dryRun) holdChild(docs tutti.Documents, p *model.SubWorkflowParams) {
	if p.Definition == nil && p.DefinitionExpression == "" {
		version := 0
		if p.Version != nil {
			version = *p.Version
		}
		body, _, ok := docs.Document(model.KindWorkflow, p.Name, version)
		if !ok {
			return
		}
		def, err := model.DecodeWorkflowDef(body)
		if err != nil {
			return
		}
		p.Definition = def
	}
	if p.Definition != nil {
		d.hold(docs, p.Definition)
	}
}

// held returns the request with its definition in which tasks that have answers are held.
func (d *dryRun) held(ctx context.Context, a *API, req *startRequest) error {
	docs, err := a.documents(ctx)
	if err != nil {
		return err
	}
	body := req.def
	if body == nil {
		found, _, ok := docs.Document(model.KindWorkflow, req.name, req.version)
		if !ok {
			return nil // starting it says so
		}
		body = found
	}
	def, err := model.DecodeWorkflowDef(body)
	if err != nil {
		return malformed(err)
	}
	d.hold(docs, def)
	req.def = def.Encode()
	req.routing = map[string]string{"*": "dry-run-" + rand.Text()}
	return nil
}

// testWorkflow runs a workflow whose tasks answer what the request says. It ends when the
// workflow does, or when a task waits that the request has no answer for; a workflow that is
// still open then is ended after it was answered.
func (a *API) testWorkflow(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	req, err := readStart(raw, "testWorkflow.request")
	if err != nil {
		return answer{}, err
	}
	d, err := readDryRun(raw, 0)
	if err != nil {
		return answer{}, err
	}
	if err := d.held(c.ctx(), a, req); err != nil {
		return answer{}, err
	}
	id, err := a.start(c.ctx(), req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = a.opTerminate("the dry run is over")(c.ctx(), id) }()
	if err := a.play(c.ctx(), id, d); err != nil {
		return answer{}, err
	}
	return a.workflow(c.ctx(), id, true)
}

// play gives the tasks of a run their answers until it has ended or waits for others.
func (a *API) play(ctx context.Context, id tutti.RunID, d *dryRun) error {
	w := a.newWait(nil)
	defer w.close()
	timer := time.NewTimer(maxDryTime)
	defer timer.Stop()
	for range maxDryRounds {
		state, err := w.advance(ctx, id, d, 0)
		if err != nil || state == dryOver || state == dryStuck {
			return err
		}
		if state == dryMoved {
			continue
		}
		select {
		case <-w.changed:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return &tutti.Error{Kind: tutti.Cancelled, Op: "dry run", Err: context.Cause(ctx)}
		}
	}
	return nil
}

// dryState is how a dry run stands after a round.
type dryState int

const (
	dryWaits dryState = iota // for what the server does by itself
	dryStuck                 // at a task that has no answer
	dryMoved                 // tasks were given their answers
	dryOver                  // the run has ended
)

// advance gives the open tasks of a run, and of its sub-workflows, the answers they have.
func (w *wait) advance(
	ctx context.Context, id tutti.RunID, d *dryRun, depth int,
) (dryState, error) {
	if err := w.watch(ctx, id); err != nil {
		return dryWaits, err
	}
	var open []*tutti.Task
	over := false
	err := w.a.withRun(ctx, id, func(r *reader) (err error) {
		over = !r.view.Run.Status.Open()
		open, err = r.open()
		return err
	})
	switch {
	case depth > 0 && failureOfKind(err, http.StatusNotFound):
		return dryWaits, nil // it has not begun yet
	case err != nil:
		return dryWaits, err
	case over:
		return dryOver, nil
	}
	state := dryWaits
	for _, t := range open {
		s, err := w.answerTask(ctx, id, d, t, depth)
		if err != nil {
			return state, err
		}
		state = max(state, s)
	}
	return state, nil
}

func (w *wait) answerTask(
	ctx context.Context, id tutti.RunID, d *dryRun, t *tutti.Task, depth int,
) (dryState, error) {
	if !t.ChildRun.IsZero() {
		if depth >= maxNesting {
			return dryStuck, nil
		}
		s, err := w.advance(ctx, t.ChildRun, d.child(t.Name), depth+1)
		if s == dryOver {
			s = dryWaits // its end is on the way to its parent
		}
		return s, err
	}
	if t.Kind != tutti.Work && t.Kind != tutti.Wait {
		return dryWaits, nil
	}
	a, ok := d.next(t.Name)
	switch {
	case !ok && t.Kind == tutti.Work && strings.HasPrefix(t.Queue, "@"):
		return dryWaits, nil // a connector is at it
	case !ok:
		return dryStuck, nil
	}
	_, err := w.a.svc.Complete(ctx, namespace, api.Completion{
		Run: id, Seq: t.Seq, IgnoreStale: true,
		Outcome: engine.Outcome{Status: a.status, Output: a.output, Merge: true},
	})
	return dryMoved, err
}
