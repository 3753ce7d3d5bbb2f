package grpcapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tutti-run/tutti"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/internal/toyserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	longLease  = time.Minute
	shortLease = 300 * time.Millisecond
)

// worker is the raw stream of one worker.
type worker struct {
	t      testing.TB
	stream tuttipb.Workers_WorkClient
	in     chan *tuttipb.ServerMessage
	err    chan error // why the stream ended
	end    context.CancelFunc
}

// dialWorker opens a stream and reads from it unless deaf.
func dialWorker(t testing.TB, s *toyserver.Server, deaf bool) *worker {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := tuttipb.NewWorkersClient(s.Dial()).Work(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &worker{
		t: t, stream: stream, in: make(chan *tuttipb.ServerMessage, 10_000),
		err: make(chan error, 1), end: cancel,
	}
	t.Cleanup(cancel)
	if !deaf {
		go w.read()
	}
	return w
}

func (w *worker) read() {
	for {
		m, err := w.stream.Recv()
		if err != nil {
			w.err <- err
			return
		}
		w.in <- m
	}
}

// newWorker is a worker that has said hello and been welcomed.
func newWorker(t testing.TB, s *toyserver.Server, queues ...string) *worker {
	t.Helper()
	w := dialWorker(t, s, false)
	w.hello(queues...)
	if m := w.recv(); m.GetWelcome().GetHeartbeatMs() <= 0 {
		t.Fatalf("instead of a welcome: %v", m)
	}
	return w
}

func (w *worker) send(m *tuttipb.WorkerMessage) {
	w.t.Helper()
	if err := w.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		w.t.Fatal(err)
	}
}

func (w *worker) hello(queues ...string) {
	w.t.Helper()
	h := &tuttipb.Hello{WorkerId: "w", ProtocolVersion: 1}
	for _, q := range queues {
		h.Subscriptions = append(h.Subscriptions, &tuttipb.Subscription{Queue: q})
	}
	w.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Hello{Hello: h}})
}

func (w *worker) credit(n uint32) {
	w.t.Helper()
	w.send(&tuttipb.WorkerMessage{
		Body: &tuttipb.WorkerMessage_Credits{Credits: &tuttipb.Credits{Add: n}},
	})
}

func (w *worker) report(c ...*tuttipb.Completion) {
	w.t.Helper()
	w.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Completions{
		Completions: &tuttipb.Completions{Completions: c},
	}})
}

func (w *worker) beat(leases ...*tuttipb.Lease) {
	w.t.Helper()
	w.send(&tuttipb.WorkerMessage{
		Body: &tuttipb.WorkerMessage_Heartbeat{Heartbeat: &tuttipb.Heartbeat{Leases: leases}},
	})
}

func (w *worker) drain() {
	w.t.Helper()
	w.send(&tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Drain{Drain: &tuttipb.Drain{}}})
}

func (w *worker) recv() *tuttipb.ServerMessage {
	w.t.Helper()
	select {
	case m := <-w.in:
		return m
	default:
	}
	select {
	case m := <-w.in:
		return m
	case err := <-w.err:
		w.t.Fatalf("the stream ended: %v", err)
	case <-time.After(toyserver.Patience):
		w.t.Fatal("waited too long for a message")
	}
	return nil
}

// tasks waits for so many tasks.
func (w *worker) tasks(n int) (list []*tuttipb.Task) {
	w.t.Helper()
	for len(list) < n {
		m := w.recv()
		if m.GetTasks() == nil {
			w.t.Fatalf("instead of tasks: %v", m)
		}
		list = append(list, m.GetTasks().Tasks...)
	}
	if len(list) > n {
		w.t.Fatalf("%d tasks instead of %d", len(list), n)
	}
	return list
}

// acks waits for so many answers.
func (w *worker) acks(n int) (list []*tuttipb.Ack) {
	w.t.Helper()
	for len(list) < n {
		m := w.recv()
		if m.GetAcks() == nil {
			w.t.Fatalf("instead of acks: %v", m)
		}
		list = append(list, m.GetAcks().Acks...)
	}
	return list
}

// serve completes whatever comes.
func (w *worker) serve(stop <-chan struct{}) {
	w.credit(100)
	for {
		select {
		case <-stop:
			return
		case err := <-w.err:
			w.t.Errorf("the stream ended: %v", err)
			return
		case m := <-w.in:
			for _, x := range m.GetTasks().GetTasks() {
				w.report(done(x))
				w.credit(1)
			}
		}
	}
}

// ended waits for the end of the stream.
func (w *worker) ended() error {
	w.t.Helper()
	for {
		select {
		case <-w.in:
		case err := <-w.err:
			return err
		case <-time.After(toyserver.Patience):
			w.t.Fatal("the stream does not end")
		}
	}
}

// quiet checks that a session that was asked for an answer sends nothing before it.
func (w *worker) quiet() {
	w.t.Helper()
	w.report(&tuttipb.Completion{TaskId: "probe", Token: 1, Outcome: tuttipb.Completion_COMPLETED})
	if m := w.recv(); m.GetAcks() == nil || m.GetAcks().Acks[0].TaskId != "probe" {
		w.t.Errorf("nothing was to come, but there was %v", m)
	}
}

func done(t *tuttipb.Task) *tuttipb.Completion {
	return &tuttipb.Completion{
		TaskId: t.TaskId, Token: t.Token, Outcome: tuttipb.Completion_COMPLETED,
		Output: []byte(`{}`),
	}
}

func leaseOf(t *tuttipb.Task) *tuttipb.Lease {
	return &tuttipb.Lease{TaskId: t.TaskId, Token: t.Token}
}

// codeOf is the code of the error that a status carries.
func codeOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*tuttipb.ErrorInfo); ok {
			return info.Code
		}
	}
	return fmt.Sprint(err)
}

func TestHello(t *testing.T) {
	s := toyserver.New(t, longLease)
	hello := func(h *tuttipb.Hello) *tuttipb.WorkerMessage {
		return &tuttipb.WorkerMessage{Body: &tuttipb.WorkerMessage_Hello{Hello: h}}
	}
	queue := []*tuttipb.Subscription{{Queue: "q"}}
	for want, m := range map[string]*tuttipb.WorkerMessage{
		"HelloExpected":   {},
		"NoQueues":        hello(&tuttipb.Hello{}),
		"TooManyQueues":   hello(&tuttipb.Hello{Subscriptions: slices.Repeat(queue, 1001)}),
		"ProtocolVersion": hello(&tuttipb.Hello{Subscriptions: queue, ProtocolVersion: 2}),
		"InvalidName": hello(&tuttipb.Hello{
			Subscriptions: queue, WorkerId: strings.Repeat("x", 513),
		}),
	} {
		w := dialWorker(t, s, false)
		w.send(m)
		if err := w.ended(); codeOf(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
	w := dialWorker(t, s, false)
	w.hello("")
	if err := w.ended(); codeOf(err) != "InvalidName" {
		t.Errorf("a queue without a name: %v", err)
	}
	w = dialWorker(t, s, false)
	if err := w.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := w.ended(); codeOf(err) != "HelloExpected" {
		t.Errorf("an empty session: %v", err)
	}
	w = newWorker(t, s, "q")
	w.hello("q")
	if err := w.ended(); codeOf(err) != "UnexpectedMessage" {
		t.Errorf("a second hello: %v", err)
	}
}

func TestCredits(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"fork":10,"steps":[{"task":"q"}]}]`)
	w := newWorker(t, s, "q")
	id := s.Start("d")
	w.quiet() // no credit, no task
	w.credit(3)
	got := w.tasks(3)
	w.quiet()
	w.report(done(got[0]), done(got[1]))
	w.acks(2)
	w.quiet() // room is made by credit, not by reports
	w.credit(2)
	got = append(got[2:], w.tasks(2)...)
	w.quiet()
	w.credit(100)
	got = append(got, w.tasks(5)...)
	for _, x := range got {
		w.report(done(x))
	}
	w.acks(len(got))
	s.End(id)
}

// TestManyTasks hands out more tasks than may wait to be sent at a time.
func TestManyTasks(t *testing.T) {
	const tasks = 3500
	s := toyserver.New(t, longLease)
	s.Define("d", fmt.Sprintf(`[{"fork":%d,"steps":[{"task":"q"}]}]`, tasks))
	w := newWorker(t, s, "q")
	id := s.Start("d")
	w.credit(tasks)
	seen := map[string]bool{}
	for _, x := range w.tasks(tasks) {
		seen[x.TaskId] = true
		w.report(done(x))
	}
	w.acks(tasks)
	if len(seen) != tasks {
		t.Errorf("%d different tasks", len(seen))
	}
	s.End(id)
	w.credit(10_001)
	if err := w.ended(); codeOf(err) != "TooMuchCredit" {
		t.Errorf("credit over the bound: %v", err)
	}
}

func TestFencing(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	id := s.Start("d")
	one, two := newWorker(t, s, "q"), newWorker(t, s, "q")
	one.credit(1)
	lost := one.tasks(1)[0]
	two.credit(1)
	one.end() // disconnects
	got := two.tasks(1)[0]
	if got.TaskId != lost.TaskId || got.Token <= lost.Token || got.Attempt != lost.Attempt {
		t.Fatalf("handed out again as %v, before as %v", got, lost)
	}
	if x := s.Task(id, 1); !x.InDoubt || x.Polls != 2 {
		t.Errorf("in doubt %t, handed out %d times", x.InDoubt, x.Polls)
	}
	for want, c := range map[string]*tuttipb.Completion{
		"StaleLease":   done(lost),
		"NoToken":      {TaskId: got.TaskId, Outcome: tuttipb.Completion_COMPLETED},
		"NoOutcome":    {TaskId: got.TaskId, Token: got.Token},
		"MalformedID":  {TaskId: "x", Token: 1, Outcome: tuttipb.Completion_COMPLETED},
		"TaskNotFound": {TaskId: id.TaskID(9), Token: 1, Outcome: tuttipb.Completion_COMPLETED},
		"InvalidJSON": {
			TaskId: got.TaskId, Token: got.Token, Outcome: tuttipb.Completion_COMPLETED,
			Output: []byte("{\xff"),
		},
	} {
		two.report(c)
		ack := two.acks(1)[0]
		if ack.Error.GetCode() != want || ack.TaskId != c.TaskId || ack.Token != c.Token {
			t.Errorf("want %s: %v", want, ack)
		}
	}
	two.report(&tuttipb.Completion{
		TaskId: id.String(), Token: 1, Outcome: tuttipb.Completion_COMPLETED,
	})
	if ack := two.acks(1)[0]; ack.Error.GetCode() != "TaskNotFound" {
		t.Errorf("the id of a run: %v", ack)
	}
	two.report(done(got))
	if ack := two.acks(1)[0]; ack.Error != nil {
		t.Errorf("the holder's own report: %v", ack)
	}
	s.End(id)
	two.report(done(got))
	if ack := two.acks(1)[0]; ack.Error.GetKind() != tutti.Conflict.String() {
		t.Errorf("a report again: %v", ack)
	}
}

func TestProgress(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	id := s.Start("d")
	w := newWorker(t, s, "q")
	w.credit(2)
	first := w.tasks(1)[0]
	c := done(first)
	c.Outcome, c.Output, c.Reason = tuttipb.Completion_PROGRESS, []byte(`{"half":1}`), "on it"
	c.Logs = []*tuttipb.LogLine{{Text: "line"}}
	w.report(c)
	if ack := w.acks(1)[0]; ack.Error != nil {
		t.Fatal(ack)
	}
	x := s.Task(id, 1)
	if x.Status != tutti.Running || string(x.Output) != `{"half":1}` || x.Reason != "on it" {
		t.Errorf("after progress %s %s %q", x.Status, x.Output, x.Reason)
	}
	lines, err := s.Service.Logs(t.Context(), "default", id, 1)
	if err != nil || len(lines) != 1 || lines[0].Text != "line" {
		t.Errorf("logs %v, %v", lines, err)
	}
	c.DelayMs, c.Logs = 1, nil
	w.report(c)
	if ack := w.acks(1)[0]; ack.Error != nil {
		t.Fatal(ack)
	}
	again := w.tasks(1)[0]
	if again.Token <= first.Token || again.Attempt != 1 {
		t.Errorf("called again as %v", again)
	}
	w.report(done(again))
	w.acks(1)
	s.End(id)
}

func TestDrainAnswersFirst(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"fork":50,"steps":[{"task":"q"}]}]`)
	id := s.Start("d")
	w := newWorker(t, s, "q")
	w.credit(40)
	got := w.tasks(40)
	w.credit(5) // on their way when the worker drains
	w.drain()
	var reports []*tuttipb.Completion
	for _, x := range got {
		reports = append(reports, done(x))
	}
	w.report(reports...)
	acked, drained := 0, false
	for !drained {
		switch m := w.recv(); {
		case m.GetAcks() != nil:
			acked += len(m.GetAcks().Acks)
		case m.GetTasks() != nil:
			for _, x := range m.GetTasks().Tasks {
				reports = append(reports, done(x))
				w.report(done(x))
			}
		default:
			drained = m.GetDrained() != nil
		}
	}
	if acked != len(reports) {
		t.Errorf("%d of %d reports were answered before Drained", acked, len(reports))
	}
	if err := w.ended(); !errors.Is(err, io.EOF) {
		t.Errorf("drained, then %v", err)
	}
	w = newWorker(t, s, "q")
	w.credit(50)
	for _, x := range w.tasks(50 - len(reports)) {
		w.report(done(x))
	}
	s.End(id)
	for seq := tutti.Seq(1); seq <= 50; seq++ {
		if x := s.Task(id, seq); x.InDoubt {
			t.Errorf("task %d is in doubt", seq)
		}
	}
}

func TestLeaseRunsOut(t *testing.T) {
	s := toyserver.New(t, shortLease)
	s.Define("d", `[{"task":"q"}]`)
	s.Start("d")
	w := newWorker(t, s, "q")
	w.credit(1)
	got := w.tasks(1)[0] // and no heartbeat
	m := w.recv()
	if c := m.GetCancelled(); c == nil || len(c.Leases) != 1 || c.Leases[0].TaskId != got.TaskId ||
		c.Leases[0].Token != got.Token {
		t.Fatalf("instead of the loss of the lease: %v", m)
	}
	w.credit(1)
	again := w.tasks(1)[0]
	if again.TaskId != got.TaskId || again.Token <= got.Token {
		t.Errorf("handed out again as %v", again)
	}
	w.beat(leaseOf(got), leaseOf(again)) // one of them is void
	if c := w.recv().GetCancelled(); c == nil || len(c.Leases) != 1 ||
		c.Leases[0].Token != got.Token {
		t.Errorf("instead of the void lease: %v", c)
	}
	w.beat(&tuttipb.Lease{TaskId: "x", Token: 1})
	if c := w.recv().GetCancelled(); c == nil || c.Leases[0].TaskId != "x" {
		t.Errorf("instead of the lease of nothing: %v", c)
	}
	w.beat(slices.Repeat([]*tuttipb.Lease{leaseOf(again)}, 10_001)...)
	if err := w.ended(); codeOf(err) != "TooManyLeases" {
		t.Errorf("too many leases: %v", err)
	}
}

func TestLeasesOutliveTheServer(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	id := s.Start("d")
	w := newWorker(t, s, "q")
	w.credit(1)
	got := w.tasks(1)[0]
	s.Restart()
	if err := w.ended(); codeOf(err) != "ServerStopping" && status.Code(err) != codes.Unavailable {
		t.Errorf("the session ended with %v", err)
	}
	w = newWorker(t, s, "q")
	w.beat(leaseOf(got))
	w.quiet()
	w.report(done(got))
	if ack := w.acks(1)[0]; ack.Error != nil {
		t.Errorf("a report from before the restart: %v", ack)
	}
	s.End(id)
	if x := s.Task(id, 1); x.Polls != 1 || x.InDoubt {
		t.Errorf("handed out %d times, in doubt %t", x.Polls, x.InDoubt)
	}
}

// TestAdoptedLeasesGoBack checks that a lease that a session took up goes back with it.
func TestAdoptedLeasesGoBack(t *testing.T) {
	s := toyserver.New(t, longLease)
	s.Define("d", `[{"task":"q"}]`)
	id := s.Start("d")
	w := newWorker(t, s, "q")
	w.credit(1)
	got := w.tasks(1)[0]
	s.Restart()
	w = newWorker(t, s, "q")
	before := s.Task(id, 1).LeaseMs
	toyserver.Eventually(t, "the lease is extended", func() bool {
		w.beat(leaseOf(got))
		return s.Task(id, 1).LeaseMs > before
	})
	w.end()
	s.UntilTask(id, 1, "the task is back", func(x *tutti.Task) bool {
		return x.Status == tutti.Queued && x.InDoubt
	})
}

// TestSlowWorkerIsCutOff checks that what a worker does not read goes to others.
func TestSlowWorkerIsCutOff(t *testing.T) {
	const tasks = 12
	s := toyserver.New(t, 5*shortLease)
	s.Define("d", fmt.Sprintf(`[{"fork":%d,"steps":[{"task":"q","big":1000000}]}]`, tasks))
	id := s.Start("d")
	deaf := dialWorker(t, s, true)
	deaf.hello("q")
	deaf.credit(tasks)
	s.UntilTask(id, tasks+1, "the deaf worker has all", func(x *tutti.Task) bool {
		return x.Status == tutti.Running
	})
	w := newWorker(t, s, "q")
	stop := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		w.serve(stop)
	}()
	s.End(id)
	close(stop)
	<-served
	go deaf.read()
	if err := deaf.ended(); codeOf(err) != "WorkerTooSlow" {
		t.Errorf("the deaf worker's stream ended with %v", err)
	}
}
