package conductorgrpc

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// The JSON names and values that do not follow from the descriptors. The rule is: a field's
// name in lowerCamelCase, an enum value's name as it is, and a field at its zero value left
// out, so that it takes the default that the JSON form has.
var (
	// jsonNames are the fields whose JSON name is another.
	jsonNames = map[protoreflect.FullName]string{
		"conductor.proto.EventHandler.Action.start_workflow":            "start_workflow",
		"conductor.proto.EventHandler.Action.complete_task":             "complete_task",
		"conductor.proto.EventHandler.Action.fail_task":                 "fail_task",
		"conductor.proto.EventHandler.Action.terminate_workflow":        "terminate_workflow",
		"conductor.proto.EventHandler.Action.update_workflow_variables": "update_workflow_variables",
		"conductor.proto.EventHandler.Action.start_agent":               "start_agent",
		"conductor.proto.EventHandler.Action.expand_inline_json":        "expandInlineJSON",
	}

	// lowerEnums are written in lower case.
	lowerEnums = map[protoreflect.FullName]bool{
		"conductor.proto.EventHandler.Action.Type": true,
	}

	// zeroCounts are the fields whose zero value says something else than nothing.
	zeroCounts = map[protoreflect.FullName]bool{
		"conductor.proto.TaskDef.retry_count":         true, // by default 3
		"conductor.proto.TaskDef.retry_delay_seconds": true, // by default 60
		"conductor.proto.TaskDef.timeout_policy":      true, // RETRY; by default TIME_OUT_WF
		"conductor.proto.WorkflowDef.restartable":     true, // by default true
		"conductor.proto.WorkflowDef.enforce_schema":  true, // by default true
		"conductor.proto.WorkflowDef.timeout_policy":  true, // TIME_OUT_WF; by default ALERT_ONLY
		"conductor.proto.TaskResult.status":           true, // IN_PROGRESS
		"conductor.proto.Task.status":                 true, // IN_PROGRESS
		"conductor.proto.Workflow.status":             true, // RUNNING
		"conductor.proto.WorkflowSummary.status":      true, // RUNNING
		"conductor.proto.TaskSummary.status":          true, // IN_PROGRESS
		"conductor.proto.EventExecution.status":       true, // IN_PROGRESS
		"conductor.proto.EventHandler.Action.action":  true, // START_WORKFLOW
		"conductor.proto.SchemaDef.type":              true, // JSON
		"conductor.proto.RateLimitConfig.policy":      true, // QUEUE
		"conductor.proto.EventExecution.action":       true, // START_WORKFLOW
	}

	// wrappers are messages that only hold the list or map that stands for them in JSON.
	wrappers = map[protoreflect.FullName]bool{
		"conductor.proto.WorkflowTask.WorkflowTaskList":           true,
		"conductor.grpc.tasks.QueueAllInfoResponse.QueueInfo":     true,
		"conductor.grpc.workflows.GetWorkflowsResponse.Workflows": true,
	}
)

// The messages of protobuf itself that have a JSON form of their own.
const (
	valueName = "google.protobuf.Value"
	anyName   = "google.protobuf.Any"
)

func jsonName(fd protoreflect.FieldDescriptor) string {
	if name, ok := jsonNames[fd.FullName()]; ok {
		return name
	}
	return fd.JSONName()
}

// fieldsByName are the fields of messages by JSON name.
var fieldsByName sync.Map // protoreflect.FullName → map[string]protoreflect.FieldDescriptor

func fieldsOf(d protoreflect.MessageDescriptor) map[string]protoreflect.FieldDescriptor {
	if m, ok := fieldsByName.Load(d.FullName()); ok {
		return m.(map[string]protoreflect.FieldDescriptor)
	}
	m := map[string]protoreflect.FieldDescriptor{}
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		m[jsonName(fd)] = fd
	}
	fieldsByName.Store(d.FullName(), m)
	return m
}

// enumText is the JSON form of an enum value; empty for a number that has no name.
func enumText(d protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	v := d.Values().ByNumber(n)
	if v == nil {
		return ""
	}
	if lowerEnums[d.FullName()] {
		return strings.ToLower(string(v.Name()))
	}
	return string(v.Name())
}

func enumNumber(
	d protoreflect.EnumDescriptor, text string,
) (protoreflect.EnumNumber, bool) {
	if lowerEnums[d.FullName()] {
		text = strings.ToUpper(text)
	}
	v := d.Values().ByName(protoreflect.Name(text))
	if v == nil {
		return 0, false
	}
	return v.Number(), true
}
