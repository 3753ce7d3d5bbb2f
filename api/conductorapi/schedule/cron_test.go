package schedule

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// cronTests hold the times of expressions; those of common ones are the documented examples of
// Spring's CronExpression.
var cronTests = []struct {
	expr, after, zone string
	want              []string
}{
	{"*/10 * * * * *", "2026-01-01 00:00:05", "UTC", []string{
		"2026-01-01 00:00:10", "2026-01-01 00:00:20",
	}},
	{"0 0 8-10 * * *", "2026-01-01 09:00:00", "UTC", []string{
		"2026-01-01 10:00:00", "2026-01-02 08:00:00",
	}},
	{"0 0/30 8-10 * * *", "2026-01-01 10:00:00", "UTC", []string{
		"2026-01-01 10:30:00", "2026-01-02 08:00:00",
	}},
	{"0 0 9-17 * * MON-FRI", "2026-01-02 16:30:00", "UTC", []string{
		"2026-01-02 17:00:00", "2026-01-05 09:00:00",
	}},
	{"0 0 0 25 DEC ?", "2026-01-01 00:00:00", "UTC", []string{
		"2026-12-25 00:00:00", "2027-12-25 00:00:00",
	}},
	{"0 0 0 L * *", "2026-01-31 00:00:00", "UTC", []string{
		"2026-02-28 00:00:00", "2026-03-31 00:00:00",
	}},
	{"0 0 0 L-3 * *", "2026-01-01 00:00:00", "UTC", []string{
		"2026-01-28 00:00:00", "2026-02-25 00:00:00",
	}},
	{"0 0 0 1W * *", "2026-07-15 00:00:00", "UTC", []string{
		"2026-08-03 00:00:00", "2026-09-01 00:00:00",
	}},
	{"0 0 0 15W * *", "2026-02-01 00:00:00", "UTC", []string{
		"2026-02-16 00:00:00", "2026-03-16 00:00:00",
	}},
	{"0 0 0 LW * *", "2026-01-01 00:00:00", "UTC", []string{
		"2026-01-30 00:00:00", "2026-02-27 00:00:00",
	}},
	{"0 0 0 * * 5L", "2026-01-01 00:00:00", "UTC", []string{
		"2026-01-30 00:00:00", "2026-02-27 00:00:00",
	}},
	{"0 0 0 * * THUL", "2026-01-01 00:00:00", "UTC", []string{"2026-01-29 00:00:00"}},
	{"0 0 0 ? * FRI#2", "2026-01-01 00:00:00", "UTC", []string{
		"2026-01-09 00:00:00", "2026-02-13 00:00:00",
	}},
	{"0 0 0 13 * FRI", "2026-01-01 00:00:00", "UTC", []string{
		"2026-02-13 00:00:00", "2026-03-13 00:00:00", "2026-11-13 00:00:00",
	}},
	{"0 0 0 29 2 MON", "2026-01-01 00:00:00", "UTC", []string{"2044-02-29 00:00:00"}},
	{"0 0 0 * * 0", "2026-01-01 00:00:00", "UTC", []string{"2026-01-04 00:00:00"}},
	{"0 0 0 * * 7", "2026-01-01 00:00:00", "UTC", []string{"2026-01-04 00:00:00"}},
	{"0 0 0 * * FRI-SUN", "2026-01-01 00:00:00", "UTC", []string{
		"2026-01-02 00:00:00", "2026-01-03 00:00:00", "2026-01-04 00:00:00",
		"2026-01-09 00:00:00",
	}},
	{"0 0 0 1,15 jan,jul *", "2026-01-01 00:00:00", "UTC", []string{
		"2026-01-15 00:00:00", "2026-07-01 00:00:00",
	}},
	{"5/20 10-20/5 * * * ?", "2026-01-01 00:10:45", "UTC", []string{"2026-01-01 00:15:05"}},
	{"@hourly", "2026-01-01 00:00:00", "UTC", []string{"2026-01-01 01:00:00"}},
	{"@Weekly", "2026-01-01 00:00:00", "UTC", []string{"2026-01-04 00:00:00"}},
	{"0 0 0 31 2 *", "2026-01-01 00:00:00", "UTC", nil},
	// Clocks are set back at 03:00 and forward at 02:00.
	{"0 30 2 * * *", "2026-10-25 00:00:00", "Europe/Berlin", []string{
		"2026-10-25 02:30:00 +0200", "2026-10-26 02:30:00 +0100",
	}},
	{"0 0/30 * * * *", "2026-10-25 01:45:00", "Europe/Berlin", []string{
		"2026-10-25 02:00:00 +0200", "2026-10-25 02:30:00 +0200",
		"2026-10-25 02:00:00 +0100", "2026-10-25 02:30:00 +0100",
		"2026-10-25 03:00:00 +0100",
	}},
	{"0 30 2 * * *", "2026-03-28 12:00:00", "Europe/Berlin", []string{
		"2026-03-30 02:30:00 +0200",
	}},
	{"0 0/30 * * * *", "2026-03-29 01:10:00", "Europe/Berlin", []string{
		"2026-03-29 01:30:00 +0100", "2026-03-29 03:00:00 +0200",
	}},
	{"0 0 0 * * *", "2026-09-05 12:00:00", "America/Santiago", []string{
		"2026-09-07 00:00:00 -0300", // midnight of the 6th is left out
	}},
	{"0 15 2 * * *", "2026-04-04 12:00:00", "Australia/Lord_Howe", []string{
		"2026-04-05 02:15:00 +1030", "2026-04-06 02:15:00 +1030",
	}},
}

func TestCron(t *testing.T) {
	for _, test := range cronTests {
		c, err := ParseCron(test.expr)
		if err != nil {
			t.Errorf("%s: %v", test.expr, err)
			continue
		}
		at, err := time.ParseInLocation(time.DateTime, test.after, zone(t, test.zone))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range max(len(test.want), 1) {
			next, ok := c.Next(at)
			if !ok {
				break
			}
			layout := time.DateTime
			if test.zone != "UTC" {
				layout += " -0700"
			}
			got = append(got, next.Format(layout))
			at = next
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s after %s: %s", test.expr, test.after, diff)
		}
	}
}

func TestCronErrors(t *testing.T) {
	for _, expr := range []string{
		"", "* * * * *", "* * * * * * *", "60 * * * * *", "* * 24 * * *", "* * * 0 * *",
		"* * * 32 * *", "* * * * 13 *", "* * * * * 8", "5-2 * * * * *", "*/0 * * * * *",
		"a * * * * *", "+5 * * * * *", "* * * L-x * *", "* * * 0W * *", "* * * * * FRI#6",
		"* * * * * X#1", "* * * * * 9L", "? * * * * *", "@never", "1, * * * * *", "*/ * * * * *",
	} {
		if _, err := ParseCron(expr); err == nil {
			t.Errorf("%q is accepted", expr)
		}
	}
}

// FuzzCron checks that the next time, when there is one, is later and matches.
func FuzzCron(f *testing.F) {
	for _, expr := range []string{
		"0 0/5 9-17 ? * MON-FRI", "0 0 0 L-3 * *", "0 0 0 * * FRI#2", "@daily", "1,2 */7 * 1W 2 *",
	} {
		f.Add(expr, int64(1_790_000_000))
	}
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expr string, unix int64) {
		c, err := ParseCron(expr)
		if err != nil || unix < 0 || unix > 4e9 {
			return
		}
		at := time.Unix(unix, 0).In(loc)
		next, ok := c.Next(at)
		if !ok {
			return
		}
		hour, minute, second := next.Clock()
		if !next.After(at) || !c.matchesDay(next) || c.hour>>hour&1 == 0 ||
			c.minute>>minute&1 == 0 || c.second>>second&1 == 0 {
			t.Fatalf("%q after %s: %s", expr, at, next)
		}
	})
}
