package eventbus

import (
	"testing"

	"github.com/tutti-run/tutti/value"
)

// FuzzParseKafka feeds inputs to the parser; what it accepts must make a record.
func FuzzParseKafka(f *testing.F) {
	f.Add([]byte(`{"kafka_request":{"bootStrapServers":"a:1,","topic":"t","value":{},"key":1}}`))
	f.Add([]byte(`{"kafka_request":{"bootStrapServers":"a","topic":"t","value":[null],
		"headers":{"a":[1]},"requestTimeoutMs":"10","keySerializer":"LongSerializer","key":"1"}}`))
	f.Fuzz(func(t *testing.T, input []byte) {
		r, err := parseKafkaTask(value.Raw(input))
		if err != nil {
			return
		}
		if len(r.brokers) == 0 || r.record.Topic == "" || r.timeout <= 0 {
			t.Errorf("accepted %q as %+v", input, r)
		}
		if err := value.Check(r.record.Value, value.Limits{}); err != nil {
			t.Errorf("accepted %q with the value %s: %v", input, r.record.Value, err)
		}
	})
}
