// Package bench measures a server with the workloads of the performance budget: runs of three
// steps at saturation and at low load, one wide run, many idle runs, one long run. Workers are
// processes of their own and everything that a server acknowledges is durable.
//
// It may import the client and the standard library, nothing else of the module: it sees a
// server only as its users do. Its invariant: a figure is reported only for runs that were
// seen to end well.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Options say what to measure and how.
type Options struct {
	// Command starts the program under test: its path and the arguments before the name of
	// a command. It must know the commands serve and WorkerCommand.
	Command []string
	// Dir is where folders for data are made; a temporary one when empty.
	Dir string
	// GRPC and HTTP are the addresses of a server that runs already. When empty, each
	// workload starts one of its own in a fresh folder.
	GRPC, HTTP string
	// Workloads are names of Workloads; all when empty.
	Workloads []string
	// Duration is how long the workloads that run for a time are measured.
	Duration time.Duration
	// InFlight is how many runs are open at the same time at saturation.
	InFlight int
	// Workers is the number of worker processes.
	Workers int
	// Rate is how many runs a second are started at low load.
	Rate float64
	// Width is the number of branches of the wide run, Repeats how often it runs.
	Width, Repeats int
	// Idle is the number of runs that wait.
	Idle int
	// Steps is the length of the long run.
	Steps int
	// Log is told of progress; nil is nobody.
	Log io.Writer
}

// Quick makes a measurement of a few seconds, to see that all works.
func (o *Options) Quick() {
	o.Duration, o.InFlight, o.Rate = time.Second, 128, 50
	o.Width, o.Repeats, o.Idle, o.Steps = 100, 3, 1000, 200
}

// Default fills in what is not set.
func (o *Options) Default() {
	set(&o.Duration, 10*time.Second)
	set(&o.InFlight, 1024)
	set(&o.Workers, 1)
	set(&o.Rate, 50)
	set(&o.Width, 1000)
	set(&o.Repeats, 20)
	set(&o.Idle, 100_000)
	set(&o.Steps, 10_000)
	if o.Log == nil {
		o.Log = io.Discard
	}
	if len(o.Workloads) == 0 {
		o.Workloads = Workloads
	}
}

func set[T comparable](v *T, to T) {
	if *v == *new(T) {
		*v = to
	}
}

// Workloads are the names of all workloads, in order.
var Workloads = []string{
	"w1_stream", "w1_http", "w1_latency", "w2_fanout", "w3_idle", "w4_sequential",
}

var workloads = map[string]func(context.Context, *target, *Result) error{
	"w1_stream": stream, "w1_http": overHTTP, "w1_latency": latency, "w2_fanout": fanout,
	"w3_idle": idle, "w4_sequential": sequential,
}

// Result holds the figures of one workload; those that do not apply are zero.
type Result struct {
	Workload         string  `json:"workload"`
	Runs             int     `json:"runs,omitempty"`
	Steps            int     `json:"steps,omitempty"`
	RunsPerSecond    float64 `json:"runs_per_second,omitempty"`
	StartsPerSecond  float64 `json:"starts_per_second,omitempty"`
	P50Ms            float64 `json:"p50_ms,omitempty"`
	P99Ms            float64 `json:"p99_ms,omitempty"`
	CPUMsPerRun      float64 `json:"cpu_ms_per_run,omitempty"` // all processes
	DiskBytesPerRun  float64 `json:"disk_bytes_per_run,omitempty"`
	MemoryPerRun     float64 `json:"memory_bytes_per_run,omitempty"`
	RSSMB            float64 `json:"rss_mb,omitempty"` // of the server, at its highest
	Seconds          float64 `json:"seconds,omitempty"`
	MsPerStep        float64 `json:"ms_per_step,omitempty"`
	LastToFirstRatio float64 `json:"last_to_first_ratio,omitempty"`
	RestartSeconds   float64 `json:"restart_seconds,omitempty"`
}

// Report is what a measurement found.
type Report struct {
	Machine Machine  `json:"machine"`
	Results []Result `json:"results"`
}

// Run measures one workload after the other. The report holds those that were done when an
// error ends it.
func Run(ctx context.Context, o Options) (*Report, error) {
	o.Default()
	rep := &Report{Machine: describeMachine()}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "tutti-bench-")
		if err != nil {
			return rep, fmt.Errorf("make a folder for data: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		o.Dir = dir
	}
	for _, name := range o.Workloads {
		res, err := measure(ctx, &o, name)
		if err != nil {
			return rep, fmt.Errorf("%s: %w", name, err)
		}
		rep.Results = append(rep.Results, res)
	}
	return rep, nil
}

func measure(ctx context.Context, o *Options, name string) (res Result, err error) {
	fn, ok := workloads[name]
	if !ok {
		return res, fmt.Errorf("no such workload; there are %v", Workloads)
	}
	_, _ = fmt.Fprintf(o.Log, "%s …\n", name)
	res.Workload = name
	t := &target{o: o, dir: filepath.Join(o.Dir, name)}
	defer t.close()
	if err := t.open(ctx); err != nil {
		return res, err
	}
	begun := time.Now()
	err = fn(ctx, t, &res)
	res.Seconds = time.Since(begun).Seconds()
	return res, err
}
