package model

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/expr/jsonpath"
	"github.com/tutti-run/tutti/value"
)

// Rules are the checks that operators switch on. The zero value has those of the official
// server as it is shipped.
type Rules struct {
	// OwnerEmail makes the owner's address mandatory.
	OwnerEmail bool
	// Names restricts the characters of workflow names.
	Names bool
}

// A Finding is something wrong or doubtful in a definition. Those of severity error are what the
// official server rejects a definition for; the others are only reported to authors.
type Finding struct {
	Severity     value.Severity
	Path         string // place as the official server names it, such as tasks[0].name
	Pointer      string // the same as an RFC 6901 pointer into the definition
	Message      string
	InvalidValue any // the offending value, where there is one
	Code         string
	Hint         string
}

// A Report lists what was found in a definition, in the definition's order.
type Report struct{ Findings []Finding }

// Violations returns the findings that reject the definition.
func (r *Report) Violations() []Finding {
	var list []Finding
	for _, f := range r.Findings {
		if f.Severity == value.Error {
			list = append(list, f)
		}
	}
	return list
}

// Err returns a *tutti.Error of kind Invalid that wraps a *ValidationError if there are
// violations, else nil.
func (r *Report) Err() error {
	list := r.Violations()
	if len(list) == 0 {
		return nil
	}
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "validate", Code: "ValidationFailed",
		Err: &ValidationError{Violations: list},
	}
}

// Diagnostics returns the findings with line and column in the source they were decoded from.
func (r *Report) Diagnostics(src value.Raw) value.Diagnostics {
	list := make(value.Diagnostics, 0, len(r.Findings))
	for _, f := range r.Findings {
		d := value.Diagnostic{
			Severity: f.Severity, Code: f.Code, Message: f.Message, Hint: f.Hint,
		}
		d.Line, d.Column = value.Locate(src, f.Pointer)
		list = append(list, d)
	}
	list.Sort()
	return list
}

// A ValidationError holds the violations that a definition is rejected for.
type ValidationError struct{ Violations []Finding }

// Error returns the messages, one after the other.
func (e *ValidationError) Error() string {
	list := make([]string, len(e.Violations))
	for i, v := range e.Violations {
		list[i] = v.Message
	}
	return strings.Join(list, "; ")
}

// A place is where in a definition something is.
type place struct{ path, pointer string }

func (p place) member(name string) place {
	path := name
	if p.path != "" {
		path = p.path + "." + name
	}
	return place{path, pointerTo(p.pointer, name)}
}

func (p place) index(i int) place {
	n := strconv.Itoa(i)
	return place{p.path + "[" + n + "]", p.pointer + "/" + n}
}

// key is a member of a map; the path shows it as the official server does.
func (p place) key(name string) place {
	return place{p.path + "[" + name + "]", pointerTo(p.pointer, name)}
}

// inner marks the path of a list that is itself an element.
func (p place) inner(what string) place { return place{p.path + ".<" + what + ">", p.pointer} }

// A validator collects findings about one document.
type validator struct {
	rules  Rules
	docs   tutti.Documents
	def    *WorkflowDef
	refs   map[string]int // number of steps by reference name
	report *Report
	lax    bool // what would be rejected elsewhere is only doubtful here
}

func (v *validator) add(at place, invalid any, format string, args ...any) {
	f := Finding{
		Severity: value.Error, Path: at.path, Pointer: at.pointer, InvalidValue: invalid,
		Message: fmt.Sprintf(format, args...), Code: "invalid",
	}
	if v.lax {
		f.Severity, f.Code = value.Warning, "invalid-in-loop"
	}
	v.report.Findings = append(v.report.Findings, f)
}

// orNull returns a string for InvalidValue: nil if it was not given.
func orNull(s string, given bool) any {
	if !given {
		return nil
	}
	return s
}

// Workflow checks a workflow definition. With docs, which may be nil, it also looks at what the
// definition refers to.
func (r Rules) Workflow(d *WorkflowDef, docs tutti.Documents) *Report {
	v := &validator{rules: r, docs: docs, def: d, refs: map[string]int{}, report: &Report{}}
	v.workflow()
	v.uniqueness()
	v.steps(d.Tasks, place{}.member("tasks"))
	v.inputs()
	v.lint()
	return v.report
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_<>{}#\s\x0B-]+$`)

func (v *validator) workflow() {
	d, root := v.def, place{}
	name := root.member("name")
	switch {
	case d.Name == "":
		v.add(name, orNull("", d.blank.has("name")), "WorkflowDef name cannot be null or empty")
	case v.rules.Names && !namePattern.MatchString(d.Name):
		v.add(name, d.Name, "Invalid name '%s'. Allowed characters are alphanumeric, underscores,"+
			" spaces, hyphens, and special characters like <, >, {, }, #", d.Name)
	}
	if len(d.Tasks) == 0 {
		v.add(root.member("tasks"), nil, "WorkflowTask list cannot be empty")
	}
	if d.SchemaVersion != 2 {
		v.add(root.member("schemaVersion"), value.Int(int64(d.SchemaVersion)),
			"workflowDef schemaVersion: 2 is only supported")
	}
	v.owner(d.OwnerEmail)
}

func (v *validator) owner(email string) {
	if v.rules.OwnerEmail && email == "" {
		v.add(place{}.member("ownerEmail"), nil, "ownerEmail cannot be empty")
	}
}

func (v *validator) uniqueness() {
	Walk(v.def.Tasks, func(t *WorkflowTask) {
		v.refs[t.TaskReferenceName]++
		if v.refs[t.TaskReferenceName] < 2 {
			return
		}
		ref := t.TaskReferenceName
		if !t.given("taskReferenceName", ref) {
			ref = "null"
		}
		v.add(place{}, nil, "taskReferenceName: %s should be unique across tasks for a given"+
			" workflowDefinition: %s", ref, v.def.Name)
	})
}

// steps checks a list of steps and those nested in it, whatever their types. The official server
// does not look into loops, so what it would reject elsewhere is only a warning there.
func (v *validator) steps(list []*WorkflowTask, at place) {
	for i, t := range list {
		here := at.index(i)
		v.step(t, here)
		for _, g := range t.DecisionCases {
			v.steps(g.List, here.member("decisionCases").key(g.Key).inner("map value"))
		}
		v.steps(t.DefaultCase, here.member("defaultCase"))
		for j, b := range t.ForkTasks {
			v.steps(b, here.member("forkTasks").index(j).inner("list element"))
		}
		lax := v.lax
		v.lax = true
		v.steps(t.LoopOver, here.member("loopOver"))
		v.lax = lax
	}
}

func (v *validator) step(t *WorkflowTask, at place) {
	if t.Name == "" {
		v.add(at.member("name"), orNull("", t.blank.has("name")),
			"WorkflowTask name cannot be empty or null")
	}
	if t.TaskReferenceName == "" {
		v.add(at.member("taskReferenceName"), orNull("", t.blank.has("taskReferenceName")),
			"WorkflowTask taskReferenceName name cannot be empty or null")
	}
	if t.StartDelay < 0 {
		v.add(at.member("startDelay"), value.Int(int64(t.StartDelay)),
			"must be greater than or equal to 0")
	}
	for _, g := range t.OnStateChange {
		for i, e := range g.List {
			if e.Type == "" && !e.blank.has("type") {
				where := at.member("onStateChange").key(g.Key).inner("map value").index(i)
				v.add(where.member("type"), nil, "must not be null")
			}
		}
	}
	if check := typeRules[t.Type]; check != nil {
		check(v, t, at)
	}
}

// inputs checks the expressions in the inputs of top-level steps.
func (v *validator) inputs() {
	for i, t := range v.def.Tasks {
		at := place{}.member("tasks").index(i).member("inputParameters")
		for key, e := range t.InputParameters.All() {
			v.input(t, key, e, pointerTo(at.pointer, key))
		}
	}
}

func (v *validator) input(t *WorkflowTask, key string, e any, pointer string) {
	switch e := e.(type) {
	case string:
		for _, path := range splitExpressions(e) {
			v.inputPath(t, key, e, path, pointer)
		}
	case *value.Object:
		for k, m := range e.All() {
			v.input(t, k, m, pointerTo(pointer, k))
		}
	case []any:
		for i, m := range e {
			v.input(t, key, m, pointer+"/"+strconv.Itoa(i))
		}
	}
}

func (v *validator) inputPath(t *WorkflowTask, key, whole, path, pointer string) {
	at := place{"", pointer}
	if _, err := jsonpath.Compile(path); err != nil || path == "" {
		v.add(at, nil, "key: %s input parameter value: %s is not valid", key, path)
		return
	}
	root, _, _ := strings.Cut(path, ".")
	if newTarget(path).kind == systemTarget || root == RootWorkflow || v.refs[root] > 0 {
		return
	}
	v.add(at, nil, "taskReferenceName: %s for given task: %s input value: %s of input"+
		" parameter: %s is not defined in workflow definition.", root, t.Name, key, whole)
}

// splitExpressions returns the texts within ${…}, innermost only, as the official server cuts a
// string up to check it: before each ${ that no $ precedes and after each }.
func splitExpressions(s string) []string {
	var paths []string
	start := 0
	for i := range len(s) {
		switch {
		case s[i] == '}':
			if piece := s[start : i+1]; strings.HasPrefix(piece, "${") {
				paths = append(paths, piece[2:len(piece)-1])
			}
			start = i + 1
		case strings.HasPrefix(s[i:], "${") && (i == 0 || s[i-1] != '$'):
			start = i
		}
	}
	return paths
}

// TaskDef checks a task definition.
func (r Rules) TaskDef(d *TaskDef) *Report {
	v := &validator{rules: r, report: &Report{}}
	v.taskDef(d)
	return v.report
}

func (v *validator) taskDef(d *TaskDef) {
	root := place{}
	if d.Name == "" {
		v.add(root.member("name"), orNull("", d.blank.has("name")),
			"TaskDef name cannot be null or empty")
	}
	v.owner(d.OwnerEmail)
	poll := int64(0)
	if d.PollTimeoutSeconds != nil {
		poll = int64(*d.PollTimeoutSeconds)
	}
	for _, m := range []struct {
		name string
		n    int64
	}{
		{"retryCount", int64(d.RetryCount)},
		{"pollTimeoutSeconds", poll},
		{"maxRetryDelaySeconds", int64(d.MaxRetryDelaySeconds)},
		{"backoffJitterMs", int64(d.BackoffJitterMs)},
		{"totalTimeoutSeconds", d.TotalTimeoutSeconds},
	} {
		if m.n < 0 {
			v.add(root.member(m.name), value.Int(m.n), "TaskDef %s: 0 must be >= 0", m.name)
		}
	}
	if d.BackoffScaleFactor < 1 {
		v.add(root.member("backoffScaleFactor"), value.Int(int64(d.BackoffScaleFactor)),
			"Backoff scale factor. Applicable for LINEAR_BACKOFF")
	}
	if n := d.ResponseTimeoutSeconds; n < 1 {
		v.add(root.member("responseTimeoutSeconds"), value.Int(n),
			"TaskDef responseTimeoutSeconds: %d should be minimum 1 second", n)
	}
	if d.TimeoutSeconds > 0 && d.ResponseTimeoutSeconds > d.TimeoutSeconds {
		v.add(root, nil, "TaskDef: %s responseTimeoutSeconds: %d must be less than"+
			" timeoutSeconds: %d", d.Name, d.ResponseTimeoutSeconds, d.TimeoutSeconds)
	}
	if d.TotalTimeoutSeconds > 0 && d.TimeoutSeconds > d.TotalTimeoutSeconds {
		v.add(root, nil, "TaskDef: %s timeoutSeconds: %d must be less than or equal to"+
			" totalTimeoutSeconds: %d", d.Name, d.TimeoutSeconds, d.TotalTimeoutSeconds)
	}
	v.lintSchema(d.EnforceSchema, d.InputSchema, root.member("inputSchema"))
	v.lintSchema(d.EnforceSchema, d.OutputSchema, root.member("outputSchema"))
}

// EventHandler checks an event handler.
func (r Rules) EventHandler(h *EventHandler) *Report {
	v := &validator{rules: r, report: &Report{}}
	root := place{}
	if h.Name == "" {
		v.add(root.member("name"), orNull("", h.blank.has("name")), "Missing event handler name")
	}
	if h.Event == "" {
		v.add(root.member("event"), orNull("", h.blank.has("event")), "Missing event location")
	}
	if len(h.Actions) == 0 {
		v.add(root.member("actions"), nil,
			"No actions specified. Please specify at-least one action")
	}
	for i, a := range h.Actions {
		at := root.member("actions").index(i)
		switch a.Type {
		case ActionTerminateWorkflow, ActionUpdateVariables, ActionStartWorkflow,
			ActionCompleteTask, ActionFailTask:
			if !a.complete() {
				v.warn(at, "incomplete-action", "give the member named "+string(a.Type),
					"action %s says nothing about what to act on", a.Type)
			}
		case ActionStartAgent:
			v.warn(at.member("action"), "unsupported-action", "start a workflow instead",
				"action start_agent is not supported and will be skipped")
		default:
			v.warn(at, "incomplete-action", "set action", "the action has no type")
		}
	}
	return v.report
}

// complete reports whether the member that the type asks for is there.
func (a *Action) complete() bool {
	switch a.Type {
	case ActionStartWorkflow:
		return a.StartWorkflow != nil
	case ActionCompleteTask:
		return a.CompleteTask != nil
	case ActionFailTask:
		return a.FailTask != nil
	case ActionTerminateWorkflow:
		return a.TerminateWorkflow != nil
	case ActionUpdateVariables:
		return a.UpdateWorkflowVariables != nil
	}
	return a.StartAgent != nil
}
