package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // zones must be known on machines that have no files of them

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// Kind is the kind of document that schedules are.
const Kind = "schedule"

// Schedule says when a workflow is to be started.
type Schedule struct {
	Name         string
	Description  string
	Crons        []Zoned
	Multiple     bool // given as a list, in place of one expression and zone
	Catchup      bool // make up for times that passed while no server ran
	Paused       bool
	PausedReason string
	Request      value.Raw // StartWorkflowRequest
	StartMs      int64     // no start before; 0 = no bound
	EndMs        int64     // no start after; 0 = no bound
	CreatedBy    string
	UpdatedBy    string
	CreateMs     int64
	UpdateMs     int64
}

// Zoned is a cron expression in a time zone.
type Zoned struct {
	Expr, Zone string
	cron       *Cron
	loc        *time.Location
}

func newZoned(expr, zone string) (Zoned, error) {
	if zone == "" {
		zone = "UTC"
	}
	c, err := ParseCron(expr)
	if err != nil {
		return Zoned{}, err
	}
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return Zoned{}, fmt.Errorf("%q is no time zone", zone)
	}
	return Zoned{expr, zone, c, loc}, nil
}

func invalid(format string, args ...any) error {
	return tutti.E(tutti.Invalid, "read schedule", "InvalidSchedule", fmt.Sprintf(format, args...))
}

// Decode reads a WorkflowSchedule and checks it. The error is of kind Invalid.
func Decode(raw value.Raw) (*Schedule, error) {
	s := &Schedule{
		Name: text(raw, "name"), Description: text(raw, "description"),
		Catchup: flag(raw, "runCatchupScheduleInstances"), Paused: flag(raw, "paused"),
		PausedReason: text(raw, "pausedReason"),
		StartMs:      number(raw, "scheduleStartTime"), EndMs: number(raw, "scheduleEndTime"),
		CreatedBy: text(raw, "createdBy"), UpdatedBy: text(raw, "updatedBy"),
	}
	if strings.TrimSpace(s.Name) == "" {
		return nil, invalid("Schedule name is required")
	}
	s.Request, _ = raw.Field("startWorkflowRequest")
	if s.Request.Kind() != "object" {
		return nil, invalid("startWorkflowRequest is required")
	}
	if text(s.Request, "name") == "" {
		return nil, invalid("Workflow name cannot be null or empty")
	}
	if err := s.crons(raw); err != nil {
		return nil, invalid("Invalid cron expression: %s", err)
	}
	if s.StartMs > 0 && s.EndMs > 0 && s.EndMs < s.StartMs {
		return nil, invalid("scheduleEndTime is before scheduleStartTime")
	}
	return s, nil
}

var errNoCron = errors.New("cronExpression or cronSchedules is required")

// crons reads the list of expressions, or the single one when there is no list.
func (s *Schedule) crons(raw value.Raw) error {
	list, _ := raw.Field("cronSchedules")
	for e := range list.Elements() {
		z, err := newZoned(text(e, "cronExpression"), text(e, "zoneId"))
		if err != nil {
			return err
		}
		s.Crons, s.Multiple = append(s.Crons, z), true
	}
	if s.Multiple {
		return nil
	}
	expr := text(raw, "cronExpression")
	if expr == "" {
		return errNoCron
	}
	z, err := newZoned(expr, text(raw, "zoneId"))
	s.Crons = []Zoned{z}
	return err
}

// FromDocument reads a stored schedule.
func FromDocument(d engine.Document) (*Schedule, error) {
	s, err := Decode(d.Body)
	if err == nil {
		s.CreateMs, s.UpdateMs = d.CreateMs, d.UpdateMs
	}
	return s, err
}

// Next returns the first time after another at which the workflow is to be started, in Unix
// milliseconds, and the expression that says so; false when there is none.
func (s *Schedule) Next(afterMs int64) (atMs int64, by Zoned, ok bool) {
	if s.StartMs > 0 && afterMs < s.StartMs {
		afterMs = s.StartMs - 1
	}
	for _, z := range s.Crons {
		t, found := z.cron.Next(time.UnixMilli(afterMs).In(z.loc))
		if ms := t.UnixMilli(); found && (!ok || ms < atMs) {
			atMs, by, ok = ms, z, true
		}
	}
	if ok && s.EndMs > 0 && atMs > s.EndMs {
		return 0, Zoned{}, false
	}
	return atMs, by, ok
}

// Encode writes the schedule: as a document, or as the official WorkflowSchedule when nowMs is
// given, which then has its times.
func (s *Schedule) Encode(nowMs int64) value.Raw {
	o := value.NewObject()
	set := func(name, v string) {
		if v != "" {
			o.Set(name, v)
		}
	}
	set("name", s.Name)
	set("description", s.Description)
	if s.Multiple {
		var list []any
		for _, z := range s.Crons {
			c := value.NewObject()
			c.Set("cronExpression", z.Expr)
			c.Set("zoneId", z.Zone)
			list = append(list, c)
		}
		o.Set("cronSchedules", list)
	} else {
		o.Set("cronExpression", s.Crons[0].Expr)
		o.Set("zoneId", s.Crons[0].Zone)
	}
	o.Set("runCatchupScheduleInstances", s.Catchup)
	o.Set("paused", s.Paused)
	set("pausedReason", s.PausedReason)
	if request, err := s.Request.Parse(); err == nil {
		o.Set("startWorkflowRequest", request)
	}
	setMs := func(name string, ms int64) {
		if ms > 0 {
			o.Set(name, value.Int(ms))
		}
	}
	setMs("scheduleStartTime", s.StartMs)
	setMs("scheduleEndTime", s.EndMs)
	set("createdBy", s.CreatedBy)
	set("updatedBy", s.UpdatedBy)
	if nowMs > 0 {
		setMs("createTime", s.CreateMs)
		setMs("updatedTime", s.UpdateMs)
		if next, _, ok := s.Next(nowMs); ok {
			setMs("nextRunTime", next)
		}
	}
	return value.Marshal(o)
}

func text(raw value.Raw, name string) string {
	f, _ := raw.Field(name)
	s, _ := f.Text()
	return s
}

func flag(raw value.Raw, name string) bool {
	f, _ := raw.Field(name)
	v, _ := f.Bool()
	return v
}

func number(raw value.Raw, name string) int64 {
	f, _ := raw.Field(name)
	n, _ := f.Int64()
	return n
}

// Preview returns a schedule that is only asked for its times: one expression in UTC between
// two times, 0 for none.
func Preview(expr string, fromMs, toMs int64) (*Schedule, error) {
	z, err := newZoned(expr, "")
	if err != nil {
		return nil, invalid("Invalid cron expression: %s", err)
	}
	return &Schedule{Crons: []Zoned{z}, StartMs: fromMs, EndMs: toMs}, nil
}
