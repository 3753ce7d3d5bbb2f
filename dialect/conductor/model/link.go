package model

import (
	"fmt"
	"strconv"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Dialect is the name of the dialect in sources.
const Dialect = "conductor"

// The kinds of documents that the dialect keeps in the catalogue. Workflows and schemas are
// versioned; task definitions are not.
const (
	KindWorkflow = "workflow"
	KindTaskDef  = "taskdef"
	KindSchema   = "schema"
)

// Link returns a workflow definition, the newest if version is 0, with all that it refers to
// embedded: each step's task definition, the schemas it enforces, and the versions of the
// workflows its SUB_WORKFLOW steps start, as far as they are known now. A sub-workflow without
// a definition is left without a version, since only reaching it makes a run fail. Equal
// documents give equal bytes. Errors are *tutti.Error: NotFound when the workflow or a schema
// does not exist, Invalid when a document is malformed.
func Link(docs tutti.Documents, name string, version int) (*tutti.Source, error) {
	body, found, ok := docs.Document(KindWorkflow, name, version)
	if !ok {
		return nil, noWorkflow(name, version)
	}
	d, err := DecodeWorkflowDef(body)
	if err != nil {
		return nil, err
	}
	d.Name = name
	if found != 0 {
		d.Version = found
	}
	return linked(docs, d)
}

// LinkInline is Link for a definition that is given in place of a name. Without docs, which may
// be nil, all task definitions that it does not hold itself have their defaults.
func LinkInline(docs tutti.Documents, def value.Raw) (*tutti.Source, error) {
	d, err := DecodeWorkflowDef(def)
	if err != nil {
		return nil, err
	}
	return linked(docs, d)
}

func noWorkflow(name string, version int) error {
	v := "null"
	if version != 0 {
		v = strconv.Itoa(version)
	}
	return &tutti.Error{
		Kind: tutti.NotFound, Op: "link workflow", Code: "WorkflowNotFound",
		Err: fmt.Errorf("No such workflow defined. name=%s, version=%s", name, v),
	}
}

func linked(docs tutti.Documents, d *WorkflowDef) (*tutti.Source, error) {
	l := linker{docs: docs, taskDefs: map[string]*TaskDef{}}
	if err := l.workflow(d); err != nil {
		return nil, err
	}
	return &tutti.Source{
		Dialect: Dialect, Name: d.Name, Version: d.Version, Body: d.Encode(),
	}, nil
}

// LinkTask embeds what a step refers to, and all steps within it, as Link does for the steps of
// a definition. It is for steps that come into being at run time. Docs may be nil.
func LinkTask(docs tutti.Documents, t *WorkflowTask) error {
	l := linker{docs: docs, taskDefs: map[string]*TaskDef{}}
	return l.tasks([]*WorkflowTask{t})
}

// A linker embeds documents. It reads each task definition once.
type linker struct {
	docs     tutti.Documents
	taskDefs map[string]*TaskDef // nil for one that is not there
}

func (l *linker) document(kind, name string, version int) (value.Raw, int, bool) {
	if l.docs == nil || name == "" {
		return nil, 0, false
	}
	return l.docs.Document(kind, name, version)
}

func (l *linker) workflow(d *WorkflowDef) error {
	if d.EnforceSchema {
		if err := l.schemas(&d.InputSchema, &d.OutputSchema); err != nil {
			return err
		}
	}
	return l.tasks(d.Tasks)
}

func (l *linker) tasks(tasks []*WorkflowTask) error {
	var first error
	Walk(tasks, func(t *WorkflowTask) {
		if first == nil {
			first = l.task(t)
		}
	})
	return first
}

func (l *linker) task(t *WorkflowTask) error {
	if t.TaskDefinition == nil {
		d, err := l.taskDef(t.Name)
		if err != nil {
			return err
		}
		if d == nil {
			d = AdHocTaskDef(t.Name, t.Type)
		}
		t.TaskDefinition = d
	}
	if t.Type == TypeSubWorkflow && t.SubWorkflowParam != nil {
		return l.subWorkflow(t.SubWorkflowParam)
	}
	return nil
}

// taskDef returns a task definition of the catalogue with its schemas, or nil.
func (l *linker) taskDef(name string) (*TaskDef, error) {
	if d, ok := l.taskDefs[name]; ok {
		return d, nil
	}
	body, _, ok := l.document(KindTaskDef, name, 0)
	if !ok {
		l.taskDefs[name] = nil
		return nil, nil
	}
	d, err := DecodeTaskDef(body)
	if err != nil {
		return nil, err
	}
	if d.EnforceSchema {
		if err := l.schemas(&d.InputSchema, &d.OutputSchema); err != nil {
			return nil, err
		}
	}
	l.taskDefs[name] = d
	return d, nil
}

// AdHocTaskDef returns the task definition of a step for whose name none is registered. Only
// plain worker tasks are retried and have a response timeout.
func AdHocTaskDef(name, taskType string) *TaskDef {
	d := NewTaskDef()
	d.Name = name
	if taskType != TypeSimple {
		d.RetryCount, d.ResponseTimeoutSeconds = 0, 0
	}
	return d
}

// subWorkflow pins the version, or links the inline definition.
func (l *linker) subWorkflow(p *SubWorkflowParams) error {
	if p.Definition != nil {
		return l.workflow(p.Definition)
	}
	if p.DefinitionExpression != "" || (p.Version != nil && *p.Version != 0) {
		return nil
	}
	if _, found, ok := l.document(KindWorkflow, p.Name, 0); ok {
		p.Version = &found
	}
	return nil
}

func (l *linker) schemas(list ...**SchemaDef) error {
	for _, s := range list {
		if *s == nil || (*s).Data != nil || l.docs == nil {
			continue
		}
		found, err := l.schema(*s)
		if err != nil {
			return err
		}
		*s = found
	}
	return nil
}

// schema reads the schema that a reference names. One in another language than JSON is kept as
// it is; see CompileSchema.
func (l *linker) schema(ref *SchemaDef) (*SchemaDef, error) {
	body, _, ok := l.document(KindSchema, ref.Name, ref.Version)
	if !ok {
		if ref.Type == SchemaAvro || ref.Type == SchemaProtobuf {
			return ref, nil
		}
		return nil, &tutti.Error{
			Kind: tutti.NotFound, Op: "link workflow", Code: "SchemaNotFound",
			Err:  fmt.Errorf("no schema %s of version %d is defined", ref.Name, ref.Version),
			Hint: "register it, give its data inline, or set enforceSchema to false",
		}
	}
	return DecodeSchemaDef(body)
}
