package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantiles(t *testing.T) {
	var times []time.Duration
	for i := 100; i >= 0; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	var r Result
	quantiles(&r, times)
	if r.P50Ms != 50 || r.P99Ms != 99 {
		t.Errorf("p50 %v, p99 %v", r.P50Ms, r.P99Ms)
	}
	r = Result{}
	quantiles(&r, nil)
	if r.P50Ms != 0 {
		t.Errorf("quantiles of nothing: %v", r.P50Ms)
	}
}

func TestLastToFirst(t *testing.T) {
	at, times := time.Unix(0, 0), []time.Time{}
	for i := range 100 {
		step := time.Millisecond
		if i >= 90 {
			step = 3 * time.Millisecond
		}
		at = at.Add(step)
		times = append(times, at)
	}
	if got := lastToFirst(times); math.Abs(got-3) > 0.01 {
		t.Errorf("ratio %v, want 3", got)
	}
	if got := lastToFirst(times[:5]); got != 1 {
		t.Errorf("ratio of too few steps %v, want 1", got)
	}
}

func TestFigures(t *testing.T) {
	rep := Report{Results: []Result{
		{Workload: "w1_stream", RunsPerSecond: 25_000, CPUMsPerRun: 0.2},
		{Workload: "w4_sequential", MsPerStep: 0.8},
	}}
	type row struct {
		Name string
		Met  bool
	}
	var got []row
	for _, f := range rep.Figures() {
		got = append(got, row{f.Name, f.Met})
	}
	want := []row{{"finished runs", true}, {"processor time", false}, {"time", true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestPlot sees that the plot is well-formed and shows every figure.
func TestPlot(t *testing.T) {
	rep := Report{Machine: Machine{CPU: "<a & b>"}, Results: []Result{
		{Workload: "w1_stream", RunsPerSecond: 1e9, RSSMB: 12.34},
	}}
	var b strings.Builder
	if err := rep.Plot(&b); err != nil {
		t.Fatal(err)
	}
	dec := xml.NewDecoder(strings.NewReader(b.String()))
	for {
		_, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, b.String())
		}
	}
	for _, want := range []string{"finished runs", "12.3 MB", "&lt;a &amp; b&gt;"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the plot does not show %q", want)
		}
	}
}

func TestUnknownWorkload(t *testing.T) {
	_, err := Run(t.Context(), Options{Dir: t.TempDir(), Workloads: []string{"w9"}})
	if err == nil || !strings.Contains(err.Error(), "w1_stream") {
		t.Errorf("error %v, want one that lists the workloads", err)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		12345.6: "12346", 12.34: "12.3", 1.2345: "1.23", 0.012345: "0.0123", 10: "10.0",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
}
