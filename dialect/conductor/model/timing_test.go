package model

import (
	"math"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const s, m, h, d = 1000, 60_000, 3_600_000, 86_400_000
	tests := []struct {
		text string
		want int64 // -1: an error
	}{
		{"10s", 10 * s},
		{"10 seconds", 10 * s},
		{"1 sec", 1 * s},
		{"2 SECS", 2 * s},
		{"5m", 5 * m},
		{"5 minutes 3 s", 5*m + 3*s},
		{"1min2secs", m + 2*s},
		{"1 hour", h},
		{"3hrs 1 Mins", 3*h + m},
		{"2 days 4h 5 min 6s", 2*d + 4*h + 5*m + 6*s},
		{" 1d ", d},
		{"", 0},
		{"0s", 0},
		{"100 days", 100 * d},
		{"25000 days", 25000 * d},
		{"1s 1m", -1},
		{"10", -1},
		{"1.5s", -1},
		{"-1s", -1},
		{"1 week", -1},
		{"9999999999s", -1},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.text)
		if (err != nil) != (tt.want < 0) || (err == nil && got != tt.want) {
			t.Errorf("%q: got %d, %v; want %d", tt.text, got, err, tt.want)
		}
	}
	if _, err := ParseDuration("x"); err == nil || err.Error() != "Not valid duration: x" {
		t.Errorf("got %v", err)
	}
}

func TestParseUntil(t *testing.T) {
	berlin := time.FixedZone("Berlin", 3600)
	tests := []struct {
		text string
		in   *time.Location
		want string // empty: an error
	}{
		{"2026-03-04", nil, "2026-03-04T00:00:00Z"},
		{"2026-03-04", berlin, "2026-03-03T23:00:00Z"},
		{"2026-03-04 05:06", nil, "2026-03-04T05:06:00Z"},
		{"2026-03-04 05:06", berlin, "2026-03-04T04:06:00Z"},
		{"2026-3-4 5:6", nil, "2026-03-04T05:06:00Z"},
		{"2026-03-04 05:06 PST", berlin, "2026-03-04T13:06:00Z"},
		{"2026-03-04 05:06 UTC", berlin, "2026-03-04T05:06:00Z"},
		{"2026-03-04 05:06 gmt", berlin, "2026-03-04T05:06:00Z"},
		{"2026-03-04 05:06 +0530", nil, "2026-03-03T23:36:00Z"},
		{"2026-03-04 05:06 -0800", nil, "2026-03-04T13:06:00Z"},
		{"2026-03-04 05:06 GMT+5:30", nil, "2026-03-03T23:36:00Z"},
		{"2026-03-04 05:06 IST", nil, "2026-03-03T23:36:00Z"},
		{"2026-13-01", nil, "2027-01-01T00:00:00Z"},
		{"2026-03-04 05:06 Mars", nil, ""},
		{"2026-03-04 05:06 +9900", nil, ""},
		{"2026-03-04T05:06:00Z", nil, ""},
		{"2026-03-04 05:06:07", nil, ""},
		{"tomorrow", nil, ""},
		{"", nil, ""},
	}
	for _, tt := range tests {
		got, err := ParseUntil(tt.text, tt.in)
		if err != nil {
			if tt.want != "" {
				t.Errorf("%q: %v", tt.text, err)
			}
			continue
		}
		if s := time.UnixMilli(got).UTC().Format(time.RFC3339); s != tt.want {
			t.Errorf("%q: got %s, want %s", tt.text, s, tt.want)
		}
	}
}

func TestWaitDeadline(t *testing.T) {
	const now = 1_000_000
	tests := []struct {
		duration, until string
		want            int64
		reason          string
	}{
		{"", "  ", 0, ""},
		{"10s", "", now + 10_000, ""},
		{"", "1970-01-01", 1, ""},
		{"", "1970-01-02", 86_400_000, ""},
		{
			"1s", "2026-01-01", 0,
			"Both 'duration' and 'until' specified. Please provide only one input",
		},
		{"soon", "", 0, "Not valid duration: soon"},
		{"", "soon", 0, "Invalid/Unsupported Wait Until format.  Provided: soon"},
	}
	for _, tt := range tests {
		got, err := WaitDeadline(tt.duration, tt.until, now, nil)
		reason := ""
		if err != nil {
			reason = err.Error()
		}
		if got != tt.want || reason != tt.reason {
			t.Errorf("%q %q: got %d, %q", tt.duration, tt.until, got, reason)
		}
	}
}

func TestRetryDelay(t *testing.T) {
	tests := []struct {
		name              string
		logic             RetryLogic
		delay, scale, cap int
		jitter, attempt   int
		random            uint64
		seconds           int
		ms                int64
	}{
		{"fixed", RetryFixed, 60, 5, 0, 0, 7, 0, 60, 60_000},
		{"at once", RetryFixed, 0, 1, 0, 0, 0, 0, 0, 0},
		{"linear", RetryLinear, 10, 3, 0, 0, 0, 0, 30, 30_000},
		{"linear later", RetryLinear, 10, 3, 0, 0, 4, 0, 150, 150_000},
		{"exponential", RetryExponential, 5, 1, 0, 0, 0, 0, 5, 5_000},
		{"exponential later", RetryExponential, 5, 9, 0, 0, 3, 0, 40, 40_000},
		{"cap", RetryExponential, 5, 1, 30, 0, 3, 0, 30, 30_000},
		{"cap before jitter", RetryFixed, 60, 1, 30, 500, 0, math.MaxUint64, 30, 30_500},
		{"jitter", RetryFixed, 1, 1, 0, 999, 0, 1 << 63, 1, 1_500},
		{"overflow", RetryExponential, 60, 1, 0, 0, 31, 0, math.MaxInt32, math.MaxInt32 * 1000},
		{"far", RetryExponential, 1, 1, 0, 0, 1000, 0, math.MaxInt32, math.MaxInt32 * 1000},
		{
			"linear overflow", RetryLinear, math.MaxInt32, math.MaxInt32, 0, 0, math.MaxInt32, 0,
			math.MaxInt32, math.MaxInt32 * 1000,
		},
		{"zero stays zero", RetryExponential, 0, 1, 0, 0, 100, 0, 0, 0},
	}
	for _, tt := range tests {
		d := NewTaskDef()
		d.RetryLogic, d.RetryDelaySeconds, d.BackoffScaleFactor = tt.logic, tt.delay, tt.scale
		d.MaxRetryDelaySeconds, d.BackoffJitterMs = tt.cap, tt.jitter
		ms, seconds := RetryDelay(d, tt.attempt, tt.random)
		if ms != tt.ms || seconds != tt.seconds {
			t.Errorf("%s: got %d ms, %d s; want %d ms, %d s",
				tt.name, ms, seconds, tt.ms, tt.seconds)
		}
	}
}

func TestPayloadLimits(t *testing.T) {
	l := PayloadLimits{TaskHard: 100, WorkflowHard: 200, Variables: 1024}
	tests := []struct {
		err  error
		want string
	}{
		{l.CheckTask(100, "t", "w"), ""},
		{l.CheckTask(101, "t", "w"), "The payload size: 101 of task: t in workflow: w " +
			" is greater than the permissible limit: 100 bytes"},
		{l.CheckWorkflow(200, "w"), ""},
		{l.CheckWorkflow(201, "w"), "The payload size: 201 of workflow: w" +
			" is greater than the permissible limit: 200 bytes"},
		{l.CheckVariables(1024, "w"), ""},
		{l.CheckVariables(1025, "w"), "The variables payload size: 1025 of workflow: w" +
			" is greater than the permissible limit: 1 kilobytes"},
	}
	for i, tt := range tests {
		if got := tt.err; (got == nil) != (tt.want == "") ||
			(got != nil && got.Error() != tt.want) {
			t.Errorf("%d: got %v, want %s", i, got, tt.want)
		}
	}
	if l := DefaultPayloadLimits; l.TaskHard != 10<<20 || l.WorkflowSoft != 5<<20 {
		t.Errorf("defaults: %+v", l)
	}
}

func FuzzWaitDeadline(f *testing.F) {
	f.Add("1d 2h 3m 4s", "")
	f.Add("", "2026-01-02 03:04 GMT+5:30")
	f.Fuzz(func(t *testing.T, duration, until string) {
		at, err := WaitDeadline(duration, until, 1_000_000, nil)
		switch {
		case err != nil && at != 0:
			t.Errorf("%q %q: deadline %d with an error", duration, until, at)
		case err == nil && at < 0:
			t.Errorf("%q %q: deadline %d", duration, until, at)
		case err == nil && at == 0 && (!isBlank(duration) || !isBlank(until)):
			t.Errorf("%q %q: waits for ever", duration, until)
		}
	})
}
