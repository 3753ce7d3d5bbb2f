// Package schedule starts workflows by the clock: Conductor's schedules, with the cron
// expressions of Spring, time zones, and one start for each scheduled time however often the
// server stops and starts.
//
// It may import the root package, value, dialect/conductor and api. Its invariants: nothing
// polls, one timer waits for the earliest time; a scheduled time is started under a key of its
// own, so that it takes effect once.
package schedule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Cron is a parsed cron expression of six fields: second, minute, hour, day of month, month and
// day of week, all of which must match. Days may be L, L-3, LW and 15W, weekdays 5L and FRI#2.
//
// Where clocks are set back, an expression for certain hours matches the first of two equal
// times, one for every hour matches both. Times that are left out where clocks are set forward
// never come.
type Cron struct {
	second, minute, hour uint64 // bit n: value n matches
	month                uint64
	days                 []dayRule // one must match
	weekdays             []dayRule // one must match
}

// dayRule reports whether a day matches.
type dayRule func(d date) bool

type date struct {
	year    int
	month   time.Month
	day     int
	weekday time.Weekday
	last    int // days of the month
}

var macros = map[string]string{
	"@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *",
	"@weekly": "0 0 0 * * 0", "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *",
	"@hourly": "0 0 * * * *",
}

// field describes one field of an expression.
type field struct {
	name     string
	min, max int
	names    []string // of min, min+1, …
}

var (
	secondField  = field{name: "second", max: 59}
	minuteField  = field{name: "minute", max: 59}
	hourField    = field{name: "hour", max: 23}
	dayField     = field{name: "day of month", min: 1, max: 31}
	monthField   = field{name: "month", min: 1, max: 12, names: monthNames}
	weekdayField = field{name: "day of week", max: 7, names: weekdayNames}

	monthNames = strings.Fields("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
	// Sunday comes first and last, so that both SUN-TUE and FRI-SUN are ranges.
	weekdayNames = strings.Fields("SUN MON TUE WED THU FRI SAT")
)

const everyHour = 1<<24 - 1

// ParseCron reads an expression. The error says which field is wrong.
func ParseCron(expr string) (*Cron, error) {
	expr = strings.TrimSpace(expr)
	if m, ok := macros[strings.ToLower(expr)]; ok {
		expr = m
	}
	parts := strings.Fields(expr)
	if len(parts) != 6 {
		return nil, fmt.Errorf("cron expression %q has %d fields; want 6: second minute hour"+
			" day month weekday", expr, len(parts))
	}
	c := new(Cron)
	var err error
	for i, bits := range []*uint64{&c.second, &c.minute, &c.hour, nil, &c.month} {
		f := []field{secondField, minuteField, hourField, dayField, monthField}[i]
		if bits == nil {
			continue
		}
		if *bits, err = f.list(parts[i]); err != nil {
			return nil, fmt.Errorf("cron expression %q: %w", expr, err)
		}
	}
	if c.days, err = parseDays(parts[3]); err == nil {
		c.weekdays, err = parseWeekdays(parts[5])
	}
	if err != nil {
		return nil, fmt.Errorf("cron expression %q: %w", expr, err)
	}
	return c, nil
}

func (f field) fault(text string) error { return fmt.Errorf("%q is no %s", text, f.name) }

// list reads values, ranges and steps separated by commas.
func (f field) list(text string) (bits uint64, err error) {
	for _, part := range strings.Split(text, ",") {
		b, err := f.span(part)
		if err != nil {
			return 0, err
		}
		bits |= b
	}
	return bits, nil
}

// span reads *, a value or a range, with a step or without.
func (f field) span(text string) (uint64, error) {
	body, stepText, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		n, err := strconv.Atoi(stepText)
		if err != nil || n < 1 {
			return 0, f.fault(text)
		}
		step = n
	}
	from, to := f.min, f.max
	if body != "*" {
		lo, hi, isRange := strings.Cut(body, "-")
		var ok bool
		if from, ok = f.value(lo); !ok {
			return 0, f.fault(text)
		}
		switch {
		case isRange:
			if to, ok = f.value(hi); !ok {
				return 0, f.fault(text)
			}
			if to == 0 && f.max == weekdayField.max {
				to = f.max // a range that ends on Sunday
			}
		case !stepped:
			to = from
		}
	}
	if to < from {
		return 0, f.fault(text)
	}
	var bits uint64
	for v := from; v <= to; v += step {
		bits |= 1 << v
	}
	return bits, nil
}

func (f field) value(text string) (int, bool) {
	for i, name := range f.names {
		if strings.EqualFold(text, name) {
			return f.min + i, true
		}
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= f.min && n <= f.max && !strings.HasPrefix(text, "+")
}

func parseDays(text string) ([]dayRule, error) {
	if text == "?" {
		text = "*"
	}
	var rules []dayRule
	for _, part := range strings.Split(strings.ToUpper(text), ",") {
		rule, err := parseDay(part)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseDay(text string) (dayRule, error) {
	switch {
	case text == "LW":
		return func(d date) bool { return d.day == d.nearestWeekday(d.last) }, nil
	case text == "L":
		return func(d date) bool { return d.day == d.last }, nil
	case strings.HasPrefix(text, "L-"):
		n, err := strconv.Atoi(text[2:])
		if err != nil || n < 0 || n > 30 {
			return nil, dayField.fault(text)
		}
		return func(d date) bool { return d.day == d.last-n }, nil
	case strings.HasSuffix(text, "W"):
		n, ok := dayField.value(strings.TrimSuffix(text, "W"))
		if !ok {
			return nil, dayField.fault(text)
		}
		return func(d date) bool { return n <= d.last && d.day == d.nearestWeekday(n) }, nil
	}
	bits, err := dayField.span(text)
	return func(d date) bool { return bits>>d.day&1 == 1 }, err
}

// nearestWeekday is the working day nearest to a day, within its month.
func (d date) nearestWeekday(day int) int {
	weekday := time.Weekday((int(d.weekday) + day - d.day + 35) % 7)
	switch {
	case weekday == time.Saturday && day == 1:
		return day + 2
	case weekday == time.Saturday:
		return day - 1
	case weekday == time.Sunday && day == d.last:
		return day - 2
	case weekday == time.Sunday:
		return day + 1
	}
	return day
}

func parseWeekdays(text string) ([]dayRule, error) {
	if text == "?" {
		text = "*"
	}
	var rules []dayRule
	for _, part := range strings.Split(strings.ToUpper(text), ",") {
		rule, err := parseWeekday(part)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func parseWeekday(text string) (dayRule, error) {
	if name, nth, ok := strings.Cut(text, "#"); ok {
		want, ok := weekdayField.value(name)
		n, err := strconv.Atoi(nth)
		if !ok || err != nil || n < 1 || n > 5 {
			return nil, weekdayField.fault(text)
		}
		return func(d date) bool { return int(d.weekday) == want%7 && (d.day-1)/7+1 == n }, nil
	}
	if name, ok := strings.CutSuffix(text, "L"); ok {
		want, ok := weekdayField.value(name)
		if !ok {
			return nil, weekdayField.fault(text)
		}
		return func(d date) bool { return int(d.weekday) == want%7 && d.day+7 > d.last }, nil
	}
	bits, err := weekdayField.span(text)
	bits |= bits >> 7 & 1 // 7 is Sunday too
	return func(d date) bool { return bits>>d.weekday&1 == 1 }, err
}

// searchYears is how far ahead a match is looked for: February 29 on a certain weekday comes
// every 28 years, or every 40 around a century that has none.
const searchYears = 41

// Next returns the first matching time after another, in that one's zone; false when there is
// none.
func (c *Cron) Next(after time.Time) (time.Time, bool) {
	t := after.Truncate(time.Second).Add(time.Second)
	for end := t.Year() + searchYears; t.Year() <= end; {
		hour, minute, second := t.Clock()
		switch {
		case !c.matchesDay(t):
			t = nextDay(t)
		case c.hour>>hour&1 == 0:
			t = t.Add(time.Hour - time.Duration(minute)*time.Minute - time.Duration(second)*time.Second)
		case c.minute>>minute&1 == 0:
			t = t.Add(time.Minute - time.Duration(second)*time.Second)
		case c.second>>second&1 == 0 || c.hour != everyHour && isSecondOfTwo(t):
			t = t.Add(time.Second)
		default:
			return t, true
		}
	}
	return time.Time{}, false
}

func (c *Cron) matchesDay(t time.Time) bool {
	year, month, day := t.Date()
	if c.month>>month&1 == 0 {
		return false
	}
	d := date{year: year, month: month, day: day, weekday: t.Weekday()}
	d.last = time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return anyOf(c.days, d) && anyOf(c.weekdays, d)
}

func anyOf(rules []dayRule, d date) bool {
	for _, r := range rules {
		if r(d) {
			return true
		}
	}
	return false
}

// nextDay returns the first second of the day after t, or of the hour after it where midnight is
// left out.
func nextDay(t time.Time) time.Time {
	year, month, day := t.Date()
	next := time.Date(year, month, day+1, 0, 0, 0, 0, t.Location())
	for next.Day() == day || !next.After(t) {
		next = next.Add(time.Hour)
	}
	return next
}

// isSecondOfTwo reports whether clocks have shown the same time before, because they were set
// back since.
func isSecondOfTwo(t time.Time) bool {
	for _, back := range []time.Duration{time.Hour, 30 * time.Minute, 2 * time.Hour} {
		if t.Add(-back).Format(time.DateTime) == t.Format(time.DateTime) {
			return true
		}
	}
	return false
}
