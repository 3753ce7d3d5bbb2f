package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tutti-run/tutti/value"
)

// maxCycleSearch bounds how many definitions are read to find out whether workflows start each
// other in a circle.
const maxCycleSearch = 1000

// ExternalTasks returns the types of steps in a definition that the official server runs itself
// while this one leaves them to workers that poll for the type, sorted.
func ExternalTasks(d *WorkflowDef) []string {
	var list []string
	Walk(d.Tasks, func(t *WorkflowTask) {
		if NeedsExternalWorker(t.Type) {
			list = append(list, t.Type)
		}
	})
	slices.Sort(list)
	return slices.Compact(list)
}

func (v *validator) warn(at place, code, hint, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{
		Severity: value.Warning, Path: at.path, Pointer: at.pointer, Code: code, Hint: hint,
		Message: fmt.Sprintf(format, args...),
	})
}

// lint looks for what the official server accepts although it fails or misleads later.
func (v *validator) lint() {
	root := place{}
	l := linter{validator: v}
	Walk(v.def.Tasks, func(t *WorkflowTask) {
		l.dynamic = l.dynamic || t.Type == TypeForkJoinDynamic
	})
	l.list(v.def.Tasks, root.member("tasks"), true)
	l.expressions(CompileTemplate(v.def.OutputParameters), "outputParameters",
		root.member("outputParameters"))
	if name := v.def.FailureWorkflow; name != "" && !strings.HasPrefix(name, "$") {
		l.defined(name, root.member("failureWorkflow"))
	}
	v.lintSchema(v.def.EnforceSchema, v.def.InputSchema, root.member("inputSchema"))
	v.lintSchema(v.def.EnforceSchema, v.def.OutputSchema, root.member("outputSchema"))
	l.cycle(root)
}

func (v *validator) lintSchema(enforced bool, s *SchemaDef, at place) {
	if !enforced || s == nil || s.Data == nil && s.Type != SchemaAvro && s.Type != SchemaProtobuf {
		return
	}
	if _, err := CompileSchema(s); err != nil {
		v.warn(at, "schema", "runs will be refused until it is corrected", "%s", err)
	}
}

type linter struct {
	*validator
	dynamic bool // steps come into being at run time, so references may be to those
}

// list looks at the steps of one list and below. Expressions of top-level steps are left out:
// wrong ones are rejected.
func (l *linter) list(list []*WorkflowTask, at place, top bool) {
	for i, t := range list {
		here := at.index(i)
		if i > 0 && list[i-1].Type == TypeTerminate {
			l.warn(here, "unreachable", "remove it, or put TERMINATE into a branch of a SWITCH",
				"task %s is never reached: the workflow ends at %s before it",
				t.TaskReferenceName, list[i-1].TaskReferenceName)
		}
		if !top {
			l.expressions(CompileTemplate(t.InputParameters), t.TaskReferenceName,
				here.member("inputParameters"))
		}
		l.step(t, here)
		l.joins(list, i, here)
		l.nested(t, here)
	}
}

func (l *linter) nested(t *WorkflowTask, at place) {
	switch t.Type {
	case TypeSwitch, TypeDecision:
		for _, g := range t.DecisionCases {
			l.list(g.List, at.member("decisionCases").key(g.Key), false)
		}
		l.list(t.DefaultCase, at.member("defaultCase"), false)
	case TypeForkJoin:
		for i, b := range t.ForkTasks {
			l.list(b, at.member("forkTasks").index(i), false)
		}
	case TypeDoWhile:
		l.list(t.LoopOver, at.member("loopOver"), false)
	}
}

// joins looks at a fork and what follows it, and at the references of a join.
func (l *linter) joins(list []*WorkflowTask, i int, at place) {
	t := list[i]
	switch t.Type {
	case TypeForkJoin, TypeForkJoinDynamic:
		if i+1 == len(list) || list[i+1].Type != TypeJoin {
			l.warn(at, "fork-without-join", "put a task of type JOIN right after it",
				"fork %s is not followed by a JOIN: the workflow fails there",
				t.TaskReferenceName)
		}
	case TypeJoin, TypeExclusiveJoin:
		follows := ""
		if i > 0 {
			follows = list[i-1].Type
		}
		if len(t.JoinOn) == 0 && follows != TypeForkJoinDynamic {
			l.warn(at, "empty-join-on", "name the tasks to wait for in joinOn",
				"%s %s has an empty joinOn, which servers take differently",
				t.Type, t.TaskReferenceName)
		}
		for j, ref := range t.JoinOn {
			if l.refs[ref] == 0 && follows != TypeForkJoinDynamic && !l.dynamic {
				l.warn(at.member("joinOn").index(j), "unknown-reference",
					"use the taskReferenceName of a task", "%s %s waits for %s, which is no task",
					t.Type, t.TaskReferenceName, ref)
			}
		}
	}
}

// expressions reports expressions that are no paths, and references to steps that do not exist.
func (l *linter) expressions(t *Template, where string, at place) {
	for _, text := range t.Broken() {
		l.warn(at, "broken-expression", "write a path such as ${task.output.member}",
			"${%s} in %s is no path; it will be null", text, where)
	}
	for _, ref := range t.Refs() {
		base, _, _ := strings.Cut(ref, "__") // an iteration of a step in a loop
		if l.refs[ref] > 0 || l.refs[base] > 0 || l.dynamic {
			continue
		}
		l.warn(at, "unknown-reference", "use the taskReferenceName of a task, or workflow",
			"%s refers to %s, which is no task of the workflow; it will be null", where, ref)
	}
}

func (l *linter) step(t *WorkflowTask, at place) {
	switch kind := at.member("type"); {
	case NeedsExternalWorker(t.Type):
		l.warn(kind, "external-worker", "run a worker that polls for "+t.Type,
			"task %s has type %s, which this server leaves to a worker",
			t.TaskReferenceName, t.Type)
	case t.Type != TypeSimple && t.Type != TypeUserDefined && !IsSystemType(t.Type):
		l.warn(kind, "unknown-type", "check the spelling, or run a worker that polls for "+t.Type,
			"task %s has type %s, which is none of this server's", t.TaskReferenceName, t.Type)
	}
	switch t.Type {
	case TypeSwitch:
		l.evaluator(t.EvaluatorType, at.member("evaluatorType"))
		if t.EvaluatorType == "graaljs" && t.Expression != "" {
			l.script(t.Expression, t, at.member("expression"))
		}
	case TypeInline:
		l.inline(t, at.member("inputParameters"))
	case TypeDoWhile:
		if t.LoopCondition != "" {
			l.script(t.LoopCondition, t, at.member("loopCondition"))
		}
	case TypeSubWorkflow:
		p := t.SubWorkflowParam
		if p == nil || p.Definition != nil || p.DefinitionExpression != "" {
			return
		}
		if !strings.Contains(p.Name, "${") {
			l.defined(p.Name, at.member("subWorkflowParam"))
		}
	}
}

func (l *linter) inline(t *WorkflowTask, at place) {
	evaluator := inputText(t.InputParameters, "evaluatorType")
	if evaluator == "" {
		evaluator = "javascript"
	}
	l.evaluator(evaluator, at.member("evaluatorType"))
	src := inputText(t.InputParameters, "expression")
	if isJavaScript(evaluator) && src != "" && !strings.Contains(src, "${") {
		l.script(src, t, at.member("expression"))
	}
}

// evaluator reports evaluators that this server does not have.
func (l *linter) evaluator(name string, at place) {
	if name != "" && name != "value-param" && !isJavaScript(name) && !isExpression(name) {
		l.warn(at, "unknown-evaluator", "use value-param or javascript",
			"No evaluator registered for type: %s", name)
	}
}

func (l *linter) script(src string, t *WorkflowTask, at place) {
	if err := scriptFault(src); err != nil {
		l.warn(at, "script", "the task fails when it is reached",
			"the script of %s is malformed: %s", t.TaskReferenceName, err)
	}
}

// defined reports a workflow that is not in the catalogue.
func (l *linter) defined(name string, at place) {
	if l.docs == nil || name == "" || name == l.def.Name {
		return
	}
	if _, _, ok := l.docs.Document(KindWorkflow, name, 0); !ok {
		l.warn(at, "unknown-workflow", "register it before this one is started",
			"workflow %s is not defined", name)
	}
}

// cycle reports the first circle of workflows that start each other.
func (l *linter) cycle(at place) {
	s := cycleSearch{linter: l, seen: map[string]bool{}}
	if path := s.from(l.def, []string{l.def.Name}); path != nil {
		l.warn(at, "sub-workflow-cycle", "make sure that a branch ends the recursion",
			"workflows start each other in a circle: %s", strings.Join(path, " → "))
	}
}

type cycleSearch struct {
	*linter
	seen map[string]bool
}

// from returns the way from the definition under test back to itself through d, or nil.
func (s *cycleSearch) from(d *WorkflowDef, way []string) []string {
	var found []string
	Walk(d.Tasks, func(t *WorkflowTask) {
		if found == nil && t.Type == TypeSubWorkflow && t.SubWorkflowParam != nil {
			found = s.through(t.SubWorkflowParam, way)
		}
	})
	return found
}

func (s *cycleSearch) through(p *SubWorkflowParams, way []string) []string {
	way = append(slices.Clip(way), p.Name)
	switch {
	case p.Definition != nil:
		if len(way) > maxNesting {
			return nil
		}
		return s.from(p.Definition, way)
	case p.Name == s.def.Name:
		return way
	case s.docs == nil || p.Name == "" || s.seen[p.Name] || len(s.seen) >= maxCycleSearch:
		return nil
	}
	s.seen[p.Name] = true
	version := 0
	if p.Version != nil {
		version = *p.Version
	}
	body, _, ok := s.docs.Document(KindWorkflow, p.Name, version)
	if !ok {
		return nil
	}
	d, err := DecodeWorkflowDef(body)
	if err != nil {
		return nil
	}
	return s.from(d, way)
}
