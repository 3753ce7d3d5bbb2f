package eventbus_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/value"
)

func kafkaConfig(t *testing.T) eventbus.Config {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return eventbus.Config{Kafka: eventbus.KafkaConfig{Brokers: cluster.ListenAddrs()}}
}

func TestKafka(t *testing.T) {
	bus := newBus(t, kafkaConfig(t))
	b := newInbox(0)
	subscribe(t, bus, "kafka:orders", b)
	publish(t, bus, eventbus.Message{
		ID: "t1", Queue: "kafka:orders", Body: value.Raw(`{"a":1}`),
		Headers: map[string]string{"traceparent": "00-1"},
	})
	got := b.next(t)
	want := eventbus.Message{
		ID: got.ID, Key: "t1", Queue: "kafka:orders", Body: value.Raw(`{"a":1}`),
		Headers: map[string]string{"traceparent": "00-1"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got.ID != "orders/0/0" && got.ID != "orders/1/0" {
		t.Errorf("id %q, want topic, partition and offset", got.ID)
	}
}

// TestKafkaHandlerFails has a record tried again until it is taken, those behind it in order.
func TestKafkaHandlerFails(t *testing.T) {
	cfg, r := kafkaConfig(t), &reports{}
	cfg.Report = r.add
	bus := newBus(t, cfg)
	b := newInbox(2)
	subscribe(t, bus, "kafka:orders", b)
	for i := range 3 {
		publish(t, bus, eventbus.Message{
			Key: "same partition", Queue: "kafka:orders", Body: value.Raw(fmt.Sprint(i)),
		})
	}
	for i := range 3 {
		if m := b.next(t); string(m.Body) != fmt.Sprint(i) {
			t.Errorf("message %d is %s", i, m.Body)
		}
	}
	if b.calls != 5 || !r.contains("not now") {
		t.Errorf("%d calls, reports %q", b.calls, r.list)
	}
}

// TestKafkaCommits stops a consumer and starts another of its group: it goes on where the
// first ended, and a group of its own begins at the start.
func TestKafkaCommits(t *testing.T) {
	cfg := kafkaConfig(t)
	cfg.Kafka.FromStart = true
	bus := newBus(t, cfg)
	send := func(body string) {
		publish(t, bus, eventbus.Message{Key: "k", Queue: "kafka:orders", Body: value.Raw(body)})
	}
	first, second, audit := newInbox(0), newInbox(0), newInbox(0)
	send("1")
	stop := subscribe(t, bus, "kafka:orders", first)
	first.next(t)
	stop()
	send("2")
	subscribe(t, bus, "kafka:orders", second)
	if m := second.next(t); string(m.Body) != "2" {
		t.Errorf("second got %s, want what the first did not take", m.Body)
	}
	subscribe(t, bus, "kafka:orders:audit", audit)
	if a, b := audit.next(t), audit.next(t); string(a.Body)+string(b.Body) != "12" {
		t.Errorf("audit got %s and %s, want both", a.Body, b.Body)
	}
}
