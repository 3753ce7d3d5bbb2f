package conductor

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Queues of the tasks that connectors in the server perform.
//
// QueueHTTP: the input is that of the HTTP task; the request is its member http_request, or
// the input itself. A connector ends the task with output {"response": {"headers",
// "statusCode", "body", "reasonPhrase"}}, or as failed with {"response": text}.
//
// QueueEvent: the input is {"sink", "event", "payload"}: the sink as the step names it, the
// queue that it means (see EventSink), and the body of the message, an object. The message's
// identifier is the task's. A connector ends the task with the payload plus "event_produced",
// the queue, as its output.
//
// QueueKafka: the input is that of the KAFKA_PUBLISH task: {"kafka_request": {...}}.
const (
	QueueHTTP  = "@http"
	QueueEvent = "@event"
	QueueKafka = "@kafka"
)

// workerActiveMs is how recent a domain's newest poll must be for it to get tasks.
const workerActiveMs = 10_000

// opFor returns what schedules nodes of a type. Types that are not known are workers' tasks.
func opFor(taskType string) op {
	switch taskType {
	case TypeForkJoin:
		return opFork
	case TypeForkJoinDynamic:
		return opForkDynamic
	case TypeJoin:
		return opJoin
	case TypeExclusiveJoin:
		return opExclusiveJoin
	case TypeSwitch:
		return opSwitch
	case TypeDecision:
		return opDecision
	case TypeDoWhile:
		return opDoWhile
	case TypeDynamic:
		return opDynamic
	}
	return leafFor(taskType)
}

// leafFor returns what schedules a type that has no parts; a DYNAMIC task may become any of
// these.
func leafFor(taskType string) op {
	switch taskType {
	case TypeHTTP:
		return opHTTP
	case TypeEvent:
		return opEvent
	case TypeKafkaPublish:
		return opKafka
	case TypeInline:
		return opInline
	case TypeLambda:
		return opLambda
	case TypeJSONJQTransform:
		return opJQ
	case TypeSetVariable:
		return opSetVariable
	case TypeTerminate:
		return opTerminate
	case TypeNoop:
		return opNoop
	case TypeWait:
		return opWait
	case TypeHuman:
		return opHuman
	case TypeSubWorkflow:
		return opSubWorkflow
	case TypeStartWorkflow:
		return opStartWorkflow
	}
	return opWork
}

// opWork queues a task for workers that poll for its type.
func opWork(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	taskType := s.node.task.Type
	if taskType == TypeSimple || taskType == TypeUserDefined {
		taskType = s.node.task.Name
	}
	return x.queueWork(s, a, tutti.TaskSpec{Type: taskType, Input: value.Marshal(in)})
}

// opDynamic schedules what the task's input names.
func opDynamic(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	param := s.node.task.DynamicTaskNameParam
	v, _ := in.Get(param)
	name, ok := v.(string)
	if !ok || name == "" {
		return x.finish(tutti.RunFailed, "Cannot map a dynamic task based on the parameter and"+
			" input. Parameter= "+param+", input= "+JavaString(in), nil)
	}
	if IsSystemType(name) {
		s.node = s.node.as(name)
		return s.node.run(x, s, a)
	}
	return x.queueWork(s, a, tutti.TaskSpec{Type: name, DefName: name, Input: value.Marshal(in)})
}

// as returns the node of a DYNAMIC task that turned out to be of a system type.
func (n *node) as(taskType string) *node {
	m, t := *n, *n.task
	t.Type = taskType
	m.task, m.run = &t, leafFor(taskType)
	return &m
}

// queueWork creates a worker's task with the rules of its task definition.
func (x *exec) queueWork(s site, a attempt, spec tutti.TaskSpec) error {
	if fault := s.node.checkIn.fault(spec.Input, "task input"); fault != "" {
		spec.Kind, spec.Status, spec.Reason = tutti.Local, tutti.Fatal, fault
		x.add(s, a, spec)
		return nil
	}
	def := s.node.taskDef()
	spec.Kind, spec.Status = tutti.Work, tutti.Queued
	spec.Queue, spec.Domain = x.queueFor(spec.Type, def)
	x.limits(s, a, &spec)
	spec.Timeouts.ResponseMs = def.ResponseTimeoutSeconds * 1000
	return x.addCached(s, a, spec)
}

// maxCacheKey is the size, in bytes, from which a key of the cache is replaced by its hash.
const maxCacheKey = 128

// addCached creates a Work task whose output may be reused, if its step says so.
func (x *exec) addCached(s site, a attempt, spec tutti.TaskSpec) error {
	if s.node.cacheKey != nil {
		v, err := s.node.cacheKey.Resolve(inputScope{
			scope: scope{x, x.nextSeq()}, input: asObject(decoded(spec.Input), "input"),
		})
		if err != nil {
			return x.broken(s, err)
		}
		key := textOf(v)
		if len(key) > maxCacheKey {
			key = fmt.Sprintf("%x", sha256.Sum256([]byte(key)))
		}
		ttl := int64(s.node.task.CacheConfig.TTLInSecond) * 1000
		spec.Cache = &tutti.CacheSpec{Key: key, TTLMs: ttl}
	}
	x.add(s, a, spec)
	return nil
}

// inputScope is a scope in which the members of a task's input have names.
type inputScope struct {
	scope
	input *value.Object
}

// Named implements model.NamedScope.
func (s inputScope) Named(name string) (any, bool) { return s.input.Get(name) }

// queueFor names the queue of a worker's task: domain, execution namespace and isolation
// group are part of it.
func (x *exec) queueFor(taskType string, def *TaskDef) (queue, domain string) {
	domain = x.domain(taskType)
	queue = QueueName(taskType, domain, def.ExecutionNameSpace, def.IsolationGroupID)
	return queue, domain
}

// QueueName returns the queue of worker tasks of a type; all but the type may be empty.
func QueueName(taskType, domain, namespace, isolationGroup string) string {
	if domain != "" {
		taskType = domain + ":" + taskType
	}
	if namespace != "" {
		taskType += "@" + namespace
	}
	if isolationGroup != "" {
		taskType += "-" + isolationGroup
	}
	return taskType
}

// noDomain in a list of domains stands for the queue without a domain.
const noDomain = "NO_DOMAIN"

// domain picks the first domain in the run's list for a type that has an active worker, or
// else the last one.
func (x *exec) domain(taskType string) string {
	list, ok := x.run.Routing[taskType]
	if !ok {
		list = x.run.Routing["*"]
	}
	if strings.TrimSpace(list) == "" {
		return ""
	}
	names := strings.Split(list, ",")
	for _, name := range names {
		name = strings.TrimSpace(name)
		if name == noDomain {
			continue
		}
		last := x.t.LastPoll(QueueName(taskType, name, "", ""))
		if last > 0 && x.t.Now()-last < workerActiveMs {
			return name
		}
	}
	if name := strings.TrimSpace(names[len(names)-1]); name != noDomain {
		return name
	}
	return ""
}

// limits fills in what a task definition says of delays, deadlines and limits.
func (x *exec) limits(s site, a attempt, spec *tutti.TaskSpec) {
	def := s.node.taskDef()
	spec.Timeouts = x.timeouts(s, a.of)
	if def.PollTimeoutSeconds != nil {
		spec.Timeouts.PollMs = int64(*def.PollTimeoutSeconds) * 1000
	}
	spec.DelayMs = a.delayMs
	if a.of == nil {
		spec.DelayMs = int64(s.node.task.StartDelay) * 1000
	}
	limit := tutti.Limit{Key: def.Name}
	if def.ConcurrentExecLimit != nil {
		limit.Concurrency = max(*def.ConcurrentExecLimit, 0)
	}
	if def.RateLimitPerFrequency > 0 && def.RateLimitFrequencyInSeconds > 0 {
		limit.Rate = def.RateLimitPerFrequency
		limit.WindowMs = int64(def.RateLimitFrequencyInSeconds) * 1000
	}
	if limit.Concurrency > 0 || limit.Rate > 0 {
		spec.Limit = &limit
	}
}

// timeouts are the deadlines that hold for tasks of every kind.
func (x *exec) timeouts(s site, prev *tutti.Task) tutti.Timeouts {
	def := s.node.taskDef()
	t := tutti.Timeouts{TaskMs: def.TimeoutSeconds * 1000}
	if def.TotalTimeoutSeconds > 0 {
		first := x.t.Now()
		if prev != nil {
			first = prev.FirstMs
		}
		t.TotalAt = first + def.TotalTimeoutSeconds*1000
	}
	return t
}

// taskDef returns the definition that a task's rules come from; defaults when there is none.
func (n *node) taskDef() *TaskDef {
	if n.task.TaskDefinition != nil {
		return n.task.TaskDefinition
	}
	def := NewTaskDef()
	def.Name = n.task.Name
	if IsSystemType(n.task.Type) && n.task.Type != TypeDynamic {
		def.RetryCount, def.ResponseTimeoutSeconds = 0, 0
	}
	return def
}

// connect queues a task for a connector in the server.
func (x *exec) connect(s site, a attempt, taskType, queue string, in value.Raw) error {
	spec := tutti.TaskSpec{
		Type: taskType, Kind: tutti.Work, Status: tutti.Queued, Queue: queue, Input: in,
	}
	x.limits(s, a, &spec)
	spec.HoldOpen = s.node.task.AsyncComplete
	if !spec.HoldOpen {
		spec.Timeouts.ResponseMs = s.node.taskDef().ResponseTimeoutSeconds * 1000
	}
	return x.addCached(s, a, spec)
}

func opHTTP(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	held := s.node
	request := in
	if r, ok := in.Get("http_request"); ok {
		request, _ = r.(*value.Object)
	}
	if v, _ := request.Get("asyncComplete"); v == true && !held.task.AsyncComplete {
		held = held.as(TypeHTTP)
		held.task.AsyncComplete = true
		s.node = held
	}
	return x.connect(s, a, TypeHTTP, QueueHTTP, value.Marshal(in))
}

func opKafka(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	return x.connect(s, a, TypeKafkaPublish, QueueKafka, value.Marshal(in))
}

// opEvent queues a message for a sink.
func opEvent(x *exec, s site, a attempt) error {
	// An earlier attempt's input is the wrapped one, so it is not built upon.
	in, err := x.input(s, attempt{input: a.input})
	if err != nil {
		return x.broken(s, err)
	}
	v, err := x.resolve(s.node.extra, x.nextSeq())
	if err != nil {
		return x.broken(s, err)
	}
	sink := textOf(v)
	in.Set("workflowInstanceId", x.run.ID.String())
	in.Set("workflowType", x.run.Definition)
	in.Set("workflowVersion", value.Int(int64(x.run.Version)))
	in.Set("correlationId", nullable(x.run.CorrelationID))
	in.Set("taskToDomain", routingObject(x.run.Routing))
	message := value.NewObject()
	message.Set("sink", sink)
	message.Set("event", EventSink(sink, x.run.Definition, s.name()))
	message.Set("payload", in)
	return x.connect(s, a, TypeEvent, QueueEvent, value.Marshal(message))
}

// EventSink returns the full name of a sink. The internal queues are named after the workflow:
// "conductor" is conductor:workflow:step, and "conductor:x" is conductor:workflow:x.
func EventSink(sink, workflow, ref string) string {
	kind, name, _ := strings.Cut(sink, ":")
	if kind != "conductor" {
		return sink
	}
	if name == "" {
		name = ref
	}
	return "conductor:" + workflow + ":" + name
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}
