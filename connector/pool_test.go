package connector_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/value"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memorySource hands out tasks that are put into it.
type memorySource struct {
	queue    chan connector.LeasedTask
	leaseErr func() error

	mu       sync.Mutex
	finished map[string]connector.Outcome
	leases   []any
}

func newSource() *memorySource {
	return &memorySource{
		queue:    make(chan connector.LeasedTask, 1000),
		finished: map[string]connector.Outcome{},
	}
}

func (s *memorySource) put(id string) {
	s.queue <- connector.LeasedTask{
		Task:  connector.Task{ID: id, Type: "HTTP", Input: value.Raw(`{}`)},
		Lease: "lease of " + id,
	}
}

func (s *memorySource) Lease(
	ctx context.Context, _ string, max int,
) ([]connector.LeasedTask, error) {
	if s.leaseErr != nil {
		if err := s.leaseErr(); err != nil {
			return nil, err
		}
	}
	var out []connector.LeasedTask
	select {
	case t := <-s.queue:
		out = append(out, t)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for len(out) < max {
		select {
		case t := <-s.queue:
			out = append(out, t)
		default:
			return out, nil
		}
	}
	return out, nil
}

func (s *memorySource) Finish(
	ctx context.Context, t connector.LeasedTask, o connector.Outcome,
) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finished[t.ID] = o
	s.leases = append(s.leases, t.Lease)
	return ctx.Err()
}

func (s *memorySource) outcome(id string) connector.Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished[id]
}

type performFunc func(context.Context, connector.Task) connector.Outcome

func (f performFunc) Perform(ctx context.Context, t connector.Task) connector.Outcome {
	return f(ctx, t)
}

func start(t *testing.T, src connector.Source, n int, f performFunc) (stop func()) {
	t.Helper()
	p := &connector.Pool{
		Source:  src,
		Workers: []connector.Worker{{Queue: "q", Connector: f, Concurrency: n}},
		Drain:   time.Minute,
		Log:     slog.New(slog.DiscardHandler),
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

func TestPoolBoundsConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		var mu sync.Mutex
		var now, most int
		stop := start(t, src, 3, func(context.Context, connector.Task) connector.Outcome {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			<-time.After(time.Second) // fake time
			mu.Lock()
			now--
			mu.Unlock()
			return connector.Outcome{Status: tutti.Completed}
		})
		for i := range 20 {
			src.put(fmt.Sprint("t", i))
		}
		begin := time.Now()
		<-time.After(7 * time.Second)
		synctest.Wait()
		if len(src.finished) != 20 {
			t.Errorf("finished %d of 20 in %v", len(src.finished), time.Since(begin))
		}
		stop()
		if most != 3 {
			t.Errorf("at most %d at once, want 3", most)
		}
		if src.leases[0] == nil {
			t.Error("the lease was not handed back")
		}
	})
}

func TestPoolRecoversPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		stop := start(t, src, 1, func(_ context.Context, task connector.Task) connector.Outcome {
			if task.ID == "bad" {
				panic("boom")
			}
			return connector.Outcome{Status: tutti.Completed}
		})
		src.put("bad")
		src.put("good")
		synctest.Wait()
		stop()
		if o := src.outcome("bad"); o.Status != tutti.Fatal || !strings.Contains(o.Reason, "boom") {
			t.Errorf("panicked task ended as %+v", o)
		}
		if o := src.outcome("good"); o.Status != tutti.Completed {
			t.Errorf("the task after the panic ended as %+v", o)
		}
	})
}

func TestPoolDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		stop := start(t, src, 2, func(ctx context.Context, task connector.Task) connector.Outcome {
			if task.ID == "stuck" {
				<-ctx.Done()
				return connector.Failed("cancelled")
			}
			<-time.After(10 * time.Second)
			return connector.Outcome{Status: tutti.Completed}
		})
		src.put("slow")
		src.put("stuck")
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took != time.Minute {
			t.Errorf("drained in %v, want the minute that the stuck task is given", took)
		}
		if o := src.outcome("slow"); o.Status != tutti.Completed {
			t.Errorf("slow task ended as %+v, want it to complete", o)
		}
		if o := src.outcome("stuck"); o.Reason != "cancelled" {
			t.Errorf("stuck task ended as %+v, want it cancelled", o)
		}
	})
}

func TestPoolDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		stop := start(t, src, 1, func(ctx context.Context, _ connector.Task) connector.Outcome {
			<-ctx.Done()
			return connector.Failed(ctx.Err().Error())
		})
		src.queue <- connector.LeasedTask{
			Task: connector.Task{ID: "t", Deadline: time.Now().Add(5 * time.Second)},
		}
		<-time.After(6 * time.Second)
		synctest.Wait()
		if o := src.outcome("t"); o.Reason != context.DeadlineExceeded.Error() {
			t.Errorf("ended as %+v, want its deadline to end it", o)
		}
		stop()
	})
}

func TestPoolSurvivesLeaseErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSource()
		calls := 0
		src.leaseErr = func() error {
			if calls++; calls <= 5 {
				return errors.New("store is away")
			}
			return nil
		}
		stop := start(t, src, 1, func(context.Context, connector.Task) connector.Outcome {
			return connector.Outcome{Status: tutti.Completed}
		})
		src.put("t")
		begin := time.Now()
		<-time.After(time.Minute)
		synctest.Wait()
		stop()
		if o := src.outcome("t"); o.Status != tutti.Completed {
			t.Errorf("ended as %+v after %v", o, time.Since(begin))
		}
		if calls > 8 {
			t.Errorf("leased %d times, want a pause between failures", calls)
		}
	})
}
