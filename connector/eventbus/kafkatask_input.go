package eventbus

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tutti-run/tutti/value"
)

// kafkaRecord is what a task's input asks for.
type kafkaRecord struct {
	brokers []string
	record  *kgo.Record
	timeout time.Duration
}

func parseKafkaTask(input value.Raw) (*kafkaRecord, error) {
	in, ok := input.Field("kafka_request")
	if !ok || in.IsNull() {
		return nil, errors.New(missingKafkaRequest)
	}
	if in.Kind() != "object" {
		return nil, fmt.Errorf("kafka_request must be an object, not %s", in.Kind())
	}
	r := &kafkaRecord{record: &kgo.Record{Topic: strings.TrimSpace(textField(in, "topic"))}}
	for b := range strings.SplitSeq(textField(in, "bootStrapServers"), ",") {
		if b = strings.TrimSpace(b); b != "" {
			r.brokers = append(r.brokers, b)
		}
	}
	if len(r.brokers) == 0 {
		return nil, errors.New(missingKafkaBrokers)
	}
	if r.record.Topic == "" {
		return nil, errors.New(missingKafkaTopic)
	}
	v, ok := in.Field("value")
	if !ok || v.IsNull() {
		return nil, errors.New(missingKafkaValue)
	}
	decoded, err := v.Parse()
	if err != nil {
		return nil, fmt.Errorf("the Kafka value is malformed: %w", err)
	}
	r.record.Value = value.Marshal(decoded)
	if r.record.Key, err = kafkaKey(in); err != nil {
		return nil, err
	}
	if r.record.Headers, err = kafkaHeaders(in); err != nil {
		return nil, err
	}
	r.timeout, err = kafkaPatience(in)
	return r, err
}

const (
	missingKafkaRequest = "Missing Kafka request. Task input MUST have a 'kafka_request' key " +
		"with KafkaTask.Input as value. See documentation for KafkaTask for required " +
		"input parameters"
	missingKafkaBrokers = "No boot strap servers specified"
	missingKafkaTopic   = "Missing Kafka topic. See documentation for KafkaTask for required " +
		"input parameters"
	missingKafkaValue = "Missing Kafka value.  See documentation for KafkaTask for required " +
		"input parameters"
)

const serializers = "org.apache.kafka.common.serialization."

// kafkaKey serialises the key as the named serializer of the Java client does. No key means
// that Kafka spreads the records.
func kafkaKey(in value.Raw) ([]byte, error) {
	key, ok := in.Field("key")
	if !ok || key.IsNull() {
		return nil, nil
	}
	text := plainText(key)
	switch name := strings.TrimPrefix(textField(in, "keySerializer"), serializers); name {
	case "", "StringSerializer":
		return []byte(text), nil
	case "LongSerializer", "IntegerSerializer":
		bits := 64
		if name == "IntegerSerializer" {
			bits = 32
		}
		n, err := strconv.ParseInt(text, 10, bits)
		if err != nil {
			return nil, fmt.Errorf("key %q is no whole number for the %s", text, name)
		}
		b := binary.BigEndian.AppendUint64(nil, uint64(n))
		return b[8-bits/8:], nil
	default:
		return nil, fmt.Errorf("keySerializer %q is not supported; use %sStringSerializer, "+
			"LongSerializer or IntegerSerializer", name, serializers)
	}
}

func kafkaHeaders(in value.Raw) ([]kgo.RecordHeader, error) {
	headers, _ := in.Field("headers")
	if !headers.IsNull() && headers.Kind() != "object" {
		return nil, fmt.Errorf("headers must be an object, not %s", headers.Kind())
	}
	var out []kgo.RecordHeader
	for name, v := range headers.Members() {
		out = append(out, kgo.RecordHeader{Key: name, Value: []byte(plainText(v))})
	}
	return out, nil
}

// kafkaPatience is how long the record may take: maxBlockMs to find the topic's brokers and
// requestTimeoutMs to be taken.
func kafkaPatience(in value.Raw) (time.Duration, error) {
	sum := time.Duration(0)
	for _, part := range []struct {
		name     string
		fallback time.Duration
	}{{"requestTimeoutMs", DefaultRequestTimeout}, {"maxBlockMs", DefaultMaxBlock}} {
		v, ok := in.Field(part.name)
		if !ok || v.IsNull() {
			sum += part.fallback
			continue
		}
		ms, err := strconv.ParseInt(plainText(v), 10, 64)
		if err != nil || ms < 0 || ms > maxKafkaTimeoutMs {
			return 0, fmt.Errorf("%s must be a number of milliseconds from 0 to %d, not %s",
				part.name, maxKafkaTimeoutMs, v)
		}
		sum += time.Duration(ms) * time.Millisecond
	}
	return cmp.Or(sum, DefaultRequestTimeout), nil
}

// plainText is a string's text, and any other value's JSON.
func plainText(v value.Raw) string {
	if s, ok := v.Text(); ok {
		return s
	}
	decoded, err := v.Parse()
	if err != nil {
		return string(v)
	}
	return string(value.Marshal(decoded))
}
