package eventbus_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/connector/egress"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/value"
)

func brokers(t *testing.T) string {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return strings.Join(cluster.ListenAddrs(), ",")
}

func newKafkaTask(t *testing.T, cfg eventbus.KafkaTaskConfig) *eventbus.KafkaTask {
	t.Helper()
	k := eventbus.NewKafkaTask(cfg)
	t.Cleanup(k.Close)
	return k
}

func TestKafkaTask(t *testing.T) {
	servers := brokers(t)
	consumer, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(servers, ",")...),
		kgo.ConsumeTopics("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	k := newKafkaTask(t, eventbus.KafkaTaskConfig{})
	const long = `"keySerializer":"org.apache.kafka.common.serialization.LongSerializer"`
	tests := []struct{ fields, key, value, headers string }{
		{`"key":"k","value":{"a": 1.0}`, "k", `{"a":1.0}`, "[]"},
		{`"key":7,"value":"text"`, "7", `"text"`, "[]"},
		{`"value":[1],"headers":{"x":1,"y":"z"}`, "", `[1]`, "[x=1 y=z]"},
		{`"key":258,"value":1,` + long, "\x00\x00\x00\x00\x00\x00\x01\x02", `1`, "[]"},
		{
			`"key":"-2","value":1,"keySerializer":"IntegerSerializer"`,
			"\xff\xff\xff\xfe", `1`, "[]",
		},
	}
	for _, tt := range tests {
		o := k.Perform(t.Context(), connector.Task{Input: value.Raw(fmt.Sprintf(
			`{"kafka_request":{"bootStrapServers":%q,"topic":"orders",%s}}`, servers, tt.fields))})
		if o.Status != tutti.Completed {
			t.Fatalf("%s: %v %s", tt.fields, o.Status, o.Reason)
		}
		recs := consumer.PollFetches(t.Context()).Records()
		if len(recs) != 1 {
			t.Fatalf("%s: %d records", tt.fields, len(recs))
		}
		var headers []string
		for _, h := range recs[0].Headers {
			headers = append(headers, h.Key+"="+string(h.Value))
		}
		got := []string{string(recs[0].Key), string(recs[0].Value), fmt.Sprint(headers)}
		if d := cmp.Diff([]string{tt.key, tt.value, tt.headers}, got); d != "" {
			t.Errorf("%s: %s", tt.fields, d)
		}
	}
}

func TestKafkaTaskRefusals(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	request := func(s string) string { return `{"kafka_request":{` + s + `}}` }
	const ok = `"bootStrapServers":"a:1","topic":"t","value":1`
	tests := []struct {
		input  string
		status tutti.TaskStatus
		reason string
	}{
		{`{}`, tutti.Failed, "Missing Kafka request. Task input MUST have a 'kafka_request' key"},
		{`{"kafka_request":1}`, tutti.Failed, "must be an object"},
		{request(`"topic":"t","value":1`), tutti.Failed, "No boot strap servers specified"},
		{request(`"bootStrapServers":"a:1","value":1`), tutti.Failed, "Missing Kafka topic."},
		{request(`"bootStrapServers":"a:1","topic":"t"`), tutti.Failed, "Missing Kafka value.  "},
		{request(ok + `,"key":"x","keySerializer":"LongSerializer"`), tutti.Failed, "whole number"},
		{request(ok + `,"key":1,"keySerializer":"AvroSerializer"`), tutti.Failed, "not supported"},
		{request(ok + `,"key":3e9,"keySerializer":"IntegerSerializer"`), tutti.Failed, "whole number"},
		{request(ok + `,"headers":[]`), tutti.Failed, "headers must be an object"},
		{request(ok + `,"requestTimeoutMs":-1`), tutti.Failed, "requestTimeoutMs must be"},
		{request(ok + `,"maxBlockMs":"x"`), tutti.Failed, "maxBlockMs must be"},
		{
			request(`"bootStrapServers":"nowhere","topic":"t","value":1`), tutti.Failed,
			`Failed to invoke kafka task due to: boot strap server "nowhere" is not host:port`,
		},
		{
			request(`"bootStrapServers":"b:1,0xa9fea9fe:80","topic":"t","value":1`), tutti.Fatal,
			"metadata",
		},
		{
			request(fmt.Sprintf(`"bootStrapServers":%q,"topic":"t","value":1,"requestTimeoutMs":200,
				"maxBlockMs":100`, nobody)), tutti.Failed,
			"Failed to invoke kafka task due to: the record was not taken within 300ms",
		},
	}
	k := newKafkaTask(t, eventbus.KafkaTaskConfig{})
	for _, tt := range tests {
		o := k.Perform(t.Context(), connector.Task{Input: value.Raw(tt.input)})
		if o.Status != tt.status || !strings.Contains(o.Reason, tt.reason) {
			t.Errorf("%s: %v %s", tt.input, o.Status, o.Reason)
		}
	}
}

// TestKafkaTaskGuardsAdvertisedBrokers has a permitted bootstrap server lead to a broker
// that the policy refuses.
func TestKafkaTaskGuardsAdvertisedBrokers(t *testing.T) {
	servers := brokers(t)
	_, port, _ := net.SplitHostPort(servers)
	guard, err := egress.New(egress.Policy{
		Mode: egress.Listed, Allow: []string{"localhost:" + port},
	})
	if err != nil {
		t.Fatal(err)
	}
	k := newKafkaTask(t, eventbus.KafkaTaskConfig{Guard: func(string) *egress.Guard { return guard }})
	o := k.Perform(t.Context(), connector.Task{Input: value.Raw(fmt.Sprintf(
		`{"kafka_request":{"bootStrapServers":"localhost:%s","topic":"orders","value":1,
			"requestTimeoutMs":300,"maxBlockMs":0}}`, port))})
	if o.Status != tutti.Fatal || !strings.Contains(o.Reason, "egress policy") {
		t.Errorf("through %s, which the policy does not list: %v %s", servers, o.Status, o.Reason)
	}
}

func TestKafkaTaskManyClusters(t *testing.T) {
	servers := brokers(t)
	_, port, _ := net.SplitHostPort(servers)
	k := newKafkaTask(t, eventbus.KafkaTaskConfig{})
	for i := range 18 { // more than the connector keeps
		o := k.Perform(t.Context(), connector.Task{Input: value.Raw(fmt.Sprintf(
			`{"kafka_request":{"bootStrapServers":"127.0.0.%d:%s,%s","topic":"orders","value":%d}}`,
			i+2, port, servers, i))})
		if o.Status != tutti.Completed {
			t.Fatalf("cluster %d: %v %s", i, o.Status, o.Reason)
		}
	}
}
