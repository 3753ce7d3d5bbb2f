package eventbus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	streamMaxAge  = 7 * 24 * time.Hour
	streamMaxMsgs = 10_000_000
)

// jetStream is NATS with a memory: at least once. A subject that no stream keeps gets one of
// its own; each consumer group is a durable consumer of it, which begins with the messages
// that come after it was first made.
type jetStream struct{ link *natsLink }

func (j *jetStream) open() (jetstream.JetStream, error) {
	conn, err := j.link.connect()
	if err != nil {
		return nil, err
	}
	return jetstream.New(conn)
}

func (j *jetStream) publish(ctx context.Context, name string, m Message) error {
	js, err := j.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	subject, _ := j.link.cfg.splitGroup(name)
	msg := natsMessage(subject, m)
	_, err = js.PublishMsg(ctx, msg)
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		if _, err := ensureStream(ctx, js, subject); err != nil {
			return err
		}
		_, err = js.PublishMsg(ctx, msg)
	}
	return err
}

// ensureStream returns the name of the stream that keeps a subject.
func ensureStream(
	ctx context.Context, js jetstream.JetStream, subject string,
) (string, error) {
	name, err := js.StreamNameBySubject(ctx, subject)
	if err == nil || !errors.Is(err, jetstream.ErrStreamNotFound) {
		return name, err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{
		Name:     "tutti-" + safeName(subject),
		Subjects: []string{subject},
		MaxAge:   streamMaxAge,
		MaxMsgs:  streamMaxMsgs,
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return "", fmt.Errorf("cannot make a stream for subject %q: %w", subject, err)
	}
	return "tutti-" + safeName(subject), nil
}

// safeName is a subject as the name of a stream or consumer.
func safeName(s string) string {
	return strings.NewReplacer(".", "_", "*", "any", ">", "all", "/", "_", "\\", "_").Replace(s)
}

func (j *jetStream) subscribe(name string, d *delivery) (func(), error) {
	subject, group := j.link.cfg.splitGroup(name)
	conn, err := j.link.connect()
	if err != nil {
		return nil, err
	}
	if conn.IsConnected() { // what is published from now on is not to be missed
		if _, err := j.consumer(d, subject, group); err != nil {
			d.report(d.queue, err)
		}
	}
	g := newGate(d.slots)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.keep(func() error { return j.receive(subject, group, d, g) })
	}()
	return func() { <-done; g.close() }, nil
}

// receive consumes until the subscription ends, or the consumer is gone.
func (j *jetStream) receive(subject, group string, d *delivery, g *gate) error {
	consumer, err := j.consumer(d, subject, group)
	if err != nil {
		return err
	}
	consuming, err := consumer.Consume(
		func(msg jetstream.Msg) { g.run(func() { handle(msg, d) }) },
		jetstream.PullMaxMessages(2*d.slots),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			d.report(d.queue, err)
		}),
	)
	if err != nil {
		return err
	}
	select {
	case <-consuming.Closed():
		return errors.New("the consumer was closed by the server")
	case <-d.ending.Done():
	}
	consuming.Drain()
	select {
	case <-consuming.Closed():
	case <-d.ctx.Done():
		consuming.Stop()
	case <-time.After(d.timeout):
		consuming.Stop()
	}
	return nil
}

// consumer returns the durable consumer of a group, made if need be.
func (j *jetStream) consumer(d *delivery, subject, group string) (jetstream.Consumer, error) {
	js, err := j.open()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.ending, natsTimeout)
	defer cancel()
	stream, err := ensureStream(ctx, js, subject)
	if err != nil {
		return nil, err
	}
	name := safeName(group) + "-" + safeName(subject)
	consumer, err := js.Consumer(ctx, stream, name)
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return consumer, err
	}
	return js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable:       name,
		FilterSubject: subject,
		DeliverPolicy: jetstream.DeliverNewPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       d.timeout + natsTimeout,
		MaxAckPending: 16 * d.slots,
	})
}

// handle acknowledges a message that its handler took, and asks for another delivery, after
// a wait that grows, of one that it did not.
func handle(msg jetstream.Msg, d *delivery) {
	id, deliveries := "", 1
	if meta, err := msg.Metadata(); err == nil {
		id = fmt.Sprintf("%s/%d", meta.Stream, meta.Sequence.Stream)
		deliveries = int(min(meta.NumDelivered, 1000))
	}
	var err error
	if d.once(message(id, msg.Headers(), msg.Data())) == nil {
		err = msg.Ack()
	} else {
		err = msg.NakWithDelay(backoff(deliveries))
	}
	if err != nil {
		d.report(d.queue, fmt.Errorf("message %s will be delivered again: %w", id, err))
	}
}

func (j *jetStream) close() {} // the connection is natsLink's
