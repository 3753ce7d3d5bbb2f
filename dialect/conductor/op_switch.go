package conductor

import (
	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// opSwitch picks a branch and starts it at once.
func opSwitch(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	t := s.node.task
	v, fault, err := x.evaluate(t.EvaluatorType, t.Expression, in)
	if err != nil {
		return x.finish(tutti.RunFailed, err.Error(), nil)
	}
	if fault != nil {
		x.add(s, a, tutti.TaskSpec{
			Kind: tutti.Local, Status: tutti.Failed, DefName: t.Type,
			Input: value.Marshal(in), Reason: fault.Error(),
		})
		return nil
	}
	out := value.NewObject()
	choice := JavaString(v)
	out.Set("evaluationResult", []any{choice})
	out.Set("selectedCase", choice)
	return x.choose(s, a, in, out, choice)
}

// opDecision is the older SWITCH.
func opDecision(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	var v any
	if t := s.node.task; t.CaseExpression != "" {
		var fault error
		if v, fault = x.script(t.CaseExpression, in); fault != nil {
			return x.finish(tutti.RunFailed,
				"Error while evaluating script: "+t.CaseExpression+": "+fault.Error(), nil)
		}
	} else {
		v, _ = in.Get(t.CaseValueParam)
	}
	out := value.NewObject()
	choice := JavaString(v)
	out.Set("caseOutput", []any{choice})
	return x.choose(s, a, in, out, choice)
}

// choose ends the task of a SWITCH and starts the branch that was chosen. The branch leads
// to what follows the SWITCH; when it is empty, the SWITCH itself does.
func (x *exec) choose(s site, a attempt, in, out *value.Object, choice string) error {
	head, ok := s.node.cases[choice]
	if !ok {
		head = s.node.fallback
	}
	nested := head > s.node.index && head < s.node.end
	in.Set("case", choice)
	if nested {
		in.Set("hasChildren", "true")
	}
	spec := tutti.TaskSpec{
		Kind: tutti.Local, Status: tutti.Completed, DefName: s.node.task.Type,
		Input: value.Marshal(in), Output: value.Marshal(out),
	}
	if !nested {
		x.add(s, a, spec)
		return nil
	}
	x.record(s, a, spec)
	if s.head != nil {
		s.head = nil
	}
	x.tellJoins(s)
	return x.schedule(s.at(head))
}

// opExclusiveJoin takes over the output of the first of its tasks that ran.
func opExclusiveJoin(x *exec, s site, a attempt) error {
	list := make([]any, len(s.node.task.JoinOn))
	for i, ref := range s.node.task.JoinOn {
		list[i] = ref
	}
	in := value.NewObject()
	in.Set("joinOn", list)
	t := x.record(s, a, tutti.TaskSpec{
		Kind: tutti.Scope, Status: tutti.Running, DefName: TypeExclusiveJoin,
		Input: value.Marshal(in), Timeouts: x.timeouts(s, nil),
	})
	x.tryExclusive(s, t.Seq)
	return nil
}

// wakeExclusive looks at an open EXCLUSIVE_JOIN again since one of its tasks has ended.
func (x *exec) wakeExclusive(s site, j *node) {
	if t := x.t.Task(x.newest(s.body, j.index)); t != nil && t.Status.Open() {
		if at, ok := x.siteOf(t); ok {
			x.tryExclusive(at, t.Seq)
		}
	}
}

func (x *exec) tryExclusive(s site, seq tutti.Seq) {
	t := x.firstThatRan(s, s.node.slots)
	if t == nil || t.Status.Open() {
		t = x.firstThatRan(s, s.node.fallbacks)
	}
	switch {
	case t == nil || t.Status.Open():
	case t.Status.Successful():
		x.endScope(seq, tutti.Completed, x.p.taskOutput(x.t, t), "")
	default:
		x.endScope(seq, tutti.Failed, nil, t.Reason)
	}
}

// firstThatRan returns the task of the first of the nodes that was started and not skipped.
func (x *exec) firstThatRan(s site, slots []int32) *tutti.Task {
	for _, at := range slots {
		if at < 0 {
			continue
		}
		t := x.t.Task(x.newest(s.body, at))
		if t != nil && t.Status != tutti.Skipped && s.covers(t, at) {
			return t
		}
	}
	return nil
}
