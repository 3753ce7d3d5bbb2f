package conductor

import (
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// rerun repeats a run from one of its tasks on. What came after that task is removed: the
// steps that its flow leads to, not the other branches of the forks it is in. Those keep what
// they have done, and what ended badly in them is repeated.
func (x *exec) rerun(ev tutti.Event) error {
	if ev.Seq == 0 {
		return x.startOver()
	}
	t := x.t.Task(ev.Seq)
	if t == nil {
		return tutti.E(tutti.Invalid, "rerun", "TaskNotFound",
			fmt.Sprintf("Task %s not found", x.taskID(ev.Seq)))
	}
	v := x.survey()
	if t.Kind == tutti.Scope && t.Type != TypeDoWhile {
		if id := x.canonical(decodeExt(t.Ext).frame); id != 0 {
			v.again[id] = true // a JOIN waits again for what it waited for
		}
	} else {
		v.redo[t.Seq] = repeat{fresh: true, input: ev.Input}
	}
	v.cut(t)
	v.moved = true
	x.root.finished = false
	v.collectBad(false)
	return v.apply()
}

// startOver is a rerun of everything.
func (x *exec) startOver() error {
	*x.root = *x.p.newRoot()
	x.saveRoot()
	return x.begin()
}

// cut removes what came after t and marks the scopes around it to run again.
func (v *survey) cut(t *tutti.Task) {
	x := v.x
	gone, kept := map[tutti.Seq]bool{}, map[tutti.Seq]bool{t.Seq: true}
	for at := t; at != nil; {
		reach := v.reach(at)
		for _, u := range v.tasks {
			in := v.within(u, x.canonical(at.Frame))
			if in != nil && !kept[u.Seq] && v.comesAfter(in, at, at == t && u != in, reach) {
				gone[u.Seq] = true
			}
		}
		id := x.canonical(at.Frame)
		at = v.owner[id]
		if at == nil {
			break
		}
		v.again[id] = true
		if j := v.join[id]; j != nil {
			kept[j.Seq] = true
		}
		v.rewind(id, at, t)
	}
	v.remove(gone)
}

// reach returns the nodes that the flow leads to from a task, in the task's frame.
func (v *survey) reach(t *tutti.Task) map[int32]bool {
	b, _ := v.x.bodyOf(t)
	set := map[int32]bool{}
	if b == nil {
		return set
	}
	var visit func(at int32)
	follow := func(n *node) {
		visit(n.next)
		for _, head := range n.cases {
			visit(head)
		}
		visit(n.fallback)
	}
	visit = func(at int32) {
		if at >= 0 && !set[at] {
			set[at] = true
			follow(&b.nodes[at])
		}
	}
	follow(&b.nodes[t.Node])
	return set
}

// comesAfter reports whether a task in the frame of at lies behind it in the flow. The task
// stands for those in it; inside says that what is in at comes after it too.
func (v *survey) comesAfter(in, at *tutti.Task, inside bool, reach map[int32]bool) bool {
	bi, homeIn := v.x.bodyOf(in)
	_, homeAt := v.x.bodyOf(at)
	if bi == nil || v.firstAttempt(homeIn) != v.firstAttempt(homeAt) {
		return false // another dynamic branch
	}
	if in.Iteration != at.Iteration {
		return in.Iteration > at.Iteration
	}
	if in.Node == at.Node {
		return inside && in.Seq == at.Seq || in.Seq > at.Seq
	}
	return reach[in.Node]
}

// rewind takes a loop back to the iteration that t is in.
func (v *survey) rewind(id tutti.FrameID, owner, t *tutti.Task) {
	x := v.x
	in := v.within(t, id)
	if owner.Type != TypeDoWhile || in == nil {
		return
	}
	for n := int(in.Iteration); n <= Iteration(owner); n++ {
		x.t.SetCell(iterationCell(owner.Seq, n), nil)
	}
	x.t.AmendTask(owner.Seq, nil,
		value.Marshal(single("iteration", value.Int(int64(in.Iteration)))))
	if f := x.frame(id); f != nil {
		if state, ok := f.State.(*loopState); ok {
			state.iteration = in.Iteration
		}
	}
}

// remove deletes tasks, with the frames and cells that go with them.
func (v *survey) remove(gone map[tutti.Seq]bool) {
	x := v.x
	var left []*tutti.Task
	for _, t := range v.tasks {
		if !gone[t.Seq] {
			left = append(left, t)
			continue
		}
		v.forgetTask(t)
		x.t.RemoveTask(t.Seq)
	}
	v.tasks = left
}

func (v *survey) forgetTask(t *tutti.Task) {
	x := v.x
	if b, home := x.bodyOf(t); b != nil && int(t.Node) < len(b.nodes) {
		n := &b.nodes[t.Node]
		if home == 0 && int(n.index) < len(x.root.newest) {
			x.root.newest[n.index] = 0
		} else {
			x.t.SetCell(refCell(n.task.TaskReferenceName), nil)
		}
	}
	x.t.SetCell(joinedCell(t.Seq), nil)
	if t.Type == TypeDoWhile {
		for n := 1; n <= Iteration(t); n++ {
			x.t.SetCell(iterationCell(t.Seq, n), nil)
		}
	}
	id := x.canonical(decodeExt(t.Ext).frame)
	if id != 0 && x.frame(id) != nil && (v.owner[id] == t || v.owner[id] == nil) {
		x.t.CloseFrame(id)
	}
}

// skip notes that a step is to be stepped over when the flow gets there.
func (x *exec) skip(ev tutti.Event) error {
	at, ok := x.p.body.refs[ev.Name]
	if !ok {
		return tutti.E(tutti.Invalid, "skip", "UnknownReference", fmt.Sprintf(
			"The task referenced by %s does not exist in the WorkflowDefinition %s",
			ev.Name, x.run.Definition))
	}
	if t := x.t.Task(x.newest(x.p.body, at)); t != nil {
		return tutti.E(tutti.Conflict, "skip", "AlreadyStarted", fmt.Sprintf(
			"The task referenced %s has already been processed, cannot be skipped", ev.Name))
	}
	n := &x.p.body.nodes[at]
	t := x.t.AddTask(tutti.TaskSpec{
		Name: ev.Name, Type: skippedType(n), DefName: n.task.Name, Kind: tutti.Local,
		Status: tutti.Skipped, Node: at, Input: orEmpty(ev.Input), Output: orEmpty(ev.Output),
	})
	x.root.skips++
	x.saveRoot()
	x.t.SetCell(skippedCell(ev.Name), appendSeqs(nil, []tutti.Seq{t.Seq}))
	return nil
}

func skippedType(n *node) string {
	if n.task.Type == TypeSimple {
		return n.task.Name
	}
	return n.task.Type
}

func orEmpty(r value.Raw) value.Raw {
	if len(r) == 0 {
		return value.Raw("{}")
	}
	return r
}

// skipped steps over a node if an operator asked for it. The record that shows the skip is
// replaced by one in its place in the order.
func (x *exec) skipped(s site) bool {
	key := skippedCell(s.node.task.TaskReferenceName)
	seqs := cellSeqs(x.t, key)
	if s.home != 0 || len(seqs) == 0 {
		return false
	}
	t := x.t.Task(seqs[0])
	if t == nil {
		return false
	}
	spec := tutti.TaskSpec{
		Kind: tutti.Local, Status: tutti.Skipped, Type: t.Type, Input: t.Input, Output: t.Output,
	}
	x.t.RemoveTask(t.Seq)
	x.t.SetCell(key, nil)
	x.root.skips--
	x.saveRoot()
	x.add(s, attempt{}, spec)
	return true
}
