// Package model holds Conductor's definitions: their data model with the official JSON names and
// defaults, their validation, the linking of a definition into a self-contained source, the
// expressions in task inputs, and the rules for waits, retries, payload sizes and schemas.
//
// It may import the root package, value and expr, and nothing that does I/O, keeps time or runs
// goroutines. Its invariant: equal inputs give equal results, byte for byte, and no definition
// or payload, however malformed, makes it panic.
package model

import "github.com/tutti-run/tutti/value"

// TimeoutPolicy says what a passed deadline leads to. Workflows know TimeOutWorkflow and
// AlertOnly; tasks know all three.
type TimeoutPolicy string

// The timeout policies.
const (
	TimeoutRetry    TimeoutPolicy = "RETRY"
	TimeOutWorkflow TimeoutPolicy = "TIME_OUT_WF"
	AlertOnly       TimeoutPolicy = "ALERT_ONLY"
)

// RetryLogic says how the delay between attempts grows.
type RetryLogic string

// The retry logics.
const (
	RetryFixed       RetryLogic = "FIXED"
	RetryExponential RetryLogic = "EXPONENTIAL_BACKOFF"
	RetryLinear      RetryLogic = "LINEAR_BACKOFF"
)

// Audit holds who changed a document and when (Unix milliseconds, 0 when unset).
type Audit struct {
	OwnerApp   string
	CreateTime int64
	UpdateTime int64
	CreatedBy  string
	UpdatedBy  string
}

func (a *Audit) fields(c *codec, b *blanks) {
	c.text("ownerApp", &a.OwnerApp, b)
	c.long("createTime", &a.CreateTime)
	c.long("updateTime", &a.UpdateTime)
	c.text("createdBy", &a.CreatedBy, b)
	c.text("updatedBy", &a.UpdatedBy, b)
}

// WorkflowDef is a workflow definition. Objects and lists are never nil after decoding, except
// where a field says so.
type WorkflowDef struct {
	Audit
	Name                          string
	Description                   string
	Version                       int // default 1
	Tasks                         []*WorkflowTask
	InputParameters               []string
	OutputParameters              *value.Object
	FailureWorkflow               string
	SchemaVersion                 int  // default 2, the only one supported
	Restartable                   bool // default true
	WorkflowStatusListenerEnabled bool
	OwnerEmail                    string
	TimeoutPolicy                 TimeoutPolicy // default AlertOnly
	TimeoutSeconds                int64
	Variables                     *value.Object
	InputTemplate                 *value.Object
	FailureWorkflowVersion        *int // nil: the newest
	WorkflowStatusListenerSink    string
	RateLimitConfig               *RateLimitConfig // may be nil
	InputSchema                   *SchemaDef       // may be nil
	OutputSchema                  *SchemaDef       // may be nil
	EnforceSchema                 bool             // default true
	Metadata                      *value.Object
	CacheConfig                   *CacheConfig // may be nil
	MaskedFields                  []string

	blank blanks
}

// NewWorkflowDef returns a definition with all defaults.
func NewWorkflowDef() *WorkflowDef {
	return &WorkflowDef{
		Version: 1, SchemaVersion: 2, Restartable: true, TimeoutPolicy: AlertOnly,
		EnforceSchema: true, Tasks: []*WorkflowTask{}, InputParameters: []string{},
		OutputParameters: value.NewObject(), Variables: value.NewObject(),
		InputTemplate: value.NewObject(), Metadata: value.NewObject(), MaskedFields: []string{},
	}
}

func (d *WorkflowDef) fields(c *codec) {
	d.Audit.fields(c, &d.blank)
	c.text("name", &d.Name, &d.blank)
	c.text("description", &d.Description, &d.blank)
	c.integer("version", &d.Version)
	children(c, "tasks", &d.Tasks, NewWorkflowTask)
	c.texts("inputParameters", &d.InputParameters)
	c.object("outputParameters", &d.OutputParameters)
	c.text("failureWorkflow", &d.FailureWorkflow, &d.blank)
	c.integer("schemaVersion", &d.SchemaVersion)
	c.flag("restartable", &d.Restartable)
	c.flag("workflowStatusListenerEnabled", &d.WorkflowStatusListenerEnabled)
	c.text("ownerEmail", &d.OwnerEmail, &d.blank)
	enum(c, "timeoutPolicy", &d.TimeoutPolicy, TimeOutWorkflow, AlertOnly)
	c.long("timeoutSeconds", &d.TimeoutSeconds)
	c.object("variables", &d.Variables)
	c.object("inputTemplate", &d.InputTemplate)
	c.optInteger("failureWorkflowVersion", &d.FailureWorkflowVersion)
	c.text("workflowStatusListenerSink", &d.WorkflowStatusListenerSink, &d.blank)
	child(c, "rateLimitConfig", &d.RateLimitConfig, newRateLimitConfig)
	child(c, "inputSchema", &d.InputSchema, NewSchemaDef)
	child(c, "outputSchema", &d.OutputSchema, NewSchemaDef)
	c.flag("enforceSchema", &d.EnforceSchema)
	c.object("metadata", &d.Metadata)
	child(c, "cacheConfig", &d.CacheConfig, newCacheConfig)
	c.texts("maskedFields", &d.MaskedFields)
}

// RateLimitPolicy says what happens to a start beyond the limit.
type RateLimitPolicy string

// The rate limit policies.
const (
	RateLimitQueue  RateLimitPolicy = "QUEUE"
	RateLimitReject RateLimitPolicy = "REJECT"
)

// RateLimitConfig bounds how many runs with the same key are open at the same time. The key may
// hold expressions over the workflow's input.
type RateLimitConfig struct {
	RateLimitKey        string
	ConcurrentExecLimit int
	Policy              RateLimitPolicy // default RateLimitQueue

	blank blanks
}

func newRateLimitConfig() *RateLimitConfig { return &RateLimitConfig{Policy: RateLimitQueue} }

func (r *RateLimitConfig) fields(c *codec) {
	c.text("rateLimitKey", &r.RateLimitKey, &r.blank)
	c.integer("concurrentExecLimit", &r.ConcurrentExecLimit)
	enum(c, "policy", &r.Policy, RateLimitQueue, RateLimitReject)
}

// CacheConfig asks for outputs to be reused for a time, in seconds. That of a worker's or
// connector's task has effect, unlike in the open-source server; that of a workflow has none.
// Expressions in Key may name the task's input parameters.
type CacheConfig struct {
	Key         string
	TTLInSecond int

	blank blanks
}

func newCacheConfig() *CacheConfig { return new(CacheConfig) }

func (k *CacheConfig) fields(c *codec) {
	c.text("key", &k.Key, &k.blank)
	c.integer("ttlInSecond", &k.TTLInSecond)
}

// SchemaType is the language of a schema.
type SchemaType string

// The schema languages.
const (
	SchemaJSON     SchemaType = "JSON"
	SchemaAvro     SchemaType = "AVRO"
	SchemaProtobuf SchemaType = "PROTOBUF"
)

// SchemaDef is a schema for inputs or outputs: inline, or a reference by name to the catalogue
// when Data is nil.
type SchemaDef struct {
	Audit
	Name        string
	Version     int           // default 1
	Type        SchemaType    // empty when not given
	Data        *value.Object // may be nil
	ExternalRef string

	blank blanks
}

// NewSchemaDef returns a schema with all defaults.
func NewSchemaDef() *SchemaDef { return &SchemaDef{Version: 1} }

func (s *SchemaDef) fields(c *codec) {
	s.Audit.fields(c, &s.blank)
	c.text("name", &s.Name, &s.blank)
	c.integer("version", &s.Version)
	enum(c, "type", &s.Type, SchemaJSON, SchemaAvro, SchemaProtobuf)
	c.optObject("data", &s.Data)
	c.text("externalRef", &s.ExternalRef, &s.blank)
}

// Group is a named list within an ordered object of lists.
type Group[R any] struct {
	Key  string
	List []R
}

// JoinMode says how an asynchronous join looks for its tasks. It has no effect here, since
// joins are told of each task that ends.
type JoinMode string

// The join modes.
const (
	JoinSync  JoinMode = "SYNC"
	JoinAsync JoinMode = "ASYNC"
)

// WorkflowTask is a step of a workflow definition. Objects and lists are never nil after
// decoding, except where a field says so.
type WorkflowTask struct {
	Name                           string
	TaskReferenceName              string
	Description                    string
	InputParameters                *value.Object
	Type                           string // default SIMPLE
	DynamicTaskNameParam           string
	CaseValueParam                 string
	CaseExpression                 string
	ScriptExpression               string
	DecisionCases                  []Group[*WorkflowTask] // see Case
	DynamicForkJoinTasksParam      string
	DynamicForkTasksParam          string
	DynamicForkTasksInputParamName string
	DefaultCase                    []*WorkflowTask
	ForkTasks                      [][]*WorkflowTask
	StartDelay                     int                // seconds
	SubWorkflowParam               *SubWorkflowParams // may be nil
	JoinOn                         []string
	Sink                           string
	Optional                       bool
	TaskDefinition                 *TaskDef // nil until linked, unless given inline
	RateLimited                    *bool    // may be nil
	DefaultExclusiveJoinTask       []string
	AsyncComplete                  bool
	LoopCondition                  string
	LoopOver                       []*WorkflowTask
	Items                          string
	RetryCount                     *int // overrides that of the task definition; may be nil
	EvaluatorType                  string
	Expression                     string
	OnStateChange                  []Group[*StateChangeEvent]
	JoinStatus                     string
	CacheConfig                    *CacheConfig // may be nil
	Permissive                     bool
	JoinMode                       JoinMode // empty when not given
	Metadata                       *value.Object

	blank blanks
}

// NewWorkflowTask returns a step with all defaults.
func NewWorkflowTask() *WorkflowTask {
	return &WorkflowTask{
		Type: TypeSimple, InputParameters: value.NewObject(),
		DecisionCases: []Group[*WorkflowTask]{}, DefaultCase: []*WorkflowTask{},
		ForkTasks: [][]*WorkflowTask{}, JoinOn: []string{},
		DefaultExclusiveJoinTask: []string{}, LoopOver: []*WorkflowTask{},
		OnStateChange: []Group[*StateChangeEvent]{}, Metadata: value.NewObject(),
	}
}

func (t *WorkflowTask) fields(c *codec) {
	c.text("name", &t.Name, &t.blank)
	c.text("taskReferenceName", &t.TaskReferenceName, &t.blank)
	c.text("description", &t.Description, &t.blank)
	c.object("inputParameters", &t.InputParameters)
	c.text("type", &t.Type, &t.blank)
	c.text("dynamicTaskNameParam", &t.DynamicTaskNameParam, &t.blank)
	c.text("caseValueParam", &t.CaseValueParam, &t.blank)
	c.text("caseExpression", &t.CaseExpression, &t.blank)
	c.text("scriptExpression", &t.ScriptExpression, &t.blank)
	groups(c, "decisionCases", &t.DecisionCases, NewWorkflowTask)
	c.text("dynamicForkJoinTasksParam", &t.DynamicForkJoinTasksParam, &t.blank)
	c.text("dynamicForkTasksParam", &t.DynamicForkTasksParam, &t.blank)
	c.text("dynamicForkTasksInputParamName", &t.DynamicForkTasksInputParamName, &t.blank)
	children(c, "defaultCase", &t.DefaultCase, NewWorkflowTask)
	branches(c, "forkTasks", &t.ForkTasks, NewWorkflowTask)
	c.integer("startDelay", &t.StartDelay)
	child(c, "subWorkflowParam", &t.SubWorkflowParam, newSubWorkflowParams)
	c.texts("joinOn", &t.JoinOn)
	c.text("sink", &t.Sink, &t.blank)
	c.flag("optional", &t.Optional)
	child(c, "taskDefinition", &t.TaskDefinition, NewTaskDef)
	c.optFlag("rateLimited", &t.RateLimited)
	c.texts("defaultExclusiveJoinTask", &t.DefaultExclusiveJoinTask)
	c.flag("asyncComplete", &t.AsyncComplete)
	c.text("loopCondition", &t.LoopCondition, &t.blank)
	children(c, "loopOver", &t.LoopOver, NewWorkflowTask)
	c.text("items", &t.Items, &t.blank)
	c.optInteger("retryCount", &t.RetryCount)
	c.text("evaluatorType", &t.EvaluatorType, &t.blank)
	c.text("expression", &t.Expression, &t.blank)
	groups(c, "onStateChange", &t.OnStateChange, newStateChangeEvent)
	c.text("joinStatus", &t.JoinStatus, &t.blank)
	child(c, "cacheConfig", &t.CacheConfig, newCacheConfig)
	c.flag("permissive", &t.Permissive)
	enum(c, "joinMode", &t.JoinMode, JoinSync, JoinAsync)
	c.object("metadata", &t.Metadata)
}

// given reports whether a string member was given, if only as an empty string.
func (t *WorkflowTask) given(name, v string) bool { return v != "" || t.blank.has(name) }

// Case returns the branch of a decision for a value. An empty branch is not a missing one.
func (t *WorkflowTask) Case(v string) ([]*WorkflowTask, bool) {
	for _, g := range t.DecisionCases {
		if g.Key == v {
			return g.List, true
		}
	}
	return nil, false
}

// StateChangeEvent is a notification for a change of a task's state: a message for the sink that
// Type names. Expressions in the payload are resolved when the state changes.
type StateChangeEvent struct {
	Type    string
	Payload *value.Object // may be nil

	blank blanks
}

func newStateChangeEvent() *StateChangeEvent { return new(StateChangeEvent) }

func (e *StateChangeEvent) fields(c *codec) {
	c.text("type", &e.Type, &e.blank)
	c.optObject("payload", &e.Payload)
}

// IdempotencyStrategy says what a start with a known idempotency key does.
type IdempotencyStrategy string

// The idempotency strategies.
const (
	IdempotencyFail           IdempotencyStrategy = "FAIL"
	IdempotencyReturnExisting IdempotencyStrategy = "RETURN_EXISTING"
	IdempotencyFailOnRunning  IdempotencyStrategy = "FAIL_ON_RUNNING"
)

// SubWorkflowParams names the workflow that a SUB_WORKFLOW step starts: by name and version, by
// an inline definition, or by an expression that yields one.
type SubWorkflowParams struct {
	Name                 string
	Version              *int              // nil: the newest
	TaskToDomain         map[string]string // nil: that of the parent
	Definition           *WorkflowDef      // inline definition; may be nil
	DefinitionExpression string            // "${…}" in place of Definition
	IdempotencyKey       string
	IdempotencyStrategy  IdempotencyStrategy // empty when not given
	Priority             any                 // integer or expression; may be nil

	blank blanks
}

func newSubWorkflowParams() *SubWorkflowParams { return new(SubWorkflowParams) }

func (p *SubWorkflowParams) fields(c *codec) {
	c.text("name", &p.Name, &p.blank)
	c.optInteger("version", &p.Version)
	c.textMap("taskToDomain", &p.TaskToDomain)
	p.definitionField(c)
	c.text("idempotencyKey", &p.IdempotencyKey, &p.blank)
	enum(c, "idempotencyStrategy", &p.IdempotencyStrategy,
		IdempotencyFail, IdempotencyReturnExisting, IdempotencyFailOnRunning)
	c.anything("priority", &p.Priority)
}

func (p *SubWorkflowParams) definitionField(c *codec) {
	const name = "workflowDefinition"
	if c.out != nil && p.DefinitionExpression != "" {
		c.out.Set(name, p.DefinitionExpression)
		return
	}
	if c.in != nil {
		if v, _ := c.in.Get(name); value.Kind(v) == "string" {
			p.DefinitionExpression = v.(string)
			if !isExpression(p.DefinitionExpression) {
				c.fail(c.at(name), "workflowDefinition must be either null, or WorkflowDef,"+
					" or a valid DSL string")
			}
			return
		}
	}
	child(c, name, &p.Definition, NewWorkflowDef)
	if c.in != nil && p.Definition != nil {
		p.Name, p.Version = p.Definition.Name, &p.Definition.Version
	}
}

// TaskDef is a task definition: how tasks of one name are retried, timed out and limited. All
// times are in seconds unless a field says otherwise.
type TaskDef struct {
	Audit
	Name                        string
	Description                 string
	RetryCount                  int // default 3
	TimeoutSeconds              int64
	InputKeys                   []string
	OutputKeys                  []string
	RuntimeMetadata             []string      // names of secrets delivered to the worker
	TimeoutPolicy               TimeoutPolicy // default TimeOutWorkflow
	RetryLogic                  RetryLogic    // default RetryFixed
	RetryDelaySeconds           int           // default 60
	ResponseTimeoutSeconds      int64         // default 3600
	ConcurrentExecLimit         *int          // may be nil
	InputTemplate               *value.Object
	RateLimitPerFrequency       int // attempts per window; 0: no limit
	RateLimitFrequencyInSeconds int // default 1
	IsolationGroupID            string
	ExecutionNameSpace          string
	OwnerEmail                  string
	PollTimeoutSeconds          *int // may be nil
	BackoffScaleFactor          int  // default 1
	MaxRetryDelaySeconds        int  // 0: no bound
	BackoffJitterMs             int
	BaseType                    string
	TotalTimeoutSeconds         int64
	TaskStatusListenerEnabled   bool       // default true
	InputSchema                 *SchemaDef // may be nil
	OutputSchema                *SchemaDef // may be nil
	EnforceSchema               bool

	blank blanks
}

// NewTaskDef returns a task definition with all defaults.
func NewTaskDef() *TaskDef {
	return &TaskDef{
		RetryCount: 3, TimeoutPolicy: TimeOutWorkflow, RetryLogic: RetryFixed,
		RetryDelaySeconds: 60, ResponseTimeoutSeconds: 3600, InputTemplate: value.NewObject(),
		RateLimitFrequencyInSeconds: 1, BackoffScaleFactor: 1, TaskStatusListenerEnabled: true,
		InputKeys: []string{}, OutputKeys: []string{}, RuntimeMetadata: []string{},
	}
}

func (d *TaskDef) fields(c *codec) {
	d.Audit.fields(c, &d.blank)
	c.text("name", &d.Name, &d.blank)
	c.text("description", &d.Description, &d.blank)
	c.integer("retryCount", &d.RetryCount)
	c.long("timeoutSeconds", &d.TimeoutSeconds)
	c.texts("inputKeys", &d.InputKeys)
	c.texts("outputKeys", &d.OutputKeys)
	c.texts("runtimeMetadata", &d.RuntimeMetadata)
	enum(c, "timeoutPolicy", &d.TimeoutPolicy, TimeoutRetry, TimeOutWorkflow, AlertOnly)
	enum(c, "retryLogic", &d.RetryLogic, RetryFixed, RetryExponential, RetryLinear)
	c.integer("retryDelaySeconds", &d.RetryDelaySeconds)
	c.long("responseTimeoutSeconds", &d.ResponseTimeoutSeconds)
	c.optInteger("concurrentExecLimit", &d.ConcurrentExecLimit)
	c.object("inputTemplate", &d.InputTemplate)
	c.integer("rateLimitPerFrequency", &d.RateLimitPerFrequency)
	c.boxed("rateLimitFrequencyInSeconds", &d.RateLimitFrequencyInSeconds)
	c.text("isolationGroupId", &d.IsolationGroupID, &d.blank)
	c.text("executionNameSpace", &d.ExecutionNameSpace, &d.blank)
	c.text("ownerEmail", &d.OwnerEmail, &d.blank)
	c.optInteger("pollTimeoutSeconds", &d.PollTimeoutSeconds)
	c.boxed("backoffScaleFactor", &d.BackoffScaleFactor)
	c.integer("maxRetryDelaySeconds", &d.MaxRetryDelaySeconds)
	c.integer("backoffJitterMs", &d.BackoffJitterMs)
	c.text("baseType", &d.BaseType, &d.blank)
	c.long("totalTimeoutSeconds", &d.TotalTimeoutSeconds)
	c.flag("taskStatusListenerEnabled", &d.TaskStatusListenerEnabled)
	child(c, "inputSchema", &d.InputSchema, NewSchemaDef)
	child(c, "outputSchema", &d.OutputSchema, NewSchemaDef)
	c.flag("enforceSchema", &d.EnforceSchema)
}
