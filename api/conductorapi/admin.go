package conductorapi

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/value"
)

func adminRoutes() []route {
	const base = "/api/admin"
	return []route{
		{
			"GET", base + "/config", api.Administer, "Get the configuration",
			(*API).config, nil, "", "object",
		},
		{
			"GET", base + "/task/{tasktype}", api.ReadRuns, "Get open tasks of a type",
			(*API).pendingTasks,
			[]string{"start integer=0", "count integer=100"},
			"", "[Task]",
		},
		{
			"POST", base + "/sweep/requeue/{workflowId}", api.ControlRuns,
			"Write again what a workflow's records imply", (*API).sweep, nil, "", "text",
		},
		{
			"POST", base + "/consistency/verifyAndRepair/{workflowId}", api.ControlRuns,
			"Write again what a workflow's records imply", (*API).repair, nil, "", "text",
		},
		{"GET", "/health", open, "Get the server's health", (*API).health, nil, "", "Health"},
		{"GET", "/api/health", open, "Get the server's health", (*API).health, nil, "", "Health"},
		{
			"GET", "/actuator/health", open, "Get the server's health in short",
			(*API).actuator, nil, "", "object",
		},
		{"GET", "/api/version", open, "Get the server's version", (*API).version, nil, "", "text"},
		{
			"GET", "/api/environment", api.ReadDefinitions,
			"Get the environment variables that workflows may refer to",
			(*API).environment, nil, "", "[NameValue]",
		},
		{
			"GET", "/api/environment/{key}", api.ReadDefinitions,
			"Get an environment variable that workflows may refer to",
			(*API).environmentValue, nil, "", "text",
		},
		{
			"GET", "/api/secrets", api.ReadDefinitions, "Get the names of the secrets",
			(*API).secretNames, nil, "", "[string]",
		},
		{
			"GET", "/api-docs", open, "Get the OpenAPI document",
			(*API).openAPI, nil, "", "object",
		},
		{
			"GET", "/v3/api-docs", open, "Get the OpenAPI document",
			(*API).openAPI, nil, "", "object",
		},
	}
}

func (a *API) config(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.Administer, namespace); err != nil {
		return answer{}, err
	}
	all := map[string]string{"version": a.opts.Version, "buildDate": a.opts.BuildDate}
	maps.Copy(all, a.opts.Config)
	return jsonOf(appendPairs(nil, all))
}

func (a *API) pendingTasks(c *call) (answer, error) {
	start, err := c.integer("start", 0)
	if err != nil {
		return answer{}, err
	}
	count, err := c.integer("count", 100)
	if err != nil {
		return answer{}, err
	}
	want := c.path("tasktype")
	found, err := a.svc.SearchTasks(c.ctx(), api.TaskQuery{
		Runs: api.Query{
			Namespace: namespace, Where: ours,
			Statuses: []tutti.RunStatus{tutti.RunRunning, tutti.RunPaused},
		},
		Where: func(_ *tutti.Run, t *tutti.Task) bool {
			return t.Type == want && t.Status.Open() && !conductor.Hidden(t)
		},
		Offset: max(start, 0), Limit: max(count, 1),
	})
	if err != nil {
		return answer{}, err
	}
	list, err := each(c.ctx(), found.Tasks, a.wholeTask)
	b := append([]byte{'['}, join(list)...)
	return answer{body: append(b, ']')}, err
}

func (a *API) repaired(c *call) (string, error) {
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return "", err
	}
	return id.String(), noWorkflow(a.svc.Repair(c.ctx(), namespace, id), id.String())
}

func (a *API) sweep(c *call) (answer, error) {
	id, err := a.repaired(c)
	return textOr("true."+id, err)
}

func (a *API) repair(c *call) (answer, error) {
	_, err := a.repaired(c)
	return textOr("true", err)
}

func (a *API) health(*call) (answer, error) {
	err := a.svc.Healthy()
	o := newObject(nil)
	o.name("healthResults")
	o.b = append(o.b, '[')
	if err != nil {
		e := newObject(o.b)
		e.flag("healthy", false)
		e.string("message", err.Error())
		o.b = e.end()
	}
	o.b = append(o.b, ']')
	o.name("suppressedHealthResults")
	o.b = append(o.b, "[]"...)
	o.flag("healthy", err == nil)
	return jsonOf(o.end())
}

func (a *API) actuator(*call) (answer, error) {
	if err := a.svc.Healthy(); err != nil {
		return answer{status: http.StatusServiceUnavailable, body: []byte(`{"status":"DOWN"}`)}, nil
	}
	return jsonOf([]byte(`{"status":"UP"}`))
}

func (a *API) version(*call) (answer, error) { return plainText(a.opts.Version) }

func (a *API) environment(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.ReadDefinitions, namespace); err != nil {
		return answer{}, err
	}
	names := slices.Sorted(maps.Keys(a.opts.Environment))
	return jsonOf(appendList(nil, names, func(dst []byte, name string) []byte {
		o := newObject(dst)
		o.string("name", name)
		o.string("value", a.opts.Environment[name])
		return o.end()
	}))
}

func (a *API) environmentValue(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.ReadDefinitions, namespace); err != nil {
		return answer{}, err
	}
	v, ok := a.opts.Environment[c.path("key")]
	if !ok {
		return answer{}, fail(http.StatusNotFound, "No such environment variable: %s", c.path("key"))
	}
	return plainText(v)
}

func (a *API) secretNames(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.ReadDefinitions, namespace); err != nil {
		return answer{}, err
	}
	var names []string
	if a.opts.SecretNames != nil {
		names = slices.Sorted(slices.Values(a.opts.SecretNames()))
	}
	return jsonOf(appendTexts(nil, names))
}

func (a *API) openAPI(*call) (answer, error) { return jsonOf(a.openapi()) }

func queueRoutes() []route {
	const base = "/api/tasks/queue"
	return []route{
		{
			"GET", base + "/sizes", api.ReadQueues, "Get the sizes of queues",
			(*API).queueSizes,
			[]string{"taskType string"},
			"", "object",
		},
		{
			"GET", base + "/size", api.ReadQueues, "Get the size of a queue",
			(*API).queueSize,
			[]string{
				"*taskType string", "domain string", "isolationGroupId string",
				"executionNamespace string",
			},
			"", "integer",
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
			(*API).pollData,
			[]string{"*taskType string"},
			"", "[PollData]",
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
