package eventbus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/value"
)

// natsServer starts a NATS server with JetStream on a port, server.RANDOM_PORT for any.
func natsServer(t *testing.T, port int, dir string) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: dir,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server does not start")
	}
	return s
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

func natsBus(t *testing.T, cfg eventbus.Config) (*eventbus.Registry, *server.Server) {
	t.Helper()
	s := natsServer(t, server.RANDOM_PORT, t.TempDir())
	t.Cleanup(func() { stopServer(s) })
	cfg.NATS.URL = s.ClientURL()
	return newBus(t, cfg), s
}

func TestNATS(t *testing.T) {
	for _, kind := range []string{"nats", "jsm", "nats_stream"} {
		t.Run(kind, func(t *testing.T) {
			bus, _ := natsBus(t, eventbus.Config{})
			b := newInbox(0)
			queue := kind + ":orders.new"
			subscribe(t, bus, queue, b)
			want := eventbus.Message{
				ID: "t1", Queue: queue, Body: value.Raw(`{"a":1.50}`),
				Headers: map[string]string{"traceparent": "00-1"},
			}
			publish(t, bus, want)
			if d := cmp.Diff(want, b.next(t)); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestNATSForeignPublisher receives what a plain client sends.
func TestNATSForeignPublisher(t *testing.T) {
	bus, s := natsBus(t, eventbus.Config{})
	b := newInbox(0)
	subscribe(t, bus, "nats:in.*", b)
	conn, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ids := map[string]bool{}
	for _, tt := range []struct{ payload, body string }{
		{`[1]`, `[1]`}, {`plain text`, `"plain text"`}, {"", `""`}, {"\xff", "\"\ufffd\""},
	} {
		if err := conn.Publish("in.x", []byte(tt.payload)); err != nil {
			t.Fatal(err)
		}
		m := b.next(t)
		if string(m.Body) != tt.body {
			t.Errorf("%q arrived as %s, want %s", tt.payload, m.Body, tt.body)
		}
		ids[m.ID] = true
	}
	if len(ids) != 4 || ids[""] {
		t.Errorf("ids are not distinct: %v", ids)
	}
}

// TestNATSGroups has each group get every message and the members of a group share them.
func TestNATSGroups(t *testing.T) {
	bus, s := natsBus(t, eventbus.Config{})
	other := newBus(t, eventbus.Config{NATS: eventbus.NATSConfig{URL: s.ClientURL()}})
	shared, separate := newInbox(0), newInbox(0)
	subscribe(t, bus, "nats:q", shared)
	subscribe(t, other, "nats:q", shared)
	subscribe(t, other, "nats:q:audit", separate)
	const n = 50
	for i := range n {
		publish(t, bus, eventbus.Message{ID: fmt.Sprint(i), Queue: "nats:q", Body: value.Raw(`1`)})
	}
	seen := map[string]int{}
	for range n {
		seen[shared.next(t).ID]++
		separate.next(t)
	}
	if len(seen) != n {
		t.Errorf("the group got %d of %d messages", len(seen), n)
	}
}

func TestNATSHandlerFails(t *testing.T) {
	for _, kind := range []string{"nats", "jsm"} {
		t.Run(kind, func(t *testing.T) {
			r := &reports{}
			bus, _ := natsBus(t, eventbus.Config{Report: r.add})
			b := newInbox(2)
			subscribe(t, bus, kind+":q", b)
			publish(t, bus, eventbus.Message{ID: "t1", Queue: kind + ":q", Body: value.Raw(`1`)})
			if m := b.next(t); m.ID != "t1" {
				t.Errorf("delivered %+v, want the id of before", m)
			}
			if b.calls != 3 || !r.contains(kind+":q: message t1: not now") {
				t.Errorf("%d calls, reports %q", b.calls, r.list)
			}
		})
	}
}

// TestJetStreamKeeps stops a consumer and starts it again: what came in between is there,
// what was acknowledged is not.
func TestJetStreamKeeps(t *testing.T) {
	bus, _ := natsBus(t, eventbus.Config{})
	first, second := newInbox(0), newInbox(0)
	send := func(id string) {
		publish(t, bus, eventbus.Message{ID: id, Queue: "jsm:q", Body: value.Raw(`1`)})
	}
	send("before anyone subscribed")
	stop := subscribe(t, bus, "jsm:q", first)
	send("a")
	if m := first.next(t); m.ID != "a" {
		t.Errorf("first got %q", m.ID)
	}
	stop()
	send("b")
	subscribe(t, bus, "jsm:q", second)
	if m := second.next(t); m.ID != "b" {
		t.Errorf("second got %q", m.ID)
	}
	if n := len(first.got); n != 0 {
		t.Errorf("the stopped consumer got %d more", n)
	}
}

// TestNATSReconnects restarts the server under a bus.
func TestNATSReconnects(t *testing.T) {
	dir := t.TempDir()
	s := natsServer(t, server.RANDOM_PORT, dir)
	defer func() { stopServer(s) }()
	port := s.Addr().(*net.TCPAddr).Port
	bus := newBus(t, eventbus.Config{NATS: eventbus.NATSConfig{URL: s.ClientURL()}})
	core, stream := newInbox(0), newInbox(0)
	subscribe(t, bus, "nats:c", core)
	subscribe(t, bus, "jsm:s", stream)
	send := func(ctx context.Context, queue string) error {
		id := fmt.Sprint(time.Now().UnixNano()) // JetStream drops what has the id of before
		return bus.Publish(ctx, eventbus.Message{ID: id, Queue: queue, Body: value.Raw(`1`)})
	}
	for queue, b := range map[string]*inbox{"nats:c": core, "jsm:s": stream} {
		if err := send(t.Context(), queue); err != nil {
			t.Fatal(err)
		}
		b.next(t)
	}
	stopServer(s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := send(ctx, "nats:c"); tutti.KindOf(err) != tutti.Unavailable {
		t.Errorf("publishing without a server: %v, want it unavailable", err)
	}
	s = natsServer(t, port, dir)
	for queue, b := range map[string]*inbox{"nats:c": core, "jsm:s": stream} {
		eventually(t, func() error { return send(t.Context(), queue) })
		b.next(t)
	}
}

// eventually tries until f succeeds.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	for begin := time.Now(); ; {
		err := f()
		if err == nil {
			return
		}
		if time.Since(begin) > patience {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestNATSServerComesLater subscribes while there is no server.
func TestNATSServerComesLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	bus := newBus(t, eventbus.Config{NATS: eventbus.NATSConfig{URL: url}})
	core, stream := newInbox(0), newInbox(0)
	subscribe(t, bus, "nats:c", core)
	subscribe(t, bus, "jsm:s", stream)
	s := natsServer(t, port, t.TempDir())
	defer stopServer(s)
	for queue, b := range map[string]*inbox{"nats:c": core, "jsm:s": stream} {
		// A message sent before the subscription got through is lost to it: send until one is
		// received.
		eventually(t, func() error {
			err := bus.Publish(t.Context(), eventbus.Message{Queue: queue, Body: value.Raw(`1`)})
			if err == nil && len(b.got) == 0 {
				err = errors.New("nothing received on " + queue)
			}
			return err
		})
	}
}

// TestSubscriptionEndsWithContext cancels the context of a handler that is stuck.
func TestSubscriptionEndsWithContext(t *testing.T) {
	for _, kind := range []string{"nats", "jsm"} {
		bus, _ := natsBus(t, eventbus.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		entered := make(chan struct{}, 10)
		stop, err := bus.Subscribe(ctx, kind+":q", func(ctx context.Context, _ eventbus.Message) error {
			entered <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		publish(t, bus, eventbus.Message{ID: "1", Queue: kind + ":q", Body: value.Raw(`1`)})
		<-entered
		cancel()
		stop() // returns because the handler did
	}
}
