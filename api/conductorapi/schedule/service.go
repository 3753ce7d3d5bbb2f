package schedule

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

const namespace = api.DefaultNamespace

const (
	// MaxExecutions is how many executions of one schedule are remembered.
	MaxExecutions = 1000
	// firing is how many workflows are started at the same time.
	firing = 16
	// retryAfter is the pause before a start is repeated that the server could not serve.
	retryAfter = time.Second
)

// Options configure a Service. All but Logger are required.
type Options struct {
	Service *api.Service
	// Start starts the workflow of a StartWorkflowRequest under an idempotency key; a start
	// with a known key answers the known workflow.
	Start  func(ctx context.Context, request value.Raw, key string) (tutti.RunID, error)
	Logger *slog.Logger
}

// Service starts workflows by the schedules in the catalogue. Changes of the catalogue take
// effect at once.
type Service struct {
	opts Options
	log  *slog.Logger
	wake chan struct{}

	mu     sync.Mutex
	stale  bool // the catalogue has changed
	paused bool
}

// New returns a service. It starts nothing before Run.
func New(opts Options) *Service {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{opts: opts, log: opts.Logger, wake: make(chan struct{}, 1), stale: true}
	opts.Service.OnDocuments(Kind, func() { s.poke(func() { s.stale = true }) })
	return s
}

// Pause keeps this server from starting anything by a schedule, until it is called with false
// or the server ends.
func (s *Service) Pause(paused bool) { s.poke(func() { s.paused = paused }) }

func (s *Service) poke(change func()) {
	s.mu.Lock()
	change()
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// entry is a schedule that waits for its next time.
type entry struct {
	*Schedule
	body value.Raw // as it is stored
	next int64     // Unix ms; 0 = never
	by   Zoned
}

func (e *entry) advance(afterMs int64) {
	e.next, e.by = 0, Zoned{}
	if e.Paused {
		return
	}
	if at, by, ok := e.Next(afterMs); ok {
		e.next, e.by = at, by
	}
}

// Run starts what is due until ctx is done. It waits for the earliest time with one timer.
func (s *Service) Run(ctx context.Context) {
	entries := map[string]*entry{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for first := true; ; first = false {
		s.mu.Lock()
		stale, paused := s.stale, s.paused
		s.stale = false
		s.mu.Unlock()
		if stale {
			entries = s.load(ctx, entries, first)
		}
		wait := time.Hour
		if !paused {
			wait = s.fireDue(ctx, entries)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// load reads the catalogue. Schedules that have not changed keep their place. Those that make
// up for lost time go on, at the first load, where they were when the server stopped.
func (s *Service) load(ctx context.Context, old map[string]*entry, first bool) map[string]*entry {
	docs, err := s.opts.Service.Documents(ctx, namespace, model.Dialect, Kind)
	if err != nil {
		s.log.Error("schedules could not be read", "error", err)
		return old
	}
	entries := map[string]*entry{}
	for _, d := range docs {
		if e := old[d.Name]; e != nil && e.UpdateMs == d.UpdateMs && bytes.Equal(e.body, d.Body) {
			entries[d.Name] = e
			continue
		}
		sched, err := FromDocument(d)
		if err != nil {
			s.log.Error("schedule could not be read", "schedule", d.Name, "error", err)
			continue
		}
		e := &entry{Schedule: sched, body: d.Body}
		after := time.Now().UnixMilli()
		if first && sched.Catchup {
			after = s.lastFired(ctx, sched)
		}
		e.advance(after)
		entries[d.Name] = e
	}
	return entries
}

// lastFired is the last time that was dealt with.
func (s *Service) lastFired(ctx context.Context, sched *Schedule) int64 {
	at := sched.UpdateMs
	list, err := s.opts.Service.Letters(ctx, namespace, box(sched.Name), 0)
	if err != nil {
		s.log.Error("executions of a schedule could not be read", "schedule", sched.Name,
			"error", err)
		return time.Now().UnixMilli()
	}
	if n := len(list); n > 0 {
		at = max(at, number(list[n-1].Body, "scheduledTime"))
	}
	return at
}

// fireDue starts what is due and returns how long it is to the next time.
func (s *Service) fireDue(ctx context.Context, entries map[string]*entry) time.Duration {
	now := time.Now().UnixMilli()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(firing)
	var mu sync.Mutex
	wait := time.Hour
	for _, e := range entries {
		if e.next == 0 || e.next > now {
			continue
		}
		g.Go(func() error {
			if !s.fire(ctx, e) {
				mu.Lock()
				wait = min(wait, retryAfter)
				mu.Unlock()
				return nil
			}
			after := e.next
			if !e.Catchup {
				after = max(after, time.Now().UnixMilli())
			}
			e.advance(after)
			return nil
		})
	}
	_ = g.Wait() // no part answers an error
	now = time.Now().UnixMilli()
	for _, e := range entries {
		if e.next > now {
			wait = min(wait, time.Duration(e.next-now)*time.Millisecond)
		} else if e.next > 0 && wait > retryAfter {
			wait = 0
		}
	}
	return wait
}

// fire starts the workflow of a schedule for its time. It is false when the server could not
// serve that, so that it is to be repeated.
func (s *Service) fire(ctx context.Context, e *entry) bool {
	x := &Execution{
		Schedule: e.Name, ScheduledMs: e.next, ExecutedMs: time.Now().UnixMilli(),
		Workflow: text(e.Request, "name"), Request: e.Request, Zone: e.by.Zone,
	}
	key := "schedule:" + e.Name + ":" + strconv.FormatInt(e.next, 10)
	x.ID = uuid.NewSHA1(uuid.NameSpaceOID, []byte(key)).String()
	request, err := x.request(e.by)
	if err == nil {
		var id tutti.RunID
		if id, err = s.opts.Start(ctx, request, key); err == nil {
			x.WorkflowID, x.State = id.String(), "EXECUTED"
		}
	}
	if err != nil {
		if transient(err) {
			return false
		}
		x.State, x.Reason = "FAILED", err.Error()
		s.log.Warn("schedule could not start its workflow", "schedule", e.Name, "error", err)
	}
	if err := s.record(ctx, x); err != nil {
		s.log.Error("execution of a schedule could not be recorded", "schedule", e.Name,
			"error", err)
	}
	return true
}

// transient reports whether a start may succeed later without a change of the schedule.
func transient(err error) bool {
	switch tutti.KindOf(err) {
	case tutti.Unavailable, tutti.Timeout, tutti.Cancelled:
		return true
	}
	var e *tutti.Error
	return errors.As(err, &e) && (e.Code == "TooManyPending" || e.Code == "DiskFull")
}

// box is where the executions of a schedule are kept.
func box(name string) string { return "schedule/" + name }

// record keeps an execution and forgets the one that is too many.
func (s *Service) record(ctx context.Context, x *Execution) error {
	n, err := s.opts.Service.PutLetter(ctx, namespace, box(x.Schedule), x.ID, x.Encode())
	if err != nil || n <= MaxExecutions {
		return err
	}
	return s.opts.Service.DropLetter(ctx, namespace, box(x.Schedule), n-MaxExecutions)
}

// Execution is a start by a schedule.
type Execution struct {
	ID          string
	Schedule    string
	ScheduledMs int64
	ExecutedMs  int64
	Workflow    string
	WorkflowID  string // empty when the start failed
	Reason      string
	State       string // EXECUTED or FAILED
	Request     value.Raw
	Zone        string
}

// request is the StartWorkflowRequest of the schedule, with what the workflow is told of its
// start added to the input.
func (x *Execution) request(by Zoned) (value.Raw, error) {
	decoded, err := x.Request.Parse()
	if err != nil {
		return nil, err
	}
	req, ok := decoded.(*value.Object)
	if !ok {
		return nil, invalid("startWorkflowRequest is no object")
	}
	given, _ := req.Get("input")
	input, ok := given.(*value.Object)
	if !ok {
		input = value.NewObject()
	}
	input.Set("_startedByScheduler", x.Schedule)
	input.Set("_scheduledTime", value.Int(x.ScheduledMs))
	input.Set("_executedTime", value.Int(x.ExecutedMs))
	input.Set("_executionId", x.ID)
	input.Set("_schedulerCron", by.Expr+" "+by.Zone)
	req.Set("input", input)
	return value.Marshal(req), nil
}

// Encode writes the official WorkflowScheduleExecutionModel.
func (x *Execution) Encode() value.Raw {
	o := value.NewObject()
	set := func(name, v string) {
		if v != "" {
			o.Set(name, v)
		}
	}
	set("executionId", x.ID)
	set("scheduleName", x.Schedule)
	o.Set("scheduledTime", value.Int(x.ScheduledMs))
	o.Set("executionTime", value.Int(x.ExecutedMs))
	set("workflowName", x.Workflow)
	set("workflowId", x.WorkflowID)
	set("reason", x.Reason)
	if request, err := x.Request.Parse(); err == nil {
		o.Set("startWorkflowRequest", request)
	}
	set("state", x.State)
	set("zoneId", x.Zone)
	return value.Marshal(o)
}

// Executions returns the remembered executions of a schedule, oldest first, as JSON.
func (s *Service) Executions(ctx context.Context, name string) ([]value.Raw, error) {
	letters, err := s.opts.Service.Letters(ctx, namespace, box(name), 0)
	list := make([]value.Raw, len(letters))
	for i, l := range letters {
		list[i] = l.Body
	}
	return list, err
}

// Forget removes the executions of a schedule.
func (s *Service) Forget(ctx context.Context, name string) error {
	letters, err := s.opts.Service.Letters(ctx, namespace, box(name), 0)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(64)
	for _, l := range letters {
		g.Go(func() error {
			return s.opts.Service.DropLetter(ctx, namespace, box(name), l.Number)
		})
	}
	return g.Wait()
}
