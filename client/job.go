package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// lease names an attempt that a server handed out.
type lease struct {
	id    string
	token uint64
}

// attempt is a task that a worker has: its handler runs, or its report is on its way.
type attempt struct {
	cancel context.CancelFunc
	report *tuttipb.Completion // nil while the handler runs
}

// job is what a worker is at. It outlives the connections that it gets its tasks through.
type job struct {
	w        *Worker
	ctx      context.Context // of handlers
	cancel   context.CancelFunc
	handlers map[string]handler
	wake     chan struct{}

	mu      sync.Mutex
	held    map[lease]*attempt // until the server has taken the report
	outbox  []lease            // whose reports are to be sent
	running int                // handlers
	credit  int                // tasks that the server may still send
	expire  *time.Timer        // while there is no connection
	leases  time.Duration      // how long leases last without a sign of life
}

// leaseBeats is how many heartbeats a lease outlives.
const leaseBeats = 3

func newJob(w *Worker, ctx context.Context) *job {
	j := &job{
		w: w, held: map[lease]*attempt{}, wake: make(chan struct{}, 1),
		handlers: maps.Clone(w.handlers), leases: leaseBeats * defaultBeat,
	}
	j.ctx, j.cancel = context.WithCancel(ctx)
	return j
}

// stop ends the contexts of handlers that are still at work.
func (j *job) stop() {
	j.cancel()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.expire != nil {
		j.expire.Stop()
	}
}

func (j *job) signal() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// connected notes that a server is there, which wants a heartbeat at least every so often. It
// returns the leases to tell it of; the reports that it may not have got are sent again.
func (j *job) connected() []lease {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.credit, j.outbox = 0, nil
	for l, a := range j.held {
		if a.report != nil {
			j.outbox = append(j.outbox, l)
		}
	}
	j.signal()
	return slices.Collect(maps.Keys(j.held))
}

func (j *job) welcomed(beat time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.leases = leaseBeats * beat
	if j.expire != nil {
		j.expire.Stop()
		j.expire = nil
	}
}

// disconnected lets leases run out after a while.
func (j *job) disconnected() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.credit = 0
	if j.expire == nil {
		j.expire = time.AfterFunc(j.leases, j.dropAll)
	}
}

// dropAll ends the work on all leases: the server has given them to others by now.
func (j *job) dropAll() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for l, a := range j.held {
		a.cancel()
		delete(j.held, l)
	}
}

// drop ends the work on a lease that is void.
func (j *job) drop(l lease) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if a := j.held[l]; a != nil {
		a.cancel()
		delete(j.held, l)
	}
}

// idle reports whether nothing is left to be done or told.
func (j *job) idle() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.held) == 0
}

// awaitHandlers waits for handlers, whose work is void or told, until ctx ends.
func (j *job) awaitHandlers(ctx context.Context) {
	for {
		j.mu.Lock()
		busy := j.running > 0
		j.mu.Unlock()
		if !busy || ctx.Err() != nil {
			return
		}
		select {
		case <-j.wake:
		case <-ctx.Done():
		}
	}
}

// begin runs the handler of a task.
func (j *job) begin(t *tuttipb.Task) {
	ctx, cancel := context.WithCancel(j.ctx)
	l := lease{t.TaskId, t.Token}
	j.mu.Lock()
	j.credit--
	if j.held[l] != nil { // handed out twice
		j.mu.Unlock()
		cancel()
		return
	}
	j.held[l] = &attempt{cancel: cancel}
	j.running++
	j.mu.Unlock()
	go j.perform(ctx, l, t)
}

// perform calls the handler. A panic is a failure of the task, not of the worker, and so is a
// handler that ends its goroutine.
func (j *job) perform(ctx context.Context, l lease, t *tuttipb.Task) {
	c := &tuttipb.Completion{
		TaskId: t.TaskId, Token: t.Token, Outcome: tuttipb.Completion_FAILED,
		Reason: "the handler ended its goroutine",
	}
	defer func() {
		if p := recover(); p != nil {
			c.Reason = valid(fmt.Sprintf("handler panicked: %v", p))
			j.w.opts.Logger.Error("handler panicked", "queue", t.Queue, "task", t.TaskId,
				"panic", p, "stack", string(debug.Stack()))
		}
		j.finish(l, c)
	}()
	handle := j.handlers[t.Queue]
	if handle == nil {
		c.Reason = "the worker does not serve queue " + t.Queue
		return
	}
	task := &Task{
		ID: t.TaskId, RunID: t.RunId, Queue: t.Queue, Name: t.Name,
		Definition: t.Definition, Attempt: int(t.Attempt), Input: t.Input,
		CorrelationID: t.CorrelationId, IdempotencyKey: t.IdempotencyKey, Headers: t.Headers,
	}
	out, err := handle(context.WithValue(ctx, taskKey{}, task), task)
	conclude(c, out, err)
}

// conclude writes what a handler returned into a report.
func conclude(c *tuttipb.Completion, out []byte, err error) {
	var later laterError
	var fatal fatalError
	c.Reason = ""
	switch {
	case err == nil && len(out) > maxPayload:
		c.Outcome = tuttipb.Completion_FAILED_TERMINAL
		c.Reason = fmt.Sprintf("the output has %d bytes, over the bound of %d",
			len(out), maxPayload)
	case err == nil:
		c.Outcome, c.Output = tuttipb.Completion_COMPLETED, out
	case errors.As(err, &later):
		c.Outcome, c.DelayMs = tuttipb.Completion_PROGRESS, max(later.delay.Milliseconds(), 1)
	case errors.As(err, &fatal):
		c.Outcome, c.Reason = tuttipb.Completion_FAILED_TERMINAL, valid(err.Error())
	default:
		c.Outcome, c.Reason = tuttipb.Completion_FAILED, valid(err.Error())
	}
}

// maxReason bounds the reason of a failure, in bytes.
const maxReason = 64 << 10

// valid makes a text fit for a message.
func valid(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxReason)], "\uFFFD")
}

// finish takes what a handler reports, unless its lease is void by now.
func (j *job) finish(l lease, c *tuttipb.Completion) {
	j.mu.Lock()
	j.running--
	if a := j.held[l]; a != nil {
		a.cancel()
		a.report = c
		j.outbox = append(j.outbox, l)
	}
	j.mu.Unlock()
	j.signal()
}

// reports takes what is to be sent, and how many more tasks there is room for.
func (j *job) reports(more bool) (list []*tuttipb.Completion, room int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.outbox {
		if a := j.held[l]; a != nil && a.report != nil {
			list = append(list, a.report)
		}
	}
	j.outbox = nil
	if room = j.w.opts.Concurrency - j.running - j.credit; !more || room < 0 {
		room = 0
	}
	j.credit += room
	return list, room
}

// leasesHeld lists the leases to keep alive.
func (j *job) leasesHeld() []lease {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Keys(j.held))
}

// resendAfter is how long a report waits that the server could not take.
const resendAfter = 500 * time.Millisecond

// acknowledged takes the server's answer to a report.
func (j *job) acknowledged(ack *tuttipb.Ack) {
	l := lease{ack.TaskId, ack.Token}
	if ack.Error == nil {
		j.drop(l)
		return
	}
	log := j.w.opts.Logger.With("task", ack.TaskId, "code", ack.Error.Code,
		"error", ack.Error.Message)
	switch e := fromInfo(ack.Error); {
	case hasKind(e, "unavailable", "internal", "timeout", "cancelled"),
		e.Code == "TooManyPending", e.Code == "DiskFull":
		log.Warn("the server could not take a report; sending it again")
		time.AfterFunc(resendAfter, func() { j.resend(l) })
	case hasKind(e, "conflict", "not found") || !j.replace(l, e):
		log.Warn("the server refused a report")
		j.drop(l)
	default:
		log.Warn("the server refused a result; the task fails")
	}
}

func (j *job) resend(l lease) {
	j.mu.Lock()
	j.outbox = append(j.outbox, l)
	j.mu.Unlock()
	j.signal()
}

// replace turns a report that the server refuses into a failure that says so. It returns false
// when that was what the server refused.
func (j *job) replace(l lease, why *Error) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	a := j.held[l]
	if a == nil || a.report == nil ||
		a.report.Outcome == tuttipb.Completion_FAILED_TERMINAL {
		return false
	}
	a.report = &tuttipb.Completion{
		TaskId: l.id, Token: l.token, Outcome: tuttipb.Completion_FAILED_TERMINAL,
		Reason: valid("the server refused the result: " + why.Error()),
	}
	j.outbox = append(j.outbox, l)
	j.signal()
	return true
}
