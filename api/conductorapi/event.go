package conductorapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/events"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func eventRoutes() []route {
	const base, queue = "/api/event", "/api/queue"
	return []route{
		{
			"POST", base, api.WriteDefinitions, "Create an event handler",
			(*API).createHandler, nil, "EventHandler", "",
		},
		{
			"PUT", base, api.WriteDefinitions, "Replace an event handler",
			(*API).updateHandler, nil, "EventHandler", "",
		},
		{
			"DELETE", base + "/{name}", api.WriteDefinitions, "Remove an event handler",
			(*API).deleteHandler, nil, "", "",
		},
		{
			"GET", base, api.ReadDefinitions, "Get all event handlers",
			(*API).listHandlers, nil, "", "[EventHandler]",
		},
		{
			"GET", base + "/*", api.ReadDefinitions, "Get the handlers of an event",
			(*API).handlersOf,
			[]string{"activeOnly boolean=true"},
			"", "[EventHandler]",
		},
		{
			"GET", queue, api.ReadQueues, "Get the queues that complete or fail tasks",
			(*API).taskEvents, nil, "", "object",
		},
		{
			"GET", queue + "/size", api.ReadQueues,
			"Get the sizes of the queues that complete or fail tasks",
			(*API).taskEventSizes, nil, "", "object",
		},
		{
			"POST", queue + "/update/{workflowId}/{taskRefName}/{status}", api.CompleteTasks,
			"Complete or fail the open task of a step",
			(*API).updateByEvent, nil, "object", "",
		},
		{
			"POST", queue + "/update/{workflowId}/task/{taskId}/{status}", api.CompleteTasks,
			"Complete or fail a task",
			(*API).updateByEvent, nil, "object", "",
		},
		{
			"GET", "/api/admin/queues", api.ReadDefinitions, "Get the queues that events come from",
			(*API).eventQueues,
			[]string{"verbose boolean=false"},
			"", "object",
		},
	}
}

func handlerRef(name string) api.DocumentRef {
	return api.DocumentRef{
		Namespace: namespace, Dialect: model.Dialect, Kind: events.KindHandler, Name: name,
	}
}

// putHandlers stores the event handlers of the body: one, or a list, which is what the
// JavaScript SDK sends. It returns the name of the one that failed. Queues that this server
// cannot listen to are no error, since the official server takes them too; the answer warns.
func (a *API) putHandlers(
	c *call, mode engine.PutMode, where string,
) (name string, ans answer, err error) {
	all, err := c.objects()
	if err != nil {
		return "", ans, err
	}
	ans.header = http.Header{}
	for _, raw := range all {
		def, err := a.putHandler(c, raw, mode, where)
		if err != nil {
			return def.Name, ans, err
		}
		if err := a.deaf(def); err != nil {
			a.log.Warn("event handler will hear nothing", "handler", def.Name, "error", err)
			ans.header.Add("Warning", fmt.Sprintf("299 tutti %q", printable(
				"event handler "+def.Name+" will hear nothing: "+err.Error())))
		}
	}
	return "", ans, nil
}

// deaf returns why an active handler cannot hear its event, nil if it can.
func (a *API) deaf(def *model.EventHandler) error {
	bus, ok := a.opts.Bus.(interface{ Check(queue string) error })
	if !ok || !def.Active {
		return nil
	}
	return bus.Check(def.Event)
}

func (a *API) putHandler(
	c *call, raw value.Raw, mode engine.PutMode, where string,
) (*model.EventHandler, error) {
	def, err := model.DecodeEventHandler(raw)
	if err != nil {
		return def, malformed(err)
	}
	report := a.opts.Rules.EventHandler(def)
	if err := violations(report, where); err != nil {
		return def, err
	}
	for _, f := range report.Findings {
		a.log.Warn("event handler", "handler", def.Name, "finding", f.Message, "hint", f.Hint)
	}
	_, err = a.svc.PutDocument(c.ctx(), engine.Document{
		Namespace: namespace, Dialect: model.Dialect, Kind: events.KindHandler, Name: def.Name,
		Body: def.Encode(),
	}, mode)
	return def, err
}

func (a *API) createHandler(c *call) (answer, error) {
	name, ans, err := a.putHandlers(c, engine.PutNew, "addEventHandler.eventHandler")
	if isKind(err, tutti.Exists) {
		err = fail(http.StatusConflict, "EventHandler with name %s already exists!", name)
	}
	return ans, err
}

func (a *API) updateHandler(c *call) (answer, error) {
	name, ans, err := a.putHandlers(c, engine.PutExists, "updateEventHandler.eventHandler")
	return ans, missing(err, "EventHandler with name %s not found!", name)
}

func (a *API) deleteHandler(c *call) (answer, error) {
	name := c.path("name")
	return emptyOr(missing(a.svc.DeleteDocument(c.ctx(), handlerRef(name)),
		"EventHandler with name %s not found!", name))
}

func (a *API) handlers(c *call, keep func(*model.EventHandler) bool) ([]value.Raw, error) {
	docs, err := a.definitions(c, events.KindHandler)
	if err != nil {
		return nil, err
	}
	var list []value.Raw
	for _, d := range docs {
		def, err := model.DecodeEventHandler(d.Body)
		if err != nil {
			return nil, err
		}
		if keep(def) {
			list = append(list, d.Body)
		}
	}
	return list, nil
}

func (a *API) listHandlers(c *call) (answer, error) {
	list, err := a.handlers(c, func(*model.EventHandler) bool { return true })
	return answer{body: appendList(nil, list, appendRaw[value.Raw])}, err
}

func (a *API) handlersOf(c *call) (answer, error) {
	active, err := c.flag("activeOnly", true)
	if err != nil {
		return answer{}, err
	}
	event := c.path("*")
	list, err := a.handlers(c, func(def *model.EventHandler) bool {
		return def.Event == event && (def.Active || !active)
	})
	return answer{body: appendList(nil, list, appendRaw[value.Raw])}, err
}

// taskEventStatuses are the statuses that a task can be given through the queue API. What is
// put into one of its queues takes effect at once, so that nothing ever waits in there.
var taskEventStatuses = []string{"COMPLETED", "FAILED"}

func (a *API) taskEvents(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.ReadQueues, namespace); err != nil {
		return answer{}, err
	}
	o := newObject(nil)
	for _, st := range taskEventStatuses {
		o.string(st, "conductor:_task_"+strings.ToLower(st))
	}
	return jsonOf(o.end())
}

func (a *API) taskEventSizes(c *call) (answer, error) {
	if err := a.svc.Allowed(c.ctx(), api.ReadQueues, namespace); err != nil {
		return answer{}, err
	}
	o := newObject(nil)
	for _, st := range taskEventStatuses {
		o.num("conductor:_task_"+strings.ToLower(st), 0)
	}
	return jsonOf(o.end())
}

// updateByEvent completes or fails a task, by its identifier or its step's name.
func (a *API) updateByEvent(c *call) (answer, error) {
	id, err := parseRun(c.path("workflowId"))
	if err != nil {
		return answer{}, err
	}
	if st := c.path("status"); !slices.Contains(taskEventStatuses, st) {
		return answer{}, fail(http.StatusBadRequest, "There is no queue for handling %s status", st)
	}
	output, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	status, err := readStatus(c.path("status"))
	if err != nil {
		return answer{}, err
	}
	o := engine.Outcome{Status: status, Output: output, Merge: true}
	if text := c.path("taskId"); text != "" {
		run, seq, err := parseTask(text)
		if err == nil && run != id {
			err = noTask(text)
		}
		if err != nil {
			return answer{}, err
		}
		_, err = a.svc.Complete(c.ctx(), namespace, api.Completion{
			Run: id, Seq: seq, IgnoreStale: true, Outcome: o,
		})
		return emptyOr(missing(err, "No such task found by id: %s", text))
	}
	taskID, err := a.report(c.ctx(), id, c.path("taskRefName"), o)
	if err == nil && taskID == "" {
		err = fail(http.StatusNotFound, "Found no running task %s of workflow %s to update",
			c.path("taskRefName"), id)
	}
	return emptyOr(err)
}

// eventQueues answers the queues that active handlers listen to; verbose tells how many
// messages wait in those of the server itself.
func (a *API) eventQueues(c *call) (answer, error) {
	verbose, err := c.flag("verbose", false)
	if err != nil {
		return answer{}, err
	}
	var queues []string
	_, err = a.handlers(c, func(def *model.EventHandler) bool {
		if def.Active && !slices.Contains(queues, def.Event) {
			queues = append(queues, def.Event)
		}
		return false
	})
	slices.Sort(queues)
	b := []byte{'{'}
	for i, q := range queues {
		b = append(value.AppendString(comma(b, i), q), ':')
		if !verbose {
			b = value.AppendString(b, q)
			continue
		}
		letters, lerr := a.svc.Letters(c.ctx(), namespace, q, 0)
		err = errors.Join(err, lerr)
		b = append(value.AppendString(append(b, '{'), q), ':')
		b = append(value.Append(b, value.Int(int64(len(letters)))), '}')
	}
	return answer{body: append(b, '}')}, err
}
