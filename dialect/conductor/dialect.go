// Package conductor is the dialect of Netflix and OSS Conductor workflows: it links definitions
// into self-contained sources, compiles these to programs, and interprets the events of runs.
// The definitions themselves, their validation and their expressions are in package model.
//
// It may import the root package, value, expr and model, and nothing that does I/O, keeps time or
// runs goroutines. Its invariant: equal events give equal effects, and no definition or payload,
// however malformed, makes it panic.
package conductor

import (
	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

// Dialect is the Conductor dialect; see tutti.Dialect. The zero value is ready for use.
type Dialect struct{}

var _ tutti.Dialect = Dialect{}

// Name returns "conductor".
func (Dialect) Name() string { return model.Dialect }

// Link returns a definition, the newest if version is 0, with all that it refers to embedded; see
// model.Link.
func (Dialect) Link(docs tutti.Documents, name string, version int) (*tutti.Source, error) {
	return model.Link(docs, name, version)
}

// LinkInline is Link for a definition that is given in place of a name; see model.LinkInline.
func (Dialect) LinkInline(docs tutti.Documents, src value.Raw) (*tutti.Source, error) {
	return model.LinkInline(docs, src)
}

// The names of package model that the interpreter is written in.
type (
	WorkflowDef         = model.WorkflowDef
	WorkflowTask        = model.WorkflowTask
	TaskDef             = model.TaskDef
	SchemaDef           = model.SchemaDef
	SubWorkflowParams   = model.SubWorkflowParams
	IdempotencyStrategy = model.IdempotencyStrategy
	Schema              = model.Schema
	Scope               = model.Scope
	Template            = model.Template
	TaskInput           = model.TaskInput
	Rules               = model.Rules
)

// DialectName is what Dialect.Name returns.
const DialectName = model.Dialect

// Constants of package model.
const (
	rootWorkflow = model.RootWorkflow
	SystemTaskID = model.SystemTaskID

	KindWorkflow = model.KindWorkflow
	KindTaskDef  = model.KindTaskDef

	AlertOnly       = model.AlertOnly
	TimeOutWorkflow = model.TimeOutWorkflow
	TimeoutRetry    = model.TimeoutRetry

	IdempotencyFailOnRunning  = model.IdempotencyFailOnRunning
	IdempotencyReturnExisting = model.IdempotencyReturnExisting

	TypeDecision        = model.TypeDecision
	TypeDoWhile         = model.TypeDoWhile
	TypeDynamic         = model.TypeDynamic
	TypeEvent           = model.TypeEvent
	TypeExclusiveJoin   = model.TypeExclusiveJoin
	TypeFork            = model.TypeFork
	TypeForkJoin        = model.TypeForkJoin
	TypeForkJoinDynamic = model.TypeForkJoinDynamic
	TypeHTTP            = model.TypeHTTP
	TypeHuman           = model.TypeHuman
	TypeInline          = model.TypeInline
	TypeJSONJQTransform = model.TypeJSONJQTransform
	TypeJoin            = model.TypeJoin
	TypeKafkaPublish    = model.TypeKafkaPublish
	TypeLambda          = model.TypeLambda
	TypeNoop            = model.TypeNoop
	TypePullMessages    = model.TypePullMessages
	TypeSetVariable     = model.TypeSetVariable
	TypeSimple          = model.TypeSimple
	TypeStartWorkflow   = model.TypeStartWorkflow
	TypeSubWorkflow     = model.TypeSubWorkflow
	TypeSwitch          = model.TypeSwitch
	TypeTerminate       = model.TypeTerminate
	TypeUserDefined     = model.TypeUserDefined
	TypeWait            = model.TypeWait
)

// Functions and limits of package model.
var (
	DefaultPayloadLimits = model.DefaultPayloadLimits

	ApplyInputTemplate = model.ApplyInputTemplate
	CompileSchema      = model.CompileSchema
	CompileTaskInput   = model.CompileTaskInput
	CompileTemplate    = model.CompileTemplate
	DecodeWorkflowDef  = model.DecodeWorkflowDef
	IsSystemType       = model.IsSystemType
	JavaString         = model.JavaString
	NewTaskDef         = model.NewTaskDef
	RetryDelay         = model.RetryDelay
	WaitDeadline       = model.WaitDeadline
	WorkflowDefFrom    = model.WorkflowDefFrom
	WorkflowTaskFrom   = model.WorkflowTaskFrom
)

// Handoff replaces references to secrets when a task leaves the server; see model.Handoff.
func (Dialect) Handoff(
	input value.Raw, secrets func(name string) (string, bool),
) value.Raw {
	return model.Handoff(input, secrets)
}

var _ tutti.HandoffResolver = Dialect{}
