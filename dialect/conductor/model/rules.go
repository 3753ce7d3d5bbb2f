package model

import (
	"errors"
	"slices"
	"strings"

	"github.com/tutti-run/tutti/expr/script"
	"github.com/tutti-run/tutti/value"
)

// typeRules are the checks of the official server for steps of one type.
var typeRules = map[string]func(v *validator, t *WorkflowTask, at place){
	TypeEvent:           (*validator).event,
	TypeDecision:        (*validator).decision,
	TypeSwitch:          (*validator).switching,
	TypeDynamic:         (*validator).dynamic,
	TypeForkJoinDynamic: (*validator).dynamicFork,
	TypeHTTP:            (*validator).http,
	TypeForkJoin:        (*validator).fork,
	TypeTerminate:       (*validator).terminate,
	TypeKafkaPublish:    (*validator).kafka,
	TypeDoWhile:         (*validator).loop,
	TypeSubWorkflow:     (*validator).subWorkflow,
	TypeJSONJQTransform: (*validator).jq,
	TypeWait:            (*validator).wait,
}

// require adds a finding for a member that a type of step needs.
func (v *validator) require(ok bool, member string, t *WorkflowTask, at place) {
	if !ok {
		v.add(at, nil, "%s field is required for taskType: %s taskName: %s", member, t.Type, t.Name)
	}
}

func (v *validator) event(t *WorkflowTask, at place) {
	v.require(t.given("sink", t.Sink), "sink", t, at)
}

func (v *validator) decision(t *WorkflowTask, at place) {
	v.require(t.given("caseValueParam", t.CaseValueParam) ||
		t.given("caseExpression", t.CaseExpression), "caseValueParam or caseExpression", t, at)
	v.cases(t, at)
	if t.CaseExpression != "" {
		v.syntax(t.CaseExpression, t, at)
	}
}

func (v *validator) switching(t *WorkflowTask, at place) {
	switch {
	case !t.given("evaluatorType", t.EvaluatorType):
		v.require(false, "evaluatorType", t, at)
	case !t.given("expression", t.Expression):
		v.require(false, "expression", t, at)
	}
	v.cases(t, at)
	if t.EvaluatorType == "javascript" && t.Expression != "" {
		v.syntax(t.Expression, t, at)
	}
}

func (v *validator) cases(t *WorkflowTask, at place) {
	if len(t.DecisionCases) == 0 {
		v.add(at, nil, "decisionCases should have atleast one task for taskType: %s taskName: %s",
			t.Type, t.Name)
	}
}

func isJavaScript(evaluator string) bool {
	return evaluator == "javascript" || evaluator == "graaljs"
}

// syntax checks that a script can be compiled.
func (v *validator) syntax(src string, t *WorkflowTask, at place) {
	if err := scriptFault(src); err != nil {
		v.add(at, nil, "Expression is not well formatted: %s, taskType: %s taskName %s",
			err, t.Type, t.Name)
	}
}

// scriptFault returns what is wrong with the syntax of a script, or nil.
func scriptFault(src string) error {
	_, err := script.CompileJS(src)
	var fault *script.ScriptError
	if errors.As(err, &fault) {
		return fault
	}
	return nil
}

func (v *validator) dynamic(t *WorkflowTask, at place) {
	v.require(t.given("dynamicTaskNameParam", t.DynamicTaskNameParam),
		"dynamicTaskNameParam", t, at)
}

func (v *validator) dynamicFork(t *WorkflowTask, at place) {
	if _, ok := t.InputParameters.Get("forkTaskInputs"); ok {
		return
	}
	const tasks, inputs = "dynamicForkTasksParam", "dynamicForkTasksInputParamName"
	legacy := t.given("dynamicForkJoinTasksParam", t.DynamicForkJoinTasksParam)
	hasTasks := t.given(tasks, t.DynamicForkTasksParam)
	hasInputs := t.given(inputs, t.DynamicForkTasksInputParamName)
	switch {
	case legacy && (hasTasks || hasInputs):
		v.add(at, nil, "dynamicForkJoinTasksParam or combination of "+inputs+" and "+tasks+
			" cam be used for taskType: %s taskName: %s", t.Type, t.Name)
	case !legacy:
		v.require(hasTasks, tasks, t, at)
		v.require(hasInputs, inputs, t, at)
	}
}

// hasInput reports whether any of the parameters is given, or the first one by the input template
// of the task definition.
func (v *validator) hasInput(t *WorkflowTask, names ...string) bool {
	for _, n := range names {
		if _, ok := t.InputParameters.Get(n); ok {
			return true
		}
	}
	d := t.TaskDefinition
	if d == nil {
		l := linker{docs: v.docs, taskDefs: map[string]*TaskDef{}}
		if body, _, ok := l.document(KindTaskDef, t.Name, 0); ok {
			d, _ = DecodeTaskDef(body) // one that is malformed is reported where it is used
		}
	}
	if d == nil {
		return false
	}
	_, ok := d.InputTemplate.Get(names[0])
	return ok
}

func (v *validator) http(t *WorkflowTask, at place) {
	v.require(v.hasInput(t, "http_request", "uri", "method"),
		"inputParameters.http_request or inputParameters.uri", t, at)
}

func (v *validator) kafka(t *WorkflowTask, at place) {
	v.require(v.hasInput(t, "kafka_request"), "inputParameters.kafka_request", t, at)
}

func (v *validator) jq(t *WorkflowTask, at place) {
	v.require(v.hasInput(t, "queryExpression"), "inputParameters.queryExpression", t, at)
}

func (v *validator) fork(t *WorkflowTask, at place) {
	if len(t.ForkTasks) == 0 {
		v.add(at, nil, "forkTasks should have atleast one task for taskType: %s taskName: %s",
			t.Type, t.Name)
	}
}

func (v *validator) terminate(t *WorkflowTask, at place) {
	const param = "terminationStatus"
	if t.Optional {
		v.add(at, nil, "terminate task cannot be optional, taskName: %s", t.Name)
	}
	status, ok := t.InputParameters.Get(param)
	allowed := []string{"COMPLETED", "FAILED", "TERMINATED"}
	if !ok || status == nil || !slices.Contains(allowed, JavaString(status)) {
		v.add(at, nil, "terminate task must have an %s parameter and must be set to COMPLETED or"+
			" FAILED, taskName: %s", param, t.Name)
	}
}

func (v *validator) loop(t *WorkflowTask, at place) {
	_, hasItems := t.InputParameters.Get("_items")
	hasItems = hasItems || t.Items != ""
	v.require(hasItems || t.given("loopCondition", t.LoopCondition), "loopCondition", t, at)
	v.require(len(t.LoopOver) > 0, "loopOver", t, at)
}

func (v *validator) subWorkflow(t *WorkflowTask, at place) {
	v.require(t.SubWorkflowParam != nil, "subWorkflowParam", t, at)
}

func (v *validator) wait(t *WorkflowTask, at place) {
	duration := inputText(t.InputParameters, "duration")
	until := inputText(t.InputParameters, "until")
	hasDuration, hasUntil := !isBlank(duration), !isBlank(until)
	if hasDuration && hasUntil {
		v.add(at, nil, "%s", bothWaits)
	}
	switch {
	case hasDuration && !strings.HasPrefix(duration, "${"):
		if _, err := ParseDuration(duration); err != nil {
			v.add(at, duration, "Either date or duration is passed as null ")
		}
	case hasUntil && !strings.HasPrefix(until, "${"):
		if _, err := ParseUntil(until, nil); err != nil {
			v.add(at, until, "Unable to parse date ")
		}
	}
}

// inputText returns a parameter as a string, empty if there is none.
func inputText(params *value.Object, name string) string {
	if e, ok := params.Get(name); ok && e != nil {
		return JavaString(e)
	}
	return ""
}
