package eventbus

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tutti-run/tutti/value"
)

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 30 * time.Second
)

// backoff is the wait after the n-th failure in a row, from 1.
func backoff(n int) time.Duration {
	return min(backoffMin<<min(max(n-1, 0), 20), backoffMax)
}

// delivery brings the messages of one subscription to their handler.
type delivery struct {
	queue   string
	ctx     context.Context // the handlers'
	ending  context.Context // done when the subscription ends: nothing is tried again
	end     context.CancelFunc
	handler Handler
	timeout time.Duration
	slots   int
	report  func(queue string, err error)
}

func newDelivery(ctx context.Context, queue string, h Handler, cfg Config) *delivery {
	d := &delivery{
		queue: queue, ctx: ctx, handler: h,
		timeout: cfg.HandlerTimeout, slots: cfg.Concurrency, report: cfg.Report,
	}
	d.ending, d.end = context.WithCancel(ctx)
	return d
}

// once hands a message to the handler. A handler that panics has failed.
func (d *delivery) once(m Message) (err error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("handler panicked: %v", r)
		}
		if err != nil {
			d.report(d.queue, fmt.Errorf("message %s: %w", m.ID, err))
		}
	}()
	m.Queue = d.queue
	return d.handler(ctx, m)
}

// retry hands a message to the handler until that succeeds or attempts are used up; 0 means
// without end. It returns the last error, also when the subscription ends in between.
func (d *delivery) retry(m Message, attempts int) error {
	for n := 1; ; n++ {
		err := d.once(m)
		if err == nil || n == attempts || !d.pause(backoff(n)) {
			return err
		}
	}
}

// pause waits and reports whether the subscription goes on.
func (d *delivery) pause(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-d.ending.Done():
		return false
	case <-timer.C:
		return true
	}
}

// keep runs a receiver again and again until the subscription ends. The receiver returns
// when it cannot go on.
func (d *delivery) keep(receive func() error) {
	for n := 1; ; n++ {
		begin := time.Now()
		err := receive()
		if d.ending.Err() != nil {
			return
		}
		if time.Since(begin) > backoffMax {
			n = 1 // it worked for a while
		}
		if err != nil {
			d.report(d.queue, err)
		}
		if !d.pause(backoff(n)) {
			return
		}
	}
}

// gate bounds the goroutines of a subscription that handle messages, and waits for them.
type gate struct {
	slots chan struct{}
	done  chan struct{}

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newGate(n int) *gate {
	return &gate{slots: make(chan struct{}, n), done: make(chan struct{})}
}

// run runs f in a goroutine when a slot is free. It is false when the gate is closed.
func (g *gate) run(f func()) bool {
	select {
	case g.slots <- struct{}{}:
	case <-g.done:
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.wg.Go(func() {
		defer func() { <-g.slots }()
		f()
	})
	return true
}

// close lets nothing more in and waits for what is inside.
func (g *gate) close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.done)
	}
	g.mu.Unlock()
	g.wg.Wait()
}

// body is a broker's payload as a value: JSON as it is, anything else as a string.
func body(payload []byte) value.Raw {
	if value.Check(payload, value.Limits{}) == nil {
		return value.Raw(payload)
	}
	return value.AppendString(nil, string(payload))
}
