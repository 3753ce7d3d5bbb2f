package conductor

import (
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// local creates a task that was done within the turn.
func (x *exec) local(s site, a attempt, in, out *value.Object) {
	x.add(s, a, tutti.TaskSpec{
		Kind: tutti.Local, Status: tutti.Completed,
		Input: value.Marshal(in), Output: value.Marshal(out),
	})
}

// localFailed creates a task that failed within the turn.
func (x *exec) localFailed(
	s site, a attempt, in, out *value.Object, status tutti.TaskStatus, reason string,
) {
	x.add(s, a, tutti.TaskSpec{
		Kind: tutti.Local, Status: status, Reason: reason,
		Input: value.Marshal(in), Output: value.Marshal(out),
	})
}

// single returns an object of one member.
func single(name string, v any) *value.Object {
	o := value.NewObject()
	o.Set(name, v)
	return o
}

func opNoop(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	x.local(s, a, in, value.NewObject())
	return nil
}

// opInline evaluates a script over the task's input.
func opInline(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	kind, _ := in.Get("evaluatorType")
	code, _ := in.Get("expression")
	evaluator, _ := kind.(string)
	if evaluator == "" {
		evaluator = evaluatorJavaScript
	}
	expression, ok := code.(string)
	if !ok || expression == "" {
		const reason = "Empty 'expression' in Inline task's input parameters." +
			" A non-empty String value must be provided."
		x.localFailed(s, a, in, single("error", reason), tutti.Fatal, reason)
		return nil
	}
	v, fault, err := x.evaluate(evaluator, expression, in)
	if fault == nil {
		fault = err
	}
	if fault != nil {
		reason := fault.Error()
		x.localFailed(s, a, in, single("error", reason), scriptStatus(fault), reason)
		return nil
	}
	x.local(s, a, in, single("result", v))
	return nil
}

// opLambda is the older INLINE: its script is the body of a function.
func opLambda(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	code := s.node.task.ScriptExpression
	if v, ok := in.Get("scriptExpression"); ok {
		code, _ = v.(string)
	}
	if code == "" {
		const reason = "Empty 'scriptExpression' in Lambda task's input parameters." +
			" A non-empty String value must be provided."
		x.localFailed(s, a, in, single("error", reason), tutti.Failed, reason)
		return nil
	}
	v, fault := x.script("function scriptFun(){"+code+"} scriptFun();", in)
	if fault != nil {
		reason := fault.Error()
		x.localFailed(s, a, in, single("error", reason), tutti.Failed, reason)
		return nil
	}
	x.local(s, a, in, single("result", v))
	return nil
}

func opJQ(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	query, _ := in.Get("queryExpression")
	expression, ok := query.(string)
	if !ok || expression == "" {
		const reason = "Missing 'queryExpression' in input parameters"
		x.localFailed(s, a, in, value.NewObject(), tutti.Failed, reason)
		return nil
	}
	results, fault := x.jq(expression, in)
	if fault != nil {
		reason := fault.Error()
		x.localFailed(s, a, in, single("error", reason), tutti.Failed, reason)
		return nil
	}
	out := value.NewObject()
	if len(results) > 0 {
		out.Set("result", results[0])
	} else {
		out.Set("result", nil)
	}
	out.Set("resultList", results)
	x.local(s, a, in, out)
	return nil
}

// opSetVariable assigns every input to a workflow variable, all or none.
func opSetVariable(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	vars := x.variables().Clone()
	for name, v := range in.All() {
		vars.Set(name, v)
	}
	size := len(value.Marshal(vars))
	if fault := DefaultPayloadLimits.CheckVariables(size, x.run.ID.String()); fault != nil {
		x.localFailed(s, a, in, value.NewObject(), tutti.Fatal, fault.Error())
		return nil
	}
	x.setVariables(vars)
	x.local(s, a, in, value.NewObject())
	return nil
}

// opTerminate ends the run, once its task is noted.
func opTerminate(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	status, _ := in.Get("terminationStatus")
	if _, ok := terminations[JavaString(status)]; !ok {
		x.localFailed(s, a, in, value.NewObject(), tutti.Failed,
			"given termination status is not valid")
		return nil
	}
	v, _ := in.Get("workflowOutput")
	x.local(s, a, in, asObject(v, "output"))
	return nil
}

var terminations = map[string]tutti.RunStatus{
	"COMPLETED": tutti.RunCompleted, "FAILED": tutti.RunFailed,
	"TERMINATED": tutti.RunTerminated,
}

// terminate ends the run as a TERMINATE task asks.
func (x *exec) terminate(t *tutti.Task) error {
	in := asObject(decoded(t.Input), "input")
	name, _ := in.Get("terminationStatus")
	status := terminations[JavaString(name)]
	reason, _ := in.Get("terminationReason")
	text, ok := reason.(string)
	if !ok || text == "" {
		text = fmt.Sprintf("Workflow is %s by TERMINATE task: %s", JavaString(name),
			x.taskID(t.Seq))
	}
	blame := t
	if status == tutti.RunCompleted {
		blame = nil
	}
	return x.end(status, asObject(decoded(t.Output), "output"), text, blame)
}

// opWait waits for a time, or to be completed when none is given.
func opWait(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	duration, _ := in.Get("duration")
	until, _ := in.Get("until")
	at, fault := WaitDeadline(textOf(duration), textOf(until), x.t.Now(), nil)
	if fault != nil {
		x.localFailed(s, a, in, value.NewObject(), tutti.Fatal, fault.Error())
		return nil
	}
	x.hold(s, a, TypeWait, in, at)
	return nil
}

func textOf(v any) string {
	if v == nil {
		return ""
	}
	return JavaString(v)
}

// opHuman waits to be completed.
func opHuman(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	x.hold(s, a, TypeHuman, in, 0)
	return nil
}

func (x *exec) hold(s site, a attempt, taskType string, in *value.Object, until int64) {
	x.add(s, a, tutti.TaskSpec{
		Kind: tutti.Wait, Status: tutti.Running, Type: taskType, UntilMs: until,
		Input: value.Marshal(in), Timeouts: x.timeouts(s, a.of),
	})
}

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
	in.Delete("hasChildren")
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
	x.announceEnd(s, x.record(s, a, spec))
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
