package model

import (
	"fmt"
	"math"
	"math/bits"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const msPerSecond = 1000

// space is what Java's \s matches.
const space = `[\s\x0B]*`

var durationPattern = regexp.MustCompile(`(?i)^` +
	space + `(?:(\d+)` + space + `(?:days?|d))?` +
	space + `(?:(\d+)` + space + `(?:hours?|hrs?|h))?` +
	space + `(?:(\d+)` + space + `(?:minutes?|mins?|m))?` +
	space + `(?:(\d+)` + space + `(?:seconds?|secs?|s))?` + space + `$`)

// ParseDuration reads a duration such as "2 days 3h 5 mins 1s", in which every part may be
// missing, and returns milliseconds.
func ParseDuration(text string) (int64, error) {
	m := durationPattern.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("Not valid duration: %s", text)
	}
	var seconds int64
	for i, unit := range []int64{86400, 3600, 60, 1} {
		if m[i+1] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[i+1], 10, 32)
		if err != nil {
			return 0, fmt.Errorf("Not valid duration: %s: %s is too large", text, m[i+1])
		}
		seconds += n * unit
	}
	return seconds * msPerSecond, nil
}

var datePattern = regexp.MustCompile(
	`^(\d{1,9})-(\d{1,2})-(\d{1,2})(?: +(\d{1,2}):(\d{1,2})(?: +(\S+))?)?$`)

// ParseUntil reads a point in time of the form yyyy-MM-dd, yyyy-MM-dd HH:mm or
// yyyy-MM-dd HH:mm z and returns Unix milliseconds. The last form names a zone: an offset such
// as +0530 or GMT+5:30, or a common abbreviation such as PST. The others are in the given
// location, which is UTC when nil. Fields out of range carry over, as in Java.
func ParseUntil(text string, in *time.Location) (int64, error) {
	m := datePattern.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("Unable to parse the date: %s", text)
	}
	if in == nil {
		in = time.UTC
	}
	if m[6] != "" {
		offset, ok := zoneOffset(m[6])
		if !ok {
			return 0, fmt.Errorf("Unable to parse the date: %s: unknown time zone %s", text, m[6])
		}
		in = time.FixedZone(m[6], offset)
	}
	var n [5]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // digits, or empty for 0
	}
	at := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], 0, 0, in)
	return at.UnixMilli(), nil
}

var offsetPattern = regexp.MustCompile(
	`^(?:([+-])(\d{2})(\d{2})|(?i:gmt|utc)([+-])(\d{1,2}):(\d{2}))$`)

// zoneHours are the zone names that ParseUntil knows, with their hours ahead of UTC. Names with
// more than one meaning have that of American English Java, as far as it is settled.
var zoneHours = map[string]float64{
	"UTC": 0, "GMT": 0, "Z": 0, "UCT": 0, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2,
	"MET": 1, "MEST": 2, "EET": 2, "EEST": 3, "MSK": 3, "TRT": 3, "IST": 5.5, "PKT": 5, "GST": 4,
	"ICT": 7, "WIB": 7, "SGT": 8, "HKT": 8, "PHT": 8, "AWST": 8, "JST": 9, "KST": 9, "ACST": 9.5,
	"ACDT": 10.5, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13, "CAT": 2, "EAT": 3, "SAST": 2,
	"WAT": 1, "BRT": -3, "ART": -3, "CLT": -4, "AST": -4, "ADT": -3, "NST": -3.5, "NDT": -2.5,
	"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
	"AKST": -9, "AKDT": -8, "HST": -10,
}

// zoneOffset returns the seconds that a zone is ahead of UTC.
func zoneOffset(zone string) (int, bool) {
	if h, ok := zoneHours[strings.ToUpper(zone)]; ok {
		return int(h * 3600), true
	}
	m := offsetPattern.FindStringSubmatch(zone)
	if m == nil {
		return 0, false
	}
	hours, _ := strconv.Atoi(m[2] + m[5]) // digits of the form that matched
	minutes, _ := strconv.Atoi(m[3] + m[6])
	seconds := hours*3600 + minutes*60
	if m[1]+m[4] == "-" {
		seconds = -seconds
	}
	return seconds, hours < 24 && minutes < 60
}

// WaitDeadline returns the Unix time in milliseconds at which a WAIT task with these inputs,
// blank when absent, completes by itself; 0 means that it waits to be completed. A time in the
// past is due at once. Location is that of ParseUntil. The error's text is the task's reason.
func WaitDeadline(duration, until string, now int64, in *time.Location) (int64, error) {
	hasDuration, hasUntil := !isBlank(duration), !isBlank(until)
	switch {
	case hasDuration && hasUntil:
		return 0, fmt.Errorf("%s", bothWaits)
	case hasDuration:
		ms, err := ParseDuration(duration)
		if err != nil {
			return 0, err
		}
		return now + ms, nil
	case hasUntil:
		at, err := ParseUntil(until, in)
		if err != nil {
			return 0, fmt.Errorf("Invalid/Unsupported Wait Until format.  Provided: %s", until)
		}
		return max(at, 1), nil
	}
	return 0, nil
}

const bothWaits = "Both 'duration' and 'until' specified. Please provide only one input"

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }

// RetryDelay returns how long a retry is held back after the attempt with the given number, from
// 0, has failed: seconds is the delay that the task's record shows, and ms the actual one, which
// has jitter from the random number added.
func RetryDelay(d *TaskDef, attempt int, random uint64) (ms int64, seconds int) {
	delay := int64(max(d.RetryDelaySeconds, 0))
	switch d.RetryLogic {
	case RetryLinear:
		delay = saturate(delay, int64(max(d.BackoffScaleFactor, 1)))
		delay = saturate(delay, int64(attempt)+1)
	case RetryExponential:
		// A shift by 31 passes the largest delay already.
		delay = saturate(delay, 1<<min(max(attempt, 0), 31))
	}
	if most := int64(d.MaxRetryDelaySeconds); most > 0 {
		delay = min(delay, most)
	}
	jitter := uint64(max(d.BackoffJitterMs, 0))
	extra, _ := bits.Mul64(random, jitter+1)
	return delay*msPerSecond + int64(extra), int(delay)
}

// saturate multiplies non-negative numbers of at most 32 bits, ending at the largest Java int.
func saturate(a, b int64) int64 { return min(a*b, math.MaxInt32) }

// DefaultVariablesLimit bounds the JSON of a workflow's variables, in bytes.
const DefaultVariablesLimit = 256 << 10

// PayloadLimits bound the JSON of payloads, in bytes. What is over a soft limit is meant for
// external storage where there is one; what is over a hard limit fails.
type PayloadLimits struct {
	TaskSoft, TaskHard         int
	WorkflowSoft, WorkflowHard int
	Variables                  int
}

// DefaultPayloadLimits are those of the official server.
var DefaultPayloadLimits = PayloadLimits{
	TaskSoft: 3072 << 10, TaskHard: 10240 << 10,
	WorkflowSoft: 5120 << 10, WorkflowHard: 10240 << 10,
	Variables: DefaultVariablesLimit,
}

// CheckTask returns an error whose text is the reason for failing a task with an input or output
// of the given size, or nil. The failure is final.
func (l PayloadLimits) CheckTask(size int, taskID, workflowID string) error {
	if size <= l.TaskHard {
		return nil
	}
	return fmt.Errorf("The payload size: %d of task: %s in workflow: %s "+
		" is greater than the permissible limit: %d bytes", size, taskID, workflowID, l.TaskHard)
}

// CheckWorkflow returns an error whose text is the reason for failing a workflow with an input or
// output of the given size, or nil.
func (l PayloadLimits) CheckWorkflow(size int, workflowID string) error {
	if size <= l.WorkflowHard {
		return nil
	}
	return fmt.Errorf("The payload size: %d of workflow: %s"+
		" is greater than the permissible limit: %d bytes", size, workflowID, l.WorkflowHard)
}

// CheckVariables returns an error whose text is the reason for failing the task that made a
// workflow's variables as large as given, or nil. The failure is final.
func (l PayloadLimits) CheckVariables(size int, workflowID string) error {
	if size <= l.Variables {
		return nil
	}
	return fmt.Errorf("The variables payload size: %d of workflow: %s is greater than"+
		" the permissible limit: %d kilobytes", size, workflowID, l.Variables>>10)
}
