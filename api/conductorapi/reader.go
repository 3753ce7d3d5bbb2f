package conductorapi

import (
	"context"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

// reader shows a run to the dialect's views. It keeps the first fault it meets, since views
// cannot answer one.
type reader struct {
	a    *API
	view *api.RunView
	prog tutti.Program
	seen map[tutti.Seq]*tutti.Task
	err  error
}

var _ conductor.RunReader = (*reader)(nil)

// withRun calls fn with a reader of a run. A run of another dialect does not exist here.
func (a *API) withRun(ctx context.Context, id tutti.RunID, fn func(*reader) error) error {
	err := a.readRun(ctx, id, fn)
	if hasCode(err, "RunNotFound") && a.awaitBirth(ctx, id) {
		err = a.readRun(ctx, id, fn)
	}
	return noWorkflow(err, id.String())
}

// birth is how long a sub-workflow may take to be there after its parent has named it.
const birth = 250 * time.Millisecond

// awaitBirth waits for a run that has just been given its identifier. It is false when the run
// does not come.
func (a *API) awaitBirth(ctx context.Context, id tutti.RunID) bool {
	left := birth - time.Since(time.UnixMilli(id.StartMs()))
	if left <= 0 || left > birth {
		return false
	}
	born := make(chan struct{}, 1)
	stop, err := a.svc.Watch(ctx, namespace, id, func() {
		select {
		case born <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return false
	}
	defer stop()
	if _, err := a.svc.Run(ctx, namespace, id); err == nil {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-born:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (a *API) readRun(ctx context.Context, id tutti.RunID, fn func(*reader) error) error {
	return a.svc.WithRun(ctx, namespace, id, func(v *api.RunView) error {
		if v.Run.Dialect != model.Dialect {
			return noRun(id.String())
		}
		prog, err := v.Program()
		if err != nil {
			return err
		}
		a.kept.program(v.Run.SourceHash, prog)
		r := &reader{a: a, view: v, prog: prog, seen: map[tutti.Seq]*tutti.Task{}}
		if err := fn(r); err != nil {
			return err
		}
		return r.err
	})
}

func noRun(id string) error {
	return tutti.E(tutti.NotFound, "find run", "RunNotFound", "no run has the id "+id)
}

func (r *reader) keep(err error) {
	if r.err == nil && err != nil && !isKind(err, tutti.NotFound) {
		r.err = err
	}
}

// Run implements conductor.RunReader.
func (r *reader) Run() *tutti.Run { return r.view.Run }

// Task implements conductor.RunReader.
func (r *reader) Task(seq tutti.Seq) *tutti.Task {
	if seq == 0 {
		return nil
	}
	if t, ok := r.seen[seq]; ok {
		return t
	}
	t, err := r.view.Task(seq)
	r.keep(err)
	r.seen[seq] = t
	return t
}

// Cell implements conductor.RunReader.
func (r *reader) Cell(key string) ([]byte, bool) {
	b, ok, err := r.view.Cell(key)
	r.keep(err)
	return b, ok
}

// Frame implements conductor.RunReader.
func (r *reader) Frame(id tutti.FrameID) *tutti.Frame {
	b, err := r.view.FrameState(id)
	r.keep(err)
	if err != nil || b == nil && id != 0 {
		return nil
	}
	state, err := r.prog.DecodeState(b)
	r.keep(err)
	return &tutti.Frame{ID: id, State: state}
}

// open returns the attempts that have not ended, in order.
func (r *reader) open() ([]*tutti.Task, error) {
	seqs, err := r.view.OpenTasks()
	if err != nil {
		return nil, err
	}
	list := make([]*tutti.Task, 0, len(seqs))
	for _, seq := range seqs {
		if t := r.Task(seq); t != nil && t.Status.Open() && !conductor.Hidden(t) {
			list = append(list, t)
		}
	}
	return list, r.err
}

// program returns the program of a run.
func (a *API) program(ctx context.Context, r *tutti.Run) (tutti.Program, error) {
	if p := a.kept.program(r.SourceHash, nil); p != nil {
		return p, nil
	}
	var prog tutti.Program
	err := a.withRun(ctx, r.ID, func(r *reader) error {
		prog = r.prog
		return nil
	})
	return prog, err
}

// handedOut reads what a view of a task that was just handed out asks for. Nearly always that
// is nothing, since the hand-out carries the task.
type handedOut struct {
	ctx context.Context
	a   *API
	run *tutti.Run
}

var _ conductor.RunReader = handedOut{}

// Run implements conductor.RunReader.
func (h handedOut) Run() *tutti.Run { return h.run }

// Task implements conductor.RunReader.
func (h handedOut) Task(seq tutti.Seq) (t *tutti.Task) {
	h.read(func(r *reader) { t = r.Task(seq) })
	return t
}

// Cell implements conductor.RunReader.
func (h handedOut) Cell(key string) (b []byte, ok bool) {
	h.read(func(r *reader) { b, ok = r.Cell(key) })
	return b, ok
}

// Frame implements conductor.RunReader.
func (h handedOut) Frame(id tutti.FrameID) (f *tutti.Frame) {
	h.read(func(r *reader) { f = r.Frame(id) })
	return f
}

func (h handedOut) read(fn func(*reader)) {
	err := h.a.withRun(h.ctx, h.run.ID, func(r *reader) error {
		fn(r)
		return nil
	})
	if err != nil {
		h.a.log.Warn("run could not be read for a task", "run", h.run.ID, "error", err)
	}
}

// kept are the programs and steps of definitions that are in use. Over a bound they are
// dropped and read again.
type kept struct {
	mu       sync.RWMutex
	programs map[tutti.Hash]tutti.Program
	steps    map[stepKey]*step
}

const maxKept = 4096

// program returns the program of a source, after keeping p when it is not nil.
func (k *kept) program(h tutti.Hash, p tutti.Program) tutti.Program {
	return keepIn(&k.mu, &k.programs, h, p)
}

// step returns a step, after keeping s when it is not nil.
func (k *kept) step(key stepKey, s *step) *step { return keepIn(&k.mu, &k.steps, key, s) }

func keepIn[K, V comparable](mu *sync.RWMutex, m *map[K]V, key K, v V) V {
	mu.RLock()
	have, ok := (*m)[key]
	mu.RUnlock()
	var none V
	if ok || v == none {
		return have
	}
	mu.Lock()
	defer mu.Unlock()
	if *m == nil || len(*m) >= maxKept {
		*m = map[K]V{}
	}
	(*m)[key] = v
	return v
}

// stepKey names a step of a definition.
type stepKey struct {
	source tutti.Hash
	node   int32
}

// step is what a definition says of a task, ready to be written.
type step struct {
	task value.Raw // workflowTask
	def  value.Raw // taskDefinition; nil = none
	// Members of the task definition that tasks repeat.
	executionNameSpace, isolationGroup string
	secrets                            []string // runtimeMetadata
}

// stepOf returns the step that a task belongs to.
func (a *API) stepOf(p tutti.Program, r conductor.RunReader, t *tutti.Task) *step {
	key := stepKey{r.Run().SourceHash, t.Node}
	static := len(t.Ext) == 0
	if static {
		if s := a.kept.step(key, nil); s != nil {
			return s
		}
	}
	s := newStep(conductor.WorkflowTaskOf(p, r, t), t)
	if static {
		a.kept.step(key, s)
	}
	return s
}

func newStep(raw value.Raw, t *tutti.Task) *step {
	if raw == nil {
		o := newObject(nil)
		o.string("name", t.DefName)
		o.string("taskReferenceName", t.Name)
		return &step{task: o.end()}
	}
	s := &step{task: raw}
	def, ok := raw.Field("taskDefinition")
	if !ok || def.Kind() != "object" {
		return s
	}
	s.def = def
	b := bodyReader{raw: def}
	s.executionNameSpace = b.text("executionNameSpace")
	s.isolationGroup = b.text("isolationGroupId")
	names, _ := def.Field("runtimeMetadata")
	for e := range names.Elements() {
		if name, ok := e.Text(); ok {
			s.secrets = append(s.secrets, name)
		}
	}
	return s
}
