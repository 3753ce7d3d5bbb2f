package eventbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/connector/egress"
	"github.com/tutti-run/tutti/value"
)

// The bounds of a KafkaTask.
const (
	DefaultRequestTimeout = 30 * time.Second
	DefaultMaxBlock       = 10 * time.Second
	maxKafkaTimeoutMs     = 10 * 60 * 1000
	maxKafkaClients       = 16
)

// KafkaTaskConfig configures a KafkaTask. The zero value is ready for use.
type KafkaTaskConfig struct {
	// Guard returns the egress guard of a namespace; nil, or a nil guard, means the default
	// policy. It must return the same guard as long as the policy is the same.
	Guard func(namespace string) *egress.Guard
}

// KafkaTask performs Conductor's KAFKA_PUBLISH tasks: one record to the brokers that the
// task names. It keeps the connections to the brokers used last.
type KafkaTask struct {
	cfg      KafkaTaskConfig
	fallback *egress.Guard

	mu      sync.Mutex
	clients map[clientKey]*sharedClient
	uses    int
}

type clientKey struct {
	brokers string
	guard   *egress.Guard
}

// sharedClient is a client that several tasks use at once.
type sharedClient struct {
	*kgo.Client
	users   int
	lastUse int
	dialErr *atomic.Pointer[error] // of the last attempt to connect
}

// NewKafkaTask returns a Kafka connector.
func NewKafkaTask(cfg KafkaTaskConfig) *KafkaTask {
	fallback, _ := egress.New(egress.Policy{}) // an empty policy has no rule to be malformed
	return &KafkaTask{cfg: cfg, fallback: fallback, clients: map[clientKey]*sharedClient{}}
}

// Close closes the connections. No task may be in progress.
func (k *KafkaTask) Close() {
	k.mu.Lock()
	clients := k.clients
	k.clients = map[clientKey]*sharedClient{}
	k.mu.Unlock()
	for _, c := range clients { // without the lock, which release takes for what is unsent
		c.Close()
	}
}

// Perform produces the record and waits until all in-sync replicas have it.
func (k *KafkaTask) Perform(ctx context.Context, t connector.Task) connector.Outcome {
	r, err := parseKafkaTask(t.Input)
	if err != nil {
		return connector.Failed(err.Error())
	}
	for name, v := range t.Headers {
		r.record.Headers = append(r.record.Headers, kgo.RecordHeader{Key: name, Value: []byte(v)})
	}
	if t.IdempotencyKey != "" {
		r.record.Headers = append(r.record.Headers,
			kgo.RecordHeader{Key: "idempotency-key", Value: []byte(t.IdempotencyKey)})
	}
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout,
		fmt.Errorf("the record was not taken within %v; see requestTimeoutMs", r.timeout))
	defer cancel()
	if err := k.produce(ctx, t.Namespace, r); err != nil {
		return kafkaFailure(ctx, err)
	}
	return connector.Outcome{Status: tutti.Completed, Output: value.Raw(`{}`)}
}

func kafkaFailure(ctx context.Context, err error) connector.Outcome {
	out := connector.Failed("")
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if egress.IsRefusal(err) {
		out.Status = tutti.Fatal
	}
	out.Reason = "Failed to invoke kafka task due to: " + err.Error()
	return out
}

func (k *KafkaTask) guard(namespace string) *egress.Guard {
	if k.cfg.Guard != nil {
		if g := k.cfg.Guard(namespace); g != nil {
			return g
		}
	}
	return k.fallback
}

func (k *KafkaTask) produce(ctx context.Context, namespace string, r *kafkaRecord) error {
	guard := k.guard(namespace)
	for _, broker := range r.brokers {
		host, port, err := net.SplitHostPort(broker)
		if err != nil {
			return fmt.Errorf("boot strap server %q is not host:port", broker)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return fmt.Errorf("boot strap server %q is not host:port", broker)
		}
		if err := guard.CheckHost(host, uint16(n)); err != nil {
			return err
		}
	}
	client, err := k.client(r.brokers, guard)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	client.Produce(ctx, r.record, func(_ *kgo.Record, err error) {
		k.release(client)
		done <- err
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // the client may notice much later
		if dialErr := client.dialErr.Load(); dialErr != nil && *dialErr != nil {
			return *dialErr
		}
		return context.Cause(ctx)
	}
}

// client returns the client for a list of brokers, for the caller to release.
func (k *KafkaTask) client(brokers []string, guard *egress.Guard) (*sharedClient, error) {
	key := clientKey{strings.Join(brokers, ","), guard}
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.clients[key]
	if c == nil {
		if !k.makeRoom() {
			return nil, fmt.Errorf("%d Kafka clusters are in use at once, the most there may be",
				maxKafkaClients)
		}
		var err error
		if c, err = newSharedClient(brokers, guard); err != nil {
			return nil, err
		}
		k.clients[key] = c
	}
	k.uses++
	c.users++
	c.lastUse = k.uses
	return c, nil
}

func newSharedClient(brokers []string, guard *egress.Guard) (*sharedClient, error) {
	dialErr := &atomic.Pointer[error]{}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := guard.DialContext(ctx, network, addr)
		dialErr.Store(&err)
		return conn, err
	}
	client, err := kgo.NewClient(
		kgo.ClientID("tutti"),
		kgo.SeedBrokers(brokers...),
		kgo.Dialer(dial),
		kgo.AllowAutoTopicCreation(),
		kgo.MaxBufferedRecords(10_000),
		kgo.ProducerLinger(0),
	)
	return &sharedClient{Client: client, dialErr: dialErr}, err
}

func (k *KafkaTask) release(c *sharedClient) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c.users--
}

// makeRoom closes the client that nobody has used for longest if there are too many. It is
// false when all are in use.
func (k *KafkaTask) makeRoom() bool {
	if len(k.clients) < maxKafkaClients {
		return true
	}
	var oldest clientKey
	var found *sharedClient
	for key, c := range k.clients {
		if c.users == 0 && (found == nil || c.lastUse < found.lastUse) {
			oldest, found = key, c
		}
	}
	if found == nil {
		return false
	}
	found.Close()
	delete(k.clients, oldest)
	return true
}
