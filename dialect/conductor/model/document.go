package model

import "github.com/tutti-run/tutti/value"

// DecodeWorkflowDef reads a workflow definition, filling in defaults. The error is a
// *tutti.Error of kind Invalid that wraps value.Diagnostics, one for each fault, with line and
// column. It does not validate; see Validate.
func DecodeWorkflowDef(src value.Raw) (*WorkflowDef, error) {
	d := NewWorkflowDef()
	return d, decode(d, src, "workflow definition")
}

// WorkflowDefFrom is DecodeWorkflowDef for a decoded value, such as an inline definition that an
// expression yielded. Errors have no positions.
func WorkflowDefFrom(v any) (*WorkflowDef, error) {
	d := NewWorkflowDef()
	return d, decodeValue(d, v, "workflow definition")
}

// WorkflowTaskFrom reads a step from a decoded value, such as an element of the list that a
// dynamic fork works on.
func WorkflowTaskFrom(v any) (*WorkflowTask, error) {
	t := NewWorkflowTask()
	return t, decodeValue(t, v, "workflow task")
}

// DecodeTaskDef reads a task definition; see DecodeWorkflowDef.
func DecodeTaskDef(src value.Raw) (*TaskDef, error) {
	d := NewTaskDef()
	return d, decode(d, src, "task definition")
}

// DecodeEventHandler reads an event handler; see DecodeWorkflowDef.
func DecodeEventHandler(src value.Raw) (*EventHandler, error) {
	h := NewEventHandler()
	return h, decode(h, src, "event handler")
}

// DecodeSchemaDef reads a schema; see DecodeWorkflowDef.
func DecodeSchemaDef(src value.Raw) (*SchemaDef, error) {
	s := NewSchemaDef()
	return s, decode(s, src, "schema")
}

// Encode returns the JSON that the official server answers for the definition.
func (d *WorkflowDef) Encode() value.Raw { return value.Marshal(write(d)) }

// Encode returns the JSON that the official server answers for the definition.
func (d *TaskDef) Encode() value.Raw { return value.Marshal(write(d)) }

// Encode returns the JSON of the step as it stands within a definition.
func (t *WorkflowTask) Encode() value.Raw { return value.Marshal(write(t)) }

// Encode returns the JSON that the official server answers for the handler.
func (h *EventHandler) Encode() value.Raw { return value.Marshal(write(h)) }

// Encode returns the JSON that the official server answers for the schema.
func (s *SchemaDef) Encode() value.Raw { return value.Marshal(write(s)) }

// Object returns the decoded form of what Encode returns. It shares the free content.
func (d *WorkflowDef) Object() *value.Object { return write(d) }

// Object returns the decoded form of what Encode returns. It shares the free content.
func (t *WorkflowTask) Object() *value.Object { return write(t) }

// Object returns the decoded form of what Encode returns. It shares the free content.
func (d *TaskDef) Object() *value.Object { return write(d) }

// ActionType says what an event handler does.
type ActionType string

// The actions.
const (
	ActionStartWorkflow     ActionType = "start_workflow"
	ActionCompleteTask      ActionType = "complete_task"
	ActionFailTask          ActionType = "fail_task"
	ActionTerminateWorkflow ActionType = "terminate_workflow"
	ActionUpdateVariables   ActionType = "update_workflow_variables"
	ActionStartAgent        ActionType = "start_agent"
)

// EventHandler says what is done when an event arrives. Event is "type:queue".
type EventHandler struct {
	Name          string
	Event         string
	Condition     string // script over the payload; empty: always
	Actions       []*Action
	Active        bool
	EvaluatorType string

	blank blanks
}

// NewEventHandler returns a handler with all defaults.
func NewEventHandler() *EventHandler { return &EventHandler{Actions: []*Action{}} }

func (h *EventHandler) fields(c *codec) {
	c.text("name", &h.Name, &h.blank)
	c.text("event", &h.Event, &h.blank)
	c.text("condition", &h.Condition, &h.blank)
	children(c, "actions", &h.Actions, func() *Action { return new(Action) })
	c.flag("active", &h.Active)
	c.text("evaluatorType", &h.EvaluatorType, &h.blank)
}

// Action is one thing that an event handler does. The member that Type names is set.
type Action struct {
	Type                    ActionType
	StartWorkflow           *StartWorkflowAction
	CompleteTask            *TaskDetails
	FailTask                *TaskDetails
	ExpandInlineJSON        bool // replace strings in the payload that hold JSON by what they hold
	TerminateWorkflow       *TerminateWorkflowAction
	UpdateWorkflowVariables *UpdateVariablesAction
	StartAgent              *value.Object
}

func (a *Action) fields(c *codec) {
	enum(c, "action", &a.Type, ActionStartWorkflow, ActionCompleteTask, ActionFailTask,
		ActionTerminateWorkflow, ActionUpdateVariables, ActionStartAgent)
	child(c, "start_workflow", &a.StartWorkflow, newStartWorkflowAction)
	child(c, "complete_task", &a.CompleteTask, newTaskDetails)
	child(c, "fail_task", &a.FailTask, newTaskDetails)
	c.flag("expandInlineJSON", &a.ExpandInlineJSON)
	child(c, "terminate_workflow", &a.TerminateWorkflow, func() *TerminateWorkflowAction {
		return new(TerminateWorkflowAction)
	})
	child(c, "update_workflow_variables", &a.UpdateWorkflowVariables,
		func() *UpdateVariablesAction { return new(UpdateVariablesAction) })
	c.optObject("start_agent", &a.StartAgent)
}

// StartWorkflowAction starts a workflow. Strings and input may hold expressions over the event.
type StartWorkflowAction struct {
	Name          string
	Version       *int // nil: the newest
	CorrelationID string
	Input         *value.Object
	TaskToDomain  map[string]string // may be nil

	blank blanks
}

func newStartWorkflowAction() *StartWorkflowAction {
	return &StartWorkflowAction{Input: value.NewObject()}
}

func (a *StartWorkflowAction) fields(c *codec) {
	c.text("name", &a.Name, &a.blank)
	c.optInteger("version", &a.Version)
	c.text("correlationId", &a.CorrelationID, &a.blank)
	c.object("input", &a.Input)
	c.textMap("taskToDomain", &a.TaskToDomain)
}

// TaskDetails names a task to complete or fail: by TaskID, or by WorkflowID and TaskRefName.
// Strings and output may hold expressions over the event.
type TaskDetails struct {
	WorkflowID            string
	TaskRefName           string
	Output                *value.Object
	TaskID                string
	ReasonForIncompletion string

	blank blanks
}

func newTaskDetails() *TaskDetails { return &TaskDetails{Output: value.NewObject()} }

func (d *TaskDetails) fields(c *codec) {
	c.text("workflowId", &d.WorkflowID, &d.blank)
	c.text("taskRefName", &d.TaskRefName, &d.blank)
	c.object("output", &d.Output)
	c.text("taskId", &d.TaskID, &d.blank)
	c.text("reasonForIncompletion", &d.ReasonForIncompletion, &d.blank)
}

// TerminateWorkflowAction ends a workflow.
type TerminateWorkflowAction struct {
	WorkflowID        string
	TerminationReason string

	blank blanks
}

func (a *TerminateWorkflowAction) fields(c *codec) {
	c.text("workflowId", &a.WorkflowID, &a.blank)
	c.text("terminationReason", &a.TerminationReason, &a.blank)
}

// UpdateVariablesAction sets variables of a workflow, or adds to those that are lists.
type UpdateVariablesAction struct {
	WorkflowID  string
	Variables   *value.Object // may be nil
	AppendArray *bool         // may be nil

	blank blanks
}

func (a *UpdateVariablesAction) fields(c *codec) {
	c.text("workflowId", &a.WorkflowID, &a.blank)
	c.optObject("variables", &a.Variables)
	c.optFlag("appendArray", &a.AppendArray)
}
