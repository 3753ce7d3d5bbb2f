package adminapi

import (
	"net/http"

	"github.com/tutti-run/tutti/api"
)

// route is one operation of the API. An empty permission is for what everybody may see.
type route struct {
	method, pattern string
	permission      api.Permission
	summary         string
	query           []param
	in, out         any // zero values of the bodies' types, nil for none
	status          int // of success; 200 when zero, 204 when nothing is returned
	stream          string
	binary          bool // the body of the request is no JSON
	handle          func(*call) (any, error)
}

// param is a parameter of a query.
type param struct{ name, typ, doc string }

var (
	limitParam  = param{"limit", "integer", "how many at most"}
	cursorParam = param{"cursor", "string", "the next field of the page before"}
	runFilters  = []param{
		{"status", "string", "statuses, separated by commas"},
		{"definition", "string", "names of definitions, separated by commas"},
		{"from", "string", "started at or after: Unix milliseconds or RFC 3339"},
		{"to", "string", "started before"},
		{"endFrom", "string", "ended at or after"},
		{"endTo", "string", "ended before"},
		{"version", "integer", "version of the definition"},
		{"correlationId", "string", "correlation identifier"},
		{"label", "string", "name=value; may be repeated"},
		{"parent", "string", "runs that were started by this run"},
		{"id", "string", "identifiers of runs, separated by commas"},
		{"topLevel", "boolean", "only runs without a parent"},
		{"text", "string", "words in input, output or reason; word* for a beginning"},
		{"payloads", "boolean", "with inputs and outputs"},
		{"offset", "integer", "results to leave out at the beginning"},
		{"sort", "string", "start, end, definition, status, update or priority; -start for descending"},
	}
)

// routes is the whole API.
func (a *API) routes() []route {
	var all []route
	all = append(all, a.runRoutes()...)
	all = append(all, a.controlRoutes()...)
	return append(all, a.serverRoutes()...)
}

func (a *API) runRoutes() []route {
	return []route{
		{
			method: http.MethodPost, pattern: "/runs", permission: api.StartRuns,
			summary: "Start a run", in: StartRequest{}, out: StartReply{},
			status: http.StatusCreated, handle: startRun,
		}, {
			method: http.MethodGet, pattern: "/runs", permission: api.ReadRuns,
			summary: "List or search runs, newest first",
			query:   append([]param{limitParam, cursorParam}, runFilters...),
			out:     RunPage{}, handle: listRuns,
		}, {
			method: http.MethodGet, pattern: "/runs/{id}", permission: api.ReadRuns,
			summary: "A run with its input and output", out: Run{}, handle: getRun,
			query: []param{{"waitMs", "integer", "wait up to this long for the run to end"}},
		}, {
			method: http.MethodGet, pattern: "/runs/{id}/explain", permission: api.ReadRuns,
			summary: "Why the run has not ended", out: Explanation{}, handle: explainRun,
		}, {
			method: http.MethodGet, pattern: "/runs/{id}/history", permission: api.ReadRuns,
			summary: "The run's history, one JSON object a line", out: HistoryEvent{},
			stream: "application/x-ndjson", handle: history,
			query: []param{{"after", "integer", "number of the last event that is known"}},
		}, {
			method: http.MethodGet, pattern: "/runs/{id}/events", permission: api.ReadRuns,
			summary: "The run's history as it happens, as server-sent events", out: HistoryEvent{},
			stream: "text/event-stream", handle: events,
			query: []param{{"after", "integer", "number of the last event that is known"}},
		}, {
			method: http.MethodGet, pattern: "/runs/{id}/tasks", permission: api.ReadRuns,
			summary: "The run's task attempts in order", out: TaskPage{}, handle: listTasks,
			query: []param{
				limitParam,
				{"from", "integer", "number of the first attempt"},
				{"status", "string", "open: only attempts that have not ended"},
			},
		}, {
			method: http.MethodGet, pattern: "/runs/{id}/tasks/{task}", permission: api.ReadRuns,
			summary: "A task attempt, by identifier or number", out: Task{}, handle: getTask,
		}, {
			method: http.MethodGet, pattern: "/runs/{id}/tasks/{task}/logs",
			permission: api.ReadRuns, summary: "What workers logged for an attempt",
			out: []LogLine{}, handle: taskLogs,
		}, {
			method: http.MethodGet, pattern: "/runs/{id}/definition", permission: api.ReadRuns,
			summary: "The definition that the run is pinned to", out: Definition{},
			handle: runDefinition,
		},
	}
}

func (a *API) controlRoutes() []route {
	post := func(
		action, summary string, in any, handle func(*call) (any, error),
	) route {
		return route{
			method: http.MethodPost, pattern: "/runs/{id}/" + action, summary: summary,
			permission: api.ControlRuns, in: in, status: http.StatusNoContent, handle: handle,
		}
	}
	return []route{
		post("pause", "Keep the run from taking further steps", Note{}, pauseRun),
		post("resume", "Let a paused run go on", Note{}, resumeRun),
		post("terminate", "End the run at once", Termination{}, terminateRun),
		post("retry", "Go on with a run that ended badly, from what failed", Retry{}, retryRun),
		post("restart", "Begin an ended run again from its first step", Restart{}, restartRun),
		post("rerun", "Repeat an ended run from one of its attempts on", Rerun{}, rerunRun),
		post("skip", "Step over a step that has not started", Skip{}, skipStep),
		post("signal", "Complete a step that waits for a signal", Signal{}, signalRun),
		{
			method: http.MethodDelete, pattern: "/runs/{id}", permission: api.RemoveRuns,
			summary: "Delete an ended run and all that is stored of it",
			status:  http.StatusNoContent, handle: removeRun,
		},
	}
}

func (a *API) serverRoutes() []route {
	kind := param{"kind", "string", "kind of document; definitions of workflows when absent"}
	return []route{
		{
			method: http.MethodGet, pattern: "/definitions", permission: api.ReadDefinitions,
			summary: "The catalogue, without bodies", out: []Definition{}, handle: listDefinitions,
			query: []param{kind, {"dialect", "string", "only of this dialect"}},
		}, {
			method: http.MethodGet, pattern: "/definitions/{dialect}/{name}",
			permission: api.ReadDefinitions, summary: "A definition", out: Definition{},
			query: []param{kind, {"version", "integer", "0 = the newest"}}, handle: getDefinition,
		}, {
			method: http.MethodPost, pattern: "/definitions:apply",
			permission: api.WriteDefinitions, binary: true, out: Applied{}, handle: applyDefinitions,
			summary: "Store the definitions of a source file; nothing is stored when one has errors",
			query: []param{
				{"filename", "string", "name of the file, for its kind and for diagnostics"},
				{"dialect", "string", "when it cannot be told from the file"},
				{"dryRun", "boolean", "only check"},
			},
		}, {
			method: http.MethodGet, pattern: "/queues", permission: api.ReadQueues,
			summary: "Queues that have tasks or were polled", out: []Queue{}, handle: listQueues,
		}, {
			method: http.MethodGet, pattern: "/queues/{queue}", permission: api.ReadQueues,
			summary: "A queue, counted, with the workers that polled it", out: Queue{},
			handle: getQueue,
		}, {
			method: http.MethodGet, pattern: "/stats", permission: api.ReadQueues,
			summary: "Figures of the server", out: Stats{}, handle: stats,
		}, {
			method: http.MethodGet, pattern: "/audit", permission: api.Administer,
			summary: "What the auditor found", out: Audit{}, handle: audit,
		}, {
			method: http.MethodGet, pattern: "/openapi.json",
			summary: "This API as an OpenAPI document", handle: openAPI,
		},
	}
}
