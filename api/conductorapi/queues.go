package conductorapi

import (
	"cmp"
	"slices"
	"strings"

	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/value"
)

func queueRoutes() []route {
	const base = "/api/tasks/queue"
	return []route{
		{
			"GET", base + "/sizes", api.ReadQueues, "Get the sizes of queues",
			(*API).queueSizes, []string{"taskType string"}, "", "object",
		},
		{
			"GET", base + "/size", api.ReadQueues, "Get the size of a queue",
			(*API).queueSize, []string{
				"*taskType string", "domain string", "isolationGroupId string",
				"executionNamespace string",
			}, "", "integer",
		},
		{
			"GET", base + "/all", api.ReadQueues, "Get the sizes of all queues",
			(*API).allQueues, nil, "", "object",
		},
		{
			"GET", base + "/all/verbose", api.ReadQueues,
			"Get the sizes of all queues with what was handed out",
			(*API).allQueuesVerbose, nil, "", "object",
		},
		{
			"GET", base + "/polldata", api.ReadQueues, "Get who polled for tasks of a type",
			(*API).pollData, []string{"*taskType string"}, "", "[PollData]",
		},
		{
			"GET", base + "/polldata/all", api.ReadQueues, "Get who polled for tasks",
			(*API).allPollData, nil, "", "[PollData]",
		},
		{
			"POST", base + "/requeue/{taskType}", api.ReadQueues,
			"Put tasks back that are missing from their queue",
			(*API).requeue, nil, "", "text",
		},
	}
}

// queueNames are the official names of the queues of tasks that the server performs.
var queueNames = map[string]string{
	conductor.QueueHTTP: "HTTP", conductor.QueueEvent: "EVENT",
	conductor.QueueKafka: "KAFKA_PUBLISH",
}

// queues returns the sizes of all queues by name.
func (a *API) queues(c *call) (names []string, sizes map[string]int, err error) {
	list, err := a.svc.Queues(c.ctx(), namespace)
	sizes = map[string]int{}
	for _, q := range list {
		name := cmp.Or(queueNames[q.Name], q.Name)
		if _, ok := sizes[name]; !ok {
			names = append(names, name)
		}
		sizes[name] += q.Depth
	}
	slices.Sort(names)
	return names, sizes, err
}

func (a *API) queueSizes(c *call) (answer, error) {
	_, sizes, err := a.queues(c)
	b := []byte{'{'}
	for i, name := range c.list("taskType") {
		b = append(value.AppendString(comma(b, i), name), ':')
		b = value.Append(b, value.Int(int64(sizes[name])))
	}
	return answer{body: append(b, '}')}, err
}

func (a *API) queueSize(c *call) (answer, error) {
	taskType, err := c.required("taskType", "String")
	if err != nil {
		return answer{}, err
	}
	_, sizes, err := a.queues(c)
	name := conductor.QueueName(taskType, c.text("domain", ""),
		c.text("executionNamespace", ""), c.text("isolationGroupId", ""))
	return answer{body: value.Marshal(value.Int(int64(sizes[name])))}, err
}

func (a *API) allQueues(c *call) (answer, error) {
	names, sizes, err := a.queues(c)
	b := []byte{'{'}
	for i, name := range names {
		b = append(value.AppendString(comma(b, i), name), ':')
		b = value.Append(b, value.Int(int64(sizes[name])))
	}
	return answer{body: append(b, '}')}, err
}

// allQueuesVerbose shows each queue as one shard, as the official server does over SQL. What
// was handed out is not part of a queue here.
func (a *API) allQueuesVerbose(c *call) (answer, error) {
	names, sizes, err := a.queues(c)
	b := []byte{'{'}
	for i, name := range names {
		b = append(value.AppendString(comma(b, i), name), `:{"a":`...)
		o := newObject(b)
		o.num("size", int64(sizes[name]))
		o.num("uacked", 0)
		b = append(o.end(), '}')
	}
	return answer{body: append(b, '}')}, err
}

func (a *API) polls(c *call, keep func(taskType string) bool) (answer, error) {
	list, err := a.svc.PollData(c.ctx(), namespace, "")
	slices.SortFunc(list, func(a, b api.PollInfo) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(b.AtMs, a.AtMs),
			cmp.Compare(a.Worker, b.Worker))
	})
	b := []byte{'['}
	for _, p := range list {
		domain, taskType, ok := strings.Cut(p.Queue, ":")
		if !ok {
			domain, taskType = "", p.Queue
		}
		if _, internal := queueNames[taskType]; internal || !keep(taskType) {
			continue
		}
		o := newObject(comma(b, len(b)-1))
		o.string("queueName", taskType)
		o.text("domain", domain)
		o.text("workerId", p.Worker)
		o.num("lastPollTime", p.AtMs)
		b = o.end()
	}
	return answer{body: append(b, ']')}, err
}

func (a *API) pollData(c *call) (answer, error) {
	want, err := c.required("taskType", "String")
	if err != nil {
		return answer{}, err
	}
	return a.polls(c, func(taskType string) bool { return taskType == want })
}

func (a *API) allPollData(c *call) (answer, error) {
	return a.polls(c, func(string) bool { return true })
}

// requeue answers how many tasks were missing from their queue: none, since a task and its
// place in the queue are written together.
func (a *API) requeue(c *call) (answer, error) {
	_, err := a.svc.Queues(c.ctx(), namespace)
	return textOr("0", err)
}
