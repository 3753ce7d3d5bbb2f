package adminapi

import (
	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// Run is a run as the API shows it. Times are Unix milliseconds; 0 and absent mean never.
type Run struct {
	ID             string            `json:"id"`
	Namespace      string            `json:"namespace"`
	Dialect        string            `json:"dialect"`
	Definition     string            `json:"definition"`
	Version        int               `json:"version"`
	Status         string            `json:"status" doc:"RUNNING, PAUSED, COMPLETED, FAILED, TIMED_OUT or TERMINATED"`
	Reason         string            `json:"reason,omitempty"`
	Input          value.Raw         `json:"input,omitempty"`
	Output         value.Raw         `json:"output,omitempty"`
	CorrelationID  string            `json:"correlationId,omitempty"`
	IdempotencyKey string            `json:"idempotencyKey,omitempty"`
	Priority       int               `json:"priority,omitempty"`
	CreatedBy      string            `json:"createdBy,omitempty"`
	Event          string            `json:"event,omitempty" doc:"the event that caused the run"`
	Labels         map[string]string `json:"labels,omitempty"`
	ParentRun      string            `json:"parentRun,omitempty"`
	ParentTask     string            `json:"parentTask,omitempty"`
	FailedTask     string            `json:"failedTask,omitempty" doc:"the task that made the run fail"`
	OpenTasks      int               `json:"openTasks"`
	TaskCount      int               `json:"taskCount" doc:"attempts created so far"`
	StartMs        int64             `json:"startMs"`
	UpdateMs       int64             `json:"updateMs"`
	EndMs          int64             `json:"endMs,omitempty"`
	TimeoutMs      int64             `json:"timeoutMs,omitempty"`
}

// showRun shows a run, with its payloads when asked.
func showRun(r *tutti.Run, payloads bool) *Run {
	out := &Run{
		ID: r.ID.String(), Namespace: r.Namespace, Dialect: r.Dialect,
		Definition: r.Definition, Version: r.Version, Status: r.Status.String(),
		Reason: r.Reason, CorrelationID: r.CorrelationID, IdempotencyKey: r.IdempotencyKey,
		Priority: r.Priority, CreatedBy: r.CreatedBy, Event: r.Event, Labels: r.Labels,
		OpenTasks: r.OpenTasks, TaskCount: int(r.LastSeq), StartMs: r.StartMs,
		UpdateMs: r.UpdateMs, EndMs: r.EndMs, TimeoutMs: r.TimeoutMs,
	}
	if payloads {
		out.Input, out.Output = r.Input, r.Output
	}
	if !r.Parent.IsZero() {
		out.ParentRun, out.ParentTask = r.Parent.String(), r.Parent.TaskID(r.ParentTask)
	}
	if r.FailedTask != 0 {
		out.FailedTask = r.ID.TaskID(r.FailedTask)
	}
	return out
}

// Task is a task attempt. Times are Unix milliseconds; 0 and absent mean never.
type Task struct {
	ID          string    `json:"id"`
	Number      int       `json:"number" doc:"place among the attempts of the run, from 1"`
	Name        string    `json:"name" doc:"the step; its attempts share it"`
	Type        string    `json:"type"`
	Definition  string    `json:"definition,omitempty"`
	Kind        string    `json:"kind" doc:"work, wait, child, scope or local"`
	Queue       string    `json:"queue,omitempty"`
	Domain      string    `json:"domain,omitempty"`
	Iteration   int       `json:"iteration,omitempty"`
	Attempt     int       `json:"attempt" doc:"from 1"`
	RetryOf     string    `json:"retryOf,omitempty"`
	Retried     bool      `json:"retried,omitempty" doc:"a later attempt took its place"`
	Status      string    `json:"status"`
	Reason      string    `json:"reason,omitempty"`
	Input       value.Raw `json:"input,omitempty"`
	Output      value.Raw `json:"output,omitempty"`
	Worker      string    `json:"worker,omitempty"`
	InDoubt     bool      `json:"inDoubt,omitempty" doc:"a holder vanished after it may have acted"`
	ChildRun    string    `json:"childRun,omitempty"`
	ScheduledMs int64     `json:"scheduledMs"`
	StartedMs   int64     `json:"startedMs,omitempty"`
	UpdatedMs   int64     `json:"updatedMs,omitempty"`
	EndedMs     int64     `json:"endedMs,omitempty"`
	LeaseMs     int64     `json:"leaseMs,omitempty" doc:"when the lease ends"`
	UntilMs     int64     `json:"untilMs,omitempty" doc:"when the wait ends"`
}

var kinds = [...]string{"work", "wait", "child", "scope", "local"}

func showTask(run tutti.RunID, t *tutti.Task) Task {
	out := Task{
		ID: run.TaskID(t.Seq), Number: int(t.Seq), Name: t.Name, Type: t.Type,
		Definition: t.DefName, Kind: kinds[t.Kind], Queue: t.Queue, Domain: t.Domain,
		Iteration: int(t.Iteration), Attempt: int(t.Attempt) + 1, Retried: t.Retried,
		Status: t.Status.String(), Reason: t.Reason, Input: t.Input, Output: t.Output,
		Worker: t.Worker, InDoubt: t.InDoubt, ScheduledMs: t.ScheduledMs,
		StartedMs: t.StartedMs, UpdatedMs: t.UpdatedMs, EndedMs: t.EndedMs, UntilMs: t.UntilMs,
	}
	if t.LeaseMs > 0 && t.LeaseMs != engine.Forever {
		out.LeaseMs = t.LeaseMs
	}
	if t.RetryOf != 0 {
		out.RetryOf = run.TaskID(t.RetryOf)
	}
	if !t.ChildRun.IsZero() {
		out.ChildRun = t.ChildRun.String()
	}
	return out
}

// RunPage is a part of a list of runs.
type RunPage struct {
	Runs    []*Run `json:"runs"`
	Next    string `json:"next,omitempty" doc:"cursor of the next page; absent on the last"`
	Total   int    `json:"total,omitempty" doc:"how many runs are selected; searches only"`
	Partial bool   `json:"partial,omitempty" doc:"the search ended at its bound: narrow it"`
	LagMs   int64  `json:"lagMs,omitempty" doc:"by how much the index of free text is behind"`
}

// TaskPage is a part of the attempts of a run.
type TaskPage struct {
	Tasks []Task `json:"tasks"`
	Next  int    `json:"next,omitempty" doc:"number to continue from; absent on the last page"`
}

// StartRequest asks for a new run.
type StartRequest struct {
	Definition     string            `json:"definition,omitempty"`
	Version        int               `json:"version,omitempty" doc:"0 = the newest"`
	Dialect        string            `json:"dialect,omitempty" doc:"needed when two have the definition"`
	Source         value.Raw         `json:"source,omitempty" doc:"a definition to run that is not stored; needs dialect"`
	Input          value.Raw         `json:"input,omitempty"`
	CorrelationID  string            `json:"correlationId,omitempty"`
	Priority       int               `json:"priority,omitempty" doc:"0 lowest to 99 highest"`
	CreatedBy      string            `json:"createdBy,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	IdempotencyKey string            `json:"idempotencyKey,omitempty"`
	OnDuplicate    string            `json:"onDuplicate,omitempty" doc:"fail, return or fail-on-running"`
	WaitMs         int64             `json:"waitMs,omitempty" doc:"answer when the run has ended, at the latest after this"`
}

// StartReply tells what a start created or met.
type StartReply struct {
	ID       string `json:"id"`
	Existing bool   `json:"existing,omitempty" doc:"an earlier start had the same idempotency key"`
	Run      *Run   `json:"run,omitempty" doc:"the run after waitMs"`
}

// Explanation says why a run has not ended.
type Explanation struct {
	Run     string `json:"run"`
	Status  string `json:"status"`
	Text    string `json:"text" doc:"one sentence about the run"`
	Waits   []Wait `json:"waits"`
	Omitted int    `json:"omitted,omitempty" doc:"open tasks that are not listed"`
}

// Wait says what one open attempt waits for.
type Wait struct {
	Text           string       `json:"text" doc:"one sentence"`
	Code           string       `json:"code"`
	Task           string       `json:"task,omitempty"`
	Name           string       `json:"name,omitempty"`
	Type           string       `json:"type,omitempty"`
	Queue          string       `json:"queue,omitempty"`
	Worker         string       `json:"worker,omitempty"`
	Limit          string       `json:"limit,omitempty"`
	SinceMs        int64        `json:"sinceMs,omitempty"`
	UntilMs        int64        `json:"untilMs,omitempty" doc:"when the wait ends by itself"`
	InDoubt        bool         `json:"inDoubt,omitempty"`
	WorkersWaiting int          `json:"workersWaiting,omitempty"`
	Ahead          int          `json:"ahead,omitempty" doc:"other tasks in the queue"`
	LastPollMs     int64        `json:"lastPollMs,omitempty"`
	Holders        []string     `json:"holders,omitempty" doc:"tasks or runs that hold the limit"`
	Child          *Explanation `json:"child,omitempty"`
}

func showExplanation(x *api.Explanation) *Explanation {
	out := &Explanation{
		Run: x.Run.ID.String(), Status: x.Run.Status.String(), Text: x.Text,
		Waits: []Wait{}, Omitted: x.Omitted,
	}
	for _, w := range x.Waits {
		v := Wait{
			Text: w.Text, Code: w.Code, Name: w.Name, Type: w.Type, Queue: w.Queue,
			Worker: w.Worker, Limit: w.Limit, SinceMs: w.SinceMs, UntilMs: w.UntilMs,
			InDoubt: w.InDoubt, WorkersWaiting: w.WorkersWaiting, Ahead: w.Ahead,
			LastPollMs: w.LastPollMs,
		}
		if w.Seq != 0 {
			v.Task = x.Run.ID.TaskID(w.Seq)
		}
		for _, h := range w.Holders {
			v.Holders = append(v.Holders, h.Run.TaskID(h.Seq))
		}
		if w.Child != nil {
			v.Child = showExplanation(w.Child)
		}
		out.Waits = append(out.Waits, v)
	}
	return out
}

// HistoryEvent is one entry of a run's history.
type HistoryEvent struct {
	Number int       `json:"number"`
	TimeMs int64     `json:"timeMs"`
	Kind   string    `json:"kind"`
	Task   string    `json:"task,omitempty"`
	Name   string    `json:"name,omitempty" doc:"the task's step"`
	Status string    `json:"status,omitempty"`
	Worker string    `json:"worker,omitempty"`
	Note   string    `json:"note,omitempty"`
	Detail value.Raw `json:"detail,omitempty"`
}

var timeouts = [...]string{"poll", "response", "task", "total"}

func showHistory(v *api.RunView, ev engine.HistoryEvent) HistoryEvent {
	out := HistoryEvent{
		Number: ev.Number, TimeMs: ev.TimeMs, Kind: ev.Kind.String(), Worker: ev.Worker,
		Note: ev.Note, Detail: ev.Detail,
	}
	if ev.Seq != 0 {
		out.Task = v.Run.ID.TaskID(ev.Seq)
		if t, err := v.Task(ev.Seq); err == nil {
			out.Name = t.Name
		}
	}
	switch ev.Kind {
	case engine.HistoryTaskDone:
		out.Status = tutti.TaskStatus(ev.Status).String()
	case engine.HistoryRunEnded:
		out.Status = tutti.RunStatus(ev.Status).String()
	case engine.HistoryTaskTimeout:
		out.Status = timeouts[min(int(ev.Status), len(timeouts)-1)]
	}
	return out
}

// Definition is an entry of the catalogue.
type Definition struct {
	Dialect   string    `json:"dialect"`
	Kind      string    `json:"kind"`
	Name      string    `json:"name"`
	Version   int       `json:"version,omitempty"`
	CreateMs  int64     `json:"createMs,omitempty"`
	UpdateMs  int64     `json:"updateMs,omitempty"`
	CreatedBy string    `json:"createdBy,omitempty"`
	Body      value.Raw `json:"body,omitempty"`
}

func showDefinition(d engine.Document, body bool) Definition {
	out := Definition{
		Dialect: d.Dialect, Kind: d.Kind, Name: d.Name, Version: d.Version,
		CreateMs: d.CreateMs, UpdateMs: d.UpdateMs, CreatedBy: d.CreatedBy,
	}
	if body {
		out.Body = d.Body
	}
	return out
}

// Applied tells what a source held.
type Applied struct {
	Stored      bool              `json:"stored"`
	Definitions []Definition      `json:"definitions"`
	Diagnostics value.Diagnostics `json:"diagnostics"`
}

// Queue are the figures of a queue.
type Queue struct {
	Name       string   `json:"name"`
	Depth      int      `json:"depth" doc:"tasks that wait for a worker"`
	AtLeast    bool     `json:"atLeast,omitempty" doc:"there may be more than depth"`
	OldestMs   int64    `json:"oldestMs,omitempty" doc:"when the oldest became ready"`
	Waiting    int      `json:"waiting" doc:"workers that wait"`
	LastPollMs int64    `json:"lastPollMs,omitempty"`
	Workers    []Worker `json:"workers,omitempty"`
}

// Worker says when a worker last asked for tasks.
type Worker struct {
	Name       string `json:"name"`
	LastPollMs int64  `json:"lastPollMs"`
}

func showQueue(q api.QueueInfo) Queue {
	return Queue{
		Name: q.Name, Depth: q.Depth, AtLeast: q.AtLeast, OldestMs: q.OldestMs,
		Waiting: q.Waiting, LastPollMs: q.LastPoll,
	}
}

// Stats are figures of the server.
type Stats struct {
	Version string         `json:"version"`
	Healthy bool           `json:"healthy"`
	Problem string         `json:"problem,omitempty"`
	Shards  int            `json:"shards"`
	Batches uint64         `json:"batches" doc:"commits since the server started"`
	Rows    uint64         `json:"rows"`
	Pending []int          `json:"pending" doc:"commands that wait, by shard"`
	Runs    map[string]int `json:"runs" doc:"runs of the namespace by status"`
	Exact   bool           `json:"exact" doc:"false when runs were counted up to a bound only"`
	LagMs   int64          `json:"lagMs" doc:"by how much the index of free text is behind"`
}

// Audit are the figures of the auditor since the server started.
type Audit struct {
	Rounds   uint64    `json:"rounds"`
	Runs     uint64    `json:"runs" doc:"runs looked at"`
	Problems uint64    `json:"problems"`
	Repairs  uint64    `json:"repairs"`
	LastMs   int64     `json:"lastMs,omitempty" doc:"end of the last round"`
	TookMs   int64     `json:"tookMs"`
	Recent   []Problem `json:"recent"`
}

// Problem is an open run that nothing would have woken.
type Problem struct {
	Run  string `json:"run"`
	Task string `json:"task,omitempty"`
	Text string `json:"text"`
}
