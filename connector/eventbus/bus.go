// Package eventbus carries events between workflows and message brokers: NATS, NATS
// JetStream and Kafka, and the server's own queue, which is injected. EventTask and
// KafkaTask are the connectors of the tasks that publish.
//
// It may import connector, connector/egress, value, the root package, the standard library
// and the brokers' clients. Its invariants: a message counts as published only once the
// broker has it; a message is acknowledged only after its handler returned nil; what waits
// in memory is bounded; every goroutine and connection belongs to a Registry or a KafkaTask
// and is gone when its Close returns.
package eventbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Message is one event. Queue is "type:name", such as "nats:orders". ID is the same when a
// broker delivers a message again, so that handlers can recognise it.
type Message struct {
	ID      string
	Queue   string
	Key     string // of a Kafka record; to publish, empty means ID
	Body    value.Raw
	Headers map[string]string
}

// Handler handles one message. An error means that it is to be delivered again, which core
// NATS can do only while this process lives.
type Handler func(context.Context, Message) error

// Bus sends messages to queues and receives from them.
type Bus interface {
	// Publish sends a message to m.Queue. It returns when the broker has taken it.
	Publish(ctx context.Context, m Message) error
	// Subscribe hands the messages of a queue to a handler until stop is called or ctx is
	// done. Consumers of one queue in several processes share its messages. The handler may
	// be called by several goroutines at once. Stop waits for handlers in progress; ctx is
	// theirs, so that cancelling it hurries them.
	Subscribe(ctx context.Context, queue string, handler func(context.Context, Message) error) (
		stop func(), err error)
}

// The defaults of a Config.
const (
	DefaultGroup          = "tutti"
	DefaultConcurrency    = 16
	DefaultHandlerTimeout = 30 * time.Second
)

// Config says which brokers there are. A broker without an address is not available.
type Config struct {
	Internal Bus // for queues of type "conductor"
	NATS     NATSConfig
	Kafka    KafkaConfig

	// Group names the consumers that share messages: the NATS queue group, the JetStream
	// durable consumer and the Kafka consumer group. A queue "type:name:group" has its own.
	Group string
	// Concurrency is how many messages of one NATS queue are handled at once. Kafka
	// handles one at a time for each partition.
	Concurrency int
	// HandlerTimeout bounds each call of a handler.
	HandlerTimeout time.Duration
	// Report is told what no caller is: failures to receive, handlers that failed.
	Report func(queue string, err error)
}

// transport carries messages of one type of queue. Names are without the type.
type transport interface {
	publish(ctx context.Context, name string, m Message) error
	// subscribe starts to receive in the background and returns how to stop.
	subscribe(name string, d *delivery) (stop func(), err error)
	close()
}

// Registry is the Bus of all queue types. It connects to a broker when it is first used and
// reconnects for as long as it takes.
type Registry struct {
	cfg        Config
	transports map[string]transport

	mu     sync.Mutex
	closed bool
	stops  map[*delivery]func()
}

var _ Bus = (*Registry)(nil)

// New returns the bus for a configuration. It does not connect yet.
func New(cfg Config) *Registry {
	cfg.Group = cmp.Or(cfg.Group, DefaultGroup)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, DefaultConcurrency)
	cfg.HandlerTimeout = cmp.Or(cfg.HandlerTimeout, DefaultHandlerTimeout)
	if cfg.Report == nil {
		cfg.Report = func(string, error) {}
	}
	r := &Registry{cfg: cfg, transports: map[string]transport{}, stops: map[*delivery]func(){}}
	if cfg.NATS.URL != "" {
		link := &natsLink{cfg: cfg}
		stream := &jetStream{link: link}
		r.transports["nats"] = link
		r.transports["nats_stream"] = stream
		r.transports["jsm"] = stream
	}
	if len(cfg.Kafka.Brokers) > 0 {
		r.transports["kafka"] = &kafka{cfg: cfg}
	}
	return r
}

const internalType = "conductor"

// knownTypes are the queue types that a configuration can make available.
var knownTypes = []string{internalType, "jsm", "kafka", "nats", "nats_stream"}

// Check returns why a queue cannot be used, nil if it can. It does not connect.
func (r *Registry) Check(queue string) error {
	kind, name, _ := strings.Cut(queue, ":")
	switch {
	case kind == internalType && r.cfg.Internal != nil:
		return nil
	case r.transports[kind] == nil && slices.Contains(knownTypes, kind):
		return &tutti.Error{
			Kind: tutti.Unsupported, Op: "event queue " + queue, Code: "EventSinkNotConfigured",
			Hint: "name the broker's address in the server's configuration",
			Err:  fmt.Errorf("sink type %q is not configured on this server", kind),
		}
	case r.transports[kind] == nil:
		return &tutti.Error{
			Kind: tutti.Unsupported, Op: "event queue " + queue, Code: "UnsupportedEventSink",
			Hint: "supported sink types are " + strings.Join(knownTypes, ", "),
			Err:  fmt.Errorf("sink type %q is not supported", kind),
		}
	case strings.TrimSpace(name) == "" || strings.ContainsAny(name, " \t\r\n"):
		return &tutti.Error{
			Kind: tutti.Invalid, Op: "event queue " + queue, Code: "InvalidEventQueue",
			Hint: `a queue is written "type:name" or "type:name:group", without spaces`,
			Err:  errors.New("its name is malformed"),
		}
	}
	return nil
}

// Publish sends a message. The error is of kind Unsupported for a queue type that is not
// there, and Unavailable when the broker did not take the message.
func (r *Registry) Publish(ctx context.Context, m Message) error {
	if err := r.Check(m.Queue); err != nil {
		return err
	}
	kind, name, _ := strings.Cut(m.Queue, ":")
	if kind == internalType {
		return r.cfg.Internal.Publish(ctx, m)
	}
	if err := r.transports[kind].publish(ctx, name, m); err != nil {
		return &tutti.Error{
			Kind: tutti.Unavailable, Op: "publish to " + m.Queue, Code: "EventNotPublished",
			Hint: "check that the broker is reachable and takes messages for that name",
			Err:  err,
		}
	}
	return nil
}

// Subscribe starts to receive. Only a queue that cannot be used at all is an error; while
// the broker is away the subscription waits for it and Report says so.
func (r *Registry) Subscribe(
	ctx context.Context, queue string, handler func(context.Context, Message) error,
) (stop func(), err error) {
	if err := r.Check(queue); err != nil {
		return nil, err
	}
	kind, name, _ := strings.Cut(queue, ":")
	if kind == internalType {
		return r.cfg.Internal.Subscribe(ctx, queue, handler)
	}
	d := newDelivery(ctx, queue, handler, r.cfg)
	stopTransport, err := r.transports[kind].subscribe(name, d)
	if err != nil {
		d.end()
		return nil, &tutti.Error{
			Kind: tutti.Unavailable, Op: "subscribe to " + queue, Code: "EventsNotReceived",
			Err: err,
		}
	}
	stopped := sync.OnceFunc(func() {
		d.end()
		stopTransport()
		r.mu.Lock()
		delete(r.stops, d)
		r.mu.Unlock()
	})
	if !r.own(d, stopped) {
		stopped()
		return nil, tutti.E(tutti.Unavailable, "subscribe to "+queue, "BusClosed",
			errClosed.Error())
	}
	detach := context.AfterFunc(ctx, stopped)
	return func() { detach(); stopped() }, nil
}

var errClosed = errors.New("the bus is closed")

// own records how to stop a subscription. It is false when Close has been called.
func (r *Registry) own(d *delivery, stop func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.stops[d] = stop
	return true
}

// Close stops all subscriptions, waits for handlers in progress and closes all connections.
func (r *Registry) Close() {
	r.mu.Lock()
	r.closed = true
	var stops []func()
	for _, stop := range r.stops {
		stops = append(stops, stop)
	}
	r.mu.Unlock()
	var wg sync.WaitGroup
	for _, stop := range stops {
		wg.Go(stop)
	}
	wg.Wait()
	for _, t := range r.transports {
		t.close()
	}
}

// splitGroup takes "name:group" apart.
func (c *Config) splitGroup(name string) (string, string) {
	name, group, _ := strings.Cut(name, ":")
	return name, cmp.Or(group, c.Group)
}
