package conductor

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// subWorkflowTemplate is the part of subWorkflowParam that may hold expressions.
func subWorkflowTemplate(p *SubWorkflowParams) *value.Object {
	o := value.NewObject()
	o.Set("name", p.Name)
	if p.Version != nil {
		o.Set("version", value.Int(int64(*p.Version)))
	}
	if p.TaskToDomain != nil {
		o.Set("taskToDomain", routingObject(p.TaskToDomain))
	}
	if p.DefinitionExpression != "" {
		o.Set("definition", p.DefinitionExpression)
	}
	o.Set("idempotencyKey", p.IdempotencyKey)
	o.Set("priority", p.Priority)
	return o
}

func routingObject(m map[string]string) any {
	o := value.NewObject()
	for _, k := range slices.Sorted(maps.Keys(m)) {
		o.Set(k, m[k])
	}
	return o
}

func routingOf(v any) map[string]string {
	o, ok := v.(*value.Object)
	if !ok || o.Len() == 0 {
		return nil
	}
	m := make(map[string]string, o.Len())
	for k, e := range o.All() {
		m[k] = textOf(e)
	}
	return m
}

// opSubWorkflow starts a child run and waits for it.
func opSubWorkflow(x *exec, s site, a attempt) error {
	params, err := x.input(s, attempt{input: a.input})
	if err == nil && a.of != nil {
		old, _ := a.of.Input.Field("workflowInput")
		params, err = mergeOver(old, params)
	}
	if err != nil {
		return x.broken(s, err)
	}
	if s.node.extra == nil {
		return x.noDefinition(s)
	}
	v, err := x.resolve(s.node.extra, x.nextSeq())
	if err != nil {
		return x.broken(s, err)
	}
	sub := asObject(v, "")
	in, spec, err := x.childSpec(s, sub, params)
	if err != nil {
		return x.finish(tutti.RunFailed, err.Error(), nil)
	}
	x.add(s, a, tutti.TaskSpec{
		Kind: tutti.Child, Status: tutti.Running, Type: TypeSubWorkflow,
		Input: value.Marshal(in), Child: spec, Timeouts: x.timeouts(s, a.of),
	})
	return nil
}

func firstOf(o *value.Object, name string) any {
	v, _ := o.Get(name)
	return v
}

func (x *exec) noDefinition(s site) error {
	return x.finish(tutti.RunFailed, fmt.Sprintf("The Task %s defined as a sub-workflow has no"+
		" workflow definition available ", s.node.task.Name), nil)
}

// childSpec builds the input of a SUB_WORKFLOW task and the run that it starts.
func (x *exec) childSpec(
	s site, sub, params *value.Object,
) (*value.Object, *tutti.RunSpec, error) {
	p := s.node.task.SubWorkflowParam
	spec := &tutti.RunSpec{
		Definition: textOf(firstOf(sub, "name")), CorrelationID: x.run.CorrelationID,
		Routing: x.run.Routing, Event: x.run.Event,
		IdempotencyKey: textOf(firstOf(sub, "idempotencyKey")),
		OnDuplicate:    duplicatePolicy(p.IdempotencyStrategy),
	}
	if n, ok := firstOf(sub, "version").(value.Number); ok {
		v, _ := n.Int64()
		spec.Version = int(v)
	}
	if m := routingOf(firstOf(sub, "taskToDomain")); m != nil {
		spec.Routing = m
	}
	if n, ok := priorityOf(firstOf(sub, "priority")); ok {
		spec.Priority = n
	}
	inline, err := x.inlineDefinition(p, sub, spec)
	if err != nil {
		return nil, nil, err
	}
	in := value.NewObject()
	in.Set("subWorkflowName", spec.Definition)
	in.Set("subWorkflowVersion", value.Int(int64(spec.Version)))
	in.Set("subWorkflowTaskToDomain", firstOf(sub, "taskToDomain"))
	in.Set("subWorkflowDefinition", inline)
	in.Set("priority", firstOf(sub, "priority"))
	if spec.IdempotencyKey != "" {
		in.Set("idempotencyKey", spec.IdempotencyKey)
		in.Set("idempotencyStrategy", string(p.IdempotencyStrategy))
	}
	in.Set("workflowInput", params)
	child := params
	if params.Len() == 0 {
		child = in.Clone()
	}
	if spec.Source != nil {
		child = child.Clone()
		child.Set("_systemMetadata", single("dynamic", true))
	}
	spec.Input = value.Marshal(child)
	return in, spec, nil
}

// inlineDefinition links the definition that a step carries or computes. The result is what
// the task's input shows, nil for a definition that is named.
func (x *exec) inlineDefinition(
	p *SubWorkflowParams, sub *value.Object, spec *tutti.RunSpec,
) (any, error) {
	def := p.Definition
	if p.DefinitionExpression != "" {
		var err error
		if def, err = WorkflowDefFrom(firstOf(sub, "definition")); err != nil {
			return nil, fmt.Errorf("workflow definition of the sub-workflow: %w", err)
		}
	}
	if def == nil {
		if spec.Definition == "" {
			return nil, fmt.Errorf("the sub-workflow has no name and no definition")
		}
		return nil, nil
	}
	src, err := x.linkInline(def)
	if err != nil {
		return nil, err
	}
	spec.Source, spec.Definition, spec.Version = src, src.Name, src.Version
	return def.Object(), nil
}

func duplicatePolicy(s IdempotencyStrategy) tutti.DuplicatePolicy {
	switch s {
	case IdempotencyReturnExisting:
		return tutti.DuplicateReturn
	case IdempotencyFailOnRunning:
		return tutti.DuplicateFailOnRunning
	}
	return tutti.DuplicateFail
}

func priorityOf(v any) (int, bool) {
	n := value.Number(textOf(v))
	i, ok := n.Int64()
	if !ok || i < 0 || i > 99 {
		return 0, false
	}
	return int(i), true
}

// childEnded words the reason of a SUB_WORKFLOW task whose run ended badly.
func (x *exec) childEnded(s site, t *tutti.Task) {
	if t.Status.Successful() || t.ChildRun.IsZero() {
		return
	}
	in := t.Input
	name, _ := in.Field("subWorkflowName")
	version, _ := in.Field("subWorkflowVersion")
	text, _ := name.Text()
	n, _ := version.Int64()
	reason := fmt.Sprintf("Sub workflow %s.%d/%s.%s failure reason: %s", text, n,
		t.ChildRun, runStatusFor(t.Status), t.Reason)
	x.t.EndTask(t.Seq, t.Status, nil, reason)
}

// opStartWorkflow starts a run and does not wait for it.
func opStartWorkflow(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	req, ok := firstOf(in, "startWorkflow").(*value.Object)
	if !ok {
		x.localFailed(s, a, in, value.NewObject(), tutti.Failed,
			"Missing 'startWorkflow' in input data.")
		return nil
	}
	spec, fault := x.startSpec(req)
	if fault != "" {
		x.localFailed(s, a, in, value.NewObject(), tutti.Failed, fault)
		return nil
	}
	id := x.t.StartRun(*spec)
	x.add(s, a, tutti.TaskSpec{
		Kind: tutti.Local, Status: tutti.Completed, Type: TypeStartWorkflow,
		Input:  value.Marshal(in),
		Output: value.Marshal(single("workflowId", id.String())),
	})
	return nil
}

// startSpec reads a StartWorkflowRequest.
func (x *exec) startSpec(req *value.Object) (*tutti.RunSpec, string) {
	spec := &tutti.RunSpec{
		Definition: textOf(firstOf(req, "name")), Input: value.Raw("{}"),
		CorrelationID:  textOf(firstOf(req, "correlationId")),
		CreatedBy:      textOf(firstOf(req, "createdBy")),
		Routing:        routingOf(firstOf(req, "taskToDomain")),
		IdempotencyKey: textOf(firstOf(req, "idempotencyKey")),
	}
	strategy := textOf(firstOf(req, "idempotencyStrategy"))
	spec.OnDuplicate = duplicatePolicy(IdempotencyStrategy(strategy))
	if spec.CorrelationID == "" {
		spec.CorrelationID = x.run.CorrelationID
	}
	if spec.Routing == nil {
		spec.Routing = x.run.Routing
	}
	if n, ok := value.Number(textOf(firstOf(req, "version"))).Int64(); ok {
		spec.Version = int(n)
	}
	if v := firstOf(req, "priority"); v != nil {
		n, ok := priorityOf(v)
		if !ok {
			return nil, "startWorkflow validation failed. 'priority' -> must be 0 to 99"
		}
		spec.Priority = n
	}
	if v := firstOf(req, "input"); v != nil {
		spec.Input = value.Marshal(asObject(v, "input"))
	}
	if v := firstOf(req, "workflowDef"); v != nil {
		def, err := WorkflowDefFrom(v)
		if err == nil {
			spec.Source, err = x.linkInline(def)
		}
		if err != nil {
			return nil, "startWorkflow validation failed. 'workflowDef' -> " + err.Error()
		}
		spec.Definition, spec.Version = spec.Source.Name, spec.Source.Version
	}
	if spec.Definition == "" {
		return nil, "startWorkflow validation failed. 'name' -> " +
			"Workflow name cannot be null or empty"
	}
	return spec, ""
}
