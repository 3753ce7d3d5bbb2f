package conductor

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// RunReader is what the views of a run are made from. Every tutti.Turn is one.
type RunReader interface {
	// Run describes the run; its Input is loaded.
	Run() *tutti.Run
	// Task returns an attempt with its payloads, or nil.
	Task(seq tutti.Seq) *tutti.Task
	// Cell reads one of the program's named values.
	Cell(key string) ([]byte, bool)
	// Frame returns an open frame, or nil.
	Frame(id tutti.FrameID) *tutti.Frame
}

// programOf returns the interpreter behind a program of this dialect.
func programOf(p tutti.Program) *program {
	c, _ := p.(*program)
	return c
}

// Definition returns the workflow definition that a program was compiled from, task
// definitions embedded, or nil if it is a program of another dialect. It must not be changed.
func Definition(p tutti.Program) *WorkflowDef {
	if c := programOf(p); c != nil {
		return c.def
	}
	return nil
}

// TaskOutput returns the output of a task. That of a JOIN or a DO_WHILE is not stored: it is
// put together here from the tasks it covers, so it costs as much as they are large.
func TaskOutput(p tutti.Program, r RunReader, t *tutti.Task) value.Raw {
	if c := programOf(p); c != nil {
		return c.taskOutput(r, t)
	}
	return t.Output
}

// Variables returns the workflow variables of a run.
func Variables(p tutti.Program, r RunReader) value.Raw {
	if b, ok := r.Cell(VariablesCell); ok {
		return b
	}
	if c := programOf(p); c != nil {
		return value.Marshal(c.def.Variables)
	}
	return value.Raw("{}")
}

// WorkflowInput returns the input of a run as its expressions see it: with the defaults of the
// definition's inputTemplate.
func WorkflowInput(p tutti.Program, r *tutti.Run) value.Raw {
	c := programOf(p)
	if c == nil || c.def.InputTemplate.Len() == 0 {
		return r.Input
	}
	in := asObject(decoded(r.Input), "input")
	return value.Marshal(ApplyInputTemplate(in, c.def.InputTemplate))
}

// WorkflowTaskOf returns the JSON of the definition's step that a task belongs to; dynamically
// forked ones included. It is nil when the step is not known.
func WorkflowTaskOf(p tutti.Program, r RunReader, t *tutti.Task) value.Raw {
	c := programOf(p)
	if c == nil {
		return nil
	}
	e := decodeExt(t.Ext)
	if e.head != nil {
		return e.head
	}
	b := c.homeOf(r, e.home)
	if b == nil || t.Node < 0 || int(t.Node) >= len(b.nodes) {
		return nil
	}
	return b.nodes[t.Node].task.Encode()
}

// Hidden reports whether a task is no step of the workflow but a notification that the program
// sends for one (onStateChange). Views leave it out.
func Hidden(t *tutti.Task) bool { return decodeExt(t.Ext).hidden }

// Iteration returns the iteration that a task belongs to or, for a DO_WHILE, is at.
func Iteration(t *tutti.Task) int {
	if t.Type != TypeDoWhile {
		return int(t.Iteration)
	}
	raw, _ := t.Output.Field("iteration")
	n, _ := raw.Int64()
	return int(n)
}

// NewestByRef returns the newest task of a step: its latest attempt in its latest iteration.
// The name may have the suffix of an iteration. It returns nil when there is none.
func NewestByRef(p tutti.Program, r RunReader, name string) *tutti.Task {
	if c := programOf(p); c != nil {
		return c.byName(r, name)
	}
	return nil
}

// failedListed bounds how many failed tasks are listed for a run.
const failedListed = 1000

// FailedTasks returns the tasks whose names make up a workflow's lists of failed tasks, in the
// order they failed, at most 1000 of them.
func FailedTasks(p tutti.Program, r RunReader) []*tutti.Task {
	root := rootOf(r)
	if root == nil {
		return nil
	}
	var list []*tutti.Task
	for i := 1; i <= min(root.failed, failedListed); i++ {
		for _, seq := range cellSeqs(r, failedCell(i)) {
			if t := r.Task(seq); t != nil {
				list = append(list, t)
			}
		}
	}
	return list
}

// Explain says in words what a JOIN or DO_WHILE that has not ended waits for; it is empty for
// other tasks.
func Explain(p tutti.Program, r RunReader, t *tutti.Task) string {
	if c := programOf(p); c != nil {
		return c.explain(r, t)
	}
	return ""
}

func rootOf(r RunReader) *rootState {
	f := r.Frame(0)
	if f == nil {
		return nil
	}
	root, _ := f.State.(*rootState)
	return root
}

// homeOf returns the body of a dynamic task, or that of the definition.
func (p *program) homeOf(r RunReader, home tutti.Seq) *body {
	if home == 0 {
		return p.body
	}
	t := r.Task(home)
	if t == nil {
		return nil
	}
	b, err := compileDynamic(decodeExt(t.Ext).head)
	if err != nil {
		return nil
	}
	return b
}

// newestRef returns the number of the newest task of a step by its plain reference name.
func (p *program) newestRef(r RunReader, ref string) tutti.Seq {
	if at, ok := p.body.refs[ref]; ok {
		if root := rootOf(r); root != nil && int(at) < len(root.newest) {
			return root.newest[at]
		}
	}
	return cellSeq(r, refCell(ref))
}

func (p *program) byName(r RunReader, name string) *tutti.Task {
	if seq := p.newestRef(r, name); seq != 0 {
		return r.Task(seq)
	}
	for i := strings.Index(name, "__"); i > 0; {
		ref := name[:i]
		if seq := p.newestRef(r, ref); seq != 0 {
			if t := r.Task(seq); t != nil && t.Name == name {
				return t
			}
			if t := p.inLoop(r, ref, name); t != nil {
				return t
			}
		}
		next := strings.Index(name[i+2:], "__")
		if next < 0 {
			return nil
		}
		i += 2 + next
	}
	return nil
}

// inLoop finds a task of an earlier iteration by its full name.
func (p *program) inLoop(r RunReader, ref, name string) *tutti.Task {
	at, ok := p.body.refs[ref]
	if !ok {
		return nil
	}
	loop := int32(-1)
	for up := p.body.nodes[at].scope; up >= 0; up = p.body.nodes[up].scope {
		if p.body.nodes[up].task.Type == TypeDoWhile {
			loop = up
		}
	}
	if loop < 0 {
		return nil
	}
	seq := p.newestRef(r, p.body.nodes[loop].task.TaskReferenceName)
	return findIn(r, seq, strings.Split(name[len(ref)+2:], "__"), name)
}

// findIn looks a name up in an iteration of a loop, and in the loops in there.
func findIn(r RunReader, loop tutti.Seq, path []string, name string) *tutti.Task {
	n, err := strconv.Atoi(path[0])
	if err != nil || loop == 0 {
		return nil
	}
	for _, seq := range cellSeqs(r, iterationCell(loop, n)) {
		t := r.Task(seq)
		if t == nil {
			continue
		}
		if t.Name == name {
			return t
		}
		if t.Type == TypeDoWhile && len(path) > 1 {
			if found := findIn(r, seq, path[1:], name); found != nil {
				return found
			}
		}
	}
	return nil
}

func (p *program) taskOutput(r RunReader, t *tutti.Task) value.Raw {
	switch {
	case t.Type == TypeJoin && t.Kind == tutti.Scope:
		return p.joinOutput(r, t)
	case t.Type == TypeDoWhile && t.Kind == tutti.Scope:
		return p.loopOutput(r, t)
	case t.Kind == tutti.Child && !t.ChildRun.IsZero():
		return childOutput(t)
	case len(t.Output) == 0:
		return value.Raw("{}")
	}
	return t.Output
}

func childOutput(t *tutti.Task) value.Raw {
	out := append(value.Raw(`{"subWorkflowId":"`), t.ChildRun.String()...)
	out = append(out, '"', '}')
	for name, v := range t.Output.Members() {
		if name != "subWorkflowId" {
			out = appendMember(out, name, v)
		}
	}
	return out
}

// empty reports whether an output has no members; such outputs are left out of a JOIN's.
func empty(out value.Raw) bool {
	for range out.Members() {
		return false
	}
	return out.Kind() == "object" || out.IsNull()
}

func (p *program) joinOutput(r RunReader, t *tutti.Task) value.Raw {
	out := value.Raw("{}")
	for _, seq := range p.covered(r, t) {
		joined := r.Task(seq)
		if joined == nil {
			continue
		}
		if v := p.taskOutput(r, joined); !empty(v) {
			out = appendMember(out, joined.Name, v)
		}
	}
	return out
}

// covered returns the tasks whose outputs make up that of a JOIN.
func (p *program) covered(r RunReader, t *tutti.Task) []tutti.Seq {
	if b, ok := r.Cell(joinedCell(t.Seq)); ok {
		return decodeSeqs(b)
	}
	var seqs []tutti.Seq
	p.awaitedRefs(r, t, func(_ string, joined *tutti.Task) {
		if joined != nil {
			seqs = append(seqs, joined.Seq)
		}
	})
	return seqs
}

// awaitedRefs visits what a JOIN waits for: name, and newest task if there is one.
func (p *program) awaitedRefs(r RunReader, t *tutti.Task, visit func(string, *tutti.Task)) {
	b := p.homeOf(r, decodeExt(t.Ext).home)
	if b == nil || int(t.Node) >= len(b.nodes) {
		return
	}
	suffix := strings.TrimPrefix(t.Name, b.nodes[t.Node].task.TaskReferenceName)
	refs, _ := t.Input.Field("joinOn")
	for ref := range refs.Elements() {
		name, _ := ref.Text()
		joined := r.Task(p.newestRef(r, name))
		if joined != nil && joined.Name != name+suffix {
			joined = nil
		}
		visit(name, joined)
	}
}

func (p *program) loopOutput(r RunReader, t *tutti.Task) value.Raw {
	out := append(value.Raw(nil), t.Output...)
	if len(out) == 0 {
		out = append(out, "{}"...)
	}
	for n := 1; n <= Iteration(t); n++ {
		if v := p.iterationOutput(r, t.Seq, n); v != nil {
			out = appendMember(out, strconv.Itoa(n), v)
		}
	}
	return out
}

// iterationOutput is what an iteration adds to the output of its loop; nil = nothing.
func (p *program) iterationOutput(r RunReader, loop tutti.Seq, n int) value.Raw {
	b, ok := r.Cell(iterationCell(loop, n))
	if !ok {
		return nil
	}
	out := value.Raw("{}")
	for _, seq := range decodeSeqs(b) {
		t := r.Task(seq)
		if t == nil {
			continue
		}
		ref := t.Name
		b := p.homeOf(r, decodeExt(t.Ext).home)
		if b != nil && int(t.Node) < len(b.nodes) {
			ref = b.nodes[t.Node].task.TaskReferenceName
		}
		out = appendMember(out, ref, p.taskOutput(r, t))
	}
	return out
}

// namesListed bounds how many names an explanation lists.
const namesListed = 10

func (p *program) explain(r RunReader, t *tutti.Task) string {
	if !t.Status.Open() || t.Kind != tutti.Scope {
		return ""
	}
	switch t.Type {
	case TypeDoWhile:
		return fmt.Sprintf("the loop is in iteration %d", Iteration(t))
	case TypeJoin, TypeExclusiveJoin:
		var names []string
		open := 0
		p.awaitedRefs(r, t, func(name string, joined *tutti.Task) {
			if joined != nil && !joined.Status.Open() {
				return
			}
			if open++; open <= namesListed {
				names = append(names, name)
			}
		})
		more := ""
		if open > len(names) {
			more = fmt.Sprintf(" and %d more", open-len(names))
		}
		return "it waits for " + strings.Join(names, ", ") + more
	}
	return ""
}
