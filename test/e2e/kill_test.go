//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/client"
)

// chain is a workflow with all that a crash may tear: steps in sequence, a fork, a child run
// on another shard, a timer, and a join.
const chain = `[{
  "name": "chain", "version": 1, "schemaVersion": 2,
  "tasks": [
    {"name": "e2e_step", "taskReferenceName": "a", "type": "SIMPLE",
     "inputParameters": {"n": "${workflow.input.n}"}},
    {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN", "forkTasks": [
      [{"name": "e2e_step", "taskReferenceName": "b", "type": "SIMPLE",
        "inputParameters": {"n": "${a.output.n}"}}],
      [{"name": "child", "taskReferenceName": "child", "type": "SUB_WORKFLOW",
        "inputParameters": {"n": "${a.output.n}"},
        "subWorkflowParam": {"name": "link", "version": 1}}],
      [{"name": "nap", "taskReferenceName": "nap", "type": "WAIT",
        "inputParameters": {"duration": "1 seconds"}}]
    ]},
    {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ["b", "child", "nap"]},
    {"name": "e2e_step", "taskReferenceName": "d", "type": "SIMPLE",
     "inputParameters": {"n": "${child.output.n}"}}
  ],
  "outputParameters": {"n": "${d.output.n}"}
}, {
  "name": "link", "version": 1, "schemaVersion": 2,
  "tasks": [
    {"name": "e2e_step", "taskReferenceName": "c", "type": "SIMPLE",
     "inputParameters": {"n": "${workflow.input.n}"}}
  ],
  "outputParameters": {"n": "${c.output.n}"}
}]`

// outside stands for a service that remembers idempotency keys: an effect that is asked for
// again under the same key is not had twice.
type outside struct {
	mu      sync.Mutex
	effects map[string]int // by idempotency key: how often it was asked for
}

// step adds one to the number that it gets.
func (o *outside) step(ctx context.Context, in struct{ N int }) (map[string]int, error) {
	key := client.TaskOf(ctx).IdempotencyKey
	o.mu.Lock()
	o.effects[key]++
	o.mu.Unlock()
	return map[string]int{"n": in.N + 1}, nil
}

// TestKill kills the server again and again while runs are started, and then sees that every
// start that was acknowledged ends well, once.
func TestKill(t *testing.T) {
	const kills, perKill = 25, 2 * time.Second
	s := newServer(t, "--log-level", "warn")
	s.start()
	c := s.dial()
	apply(t, c, chain)
	world := &outside{effects: map[string]int{}}
	for range 2 {
		w := c.Worker(client.WorkerOptions{Concurrency: 200, DrainTimeout: time.Second})
		client.Handle(w, "e2e_step", world.step)
		background(t, func(ctx context.Context) { _ = w.Run(ctx) })
	}
	l := &starter{c: c, acked: map[string]int{}}
	stopStarting := l.run(t, 8)

	slowest := time.Duration(0)
	begun := time.Now()
	for n := range kills {
		pause := time.Duration(rand.Int64N(int64(perKill)))
		time.Sleep(pause) // the load is what happens meanwhile
		s.kill()
		slowest = max(slowest, s.start())
		if time.Since(begun) > 55*time.Second {
			t.Logf("stopping after %d kills", n+1)
			if n < 19 {
				t.Errorf("%d kills in %v, want 20 in 60 s", n+1, time.Since(begun))
			}
			break
		}
	}
	stopStarting()
	t.Logf("%d runs acknowledged, %d requests repeated, slowest restart %v", len(l.acked),
		l.repeated.Load(), slowest)
	if len(l.acked) < 100 {
		t.Fatal("there was next to no load")
	}
	l.check(t, s)
	world.check(t, len(l.acked))
	auditFoundNothing(t, s)
}

// starter starts runs and remembers which starts were acknowledged.
type starter struct {
	c        *client.Client
	next     atomic.Int64
	repeated atomic.Int64

	mu    sync.Mutex
	acked map[string]int // the run's n by its identifier
}

// run starts runs from several goroutines until stop is called, which waits for them.
func (l *starter) run(t *testing.T, parallel int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range parallel {
		all.Go(func() {
			for ctx.Err() == nil {
				l.one(ctx)
				time.Sleep(4 * time.Millisecond) // a steady load, not saturation
			}
		})
	}
	stop = func() {
		cancel()
		all.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// one starts one run, and asks again with the same key until there is an answer, also when
// it is to stop: a start that nobody answered may have been stored.
func (l *starter) one(ctx context.Context) {
	n := int(l.next.Add(1))
	for range 3000 {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		id, err := l.c.Start(call, client.StartOptions{
			Definition: "chain", Input: map[string]int{"n": n},
			IdempotencyKey: fmt.Sprint("key-", n), OnDuplicate: client.ReturnExisting,
		})
		cancel()
		if err == nil {
			l.mu.Lock()
			l.acked[id] = n
			l.mu.Unlock()
			return
		}
		l.repeated.Add(1)
		time.Sleep(10 * time.Millisecond) // the server is down
	}
}

// check waits for the end of every acknowledged run and reads its history.
func (l *starter) check(t *testing.T, s *server) {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	runs := tuttipb.NewRunsClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	bad := 0
	for id, n := range l.acked {
		r, err := l.c.Wait(ctx, id)
		if err == nil && r.Status != "COMPLETED" {
			err = fmt.Errorf("it is %s: %s", r.Status, r.Reason)
		}
		if err == nil {
			err = checkOutput(r.Output, n+3)
		}
		if err == nil {
			err = checkHistory(ctx, runs, id)
		}
		if err != nil {
			why, _ := l.c.Explain(t.Context(), id)
			t.Errorf("run %s: %v\n%s", id, err, strings.Join(why, "\n"))
			if bad++; bad > 5 {
				t.Fatal("and so on")
			}
		}
	}
}

func checkOutput(output json.RawMessage, want int) error {
	var out struct{ N int }
	if err := json.Unmarshal(output, &out); err != nil {
		return err
	}
	if out.N != want {
		return fmt.Errorf("its output is %s, want n = %d", output, want)
	}
	return nil
}

// checkHistory sees that every step ended once and that numbers have no gap.
func checkHistory(ctx context.Context, runs tuttipb.RunsClient, id string) error {
	stream, err := runs.History(ctx, &tuttipb.HistoryRequest{RunId: id})
	if err != nil {
		return err
	}
	ends, next, ended := map[string]int{}, uint64(1), 0
	for {
		ev, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if ev.Sequence != next {
			return fmt.Errorf("event %d follows %d", ev.Sequence, next-1)
		}
		next++
		switch ev.Type {
		case "TaskEnded":
			ends[ev.Name]++
		case "RunEnded":
			ended++
		}
	}
	for _, step := range []string{"a", "b", "child", "nap", "d"} {
		if ends[step] != 1 {
			return fmt.Errorf("step %s ended %d times", step, ends[step])
		}
	}
	if ended != 1 {
		return fmt.Errorf("the run ended %d times", ended)
	}
	return nil
}

// check sees that exactly the steps of the runs had effects. A step whose worker was cut off
// may have been asked for again, under its key.
func (o *outside) check(t *testing.T, runs int) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	again := 0
	for _, times := range o.effects {
		if times > 1 {
			again++
		}
	}
	t.Logf("%d steps had their effect, %d of them were asked for again", len(o.effects), again)
	if len(o.effects) != 4*runs {
		t.Errorf("%d runs had %d effects, want %d", runs, len(o.effects), 4*runs)
	}
}

func auditFoundNothing(t *testing.T, s *server) {
	t.Helper()
	status, body := s.get("/admin/v1/audit")
	var audit struct{ Problems int }
	if err := json.Unmarshal([]byte(body), &audit); err != nil || status != 200 {
		t.Fatalf("the audit cannot be read: %d %s", status, body)
	}
	if audit.Problems != 0 {
		t.Errorf("the auditor found problems: %s", body)
	}
}

// TestManyOpenRuns restarts on top of 100,000 runs that wait.
func TestManyOpenRuns(t *testing.T) {
	const open = 100_000
	s := newServer(t, "--log-level", "warn")
	s.start()
	c := s.dial()
	apply(t, c, `{"name": "waits", "version": 1, "schemaVersion": 2, "tasks": [
		{"name": "gate", "taskReferenceName": "gate", "type": "HUMAN"}]}`)
	ids := startMany(t, c, "waits", open)
	s.kill()
	took := s.start()
	t.Logf("restart after kill -9 with %d open runs: %v", open, took)
	if took > 10*time.Second {
		t.Errorf("the restart took %v, want 2 s and at most 10 s", took)
	}
	c = s.dial()
	for _, at := range []int{0, open / 2, open - 1} {
		id := ids[at]
		if err := c.Signal(t.Context(), id, "gate", map[string]bool{"ok": true}); err != nil {
			t.Fatal(err)
		}
		r, err := c.Wait(t.Context(), id)
		if err != nil || r.Status != "COMPLETED" {
			t.Fatalf("run %s after its signal: %+v %v", id, r, err)
		}
	}
	took = func() time.Duration {
		if err := s.stop(20 * time.Second); err != nil {
			t.Fatal(err)
		}
		return s.start()
	}()
	t.Logf("restart after an orderly stop: %v", took)
}

// startMany starts runs over a session and returns their identifiers.
func startMany(t *testing.T, c *client.Client, definition string, n int) []string {
	t.Helper()
	session, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ids := make([]string, 0, n)
	room := make(chan struct{}, 1024)
	var mu sync.Mutex
	var failed error
	for range n {
		room <- struct{}{}
		err := session.Start(client.StartOptions{
			Definition: definition, Input: map[string]string{"some": "input"},
		}, func(id string, err error) {
			mu.Lock()
			ids, failed = append(ids, id), errors.Join(failed, err)
			mu.Unlock()
			<-room
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	await(t, time.Minute, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(ids) < n {
			return fmt.Errorf("%d of %d starts were answered", len(ids), n)
		}
		return nil
	})
	if failed != nil {
		t.Fatal(failed)
	}
	return ids
}
