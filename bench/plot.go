package bench

import (
	"fmt"
	"html"
	"io"
)

// goal is what the performance budget asks of a figure.
type goal struct {
	workload, figure, unit string
	value                  float64
	lessIsBetter           bool
	of                     func(*Result) float64
}

func runsPerSecond(r *Result) float64   { return r.RunsPerSecond }
func startsPerSecond(r *Result) float64 { return r.StartsPerSecond }
func median(r *Result) float64          { return r.P50Ms }
func highTail(r *Result) float64        { return r.P99Ms }
func cpuPerRun(r *Result) float64       { return r.CPUMsPerRun }
func diskPerRun(r *Result) float64      { return r.DiskBytesPerRun }
func memory(r *Result) float64          { return r.RSSMB }
func perStep(r *Result) float64         { return r.MsPerStep }
func growth(r *Result) float64          { return r.LastToFirstRatio }

var goals = []goal{
	{"w1_stream", "finished runs", "/s", 20_000, false, runsPerSecond},
	{"w1_stream", "processor time", "ms/run", 0.1, true, cpuPerRun},
	{"w1_stream", "disk", "B/run", 1200, true, diskPerRun},
	{"w1_stream", "server memory", "MB", 200, true, memory},
	{"w1_http", "finished runs", "/s", 3000, false, runsPerSecond},
	{"w1_latency", "start to end, median", "ms", 3.5, true, median},
	{"w1_latency", "start to end, 99 %", "ms", 8, true, highTail},
	{"w2_fanout", "1,000 steps and join", "ms", 40, true, median},
	{"w3_idle", "starts", "/s", 20_000, false, startsPerSecond},
	{"w3_idle", "disk", "B/run", 700, true, diskPerRun},
	{"w4_sequential", "time", "ms/step", 0.8, true, perStep},
	{"w4_sequential", "last to first step", "", 1.1, true, growth},
}

// Figure is one figure of a report beside its goal.
type Figure struct {
	Workload, Name, Unit string
	Value, Goal          float64
	LessIsBetter, Met    bool
}

// Figures compares a report with the performance budget. Figures that were not measured are
// left out.
func (r *Report) Figures() (out []Figure) {
	for _, g := range goals {
		for i := range r.Results {
			v := g.of(&r.Results[i])
			if r.Results[i].Workload != g.workload || v == 0 {
				continue
			}
			out = append(out, Figure{
				g.workload, g.figure, g.unit, v, g.value, g.lessIsBetter,
				(v <= g.value) == g.lessIsBetter || v == g.value,
			})
		}
	}
	return out
}

// Number formats a figure with three digits or so.
func Number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// The measures of the plot, in pixels.
const (
	rowHeight  = 34
	plotLeft   = 270
	plotWidth  = 420
	plotRight  = 190
	plotHeader = 64
)

// Plot draws the figures of a report as SVG: a bar for each, and a mark where its goal is.
// Every bar has a scale of its own, which ends at twice the goal.
func (r *Report) Plot(w io.Writer) error {
	figures := r.Figures()
	p := &printer{w: w}
	width, height := plotLeft+plotWidth+plotRight, plotHeader+rowHeight*len(figures)+20
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" `+
		`font-family="sans-serif" font-size="13">`+"\n", width, height)
	p.printf(`<rect width="100%%" height="100%%" fill="#fff"/>` + "\n")
	p.printf(`<text x="16" y="26" font-size="17">Tutti: figures and goals</text>`+"\n"+
		`<text x="16" y="46" fill="#555">%s, %d cores, %d MB, %s</text>`+"\n",
		html.EscapeString(r.Machine.CPU), r.Machine.Cores, r.Machine.MemoryMB,
		html.EscapeString(r.Machine.Time))
	for i, f := range figures {
		p.row(plotHeader+rowHeight*i, f)
	}
	p.printf("</svg>\n")
	return p.err
}

// row draws one figure.
func (p *printer) row(y int, f Figure) {
	scale := float64(plotWidth) / (2 * f.Goal)
	fill, sign := "#b3453a", "≥"
	if f.Met {
		fill = "#2f7d4f"
	}
	if f.LessIsBetter {
		sign = "≤"
	}
	text := y + 21
	p.printf(`<text x="16" y="%d"><tspan font-weight="bold">%s</tspan> %s</text>`+"\n",
		text, f.Workload, html.EscapeString(f.Name))
	p.printf(`<rect x="%d" y="%d" width="%.1f" height="20" fill="%s"/>`+"\n",
		plotLeft, y+6, min(f.Value*scale, plotWidth), fill)
	p.printf(`<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#222" stroke-width="2"/>`+"\n",
		plotLeft+f.Goal*scale, plotLeft+f.Goal*scale, y+2, y+30)
	p.printf(`<text x="%d" y="%d">%s %s (goal %s %s)</text>`+"\n", plotLeft+plotWidth+10, text,
		Number(f.Value), f.Unit, sign, Number(f.Goal))
}

// printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}
