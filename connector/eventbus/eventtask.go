package eventbus

import (
	"cmp"
	"context"
	"fmt"
	"maps"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/value"
)

// EventTask performs Conductor's EVENT tasks. The input is {"sink", "event", "payload"}:
// what the author wrote, the queue that this means, and the body of the message. Without an
// event the sink is the queue; without a payload the rest of the input is the body.
//
// The message's id is the task's, as in the official server; the idempotency key, which is
// the same for all attempts, travels as a header. The output is the payload and
// event_produced, the queue.
type EventTask struct{ Bus Bus }

// Perform publishes the event.
func (e *EventTask) Perform(ctx context.Context, t connector.Task) connector.Outcome {
	sink, queue := textField(t.Input, "sink"), textField(t.Input, "event")
	queue = cmp.Or(queue, sink)
	if queue == "" {
		return connector.Failed("No sink specified in task")
	}
	payload, err := eventPayload(t.Input)
	if err != nil {
		return connector.Failed(err.Error())
	}
	headers := map[string]string{}
	maps.Copy(headers, t.Headers)
	if t.IdempotencyKey != "" {
		headers["idempotency-key"] = t.IdempotencyKey
	}
	err = e.Bus.Publish(ctx, Message{
		ID: t.ID, Queue: queue, Body: value.Marshal(payload), Headers: headers,
	})
	payload.Set("event_produced", queue)
	out := connector.Outcome{Status: tutti.Completed, Output: value.Marshal(payload)}
	if err != nil {
		out.Status = tutti.Failed
		out.Reason = fmt.Sprintf(
			"Error when trying to access the specified queue/topic: %s, error: %v",
			cmp.Or(sink, queue), err)
	}
	return out
}

func eventPayload(input value.Raw) (*value.Object, error) {
	raw, wrapped := input.Field("payload")
	if !wrapped {
		raw = input
	}
	decoded, err := raw.Parse()
	if err != nil {
		return nil, fmt.Errorf("the payload is malformed: %w", err)
	}
	payload, ok := decoded.(*value.Object)
	if !ok {
		return nil, fmt.Errorf("the payload must be an object, not %s", raw.Kind())
	}
	if !wrapped {
		payload.Delete("sink")
		payload.Delete("event")
	}
	return payload, nil
}

// textField returns a member that is a string, "" for any other.
func textField(v value.Raw, name string) string {
	f, _ := v.Field(name)
	s, _ := f.Text()
	return s
}
