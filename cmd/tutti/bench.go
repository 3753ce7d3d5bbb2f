package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tutti-run/tutti/bench"
)

type benchCmd struct {
	Server   string        `placeholder:"ADDR" help:"gRPC address of a server to measure; by default each workload starts one of its own in a fresh folder."`
	HTTP     string        `name:"http" placeholder:"ADDR" help:"HTTP address of that server, for w1_http."`
	Workload []string      `short:"w" placeholder:"NAME" help:"Workloads to run: ${workloads}; all by default."`
	Quick    bool          `help:"A short run with small sizes, to see that all works."`
	Duration time.Duration `default:"0s" help:"How long w1 is measured; 10s by default."`
	InFlight int           `default:"0" help:"Open runs at saturation; 1,024 by default."`
	Workers  int           `default:"1" help:"Worker processes."`
	Rate     float64       `default:"0" help:"Starts per second of w1_latency; 50 by default."`
	Width    int           `default:"0" help:"Branches of w2_fanout; 1,000 by default."`
	Idle     int           `default:"0" help:"Runs of w3_idle; 100,000 by default."`
	Steps    int           `default:"0" help:"Steps of w4_sequential; 10,000 by default."`
	Dir      string        `placeholder:"DIR" help:"Folder for the data; a temporary one by default."`
	Plot     string        `placeholder:"FILE" help:"Draw the figures into this SVG file."`
}

// Help describes the command.
func (benchCmd) Help() string {
	return "Measures runs of three steps at saturation by the native stream (w1_stream) and by " +
		"Conductor's HTTP API (w1_http), their time from start to end at low load (w1_latency), " +
		"a run of parallel steps (w2_fanout), runs that wait (w3_idle), and a run of steps in " +
		"sequence (w4_sequential)."
}

// Run measures.
func (c *benchCmd) Run(s *session) error {
	for _, w := range c.Workload {
		if !slices.Contains(bench.Workloads, w) {
			return usagef("--workload %s is none of %s", w, strings.Join(bench.Workloads, ", "))
		}
	}
	if c.Plot != "" && !strings.HasSuffix(c.Plot, ".svg") {
		return usagef("--plot draws SVG: name a file that ends in .svg")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the program itself: %w", err)
	}
	var o bench.Options
	if c.Quick {
		o.Quick()
	}
	o.Command, o.GRPC, o.HTTP, o.Dir = []string{self}, c.Server, c.HTTP, c.Dir
	o.Workloads, o.Workers = c.Workload, c.Workers
	override(&o.Duration, c.Duration)
	override(&o.InFlight, c.InFlight)
	override(&o.Rate, c.Rate)
	override(&o.Width, c.Width)
	override(&o.Idle, c.Idle)
	override(&o.Steps, c.Steps)
	if s.format != formatJSON {
		o.Log = s.Stderr
	}
	rep, err := bench.Run(s.ctx, o)
	if err != nil && len(rep.Results) == 0 {
		return err
	}
	return c.report(s, rep, err)
}

func override[T comparable](v *T, by T) {
	if by != *new(T) {
		*v = by
	}
}

// report prints what was measured before a workload failed, too.
func (c *benchCmd) report(s *session, rep *bench.Report, failed error) error {
	if c.Plot != "" {
		var svg bytes.Buffer
		if err := rep.Plot(&svg); err != nil {
			return err
		}
		if err := os.WriteFile(c.Plot, svg.Bytes(), 0o644); err != nil {
			return fmt.Errorf("write the plot: %w", err)
		}
	}
	if s.format == formatJSON {
		if err := s.json(rep); err != nil {
			return err
		}
		return failed
	}
	printReport(s.Stdout, rep)
	return failed
}

func printReport(w io.Writer, rep *bench.Report) {
	m := rep.Machine
	_, _ = fmt.Fprintf(w, "%s, %d cores, %d MB, %s, %s\n\n", m.CPU, m.Cores, m.MemoryMB, m.OS, m.Go)
	t := table{head: []string{
		"WORKLOAD", "RUNS", "RUNS/S", "STARTS/S", "P50 MS", "P99 MS", "CPU MS/RUN", "DISK B/RUN",
		"MEM B/RUN", "RSS MB", "MS/STEP", "LAST/FIRST", "RESTART S",
	}}
	for _, r := range rep.Results {
		row := []any{r.Workload, r.Runs}
		for _, v := range []float64{
			r.RunsPerSecond, r.StartsPerSecond, r.P50Ms, r.P99Ms, r.CPUMsPerRun,
			r.DiskBytesPerRun, r.MemoryPerRun, r.RSSMB, r.MsPerStep, r.LastToFirstRatio,
			r.RestartSeconds,
		} {
			cell := ""
			if v != 0 {
				cell = bench.Number(v)
			}
			row = append(row, cell)
		}
		t.add(row...)
	}
	t.print(w)
	goals := table{head: []string{"GOAL", "FIGURE", "MEASURED", "ASKED", "UNIT", ""}}
	for _, f := range rep.Figures() {
		verdict := "met"
		if !f.Met {
			verdict = "missed"
		}
		goals.add(f.Workload, f.Name, bench.Number(f.Value), bench.Number(f.Goal), f.Unit, verdict)
	}
	_, _ = fmt.Fprintln(w)
	goals.print(w)
}

// benchWorkerCmd is what the bench starts as its worker processes.
type benchWorkerCmd struct {
	Kind        string `enum:"stream,http" default:"stream" help:"Protocol."`
	Addr        string `required:"" help:"Address of the server."`
	Concurrency int    `default:"1024" help:"Tasks at the same time."`
}

// Run works until it is told to stop.
func (c *benchWorkerCmd) Run(s *session) error {
	return bench.Work(s.ctx, s.Stdout, c.Kind, c.Addr, c.Concurrency)
}
