package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tutti-run/tutti/client"
)

// patience is how long nothing may happen before a workload is given up.
const patience = 30 * time.Second

// warmUp is how long a workload runs before it is measured.
func warmUp(d time.Duration) time.Duration { return min(2*time.Second, d/2) }

// window is the part of a workload that is measured.
type window struct {
	t     *target
	begun time.Time
	cpu   time.Duration
}

func (t *target) window() window { return window{t, time.Now(), t.cpu()} }

// close notes the figures of the runs that ended within the window.
func (w window) close(res *Result, runs int) {
	took := time.Since(w.begun)
	res.Runs = runs
	res.RunsPerSecond = float64(runs) / took.Seconds()
	if runs > 0 {
		res.CPUMsPerRun = float64(w.t.cpu()-w.cpu) / float64(time.Millisecond) / float64(runs)
	}
	_, highest := w.t.rss()
	res.RSSMB = highest / (1 << 20)
}

// stream is W1 by the native stream at saturation: as soon as a run ends, another begins.
func stream(ctx context.Context, t *target, res *Result) error {
	if err := t.register(ctx, threeSteps()); err != nil {
		return err
	}
	if err := t.startWorkers(ctx, "stream", t.grpc); err != nil {
		return err
	}
	s, err := t.client.Session(ctx)
	if err != nil {
		return err
	}
	l := newLoad(t, s, "bench_three_steps", payload)
	disk := t.disk()
	if err := l.keep(ctx, t.o.InFlight, warmUp(t.o.Duration)); err != nil {
		return err
	}
	w := t.window()
	before := l.count()
	if err := l.keep(ctx, t.o.InFlight, t.o.Duration); err != nil {
		return err
	}
	w.close(res, l.count()-before)
	if err := l.drain(ctx); err != nil {
		return err
	}
	quantiles(res, l.latencies())
	s.Close()
	after, err := t.settledDisk(ctx)
	res.DiskBytesPerRun = max(after-disk, 0) / float64(l.count())
	return err
}

// load keeps a number of runs going over a session and notes how they end.
type load struct {
	t     *target
	s     *client.Session
	name  string
	input func() object
	ended chan time.Duration
	fail  chan error
	open  int

	mu    sync.Mutex
	times []time.Duration
}

func newLoad(
	t *target, s *client.Session, definition string, input func() object,
) *load {
	return &load{
		t: t, s: s, name: definition, input: input,
		ended: make(chan time.Duration, 1<<16), fail: make(chan error, 1),
	}
}

// begin starts one run.
func (l *load) begin() error {
	begun := time.Now()
	l.open++
	return l.s.Start(client.StartOptions{
		Definition: l.name, Input: l.input(),
	}, nil, func(e client.Ended) {
		switch {
		case e.Err != nil:
			l.report(e.Err)
		case e.Status != "COMPLETED":
			l.report(fmt.Errorf("run %s is %s: %s", e.RunID, e.Status, e.Reason))
		default:
			l.ended <- time.Since(begun)
		}
	})
}

func (l *load) report(err error) {
	select {
	case l.fail <- err:
	default:
	}
}

// keep holds a number of runs open for a time.
func (l *load) keep(ctx context.Context, n int, d time.Duration) error {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		for l.open < n {
			if err := l.begin(); err != nil {
				return err
			}
		}
		select {
		case <-end.C:
			return nil
		default:
		}
		if err := l.next(ctx); err != nil {
			return err
		}
	}
}

// next waits for the end of a run.
func (l *load) next(ctx context.Context) error {
	give := time.NewTimer(patience)
	defer give.Stop()
	select {
	case took := <-l.ended:
		l.open--
		l.mu.Lock()
		l.times = append(l.times, took)
		l.mu.Unlock()
		return nil
	case err := <-l.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-give.C:
		return l.t.stuck(ctx, fmt.Sprintf(
			"no run has ended for %v, and %d are open", patience, l.open))
	}
}

// drain waits for the end of all runs.
func (l *load) drain(ctx context.Context) error {
	for l.open > 0 {
		if err := l.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

func (l *load) latencies() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.times)
}

// latency is W1 at low load: runs begin at a steady rate, whatever becomes of the others.
func latency(ctx context.Context, t *target, res *Result) error {
	if err := t.register(ctx, threeSteps()); err != nil {
		return err
	}
	if err := t.startWorkers(ctx, "stream", t.grpc); err != nil {
		return err
	}
	s, err := t.client.Session(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	warm := newLoad(t, s, "bench_three_steps", payload)
	if err := warm.pace(ctx, t.o.Rate, warmUp(t.o.Duration)); err != nil {
		return err
	}
	l := newLoad(t, s, "bench_three_steps", payload)
	w := t.window()
	if err := l.pace(ctx, t.o.Rate, t.o.Duration); err != nil {
		return err
	}
	w.close(res, l.count())
	quantiles(res, l.latencies())
	return nil
}

// pace begins runs at a rate for a time and waits for their ends.
func (l *load) pace(ctx context.Context, rate float64, d time.Duration) error {
	tick := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := l.begin(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return l.drain(ctx)
}

var errNothing = errors.New("no run has ended; measure for longer")

// quantiles notes the median and the 99th percentile.
func quantiles(res *Result, times []time.Duration) {
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	ms := func(q float64) float64 {
		return float64(times[int(q*float64(len(times)-1))]) / float64(time.Millisecond)
	}
	res.P50Ms, res.P99Ms = ms(0.5), ms(0.99)
}
