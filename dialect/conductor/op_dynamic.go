package conductor

import (
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// forkPlan is what a dynamic fork is going to start. It is made from the FORK task's input
// and kept only in memory.
type forkPlan struct {
	tasks  []*value.Object // WorkflowTasks
	refs   []string
	inputs []any // input of each task, merged over its parameters; nil = none
}

// opForkDynamic starts branches that the input names, one task each. They are started in
// windows; the FORK task's input holds all of them, so that a later turn finds them again.
func opForkDynamic(x *exec, s site, a attempt) error {
	if s.node.join < 0 {
		return x.finish(tutti.RunFailed, "Dynamic join definition is not followed by a join"+
			" task.  Check the workflow definition.", nil)
	}
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	plan, err := x.planFork(s, in)
	if err != nil {
		return x.finish(tutti.RunFailed, err.Error(), nil)
	}
	if dup := x.duplicate(s, plan); dup != "" {
		return x.finish(tutti.RunFailed, fmt.Sprintf("No dynamic tasks could be created for the"+
			" Workflow: %s, Dynamic Fork Task: %s attempted to create a duplicate task reference"+
			" name: %s", x.run.Definition, s.node.task.TaskReferenceName, dup), nil)
	}
	f := x.openFork(s, len(plan.tasks))
	state := f.State.(*forkState)
	state.dynamic, state.plan = true, plan
	x.recordFork(s, a, f, plan.record(in))
	return x.spread(f)
}

// record is the FORK task's input: what was given, and what becomes of it.
func (p *forkPlan) record(in *value.Object) value.Raw {
	refs, defs := make([]any, len(p.refs)), make([]any, len(p.refs))
	for i := range p.refs {
		refs[i], defs[i] = p.refs[i], p.tasks[i]
	}
	in.Set("forkedTasks", refs)
	in.Set("forkedTaskDefs", defs)
	return value.Marshal(in)
}

// planOf returns the plan of a fork, made again from its FORK task if memory has lost it.
func (x *exec) planOf(s site, state *forkState) (*forkPlan, error) {
	if state.plan != nil {
		return state.plan, nil
	}
	t := x.t.Task(state.fork)
	if t == nil {
		return nil, fmt.Errorf("fork %s: its task is gone", s.name())
	}
	plan, err := x.planFork(s, asObject(decoded(t.Input), "input"))
	state.plan = plan
	return plan, err
}

// duplicate returns a reference name that is used twice, or empty.
func (x *exec) duplicate(s site, plan *forkPlan) string {
	seen := make(map[string]bool, len(plan.refs))
	suffix, _ := s.scope().naming()
	for _, ref := range plan.refs {
		_, static := x.p.body.refs[ref]
		if seen[ref] || static || ref == "" {
			return ref
		}
		seen[ref] = true
		if t := x.t.Task(cellSeq(x.t, refCell(ref))); t != nil && t.Name == ref+suffix {
			return ref
		}
	}
	return ""
}

// startDynamic starts one branch of a dynamic fork: a small program of its own.
func (x *exec) startDynamic(f *tutti.Frame, state *forkState, s site, n int) error {
	plan, err := x.planOf(s, state)
	if err != nil {
		return err
	}
	if n >= len(plan.tasks) {
		return fmt.Errorf("fork %s: branch %d is missing", s.name(), n)
	}
	def := plan.tasks[n]
	if v, ok := def.Get("inputParameters"); plan.inputs[n] != nil || !ok {
		def = def.Clone()
		def.Set("inputParameters", merged(v, plan.inputs[n]))
	}
	def = x.withTaskDef(def)
	t, err := WorkflowTaskFrom(def)
	if err != nil {
		return x.finish(tutti.RunFailed, fmt.Sprintf("Input '%s' is invalid. Cannot deserialize"+
			" a list of Workflow Tasks: %v", s.node.task.DynamicForkTasksParam, err), nil)
	}
	in := site{frame: f, body: compileBody([]*WorkflowTask{t}), head: value.Marshal(def)}
	in.node = &in.body.nodes[0]
	in.fork = state.fork
	return x.schedule(in)
}

// withTaskDef embeds the task definition that is registered now,
// so that the task keeps to it.
func (x *exec) withTaskDef(def *value.Object) *value.Object {
	docs := tutti.Documents(x.t)
	if _, given := def.Get("taskDefinition"); given {
		return def
	}
	body, _, found := docs.Document(KindTaskDef, textOf(firstOf(def, "name")), 0)
	if !found {
		return def
	}
	def = def.Clone()
	def.Set("taskDefinition", decoded(body))
	return def
}

func merged(params, input any) *value.Object {
	o := asObject(params, "input").Clone()
	for name, v := range asObject(input, "input").All() {
		o.Set(name, v)
	}
	return o
}

// planFork reads whichever of the three forms the fork's input has.
func (x *exec) planFork(s site, in *value.Object) (*forkPlan, error) {
	t := s.node.task
	switch {
	case t.DynamicForkJoinTasksParam != "":
		return planLegacy(t, in)
	case t.DynamicForkTasksParam != "":
		return planTasks(t, in)
	}
	return x.planSimple(s, in)
}

// planTasks reads a list of WorkflowTasks and an object of their inputs.
func planTasks(t *WorkflowTask, in *value.Object) (*forkPlan, error) {
	v := firstOf(in, t.DynamicForkTasksParam)
	list, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("Input '%s' is invalid. Cannot deserialize a list of Workflow"+
			" Tasks from '%s'", t.DynamicForkTasksParam, JavaString(v))
	}
	given := firstOf(in, t.DynamicForkTasksInputParamName)
	inputs, ok := given.(*value.Object)
	if !ok && given != nil {
		return nil, fmt.Errorf("Input to the dynamically forked tasks is not a map -> expecting"+
			" a map of K,V  but found %s", JavaString(given))
	}
	plan := &forkPlan{}
	for _, e := range list {
		o, ok := e.(*value.Object)
		if !ok {
			return nil, fmt.Errorf("Input '%s' is invalid. Cannot deserialize a list of Workflow"+
				" Tasks from '%s'", t.DynamicForkTasksParam, JavaString(e))
		}
		ref := textOf(firstOf(o, "taskReferenceName"))
		plan.add(ref, o, firstOf(inputs, ref))
	}
	return plan, nil
}

func (p *forkPlan) add(ref string, task *value.Object, input any) {
	p.refs, p.tasks = append(p.refs, ref), append(p.tasks, task)
	p.inputs = append(p.inputs, input)
}

// planLegacy reads a DynamicForkJoinTaskList.
func planLegacy(t *WorkflowTask, in *value.Object) (*forkPlan, error) {
	v := firstOf(in, t.DynamicForkJoinTasksParam)
	list, ok := v.([]any)
	if o, isObject := v.(*value.Object); isObject {
		list, ok = firstOf(o, "dynamicTasks").([]any)
	}
	if !ok {
		return nil, fmt.Errorf("Dynamic tasks could not be created. The value of %s from task's"+
			" input %s has no dynamic tasks to be scheduled", t.DynamicForkJoinTasksParam,
			JavaString(in))
	}
	plan := &forkPlan{}
	for _, e := range list {
		d := asObject(e, "")
		ref := textOf(firstOf(d, "referenceName"))
		o := forkedTask(textOf(firstOf(d, "taskName")), ref, textOf(firstOf(d, "type")))
		if name := firstOf(d, "workflowName"); name != nil {
			o.Set("subWorkflowParam", single("name", name))
		}
		plan.add(ref, o, firstOf(d, "input"))
	}
	return plan, nil
}

func forkedTask(name, ref, taskType string) *value.Object {
	o := value.NewObject()
	o.Set("name", name)
	o.Set("taskReferenceName", ref)
	if taskType == "" {
		taskType = TypeSimple
	}
	o.Set("type", taskType)
	return o
}

// planSimple makes one task for each item of forkTaskInputs.
func (x *exec) planSimple(s site, in *value.Object) (*forkPlan, error) {
	list, ok := firstOf(in, "forkTaskInputs").([]any)
	if !ok {
		return nil, fmt.Errorf("Dynamic fork %s needs forkTaskInputs to be a list, found %s",
			s.node.task.TaskReferenceName, value.Kind(firstOf(in, "forkTaskInputs")))
	}
	taskType := textOf(firstOf(in, "forkTaskType"))
	name := textOf(firstOf(in, "forkTaskName"))
	workflow := textOf(firstOf(in, "forkTaskWorkflow"))
	if workflow != "" {
		taskType = TypeSubWorkflow
	}
	if name == "" {
		name = s.node.task.TaskReferenceName
		if IsSystemType(taskType) && workflow == "" {
			name = taskType
		}
	}
	prefix := "_" + name
	if x.otherDynamicFork(s) {
		prefix = "_" + s.node.task.TaskReferenceName + prefix
	}
	plan := &forkPlan{}
	for i, item := range list {
		ref := fmt.Sprintf("%s_%d", prefix, i)
		o := forkedTask(name, ref, taskType)
		if workflow != "" {
			version := firstOf(in, "forkTaskWorkflowVersion")
			o.Set("subWorkflowParam", subWorkflowOf(workflow, version))
		}
		if s.node.task.Optional {
			o.Set("optional", true)
		}
		input := asObject(item, "input").Clone()
		input.Set("__index", value.Int(int64(i)))
		plan.add(ref, o, input)
	}
	return plan, nil
}

func subWorkflowOf(name string, version any) *value.Object {
	o := single("name", name)
	if n, ok := value.Number(textOf(version)).Int64(); ok {
		o.Set("version", value.Int(n))
	}
	return o
}

// otherDynamicFork reports whether the definition has another dynamic fork, whose tasks might
// get the same names.
func (x *exec) otherDynamicFork(s site) bool {
	n := 0
	for i := range x.p.body.nodes {
		if x.p.body.nodes[i].task.Type == TypeForkJoinDynamic {
			n++
		}
	}
	return n > 1 || s.home != 0
}
