package eventbus_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/value"
)

func TestEventTask(t *testing.T) {
	tests := []struct {
		name, input         string
		queue, body, output string // queue "" = not published
		reason              string
	}{
		{
			name:  "sink and payload",
			input: `{"sink":"conductor:wf:ref","payload":{"a":1}}`,
			queue: "conductor:wf:ref", body: `{"a":1}`,
			output: `{"a":1,"event_produced":"conductor:wf:ref"}`,
		},
		{
			name:  "resolved queue",
			input: `{"sink":"conductor","event":"conductor:wf:ref","payload":{}}`,
			queue: "conductor:wf:ref", body: `{}`, output: `{"event_produced":"conductor:wf:ref"}`,
		},
		{
			name:  "input is the payload",
			input: `{"sink":"conductor:x","b":[true]}`,
			queue: "conductor:x", body: `{"b":[true]}`,
			output: `{"b":[true],"event_produced":"conductor:x"}`,
		},
		{
			name:   "unsupported sink",
			input:  `{"sink":"sqs:q","payload":{"a":1}}`,
			output: `{"a":1,"event_produced":"sqs:q"}`,
			reason: `Error when trying to access the specified queue/topic: sqs:q, error: ` +
				`event queue sqs:q: sink type "sqs" is not supported (supported sink types are`,
		},
		{name: "no sink", input: `{"payload":{}}`, reason: "No sink specified in task"},
		{
			name: "payload of another kind", input: `{"sink":"conductor:x","payload":[1]}`,
			reason: "the payload must be an object, not array",
		},
		{name: "not an object", input: `7`, reason: "No sink specified in task"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rec := &internal{}
			bus := eventbus.New(eventbus.Config{Internal: rec})
			defer bus.Close()
			o := (&eventbus.EventTask{Bus: bus}).Perform(t.Context(), connector.Task{
				ID: "t1", IdempotencyKey: "k1", Input: value.Raw(tt.input),
				Headers: map[string]string{"traceparent": "00-1"},
			})
			if !strings.HasPrefix(o.Reason, tt.reason) || (tt.reason == "") != (o.Reason == "") {
				t.Errorf("reason %q, want %q", o.Reason, tt.reason)
			}
			if string(o.Output) != tt.output {
				t.Errorf("output %s, want %s", o.Output, tt.output)
			}
			if ok := o.Status == tutti.Completed; ok != (tt.queue != "") {
				t.Errorf("status %v", o.Status)
			}
			var want []eventbus.Message
			if tt.queue != "" {
				want = []eventbus.Message{{
					ID: "t1", Queue: tt.queue, Body: value.Raw(tt.body),
					Headers: map[string]string{"traceparent": "00-1", "idempotency-key": "k1"},
				}}
			}
			if d := cmp.Diff(want, rec.published); d != "" {
				t.Error(d)
			}
		})
	}
}
