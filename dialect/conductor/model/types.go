package model

import (
	"slices"
	"strings"
)

// The types of step that mean something to the engine. Any other type is a worker's task.
const (
	TypeSimple          = "SIMPLE"
	TypeDynamic         = "DYNAMIC"
	TypeForkJoin        = "FORK_JOIN"
	TypeForkJoinDynamic = "FORK_JOIN_DYNAMIC"
	TypeDecision        = "DECISION"
	TypeSwitch          = "SWITCH"
	TypeJoin            = "JOIN"
	TypeDoWhile         = "DO_WHILE"
	TypeSubWorkflow     = "SUB_WORKFLOW"
	TypeStartWorkflow   = "START_WORKFLOW"
	TypeEvent           = "EVENT"
	TypeWait            = "WAIT"
	TypeHuman           = "HUMAN"
	TypeUserDefined     = "USER_DEFINED"
	TypeHTTP            = "HTTP"
	TypeLambda          = "LAMBDA"
	TypeInline          = "INLINE"
	TypeExclusiveJoin   = "EXCLUSIVE_JOIN"
	TypeTerminate       = "TERMINATE"
	TypeKafkaPublish    = "KAFKA_PUBLISH"
	TypeJSONJQTransform = "JSON_JQ_TRANSFORM"
	TypeSetVariable     = "SET_VARIABLE"
	TypeNoop            = "NOOP"
	TypePullMessages    = "PULL_WORKFLOW_MESSAGES"
	TypeFork            = "FORK" // the type of the task that a fork leaves in the run
)

// systemTypes are the types that this server runs itself.
var systemTypes = []string{
	TypeDynamic, TypeForkJoin, TypeForkJoinDynamic, TypeDecision, TypeSwitch, TypeJoin,
	TypeDoWhile, TypeSubWorkflow, TypeStartWorkflow, TypeEvent, TypeWait, TypeHuman, TypeHTTP,
	TypeLambda, TypeInline, TypeExclusiveJoin, TypeTerminate, TypeKafkaPublish,
	TypeJSONJQTransform, TypeSetVariable, TypeNoop, TypeFork,
}

// externalTypes are types that the official server runs itself and this one leaves to workers
// that poll for the type.
var externalTypes = []string{
	"AGENT", "CALL_MCP_TOOL", "CANCEL_AGENT", "GENERATE_AUDIO", "GENERATE_IMAGE",
	"GENERATE_PDF", "GENERATE_VIDEO", "GET_AGENT_CARD", "JDBC", "LIST_MCP_TOOLS",
	"LLM_CHAT_COMPLETE", "LLM_GENERATE_EMBEDDINGS", "LLM_GET_EMBEDDINGS", "LLM_INDEX_TEXT",
	"LLM_SEARCH_EMBEDDINGS", "LLM_SEARCH_INDEX", "LLM_STORE_EMBEDDINGS", "LLM_TEXT_COMPLETE",
	TypePullMessages,
}

// IsSystemType reports whether this server runs steps of the type itself.
func IsSystemType(taskType string) bool { return slices.Contains(systemTypes, taskType) }

// NeedsExternalWorker reports whether the official server runs steps of the type itself while
// this one leaves them to a worker that polls for tasks of that type.
func NeedsExternalWorker(taskType string) bool {
	return slices.Contains(externalTypes, taskType) ||
		strings.HasPrefix(taskType, "LLM_") || strings.HasPrefix(taskType, "MCP_")
}

// Branches returns the lists of steps nested in t, in the order of the definition. Only those
// count that its type gives a meaning to.
func (t *WorkflowTask) Branches() [][]*WorkflowTask {
	switch t.Type {
	case TypeSwitch, TypeDecision:
		list := make([][]*WorkflowTask, 0, len(t.DecisionCases)+1)
		for _, g := range t.DecisionCases {
			list = append(list, g.List)
		}
		return append(list, t.DefaultCase)
	case TypeForkJoin:
		return t.ForkTasks
	case TypeDoWhile:
		return [][]*WorkflowTask{t.LoopOver}
	}
	return nil
}

// Walk calls visit for every step, outer before inner, in the order of the definition.
func Walk(tasks []*WorkflowTask, visit func(t *WorkflowTask)) {
	for _, t := range tasks {
		visit(t)
		for _, b := range t.Branches() {
			Walk(b, visit)
		}
	}
}

// isExpression reports whether s as a whole has the form of an expression.
func isExpression(s string) bool {
	return strings.HasPrefix(s, "${") && strings.HasSuffix(s, "}")
}
