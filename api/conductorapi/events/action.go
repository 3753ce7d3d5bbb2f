package events

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/expr/script"
	"github.com/tutti-run/tutti/value"
)

// handle gives a message to every handler of its queue. It answers an error only for what may
// go better at another attempt; all else is logged.
func (h *Handlers) handle(ctx context.Context, m eventbus.Message) error {
	payload, err := m.Body.Parse()
	if err != nil {
		h.log.Warn("event is no JSON", "queue", m.Queue, "message", m.ID, "error", err)
		return nil
	}
	handlers := h.handlersOf(m.Queue)
	if len(handlers) == 0 {
		return errNoHandler // it stays for the next one
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, hd := range handlers {
		if !h.wants(hd, payload, m) {
			continue
		}
		for i, action := range hd.def.Actions {
			g.Go(func() error {
				j := &job{h: h, handler: hd.name, m: m, index: i, payload: payload}
				return j.run(ctx, action)
			})
		}
	}
	return g.Wait()
}

var errNoHandler = errors.New("the queue has no active handler any more")

// wants evaluates the condition of a handler.
func (h *Handlers) wants(hd *handler, payload any, m eventbus.Message) bool {
	if hd.def.Condition == "" {
		return true
	}
	ok, err := condition(hd.def, expand(payload))
	if err != nil {
		h.log.Warn("condition of event handler failed", "handler", hd.name, "queue", m.Queue,
			"message", m.ID, "error", err)
	}
	return ok && err == nil
}

func condition(def *model.EventHandler, payload any) (bool, error) {
	var v any
	switch def.EvaluatorType {
	case "", "javascript", "graaljs":
		js, err := script.CompileJS(def.Condition)
		if err != nil {
			return false, err
		}
		v, err = js.Run(script.Options{
			Bindings: map[string]any{"$": payload}, Now: time.Now(),
		})
		if err != nil {
			return false, err
		}
	case "value-param":
		if o, ok := payload.(*value.Object); ok {
			v, _ = o.Get(def.Condition)
		}
	default:
		return false, fmt.Errorf("no evaluator is registered for type %s", def.EvaluatorType)
	}
	switch v := v.(type) {
	case bool:
		return v, nil
	case string:
		return v == "true", nil
	case value.Number:
		return v.Compare("0") > 0, nil
	}
	return false, nil
}

// maxExpand bounds how deep JSON within strings is unpacked.
const maxExpand = 64

// expand replaces strings that hold JSON objects or lists by what they hold.
func expand(v any) any { return expandTo(v, 0) }

func expandTo(v any, depth int) any {
	if depth > maxExpand {
		return v
	}
	switch v := v.(type) {
	case string:
		if len(v) < 2 || v[0] != '{' && v[0] != '[' {
			return v
		}
		inner, err := value.Parse([]byte(v), value.DefaultLimits)
		if err != nil {
			return v
		}
		return expandTo(inner, depth+1)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = expandTo(e, depth+1)
		}
		return out
	case *value.Object:
		out := value.NewObject()
		for k, e := range v.All() {
			out.Set(k, expandTo(e, depth+1))
		}
		return out
	}
	return v
}

// job is one action for one message.
type job struct {
	h       *Handlers
	handler string
	m       eventbus.Message
	index   int
	payload any
}

// key is the same whenever the message is delivered.
func (j *job) key() string {
	return "event:" + j.handler + ":" + j.m.ID + "_" + strconv.Itoa(j.index)
}

// run performs an action. What can never succeed is logged and done with.
func (j *job) run(ctx context.Context, a *model.Action) error {
	if a.ExpandInlineJSON {
		j.payload = expand(j.payload)
	}
	err := j.perform(ctx, a)
	if transient(err) {
		return err
	}
	log := j.h.log.With("handler", j.handler, "queue", j.m.Queue, "message", j.m.ID,
		"action", string(a.Type))
	if err != nil {
		log.Warn("action of event handler failed", "error", err)
	} else {
		log.Debug("action of event handler performed")
	}
	return nil
}

// transient reports whether an action may succeed at another attempt.
func transient(err error) bool {
	if err == nil {
		return false
	}
	switch tutti.KindOf(err) {
	case tutti.Unavailable, tutti.Timeout, tutti.Cancelled:
		return true
	}
	var e *tutti.Error
	return errors.As(err, &e) && (e.Code == "TooManyPending" || e.Code == "DiskFull")
}

func (j *job) perform(ctx context.Context, a *model.Action) error {
	switch {
	case a.Type == model.ActionStartWorkflow && a.StartWorkflow != nil:
		return j.start(ctx, a.StartWorkflow)
	case a.Type == model.ActionCompleteTask && a.CompleteTask != nil:
		return j.end(ctx, a.CompleteTask, tutti.Completed)
	case a.Type == model.ActionFailTask && a.FailTask != nil:
		return j.end(ctx, a.FailTask, tutti.Failed)
	case a.Type == model.ActionTerminateWorkflow && a.TerminateWorkflow != nil:
		return j.terminate(ctx, a.TerminateWorkflow)
	case a.Type == model.ActionUpdateVariables && a.UpdateWorkflowVariables != nil:
		return j.update(ctx, a.UpdateWorkflowVariables)
	}
	return tutti.E(tutti.Unsupported, "event action", "UnsupportedAction",
		fmt.Sprintf("action %q is not supported, or does not say what to act on", a.Type))
}

// resolve replaces the expressions in an object by what the payload says.
func (j *job) resolve(o *value.Object) (*value.Object, error) {
	v, err := model.CompileTemplate(o).ResolveDocument(j.payload)
	if err != nil {
		return nil, err
	}
	out, ok := v.(*value.Object)
	if !ok {
		return value.NewObject(), nil
	}
	return out.Clone(), nil
}

// text reads a member as a string; null is empty.
func text(o *value.Object, name string) string {
	v, ok := o.Get(name)
	if !ok || v == nil {
		return ""
	}
	return model.JavaString(v)
}

func pair(o *value.Object, name, text string) {
	if text != "" {
		o.Set(name, text)
	}
}

// mark says in a payload which event it came with.
func (j *job) mark(o *value.Object) {
	o.Set("conductor.event.messageId", j.m.ID)
	o.Set("conductor.event.name", j.m.Queue)
}

func (j *job) start(ctx context.Context, a *model.StartWorkflowAction) error {
	input, err := j.resolve(a.Input)
	if err != nil {
		return err
	}
	j.mark(input)
	names := value.NewObject()
	pair(names, "name", a.Name)
	pair(names, "correlationId", a.CorrelationID)
	names.Set("taskToDomain", "${taskToDomain}")
	if names, err = j.resolve(names); err != nil {
		return err
	}
	spec := tutti.RunSpec{
		Namespace: namespace, Dialect: model.Dialect, Definition: text(names, "name"),
		Input: value.Marshal(input), CorrelationID: text(names, "correlationId"),
		Event: j.m.Queue, Routing: a.TaskToDomain,
		IdempotencyKey: j.key(), OnDuplicate: tutti.DuplicateReturn,
	}
	if a.Version != nil {
		spec.Version = max(*a.Version, 0)
	}
	if o, _ := names.Get("taskToDomain"); spec.Routing == nil {
		spec.Routing = routing(o)
	}
	_, err = j.h.svc.Start(ctx, spec)
	return err
}

func routing(v any) map[string]string {
	o, ok := v.(*value.Object)
	if !ok || o.Len() == 0 {
		return nil
	}
	m := map[string]string{}
	for k := range o.All() {
		m[k] = text(o, k)
	}
	return m
}

// end completes or fails the task that an action names.
func (j *job) end(ctx context.Context, d *model.TaskDetails, status tutti.TaskStatus) error {
	o := value.NewObject()
	pair(o, "workflowId", d.WorkflowID)
	pair(o, "taskId", d.TaskID)
	pair(o, "taskRefName", d.TaskRefName)
	for k, v := range d.Output.All() {
		o.Set(k, v)
	}
	o.Set(reasonMember, d.ReasonForIncompletion)
	o, err := j.resolve(o)
	if err != nil {
		return err
	}
	reason := text(o, reasonMember)
	o.Delete(reasonMember)
	run, seq, err := j.target(ctx, text(o, "workflowId"), text(o, "taskId"), text(o, "taskRefName"))
	if err != nil {
		return err
	}
	j.mark(o)
	_, err = j.h.svc.Complete(ctx, namespace, api.Completion{
		Run: run, Seq: seq, IgnoreStale: true,
		Outcome: engine.Outcome{Status: status, Output: value.Marshal(o), Reason: reason},
	})
	return err
}

// reasonMember carries the reason through the resolution of expressions.
const reasonMember = "\x00reason"

// target finds the task that an action names: by its identifier, or by workflow and step.
func (j *job) target(
	ctx context.Context, workflowID, taskID, ref string,
) (run tutti.RunID, seq tutti.Seq, err error) {
	if taskID != "" {
		run, seq, err = tutti.ParseTaskID(taskID)
		if err == nil && seq == 0 {
			err = fmt.Errorf("%s is a workflow, not a task", taskID)
		}
		return run, seq, err
	}
	if run, err = tutti.ParseRunID(workflowID); err != nil {
		return run, 0, err
	}
	err = j.h.svc.WithRun(ctx, namespace, run, func(v *api.RunView) error {
		t, err := v.TaskByName(ref)
		if err != nil {
			return err
		}
		seq = t.Seq
		return nil
	})
	return run, seq, err
}

func (j *job) terminate(ctx context.Context, a *model.TerminateWorkflowAction) error {
	o := value.NewObject()
	pair(o, "workflowId", a.WorkflowID)
	pair(o, "reason", a.TerminationReason)
	o, err := j.resolve(o)
	if err != nil {
		return err
	}
	id, err := tutti.ParseRunID(text(o, "workflowId"))
	if err != nil {
		return err
	}
	reason := text(o, "reason")
	if reason == "" {
		reason = "Terminated by event " + j.m.Queue
	}
	return j.h.svc.Terminate(ctx, namespace, id, reason, nil)
}

// update sets variables of a workflow; with appendArray it adds to those that are lists.
func (j *job) update(ctx context.Context, a *model.UpdateVariablesAction) error {
	o := value.NewObject()
	pair(o, "workflowId", a.WorkflowID)
	o.Set("variables", a.Variables)
	o, err := j.resolve(o)
	if err != nil {
		return err
	}
	id, err := tutti.ParseRunID(text(o, "workflowId"))
	if err != nil {
		return err
	}
	given, _ := o.Get("variables")
	fresh, ok := given.(*value.Object)
	if !ok {
		return errors.New("the action has no variables")
	}
	var all *value.Object
	err = j.h.svc.WithRun(ctx, namespace, id, func(v *api.RunView) (err error) {
		all, err = variables(v)
		return err
	})
	if err != nil {
		return err
	}
	for k, v := range fresh.All() {
		old, _ := all.Get(k)
		list, isList := old.([]any)
		if a.AppendArray != nil && *a.AppendArray && isList {
			v = append(append([]any{}, list...), asList(v)...)
		}
		all.Set(k, v)
	}
	return j.h.svc.SetVariables(ctx, namespace, id, conductor.VariablesCell, value.Marshal(all), true)
}

func asList(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

// variables reads those of a run: what it has set, over what its definition begins with.
func variables(v *api.RunView) (*value.Object, error) {
	raw, ok, err := v.Cell(conductor.VariablesCell)
	if err != nil {
		return nil, err
	}
	if !ok {
		prog, err := v.Program()
		if err != nil {
			return nil, err
		}
		if def := conductor.Definition(prog); def != nil && def.Variables != nil {
			return def.Variables.Clone(), nil
		}
		return value.NewObject(), nil
	}
	decoded, err := value.Raw(raw).Parse()
	if err != nil {
		return nil, err
	}
	o, ok := decoded.(*value.Object)
	if !ok {
		return value.NewObject(), nil
	}
	return o, nil
}
