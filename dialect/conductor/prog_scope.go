package conductor

import (
	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

// scope gives the expressions of one step their values. Only payloads that an expression
// names are decoded.
type scope struct {
	x    *exec
	self tutti.Seq // task whose input is being resolved; 0 = none
}

var _ model.MemberScope = scope{}

// input resolves the input of the task that is about to be created at a site.
func (x *exec) input(s site, a attempt) (*value.Object, error) {
	if a.input != nil {
		v, err := a.input.Parse()
		return asObject(v, "input"), err
	}
	in, err := s.node.input.Resolve(scope{x, x.nextSeq()})
	if err != nil {
		return nil, err
	}
	if a.of == nil {
		return in.Clone(), nil
	}
	return mergeOver(a.of.Input, in)
}

// mergeOver returns the old input of a task with the members of a newer one.
func mergeOver(old value.Raw, in *value.Object) (*value.Object, error) {
	if old.IsNull() {
		return in, nil
	}
	v, err := old.Parse()
	if err != nil {
		return nil, err
	}
	o := asObject(v, "input")
	for name, v := range in.All() {
		o.Set(name, v)
	}
	return o, nil
}

// resolve evaluates a template for the task self, or for none when self is 0.
func (x *exec) resolve(t *Template, self tutti.Seq) (any, error) {
	return t.Resolve(scope{x, self})
}

// Lookup implements Scope.
func (s scope) Lookup(root, field string) (any, bool) {
	if root == rootWorkflow {
		return s.x.workflowField(field)
	}
	t := s.x.byName(root)
	if t == nil {
		return nil, false
	}
	return s.x.taskField(t, field)
}

// LookupMember implements model.MemberScope for payloads, which may be large: a member is cut
// out without decoding the rest, and an output made of other tasks' is not put together.
func (s scope) LookupMember(root, field, member string) (v any, ok, handled bool) {
	if root == rootWorkflow || (field != "output" && field != "input") {
		return nil, false, false
	}
	t := s.x.byName(root)
	switch {
	case t == nil:
		return nil, false, true
	case field == "input":
		return memberOf(t.Input, member)
	case assembled(t):
		got, ok := (outputView{s.x.p, s.x.t, t}).Get(member)
		if o, lazy := got.(outputView); lazy {
			got = decoded(s.x.p.taskOutput(s.x.t, o.t))
		}
		return got, ok, true
	case t.Kind == tutti.Child && member == "subWorkflowId" && !t.ChildRun.IsZero():
		return t.ChildRun.String(), true, true
	}
	return memberOf(t.Output, member)
}

func memberOf(payload value.Raw, member string) (v any, ok, handled bool) {
	if payload.Kind() != "object" {
		return nil, false, len(payload) == 0
	}
	raw, ok := payload.Field(member)
	if !ok {
		return nil, false, true
	}
	return decoded(raw), true, true
}

// Roots implements Scope.
func (s scope) Roots() []string {
	names := []string{rootWorkflow}
	for t := range s.x.t.Tasks(1) {
		names = append(names, t.Name)
	}
	return names
}

// Env implements Scope. Programs know no environment: equal runs must go equal ways.
func (s scope) Env(string) (string, bool) { return "", false }

// System implements Scope.
func (s scope) System(name string) (string, bool) {
	if name == SystemTaskID && s.self != 0 {
		return s.x.taskID(s.self), true
	}
	return "", false
}

func text(s string) (any, bool) {
	if s == "" {
		return nil, true
	}
	return s, true
}

func (x *exec) workflowField(field string) (any, bool) {
	switch r := x.run; field {
	case "input":
		return x.workflowInput(), true
	case "output":
		return decoded(r.Output), true
	case "status":
		return r.Status.String(), true
	case "workflowId":
		return r.ID.String(), true
	case "parentWorkflowId":
		if r.Parent.IsZero() {
			return nil, true
		}
		return r.Parent.String(), true
	case "parentWorkflowTaskId":
		if r.Parent.IsZero() {
			return nil, true
		}
		return r.Parent.TaskID(r.ParentTask), true
	case "workflowType":
		return r.Definition, true
	case "version":
		return value.Int(int64(r.Version)), true
	case "correlationId":
		return text(r.CorrelationID)
	case "reasonForIncompletion":
		return text(r.Reason)
	case "schemaVersion":
		return value.Int(int64(x.p.def.SchemaVersion)), true
	case "variables":
		return x.variables(), true
	}
	return nil, false
}

func decoded(r value.Raw) any {
	if len(r) == 0 {
		return value.NewObject()
	}
	v, err := r.Parse()
	if err != nil {
		return nil
	}
	return v
}

// workflowInput is the run's input with the defaults of the definition.
func (x *exec) workflowInput() *value.Object {
	if x.wfInput == nil {
		in := asObject(decoded(x.run.Input), "input")
		x.wfInput = ApplyInputTemplate(in, x.p.def.InputTemplate)
	}
	return x.wfInput
}

func (x *exec) taskField(t *tutti.Task, field string) (any, bool) {
	switch field {
	case "input":
		return decoded(t.Input), true
	case "output":
		return decoded(x.p.taskOutput(x.t, t)), true
	case "taskType":
		return t.Type, true
	case "status":
		return StatusName(t.Status), true
	case "referenceTaskName":
		return t.Name, true
	case "retryCount":
		return value.Int(int64(t.Attempt)), true
	case "correlationId":
		return text(x.run.CorrelationID)
	case "pollCount":
		return value.Int(int64(t.Polls)), true
	case "taskDefName":
		return t.DefName, true
	case "scheduledTime":
		return value.Int(t.ScheduledMs), true
	case "startTime":
		return value.Int(t.StartedMs), true
	case "endTime":
		return value.Int(t.EndedMs), true
	case "workflowInstanceId":
		return x.run.ID.String(), true
	case "taskId":
		return x.taskID(t.Seq), true
	case "reasonForIncompletion":
		return text(t.Reason)
	case "callbackAfterSeconds":
		return value.Int((t.CallbackMs + 999) / 1000), true
	case "workerId":
		return text(t.Worker)
	case "iteration":
		return value.Int(int64(Iteration(t))), true
	}
	return nil, false
}

// byName finds the newest task with a reference name, with or without the suffix of a loop.
func (x *exec) byName(name string) *tutti.Task {
	return x.p.byName(x.t, name)
}

// variables returns the workflow's variables. They must not be changed.
func (x *exec) variables() *value.Object {
	if x.vars == nil {
		x.vars = x.p.def.Variables
		if b, ok := x.t.Cell(VariablesCell); ok {
			x.vars = asObject(decoded(b), "variables")
		}
	}
	return x.vars
}

func (x *exec) setVariables(o *value.Object) {
	x.vars = o
	x.t.SetCell(VariablesCell, value.Marshal(o))
}
