package events

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/engine"
)

const (
	// queueWorkers is how many messages of one queue are handled at the same time.
	queueWorkers = 16
	// retryMin and retryMax bound the pause before a message that failed is tried again.
	retryMin = 100 * time.Millisecond
	retryMax = 30 * time.Second
)

// Queues is the bus of the internal queues. A message is a letter of the engine: it stays
// until a subscriber has handled it, also over restarts.
type Queues struct {
	svc *api.Service

	mu   sync.Mutex
	wake map[string]chan struct{} // by queue with a subscriber
}

var _ eventbus.Bus = (*Queues)(nil)

// NewQueues returns the internal queues of a service. There is one for a service.
func NewQueues(svc *api.Service) *Queues {
	q := &Queues{svc: svc, wake: map[string]chan struct{}{}}
	svc.OnLetters(namespace, q.arrived)
	return q
}

func (q *Queues) arrived(box string) {
	q.mu.Lock()
	wake := q.wake[box]
	q.mu.Unlock()
	if wake == nil {
		return
	}
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Publish implements eventbus.Bus.
func (q *Queues) Publish(ctx context.Context, m eventbus.Message) error {
	_, err := q.svc.PutLetter(ctx, namespace, m.Queue, m.ID, m.Body)
	return err
}

var errSubscribed = errors.New("the queue has a subscriber in this server")

// Subscribe implements eventbus.Bus. A queue has one subscriber in a server.
func (q *Queues) Subscribe(
	ctx context.Context, queue string, handle func(context.Context, eventbus.Message) error,
) (stop func(), err error) {
	wake := make(chan struct{}, 1)
	q.mu.Lock()
	if q.wake[queue] != nil {
		q.mu.Unlock()
		return nil, errSubscribed
	}
	q.wake[queue] = wake
	q.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&receiver{q: q, queue: queue, handle: handle, wake: wake}).run(ctx)
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
		q.mu.Lock()
		delete(q.wake, queue)
		q.mu.Unlock()
	}), nil
}

// receiver hands the letters of one box to a handler.
type receiver struct {
	q      *Queues
	queue  string
	handle func(context.Context, eventbus.Message) error
	wake   chan struct{}
}

// run works until ctx is done. It sleeps while the box is empty, and pauses when all that is
// left in it has just failed.
func (r *receiver) run(ctx context.Context) {
	pause := retryMin
	for ctx.Err() == nil {
		handled, left := r.round(ctx)
		switch {
		case handled > 0:
			pause = retryMin
			continue
		case left:
			r.rest(ctx, pause)
			pause = min(2*pause, retryMax)
		default:
			select {
			case <-r.wake:
			case <-ctx.Done():
			}
		}
	}
}

func (r *receiver) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// round tries every letter of the box once. It returns how many were handled, and whether
// some are left that failed.
func (r *receiver) round(ctx context.Context) (handled int, left bool) {
	letters, err := r.q.svc.Letters(ctx, namespace, r.queue, 0)
	if err != nil {
		return 0, true
	}
	slots := make(chan struct{}, queueWorkers)
	results := make(chan bool, len(letters))
	for _, l := range letters {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			results <- r.deliver(ctx, l)
		}()
	}
	for range letters {
		if <-results {
			handled++
		}
	}
	return handled, handled < len(letters)
}

func (r *receiver) deliver(ctx context.Context, l engine.Letter) bool {
	ctx, cancel := context.WithTimeout(ctx, eventbus.DefaultHandlerTimeout)
	defer cancel()
	err := r.handle(ctx, eventbus.Message{ID: l.ID, Queue: r.queue, Body: l.Body})
	return err == nil && r.q.svc.DropLetter(ctx, namespace, r.queue, l.Number) == nil
}
