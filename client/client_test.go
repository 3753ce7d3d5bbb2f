package client_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/tutti-run/tutti/client"
	"github.com/tutti-run/tutti/internal/toyserver"
)

func start(t testing.TB, c *client.Client, o client.StartOptions) string {
	t.Helper()
	o.Dialect = "toy"
	id, err := c.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func codeOf(err error) string {
	var e *client.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestStart(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0}]`)
	c := dial(t, s)
	id := start(t, c, client.StartOptions{
		Definition: "d", Input: map[string]int{"a": 1}, CorrelationID: "c", Priority: 7,
		Labels: map[string]string{"l": "v"}, IdempotencyKey: "k",
	})
	got, err := c.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != id || got.Definition != "d" || got.Version != 1 || got.Dialect != "toy" ||
		got.Status != "RUNNING" || !got.Open() || string(got.Input) != `{"a":1}` ||
		got.CorrelationID != "c" || got.Priority != 7 || got.Labels["l"] != "v" ||
		got.Started.IsZero() || !got.Ended.IsZero() {
		t.Errorf("got %+v", got)
	}
	again := client.StartOptions{Dialect: "toy", Definition: "d", IdempotencyKey: "k"}
	if _, err := c.Start(t.Context(), again); codeOf(err) != "IdempotencyKeyUsed" {
		t.Errorf("a second start: %v", err)
	}
	again.OnDuplicate = client.ReturnExisting
	if same, err := c.Start(t.Context(), again); same != id || err != nil {
		t.Errorf("a second start that returns the first: %s, %v", same, err)
	}
	for want, o := range map[string]client.StartOptions{
		"NoSuchDefinition": {Dialect: "toy", Definition: "none"},
		"UnknownDialect":   {Dialect: "none", Definition: "d"},
		"InvalidText":      {Definition: "\xff"},
		"PayloadTooLarge":  {Definition: "d", Input: strings.Repeat("x", 32<<20)},
	} {
		if _, err := c.Start(t.Context(), o); codeOf(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
	if _, err := c.Get(t.Context(), "nobody"); codeOf(err) != "RunNotFound" {
		t.Errorf("a run that is not there: %v", err)
	}
}

func TestControl(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0,"name":"w"},{"task":"q","name":"t"}]`)
	c := dial(t, s)
	ctx := t.Context()
	id := start(t, c, client.StartOptions{Definition: "d"})
	status := func(want string) {
		t.Helper()
		if got, err := c.Get(ctx, id); err != nil || got.Status != want {
			t.Errorf("status %v (%v), want %s", got, err, want)
		}
	}
	lines, err := c.Explain(ctx, id)
	if err != nil || len(lines) != 2 || !strings.Contains(lines[1], "w") {
		t.Errorf("explained as %q (%v)", lines, err)
	}
	if err := c.Pause(ctx, id); err != nil {
		t.Error(err)
	}
	status("PAUSED")
	if err := c.Resume(ctx, id); err != nil {
		t.Error(err)
	}
	status("RUNNING")
	if err := c.Signal(ctx, id, "other", nil); codeOf(err) != "NotWaiting" {
		t.Errorf("a signal that nobody waits for: %v", err)
	}
	if err := c.Signal(ctx, id, "w", "go"); err != nil {
		t.Error(err)
	}
	if lines, err = c.Explain(ctx, id); err != nil || !strings.Contains(lines[1], "No worker") {
		t.Errorf("explained as %q (%v)", lines, err)
	}
	if err := c.Terminate(ctx, id, "enough"); err != nil {
		t.Error(err)
	}
	status("TERMINATED")
	if err := c.Restart(ctx, id, false); err != nil {
		t.Error(err)
	}
	status("RUNNING")
	if err := c.Retry(ctx, id); err == nil {
		t.Error("an open run was retried")
	}
}

func TestWait(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0}]`)
	c := dial(t, s)
	id := start(t, c, client.StartOptions{Definition: "d"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Wait(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	if err := c.Signal(t.Context(), id, "", nil); err != nil {
		t.Fatal(err)
	}
	got, err := c.Wait(t.Context(), id)
	if err != nil || got.Status != "COMPLETED" || string(got.Output) != `{"done":1}` ||
		got.Ended.IsZero() {
		t.Errorf("waited for %+v, %v", got, err)
	}
}

func TestList(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0}]`)
	s.Define("e", `[{"wait":0}]`)
	c := dial(t, s)
	var ids []string
	for i := range 25 {
		o := client.StartOptions{Definition: "d", CorrelationID: "c", Input: i}
		if i%2 == 0 {
			o.Labels = map[string]string{"even": "yes", "x": "y"}
		}
		ids = append(ids, start(t, c, o))
	}
	start(t, c, client.StartOptions{Definition: "e", Labels: map[string]string{"x": "y"}})
	for name, tt := range map[string]struct {
		o    client.ListOptions
		want int
	}{
		"all":         {client.ListOptions{}, 26},
		"definition":  {client.ListOptions{Definition: "d"}, 25},
		"correlation": {client.ListOptions{CorrelationID: "c"}, 25},
		"label":       {client.ListOptions{Labels: map[string]string{"even": "yes"}}, 13},
		"labels":      {client.ListOptions{Labels: map[string]string{"x": "y"}}, 14},
		"both": {client.ListOptions{
			Labels: map[string]string{"x": "y"}, CorrelationID: "c",
		}, 13},
		"none":         {client.ListOptions{Labels: map[string]string{"x": "n"}}, 0},
		"status":       {client.ListOptions{Statuses: []string{"COMPLETED", "FAILED"}}, 0},
		"open":         {client.ListOptions{Statuses: []string{"RUNNING"}}, 26},
		"dialect":      {client.ListOptions{Dialect: "conductor"}, 0},
		"before":       {client.ListOptions{To: time.UnixMilli(1)}, 0},
		"after":        {client.ListOptions{From: time.UnixMilli(1)}, 26},
		"no parent":    {client.ListOptions{ParentRunID: ids[0]}, 0},
		"big payloads": {client.ListOptions{WithPayloads: true, Definition: "d"}, 25},
	} {
		for _, size := range []int{0, 1, 4, 13, 100} {
			tt.o.PageSize = size
			var got []*client.Run
			for r, err := range c.List(t.Context(), tt.o) {
				if err != nil {
					t.Fatal(name, err)
				}
				if tt.o.WithPayloads != (len(r.Input) > 0) {
					t.Errorf("%s: input %s", name, r.Input)
				}
				got = append(got, r)
			}
			if len(got) != tt.want {
				t.Errorf("%s by %d: %d runs, want %d", name, size, len(got), tt.want)
			}
			newestFirst := func(a, b *client.Run) int {
				return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
			}
			if !slices.IsSortedFunc(got, newestFirst) {
				t.Errorf("%s by %d: not newest first", name, size)
			}
		}
	}
	all := c.List(t.Context(), client.ListOptions{PageSize: 3})
	for range 2 { // a list that was left begins anew
		n := 0
		for range all {
			if n++; n == 5 {
				break
			}
		}
		if n != 5 {
			t.Errorf("%d runs", n)
		}
	}
	for _, err := range c.List(t.Context(), client.ListOptions{Statuses: []string{"running"}}) {
		if codeOf(err) != "UnknownStatus" {
			t.Errorf("a status that is none: %v", err)
		}
	}
}

// TestListOfLargeRuns checks that a page does not grow over what a message may hold.
func TestListOfLargeRuns(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0}]`)
	c := dial(t, s)
	const runs = 6
	for range runs {
		start(t, c, client.StartOptions{Definition: "d", Input: strings.Repeat("x", 3<<20)})
	}
	n := 0
	for r, err := range c.List(t.Context(), client.ListOptions{WithPayloads: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; len(r.Input) < 3<<20 {
			t.Errorf("input of %d bytes", len(r.Input))
		}
	}
	if n != runs {
		t.Errorf("%d runs", n)
	}
}

func TestHistory(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"note":"begun"},{"wait":0,"name":"w"}]`)
	c := dial(t, s)
	id := start(t, c, client.StartOptions{Definition: "d"})
	read := func(follow bool, each func(*client.Event)) (types []string) {
		t.Helper()
		last := 0
		for ev, err := range c.History(t.Context(), id, follow) {
			if err != nil {
				t.Fatal(err)
			}
			if ev.Number <= last || ev.Time.IsZero() {
				t.Errorf("event %+v after number %d", ev, last)
			}
			last = ev.Number
			types = append(types, ev.Type)
			each(ev)
		}
		return types
	}
	now := read(false, func(*client.Event) {})
	if len(now) == 0 || now[0] != "RunStarted" || slices.Contains(now, "RunEnded") {
		t.Errorf("so far %v", now)
	}
	signalled := false
	all := read(true, func(ev *client.Event) {
		if ev.Name == "w" && !signalled {
			signalled = true
			if err := c.Signal(t.Context(), id, "w", nil); err != nil {
				t.Error(err)
			}
		}
		if ev.Type == "RunEnded" && string(ev.Data) != `{"status":"COMPLETED"}` {
			t.Errorf("the end says %s", ev.Data)
		}
	})
	if len(all) <= len(now) || !slices.Contains(all, "RunEnded") {
		t.Errorf("followed %v", all)
	}
	for _, err := range c.History(t.Context(), "nobody", true) {
		if codeOf(err) != "RunNotFound" {
			t.Errorf("of a run that is not there: %v", err)
		}
	}
}

// TestFollowEndsWithTheServer checks that who waits does not hold up a stop.
func TestFollowEndsWithTheServer(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0}]`)
	c := dial(t, s)
	id := start(t, c, client.StartOptions{Definition: "d"})
	ended := make(chan error, 1)
	began := make(chan struct{}, 100)
	go func() {
		for _, err := range c.History(context.Background(), id, true) {
			if err != nil {
				ended <- err
				return
			}
			began <- struct{}{}
		}
	}()
	recv(t, began, "the first event")
	s.Stop()
	if err := recv(t, ended, "the end of the history"); codeOf(err) != "ServerStopping" {
		t.Errorf("ended with %v", err)
	}
}

func TestNotATuttiServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := grpc.NewServer()
	done := make(chan error, 1)
	go func() { done <- other.Serve(l) }()
	defer func() {
		other.Stop()
		<-done
	}()
	c, err := client.Dial(l.Addr().String(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	w := c.Worker(client.WorkerOptions{})
	client.Handle(w, "q", func(context.Context, any) (any, error) { return nil, nil })
	var e *client.Error
	if err := w.Run(t.Context()); !errors.As(err, &e) || e.Kind != "unsupported" || e.Hint == "" {
		t.Errorf("the worker ended with %v", err)
	}
	if _, err := c.Get(t.Context(), "x"); !errors.As(err, &e) || e.Kind != "unsupported" {
		t.Errorf("get: %v", err)
	}
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	c, err := client.Dial(addr, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	var e *client.Error
	if _, err := c.Get(t.Context(), "x"); !errors.As(err, &e) || e.Kind != "unavailable" ||
		e.Hint == "" {
		t.Errorf("get: %v", err)
	}
	w := c.Worker(client.WorkerOptions{})
	client.Handle(w, "q", func(context.Context, any) (any, error) { return nil, nil })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := w.Run(ctx); err != nil {
		t.Errorf("a worker without a server: %v", err)
	}
}

// counts are what the callbacks of a session were told.
type counts struct {
	mu             sync.Mutex
	started, ended map[string]int
	errs           []error
}

func (n *counts) start(id string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.errs = append(n.errs, err)
		return
	}
	n.started[id]++
}

func (n *counts) end(e client.Ended) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e.Err != nil {
		n.errs = append(n.errs, e.Err)
		return
	}
	n.ended[e.RunID+" "+e.Status]++
}

func newCounts() *counts {
	return &counts{started: map[string]int{}, ended: map[string]int{}}
}

func TestSessionOfThousands(t *testing.T) {
	const runs = 4000
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	c := dial(t, s)
	w := c.Worker(client.WorkerOptions{Concurrency: 500})
	client.Handle(w, "q", func(context.Context, any) (any, error) { return nil, nil })
	run(t, w)
	ses, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ses.Close()
	n := newCounts()
	var starters sync.WaitGroup
	for range 4 {
		starters.Go(func() {
			for range runs / 4 {
				o := client.StartOptions{Dialect: "toy", Definition: "d"}
				if err := ses.Start(o, n.start, n.end); err != nil {
					t.Error(err)
				}
			}
		})
	}
	starters.Wait()
	if err := ses.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(n.started) != runs || len(n.ended) != runs || len(n.errs) > 0 {
		t.Errorf("%d started, %d ended, errors %v", len(n.started), len(n.ended), n.errs)
	}
	for id, times := range n.started {
		if times != 1 || n.ended[id+" COMPLETED"] != 1 {
			t.Errorf("%s: started %d times, completed %d times",
				id, times, n.ended[id+" COMPLETED"])
		}
	}
}

func TestSession(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0}]`)
	s.Define("now", `[]`)
	c := dial(t, s)
	ses, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := newCounts()
	for _, o := range []client.StartOptions{
		{Dialect: "toy", Definition: "none"}, // told to both
		{Dialect: "toy", Definition: "now"},
		{Dialect: "toy", Definition: "now", IdempotencyKey: "k"},
		{
			Dialect: "toy", Definition: "now", IdempotencyKey: "k",
			OnDuplicate: client.ReturnExisting,
		},
		{Dialect: "toy", Definition: "d"},
	} {
		if err := ses.Start(o, n.start, n.end); err != nil {
			t.Error(err)
		}
	}
	if err := ses.Start(client.StartOptions{Definition: "\xff"}, n.start, n.end); err == nil {
		t.Error("a start that cannot be sent was taken")
	}
	toyserver.Eventually(t, "all but one run have ended", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		total := 0
		for _, times := range n.ended {
			total += times
		}
		return total == 3 && len(n.started) == 3 && len(n.errs) == 2
	})
	ses.Close() // the last one is open
	if len(n.errs) != 3 || codeOf(n.errs[0]) != "NoSuchDefinition" ||
		!errors.Is(n.errs[2], client.ErrSessionClosed) {
		t.Errorf("errors %v", n.errs)
	}
	if err := ses.Start(client.StartOptions{Definition: "now"}, nil, nil); err == nil {
		t.Error("a closed session took a start")
	}
	ses.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ses.Finish(ctx); err != nil {
		t.Errorf("finishing again: %v", err)
	}
}

func TestSessionWhenTheServerStops(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"wait":0}]`)
	c := dial(t, s)
	ses, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ses.Close()
	started, ended := make(chan error, 1), make(chan client.Ended, 1)
	err = ses.Start(client.StartOptions{Dialect: "toy", Definition: "d"},
		func(_ string, err error) { started <- err }, func(e client.Ended) { ended <- e })
	if err != nil {
		t.Fatal(err)
	}
	if err := recv(t, started, "the start"); err != nil {
		t.Error(err)
	}
	s.Stop()
	if e := recv(t, ended, "the end of the session"); codeOf(e.Err) != "ServerStopping" {
		t.Errorf("ended with %+v", e)
	}
}
