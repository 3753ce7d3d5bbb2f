package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tutti-run/tutti/client"
)

// fanout is W2: one run of many parallel steps at a time.
func fanout(ctx context.Context, t *target, res *Result) error {
	if err := t.register(ctx, wide()); err != nil {
		return err
	}
	if err := t.startWorkers(ctx, "stream", t.grpc); err != nil {
		return err
	}
	items := make([]object, t.o.Width)
	for i := range items {
		items[i] = object{"item": i}
	}
	s, err := t.client.Session(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	l := newLoad(t, s, "bench_wide", func() object { return object{"items": items} })
	w := t.window()
	for range t.o.Repeats {
		if err := l.begin(); err != nil {
			return err
		}
		if err := l.drain(ctx); err != nil {
			return err
		}
	}
	w.close(res, l.count())
	res.Steps = t.o.Width
	quantiles(res, l.latencies())
	res.MsPerStep = res.P50Ms / float64(t.o.Width)
	return nil
}

// idle is W3: many runs that wait for a signal, and a restart on top of them.
func idle(ctx context.Context, t *target, res *Result) error {
	if err := t.register(ctx, waiting()); err != nil {
		return err
	}
	before, _ := t.rss()
	disk := t.disk()
	w := t.window()
	if err := startIdle(ctx, t, t.o.Idle); err != nil {
		return err
	}
	took := time.Since(w.begun)
	w.close(res, t.o.Idle)
	res.RunsPerSecond, res.StartsPerSecond = 0, float64(t.o.Idle)/took.Seconds()
	now, _ := t.rss()
	if t.server == nil {
		return nil
	}
	res.MemoryPerRun = (now - before) / float64(t.o.Idle)
	restart, err := t.restart(ctx)
	if err != nil {
		return err
	}
	res.RestartSeconds = restart.Seconds()
	res.DiskBytesPerRun = (t.disk() - disk) / float64(t.o.Idle)
	return checkIdle(ctx, t)
}

// startIdle starts runs that wait, as many as it can at a time.
func startIdle(ctx context.Context, t *target, n int) error {
	s, err := t.client.Session(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	room, refused := make(chan struct{}, t.o.InFlight), make(chan error, 1)
	for range n {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(patience):
			return fmt.Errorf("no start was answered for %v", patience)
		}
		err := s.Start(client.StartOptions{
			Definition: "bench_waiting", Input: payload(),
		}, func(_ string, err error) {
			if err != nil {
				select {
				case refused <- err:
				default:
				}
			}
			<-room
		}, nil)
		if err != nil {
			return err
		}
	}
	for range cap(room) { // all are answered once the room is filled with nothing
		select {
		case room <- struct{}{}:
		case <-time.After(patience):
			return errors.New("some starts were never answered")
		}
	}
	select {
	case err := <-refused:
		return err
	default:
		return nil
	}
}

// checkIdle signals one of the waiting runs and sees it end, to show that they are alive.
func checkIdle(ctx context.Context, t *target) error {
	for r, err := range t.client.List(ctx, client.ListOptions{
		Definition: "bench_waiting", PageSize: 1,
	}) {
		if err != nil {
			return err
		}
		if err := t.client.Signal(ctx, r.ID, "approve", object{}); err != nil {
			return err
		}
		ended, err := t.client.Wait(ctx, r.ID)
		if err == nil && ended.Status != "COMPLETED" {
			err = fmt.Errorf("run %s is %s after its signal", r.ID, ended.Status)
		}
		return err
	}
	return errors.New("the waiting runs are gone after the restart")
}

// sequential is W4: one run of many steps in sequence. The worker is this process, so that
// it can time every step.
func sequential(ctx context.Context, t *target, res *Result) error {
	if err := t.register(ctx, long()); err != nil {
		return err
	}
	times := make([]time.Time, 0, t.o.Steps)
	var mu sync.Mutex
	w := t.client.Worker(client.WorkerOptions{Concurrency: 8})
	w.HandleRaw(stepQueues[0], func(context.Context, *client.Task) (json.RawMessage, error) {
		mu.Lock()
		times = append(times, time.Now())
		mu.Unlock()
		return json.RawMessage(`{}`), nil
	})
	workCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.Run(workCtx) }()
	defer func() {
		stop()
		<-done
	}()
	id, err := t.client.Start(ctx, client.StartOptions{
		Definition: "bench_long", Input: object{"n": t.o.Steps},
	})
	if err != nil {
		return err
	}
	win := t.window()
	r, err := t.client.Wait(ctx, id)
	switch {
	case err != nil:
		return err
	case r.Status != "COMPLETED":
		return fmt.Errorf("run %s is %s: %s", id, r.Status, r.Reason)
	case len(times) < t.o.Steps:
		return fmt.Errorf("%d of %d steps were done", len(times), t.o.Steps)
	}
	took := time.Since(win.begun)
	win.close(res, 1)
	res.RunsPerSecond = 0
	res.Steps = t.o.Steps
	res.MsPerStep = float64(took) / float64(time.Millisecond) / float64(t.o.Steps)
	res.LastToFirstRatio = lastToFirst(times)
	return nil
}

// lastToFirst compares the time that the last tenth of the steps took with the first.
func lastToFirst(times []time.Time) float64 {
	tenth := len(times) / 10
	if tenth < 2 {
		return 1
	}
	first := times[tenth-1].Sub(times[0])
	last := times[len(times)-1].Sub(times[len(times)-tenth])
	return float64(last) / float64(first)
}
