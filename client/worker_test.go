package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/client"
	"github.com/tutti-run/tutti/internal/toyserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	longLease  = time.Minute
	shortLease = 300 * time.Millisecond
)

func dial(t testing.TB, s *toyserver.Server) *client.Client {
	t.Helper()
	c, err := client.Dial(s.Addr, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// run runs a worker until stop is called or the test ends.
func run(t testing.TB, w *client.Worker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the worker ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// recv waits for a value.
func recv[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(toyserver.Patience):
		t.Fatalf("waited too long for %s", what)
		panic("unreachable")
	}
}

type order struct {
	Item string  `json:"item"`
	Cost float64 `json:"cost"`
}

func TestTypedHandler(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("shop", `[{"task":"price","name":"ask","input":{"item":"pear","cost":2}}]`)
	seen := make(chan client.Task, 1)
	w := dial(t, s).Worker(client.WorkerOptions{ID: "me"})
	client.Handle(w, "price", func(ctx context.Context, o order) (order, error) {
		seen <- *client.TaskOf(ctx)
		o.Cost *= 2
		return o, nil
	})
	run(t, w)
	id := s.Start("shop")
	if got := s.End(id); got.Status != tutti.RunCompleted {
		t.Fatalf("ended as %s: %s", got.Status, got.Reason)
	}
	done := s.Task(id, 1)
	if got := string(done.Output); got != `{"item":"pear","cost":4}` {
		t.Errorf("output %s", got)
	}
	if done.Worker != "me" || done.Polls != 1 {
		t.Errorf("done by %q, handed out %d times", done.Worker, done.Polls)
	}
	task := recv(t, seen, "the task")
	if task.ID != id.TaskID(1) || task.RunID != id.String() || task.Queue != "price" ||
		task.Name != "ask" || task.Definition != "shop" || task.Attempt != 1 ||
		task.IdempotencyKey == "" {
		t.Errorf("the handler saw %+v", task)
	}
}

func TestOutcomes(t *testing.T) {
	s := toyserver.New(t, longLease)
	c := dial(t, s)
	var calls atomic.Int64
	type none struct{}
	fails := func(n int64, err error) func(context.Context, none) (string, error) {
		return func(ctx context.Context, _ none) (string, error) {
			if calls.Add(1) <= n {
				return "", err
			}
			return fmt.Sprint("attempt ", client.TaskOf(ctx).Attempt), nil
		}
	}
	for _, tt := range []struct {
		name   string
		steps  string // without its task
		fn     func(context.Context, none) (string, error)
		raw    func(context.Context, *client.Task) (json.RawMessage, error)
		status tutti.RunStatus
		calls  int64
		output string // of the last attempt
		reason string // of the last attempt
	}{
		{
			name: "failure is retried", steps: `"retries":2`,
			fn: fails(2, errors.New("busy")), status: tutti.RunCompleted, calls: 3,
			output: `"attempt 3"`,
		},
		{
			name: "failures run out", steps: `"retries":1`, fn: fails(9, errors.New("busy")),
			status: tutti.RunFailed, calls: 2, reason: "busy",
		},
		{
			name: "fatal is not retried", steps: `"retries":5`,
			fn:     fails(9, fmt.Errorf("charge: %w", client.Fatal(errors.New("no card")))),
			status: tutti.RunFailed, calls: 1, reason: "charge: no card",
		},
		{
			name: "later is no failure", steps: `"retries":0`,
			fn:     fails(3, client.Later(time.Millisecond)),
			status: tutti.RunCompleted, calls: 4, output: `"attempt 1"`,
		},
		{
			name: "panic", steps: `"retries":1`, status: tutti.RunFailed, calls: 2,
			fn: func(context.Context, none) (string, error) {
				calls.Add(1)
				panic("boom")
			},
			reason: "handler panicked: boom",
		},
		{
			name: "end of the goroutine", steps: `"retries":0`, status: tutti.RunFailed, calls: 1,
			fn: func(context.Context, none) (string, error) {
				calls.Add(1)
				runtime.Goexit()
				return "", nil
			},
			reason: "ended its goroutine",
		},
		{
			name: "input of another shape", steps: `"retries":3,"input":"text"`,
			fn: fails(0, nil), status: tutti.RunFailed, reason: "decode input",
		},
		{
			name: "output that is no JSON", steps: `"retries":3`, status: tutti.RunFailed, calls: 1,
			raw: func(context.Context, *client.Task) (json.RawMessage, error) {
				calls.Add(1)
				return json.RawMessage(`{"a":`), nil
			},
			reason: "the server refused the result",
		},
		{
			name: "output that is too large", steps: `"retries":3`, status: tutti.RunFailed,
			calls: 1,
			raw: func(context.Context, *client.Task) (json.RawMessage, error) {
				calls.Add(1)
				return make(json.RawMessage, 32<<20+1), nil
			},
			reason: "over the bound",
		},
		{
			name: "reason that is no text", steps: `"retries":0`, status: tutti.RunFailed, calls: 1,
			fn: fails(1, errors.New("bad \xff byte")), reason: "bad \uFFFD byte",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			calls.Store(0)
			w := c.Worker(client.WorkerOptions{})
			if tt.fn != nil {
				client.Handle(w, "q", tt.fn)
			} else {
				w.HandleRaw("q", tt.raw)
			}
			defer run(t, w)()
			s.Define("d", `[{"task":"q",`+tt.steps+`}]`)
			id := s.Start("d")
			got := s.End(id)
			if got.Status != tt.status || calls.Load() != tt.calls {
				t.Errorf("ended as %s after %d calls: %s", got.Status, calls.Load(), got.Reason)
			}
			last := s.Task(id, tutti.Seq(max(1, got.LastSeq)))
			if tt.output != string(last.Output) && tt.output != "" {
				t.Errorf("output %s, want %s", last.Output, tt.output)
			}
			if !strings.Contains(last.Reason, tt.reason) {
				t.Errorf("reason %q does not say %q", last.Reason, tt.reason)
			}
		})
	}
}

func TestOutputThatCannotBeEncoded(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q","retries":3}]`)
	w := dial(t, s).Worker(client.WorkerOptions{})
	client.Handle(w, "q", func(context.Context, any) (float64, error) { return math.NaN(), nil })
	run(t, w)
	id := s.Start("d")
	if got := s.End(id); got.Status != tutti.RunFailed ||
		!strings.Contains(s.Task(id, 1).Reason, "encode output") {
		t.Errorf("ended as %s: %s", got.Status, s.Task(id, 1).Reason)
	}
}

func TestCancelledWhenTheRunEnds(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	c := dial(t, s)
	begun, ended := make(chan struct{}), make(chan struct{})
	w := c.Worker(client.WorkerOptions{Concurrency: 1})
	client.Handle(w, "q", func(ctx context.Context, _ any) (any, error) {
		begun <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return nil, ctx.Err()
	})
	run(t, w)
	for range 2 { // the room that the first made is there for the second
		id := s.Start("d")
		recv(t, begun, "the handler")
		if err := c.Terminate(t.Context(), id.String(), "enough"); err != nil {
			t.Fatal(err)
		}
		recv(t, ended, "the end of the handler's context")
		if got := s.End(id); got.Status != tutti.RunTerminated {
			t.Errorf("ended as %s", got.Status)
		}
	}
}

func TestHeartbeatsKeepTheLease(t *testing.T) {
	s := toyserver.New(t, shortLease)
	s.Define("d", `[{"task":"q"}]`)
	w := dial(t, s).Worker(client.WorkerOptions{})
	finish := make(chan struct{})
	client.Handle(w, "q", func(context.Context, any) (any, error) {
		<-finish
		return nil, nil
	})
	run(t, w)
	id := s.Start("d")
	var first int64
	s.UntilTask(id, 1, "the lease was extended past twice its length", func(x *tutti.Task) bool {
		if first == 0 {
			first = x.LeaseMs
		}
		return first != 0 && x.LeaseMs > first+2*shortLease.Milliseconds()
	})
	close(finish)
	s.End(id)
	if got := s.Task(id, 1); got.Polls != 1 || got.InDoubt || got.Status != tutti.Completed {
		t.Errorf("handed out %d times, in doubt %t, %s", got.Polls, got.InDoubt, got.Status)
	}
}

func TestConcurrencyIsRespected(t *testing.T) {
	const tasks, room = 300, 7
	s := toyserver.New(t, longLease)
	s.Define("d", fmt.Sprintf(`[{"fork":%d,"steps":[{"task":"q"}]}]`, tasks))
	w := dial(t, s).Worker(client.WorkerOptions{Concurrency: room})
	var now, most, calls atomic.Int64
	client.Handle(w, "q", func(context.Context, any) (any, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		calls.Add(1)
		runtime.Gosched()
		return nil, nil
	})
	run(t, w)
	if got := s.End(s.Start("d")); got.Status != tutti.RunCompleted {
		t.Fatalf("ended as %s: %s", got.Status, got.Reason)
	}
	if calls.Load() != tasks || most.Load() > room {
		t.Errorf("%d calls, up to %d at the same time", calls.Load(), most.Load())
	}
}

func TestDrain(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	w := dial(t, s).Worker(client.WorkerOptions{Concurrency: 1})
	begun, finish := make(chan struct{}, 2), make(chan struct{})
	client.Handle(w, "q", func(ctx context.Context, _ any) (any, error) {
		begun <- struct{}{}
		<-finish
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	one := s.Start("d")
	recv(t, begun, "the handler")
	cancel()
	other := s.Start("d")
	close(finish)
	if err := recv(t, done, "the worker"); err != nil {
		t.Error(err)
	}
	if got := s.Task(one, 1); got.Status != tutti.Completed {
		t.Errorf("what was begun is %s: %s", got.Status, got.Reason)
	}
	if got := s.Task(other, 1); got.Status != tutti.Queued || got.Polls != 0 {
		t.Errorf("what came after the order to stop is %s", got.Status)
	}
}

func TestDrainIsBounded(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	w := dial(t, s).Worker(client.WorkerOptions{DrainTimeout: time.Millisecond})
	begun, finish := make(chan struct{}, 1), make(chan struct{})
	var handlers sync.WaitGroup
	client.Handle(w, "q", func(context.Context, any) (any, error) {
		handlers.Add(1)
		defer handlers.Done()
		begun <- struct{}{}
		<-finish // and not when its context ends
		return nil, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	id := s.Start("d")
	recv(t, begun, "the handler")
	cancel()
	if err := recv(t, done, "the worker"); err != nil {
		t.Error(err)
	}
	s.UntilTask(id, 1, "the task is back", func(x *tutti.Task) bool {
		return x.Status == tutti.Queued && x.InDoubt
	})
	close(finish)
	handlers.Wait()
}

func TestServerRestart(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q","name":"a"},{"task":"q","name":"b"}]`)
	c := dial(t, s)
	w := c.Worker(client.WorkerOptions{})
	begun, finish := make(chan string, 2), make(chan struct{})
	client.Handle(w, "q", func(ctx context.Context, _ any) (any, error) {
		begun <- client.TaskOf(ctx).Name
		<-finish
		return nil, ctx.Err()
	})
	run(t, w)
	id := s.Start("d")
	recv(t, begun, "the first handler")
	waited := make(chan error, 1)
	go func() {
		_, err := c.Wait(t.Context(), id.String())
		waited <- err
	}()
	s.Restart()
	close(finish)
	if got := recv(t, begun, "the second handler"); got != "b" {
		t.Errorf("after the restart step %s began", got)
	}
	if got := s.End(id); got.Status != tutti.RunCompleted {
		t.Errorf("ended as %s: %s", got.Status, got.Reason)
	}
	if got := s.Task(id, 1); got.Polls != 1 || got.InDoubt {
		t.Errorf("the handler's work was lost: handed out %d times", got.Polls)
	}
	if err := recv(t, waited, "Wait"); err != nil {
		t.Errorf("Wait did not outlast the restart: %v", err)
	}
}

// TestServerAway checks that work ends when no server was there for as long as leases last.
func TestServerAway(t *testing.T) {
	s := toyserver.New(t, shortLease)
	s.Define("d", `[{"task":"q"}]`)
	w := dial(t, s).Worker(client.WorkerOptions{})
	begun, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	var calls atomic.Int64
	client.Handle(w, "q", func(ctx context.Context, _ any) (any, error) {
		begun <- struct{}{}
		if calls.Add(1) == 1 {
			<-ctx.Done()
			ended <- struct{}{}
		}
		return nil, ctx.Err()
	})
	run(t, w)
	id := s.Start("d")
	recv(t, begun, "the handler")
	s.Stop()
	recv(t, ended, "the end of the handler's context")
	s.Restart()
	recv(t, begun, "the handler of the next attempt")
	s.End(id)
	if got := s.Task(id, 1); got.Polls != 2 || !got.InDoubt {
		t.Errorf("handed out %d times, in doubt %t", got.Polls, got.InDoubt)
	}
}

// TestLostConnection checks that a worker whose connection breaks hears that its work is void,
// since the server has given it back, and goes on with what is handed out then.
func TestLostConnection(t *testing.T) {
	s := toyserver.New(t, shortLease)
	s.Define("d", `[{"task":"q"}]`)
	conns := make(chan net.Conn, 10)
	var dialer net.Dialer
	c, err := client.Dial(s.Addr, client.Options{Dial: []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, "tcp", addr)
			if err == nil {
				conns <- conn
			}
			return conn, err
		}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	begun, ended := make(chan struct{}, 2), make(chan struct{}, 2)
	var calls atomic.Int64
	w := c.Worker(client.WorkerOptions{})
	client.Handle(w, "q", func(ctx context.Context, _ any) (any, error) {
		begun <- struct{}{}
		if calls.Add(1) == 1 {
			<-ctx.Done()
			ended <- struct{}{}
		}
		return nil, nil
	})
	defer run(t, w)()
	id := s.Start("d")
	recv(t, begun, "the handler")
	_ = recv(t, conns, "the connection").Close()
	recv(t, begun, "the handler of the next attempt")
	recv(t, ended, "the end of the first handler's context")
	s.End(id)
	if got := s.Task(id, 1); got.Polls != 2 || !got.InDoubt || got.Status != tutti.Completed {
		t.Errorf("handed out %d times, in doubt %t, %s", got.Polls, got.InDoubt, got.Status)
	}
}

func TestRefusedWorker(t *testing.T) {
	s := toyserver.New(t, longLease)
	c := dial(t, s)
	handle := func(context.Context, any) (any, error) { return nil, nil }
	for name, tt := range map[string]struct {
		opts  client.WorkerOptions
		queue string
		want  string
	}{
		"no handlers":    {want: "no handlers"},
		"concurrency":    {client.WorkerOptions{Concurrency: 10_001}, "q", "concurrency"},
		"id":             {client.WorkerOptions{ID: "\xff"}, "q", "UTF-8"},
		"long id":        {client.WorkerOptions{ID: strings.Repeat("x", 600)}, "q", "longer"},
		"long queue":     {queue: strings.Repeat("x", 600), want: "longer"},
		"queue not text": {queue: "\xff", want: "UTF-8"},
	} {
		w := c.Worker(tt.opts)
		if tt.queue != "" {
			client.Handle(w, tt.queue, handle)
		}
		err := w.Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
