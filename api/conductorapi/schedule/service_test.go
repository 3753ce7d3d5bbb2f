package schedule_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/schedule"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/value"
)

// clock is a scheduler over a server in memory, in fake time from 2000-01-01 00:00:00 UTC.
type clock struct {
	t      *testing.T
	svc    *api.Service
	mu     sync.Mutex
	starts []string // times of starts, and their keys
	fail   error
	stop   func()
}

// inFakeTime runs fn with a server in fake time.
func inFakeTime(t *testing.T, fn func(c *clock)) {
	synctest.Test(t, func(t *testing.T) {
		st, err := memstore.Open(memstore.Options{Shards: 1})
		if err != nil {
			t.Fatal(err)
		}
		dialects := []tutti.Dialect{conductor.Dialect{}}
		run, err := runner.Open(t.Context(), runner.Options{Store: st, Dialects: dialects, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		c := &clock{t: t, svc: api.New(api.Options{Runner: run, Dialects: dialects})}
		c.put(model.KindWorkflow, "w", 1,
			`{"name":"w","tasks":[{"name":"n","taskReferenceName":"n","type":"NOOP"}]}`)
		fn(c)
		if c.stop != nil {
			c.stop()
		}
		run.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (c *clock) put(kind, name string, version int, body string) {
	c.t.Helper()
	_, err := c.svc.PutDocument(c.t.Context(), engine.Document{
		Namespace: api.DefaultNamespace, Dialect: model.Dialect, Kind: kind, Name: name,
		Version: version, Body: value.Raw(body),
	}, engine.PutAny)
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *clock) start(
	ctx context.Context, request value.Raw, key string,
) (tutti.RunID, error) {
	c.mu.Lock()
	c.starts = append(c.starts, time.Now().UTC().Format(time.TimeOnly)+" "+key)
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return tutti.RunID{}, fail
	}
	input, _ := request.Field("input")
	started, err := c.svc.Start(ctx, tutti.RunSpec{
		Namespace: api.DefaultNamespace, Dialect: model.Dialect, Definition: "w", Input: input,
		IdempotencyKey: key, OnDuplicate: tutti.DuplicateReturn,
	})
	return started.ID, err
}

// failWith makes starts fail from now on.
func (c *clock) failWith(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = err
}

// open starts a scheduler, after the one that runs has stopped.
func (c *clock) open() *schedule.Service {
	if c.stop != nil {
		c.stop()
	}
	s := schedule.New(schedule.Options{Service: c.svc, Start: c.start})
	ctx, cancel := context.WithCancel(c.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	c.stop = func() { cancel(); <-done }
	return s
}

// pass lets fake time pass.
func (c *clock) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// expect compares the starts since the last call.
func (c *clock) expect(want ...string) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := cmp.Diff(want, c.starts); diff != "" {
		c.t.Error(diff)
	}
	c.starts = nil
}

func minutely(rest string) string {
	return `{"name":"m","cronExpression":"0 * * * * *",` +
		`"startWorkflowRequest":{"name":"w"}` + rest + `}`
}

func TestStartsAtItsTimes(t *testing.T) {
	inFakeTime(t, func(c *clock) {
		c.open()
		c.pass(30 * time.Second)
		c.put(schedule.Kind, "m", 0, minutely(""))
		c.pass(2 * time.Minute)
		c.expect("00:01:00 schedule:m:946684860000", "00:02:00 schedule:m:946684920000")
		c.put(schedule.Kind, "m", 0, minutely(`,"paused":true`))
		c.pass(2 * time.Minute)
		c.expect()
		c.put(schedule.Kind, "m", 0, minutely(`,"scheduleEndTime":946685100000`)) // 00:05:00
		c.pass(5 * time.Minute)
		c.expect("00:05:00 schedule:m:946685100000")
	})
}

func TestMissedTimes(t *testing.T) {
	for _, test := range []struct {
		name, rest string
		want       []string
	}{
		{"are left out", "", []string{"00:04:00 schedule:m:946685040000"}},
		{"are made up for", `,"runCatchupScheduleInstances":true`, []string{
			"00:03:30 schedule:m:946684920000", "00:03:30 schedule:m:946684980000",
			"00:04:00 schedule:m:946685040000",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFakeTime(t, func(c *clock) {
				c.put(schedule.Kind, "m", 0, minutely(test.rest))
				c.open()
				c.pass(90 * time.Second)
				c.expect("00:01:00 schedule:m:946684860000")
				c.stop()
				c.pass(2 * time.Minute)
				c.open()
				c.pass(time.Minute)
				c.expect(test.want...)
			})
		})
	}
}

// TestOnce checks that two servers with the same schedule start one workflow for each time.
func TestOnce(t *testing.T) {
	inFakeTime(t, func(c *clock) {
		c.put(schedule.Kind, "m", 0, minutely(""))
		c.open()
		first := c.stop
		c.stop = nil
		c.open()
		c.pass(90 * time.Second)
		first()
		const key = "00:01:00 schedule:m:946684860000"
		c.expect(key, key) // each server tries
		found, err := c.svc.Search(c.t.Context(), api.Query{Namespace: api.DefaultNamespace})
		if err != nil || found.Total != 1 {
			t.Errorf("%d workflows, error %v; want 1", found.Total, err)
		}
	})
}

func TestFailures(t *testing.T) {
	inFakeTime(t, func(c *clock) {
		c.put(schedule.Kind, "m", 0, minutely(""))
		s := c.open()
		c.failWith(tutti.E(tutti.Unavailable, "start", "Down", "the server is down"))
		c.pass(61 * time.Second)
		c.failWith(errors.New("it will never work"))
		c.pass(2 * time.Second)
		c.expect("00:01:00 schedule:m:946684860000", "00:01:01 schedule:m:946684860000",
			"00:01:02 schedule:m:946684860000")
		list, err := s.Executions(c.t.Context(), "m")
		if err != nil || len(list) != 1 {
			t.Fatalf("executions %s, error %v; want one", list, err)
		}
		for name, want := range map[string]string{
			"state": "FAILED", "reason": "it will never work", "scheduleName": "m",
			"workflowName": "w", "zoneId": "UTC",
		} {
			f, _ := list[0].Field(name)
			if got, _ := f.Text(); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	})
}

func TestPauseOfServer(t *testing.T) {
	inFakeTime(t, func(c *clock) {
		c.put(schedule.Kind, "m", 0, minutely(""))
		s := c.open()
		s.Pause(true)
		c.pass(90 * time.Second)
		c.expect()
		s.Pause(false)
		c.pass(45 * time.Second)
		c.expect("00:01:30 schedule:m:946684860000", "00:02:00 schedule:m:946684920000")
		if err := s.Forget(c.t.Context(), "m"); err != nil {
			t.Error(err)
		}
		if list, err := s.Executions(c.t.Context(), "m"); err != nil || len(list) != 0 {
			t.Errorf("%d executions are left, error %v", len(list), err)
		}
	})
}

// TestInput checks what a workflow is told of its start.
func TestInput(t *testing.T) {
	inFakeTime(t, func(c *clock) {
		c.put(schedule.Kind, "m", 0, `{"name":"m","cronExpression":"0 * * * * *","zoneId":
			"Europe/Berlin","startWorkflowRequest":{"name":"w","input":{"a":1}}}`)
		c.open()
		c.pass(61 * time.Second)
		found, err := c.svc.Search(c.t.Context(), api.Query{Namespace: api.DefaultNamespace})
		if err != nil || len(found.Runs) != 1 {
			t.Fatalf("%d workflows, error %v; want 1", len(found.Runs), err)
		}
		decoded, err := found.Runs[0].Input.Parse()
		if err != nil {
			t.Fatal(err)
		}
		in, _ := decoded.(*value.Object)
		in.Delete("_executionId")
		want := `{"a":1,"_startedByScheduler":"m","_scheduledTime":946684860000,` +
			`"_executedTime":946684860000,"_schedulerCron":"0 * * * * * Europe/Berlin"}`
		if diff := cmp.Diff(want, string(value.Marshal(in))); diff != "" {
			t.Error(diff)
		}
	})
}
