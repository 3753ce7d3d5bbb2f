package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/value"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// inbox is a handler that keeps what it got. The first failures calls fail.
type inbox struct {
	failures int
	got      chan eventbus.Message

	mu    sync.Mutex
	calls int
}

func newInbox(failures int) *inbox {
	return &inbox{failures: failures, got: make(chan eventbus.Message, 1000)}
}

func (b *inbox) handle(_ context.Context, m eventbus.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.calls++; b.calls <= b.failures {
		return errors.New("not now")
	}
	b.got <- m
	return nil
}

func (b *inbox) next(t *testing.T) eventbus.Message {
	t.Helper()
	select {
	case m := <-b.got:
		return m
	case <-time.After(patience):
		t.Fatal("no message came")
		return eventbus.Message{}
	}
}

// reports collects what a bus reports.
type reports struct {
	mu   sync.Mutex
	list []string
}

func (r *reports) add(queue string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, fmt.Sprintf("%s: %v", queue, err))
}

func (r *reports) contains(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Contains(strings.Join(r.list, "\n"), text)
}

func newBus(t *testing.T, cfg eventbus.Config) *eventbus.Registry {
	t.Helper()
	bus := eventbus.New(cfg)
	t.Cleanup(bus.Close)
	return bus
}

func subscribe(t *testing.T, bus *eventbus.Registry, queue string, b *inbox) (stop func()) {
	t.Helper()
	stop, err := bus.Subscribe(t.Context(), queue, b.handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return stop
}

func publish(t *testing.T, bus *eventbus.Registry, m eventbus.Message) {
	t.Helper()
	if err := bus.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

func TestUnsupportedQueues(t *testing.T) {
	bus := newBus(t, eventbus.Config{NATS: eventbus.NATSConfig{URL: "nats://127.0.0.1:1"}})
	tests := []struct {
		queue string
		kind  tutti.Kind
		says  []string
	}{
		{"sqs:orders", tutti.Unsupported, []string{`"sqs" is not supported`, "nats_stream", "kafka"}},
		{"amqp_queue:orders", tutti.Unsupported, []string{`"amqp_queue"`, "supported sink types"}},
		{"amqp_exchange:orders", tutti.Unsupported, []string{`"amqp_exchange"`}},
		{"orders", tutti.Unsupported, []string{`"orders" is not supported`}},
		{"", tutti.Unsupported, []string{"supported sink types"}},
		{"kafka:orders", tutti.Unsupported, []string{`"kafka" is not configured`}},
		{"conductor:a:b", tutti.Unsupported, []string{`"conductor" is not configured`}},
		{"nats:", tutti.Invalid, []string{"malformed"}},
		{"jsm:a b", tutti.Invalid, []string{"malformed"}},
	}
	for _, tt := range tests {
		_, err := bus.Subscribe(t.Context(), tt.queue, newInbox(0).handle)
		for _, err := range []error{err, bus.Publish(t.Context(), eventbus.Message{Queue: tt.queue})} {
			if tutti.KindOf(err) != tt.kind {
				t.Errorf("%q: %v is of kind %v, want %v", tt.queue, err, tutti.KindOf(err), tt.kind)
				continue
			}
			for _, says := range tt.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%q: %v, want it to say %s", tt.queue, err, says)
				}
			}
		}
	}
}

// internal is a bus as the server injects it.
type internal struct{ published []eventbus.Message }

func (i *internal) Publish(_ context.Context, m eventbus.Message) error {
	i.published = append(i.published, m)
	return nil
}

func (i *internal) Subscribe(
	ctx context.Context, queue string, handler func(context.Context, eventbus.Message) error,
) (func(), error) {
	return func() {}, handler(ctx, eventbus.Message{Queue: queue})
}

func TestInternalQueue(t *testing.T) {
	in := &internal{}
	bus := newBus(t, eventbus.Config{Internal: in})
	want := eventbus.Message{ID: "1", Queue: "conductor:wf:ref", Body: value.Raw(`{}`)}
	publish(t, bus, want)
	if d := cmp.Diff([]eventbus.Message{want}, in.published); d != "" {
		t.Error(d)
	}
	b := newInbox(0)
	subscribe(t, bus, "conductor:wf:ref", b)
	if m := b.next(t); m.Queue != "conductor:wf:ref" {
		t.Errorf("got %+v", m)
	}
}
