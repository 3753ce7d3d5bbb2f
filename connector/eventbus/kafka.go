package eventbus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// KafkaConfig names the Kafka brokers and how to log in there.
type KafkaConfig struct {
	Brokers        []string    // "host:9092"
	TLS            *tls.Config // nil = plain text
	User, Password string      // SASL PLAIN, when User is not empty
	// FromStart makes a new consumer group begin with the oldest record of a topic rather
	// than with those written after it subscribed.
	FromStart bool
}

const (
	kafkaTimeout    = 15 * time.Second
	kafkaFetchBytes = 16 << 20
	kafkaBatch      = 500
)

// kafka is at least once: offsets are committed after their records are handled. The
// records of a partition are handled in order; one that its handler refuses is tried again
// until it is taken, and those behind it wait.
type kafka struct {
	cfg Config

	mu       sync.Mutex
	producer *kgo.Client
	closed   bool
}

func (k *kafka) options(more ...kgo.Opt) []kgo.Opt {
	c := k.cfg.Kafka
	opts := []kgo.Opt{kgo.ClientID("tutti"), kgo.SeedBrokers(c.Brokers...)}
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS))
	}
	if c.User != "" {
		auth := plain.Auth{User: c.User, Pass: c.Password}
		opts = append(opts, kgo.SASL(auth.AsMechanism()))
	}
	return append(opts, more...)
}

func (k *kafka) producing() (*kgo.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, errClosed
	}
	if k.producer != nil {
		return k.producer, nil
	}
	client, err := kgo.NewClient(k.options(
		kgo.AllowAutoTopicCreation(),
		kgo.MaxBufferedRecords(10_000),
		kgo.ProducerLinger(0),
	)...)
	if err != nil {
		return nil, err
	}
	k.producer = client
	return client, nil
}

func (k *kafka) publish(ctx context.Context, name string, m Message) error {
	client, err := k.producing()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	topic, _ := k.cfg.splitGroup(name)
	key := m.Key
	if key == "" {
		key = m.ID
	}
	rec := &kgo.Record{Topic: topic, Key: []byte(key), Value: m.Body}
	for name, v := range m.Headers {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: name, Value: []byte(v)})
	}
	done := make(chan error, 1)
	client.Produce(ctx, rec, func(_ *kgo.Record, err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // the client may notice much later
		return context.Cause(ctx)
	}
}

func (k *kafka) subscribe(name string, d *delivery) (func(), error) {
	topic, group := k.cfg.splitGroup(name)
	start := kgo.NewOffset().AfterMilli(time.Now().UnixMilli())
	if k.cfg.Kafka.FromStart {
		start = kgo.NewOffset().AtStart()
	}
	client, err := kgo.NewClient(k.options(
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(start),
		kgo.DisableAutoCommit(),
		kgo.FetchMaxBytes(kafkaFetchBytes),
		kgo.FetchMaxPartitionBytes(kafkaFetchBytes),
	)...)
	if err != nil {
		return nil, fmt.Errorf("cannot consume Kafka topic %q: %w", topic, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer client.Close()
		d.keep(func() error { return receiveKafka(client, d) })
	}()
	return func() { <-done }, nil
}

// receiveKafka handles records until the subscription ends, or a fetch fails.
func receiveKafka(client *kgo.Client, d *delivery) error {
	for {
		fetches := client.PollRecords(d.ending, kafkaBatch)
		if d.ending.Err() != nil {
			return nil
		}
		var partitions sync.WaitGroup
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) > 0 {
				partitions.Go(func() { handlePartition(client, d, p.Records) })
			}
		})
		partitions.Wait()
		if err := fetchError(fetches); err != nil {
			return err
		}
	}
}

func fetchError(fetches kgo.Fetches) error {
	var errs []error
	fetches.EachError(func(topic string, partition int32, err error) {
		errs = append(errs, fmt.Errorf("topic %s partition %d: %w", topic, partition, err))
	})
	return errors.Join(errs...)
}

// handlePartition handles records in order and commits those that were taken.
func handlePartition(client *kgo.Client, d *delivery, records []*kgo.Record) {
	taken := 0
	for _, rec := range records {
		if d.ending.Err() != nil || d.retry(kafkaMessage(rec), 0) != nil {
			break
		}
		taken++
	}
	if taken == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), kafkaTimeout)
	defer cancel()
	if err := client.CommitRecords(ctx, records[:taken]...); err != nil {
		d.report(d.queue, fmt.Errorf("%d messages will be delivered again: %w", taken, err))
	}
}

func kafkaMessage(rec *kgo.Record) Message {
	m := Message{
		ID:      fmt.Sprintf("%s/%d/%d", rec.Topic, rec.Partition, rec.Offset),
		Key:     string(rec.Key),
		Body:    body(rec.Value),
		Headers: map[string]string{},
	}
	for _, h := range rec.Headers {
		m.Headers[h.Key] = string(h.Value)
	}
	return m
}

func (k *kafka) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.producer != nil {
		k.producer.Close()
	}
}
