// Package script runs the scripts of workflow definitions: JavaScript (goja) and jq (gojq).
//
// A script sees the values it is given and nothing else: no files, network, environment, clock or
// host objects. The time and random numbers come from Options, so a run can be repeated. Each run
// of JavaScript has a fresh runtime. Code cannot be made from text (eval and the Function
// constructors throw), and what no workflow needs but could take memory or time that nothing can
// interrupt is left out: Proxy, BigInt, typed arrays and array buffers.
//
// The package may import value, goja, its regular expressions and gojq. It keeps a cache of
// compiled scripts and, while a script runs, timers that interrupt it. Its invariant: a script
// ends within its Limits, give or take one native call, and the natives of JavaScript that could
// make such a call huge are guarded.
package script

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/dlclark/regexp2/v2"
)

// ErrTimeout is wrapped by the error of a script that runs longer than Limits.Time.
var ErrTimeout = errors.New("script passes its time limit")

// ErrLimit is wrapped by the error of a script that passes any other limit; the message names it.
var ErrLimit = errors.New("script passes a limit")

func limitError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrLimit, fmt.Sprintf(format, args...))
}

// A ScriptError reports a script that is malformed or that failed.
type ScriptError struct {
	Message string
	Line    int // counted from 1; 0 if unknown
	Column  int // counted from 1; 0 if unknown
}

// Error returns the message, after the place if it is known.
func (e *ScriptError) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Limits bound one run. A field of zero takes the value of DefaultLimits.
type Limits struct {
	Time      time.Duration // wall-clock time
	Memory    int64         // bytes by which the live heap of the process may grow meanwhile
	CallDepth int           // JavaScript calls within each other
	Output    int           // bytes of the result as JSON
	Depth     int           // nesting of the result
	Results   int           // values a jq program may emit
}

// DefaultLimits apply wherever a field of Limits is zero. Four seconds is Conductor's limit.
var DefaultLimits = Limits{
	Time: 4 * time.Second, Memory: 128 << 20, CallDepth: 2000, Output: 10 << 20, Depth: 1000,
	Results: 100_000,
}

func (l Limits) withDefaults() Limits {
	l.Time = cmp.Or(l.Time, DefaultLimits.Time)
	l.Memory = cmp.Or(l.Memory, DefaultLimits.Memory)
	l.CallDepth = cmp.Or(l.CallDepth, DefaultLimits.CallDepth)
	l.Output = cmp.Or(l.Output, DefaultLimits.Output)
	l.Depth = cmp.Or(l.Depth, DefaultLimits.Depth)
	l.Results = cmp.Or(l.Results, DefaultLimits.Results)
	return l
}

// The fixed bounds.
const (
	// maxSource is the longest script, in bytes. The parsers recurse, so it bounds their stack.
	maxSource = 64 << 10
	// maxElements is the longest array that one native call may work on.
	maxElements = 1 << 18
	// maxString is the longest string that one native call may make, in UTF-16 units.
	maxString = 4 << 20
	// maxNesting is how deep a native call may follow nested arrays and objects.
	maxNesting = 1000
	// maxPattern is the longest regular expression made at run time.
	maxPattern = 16 << 10
)

// A regular expression with a backreference or look-around is matched by backtracking, which can
// take for ever and does not see an interrupt. The matcher's own limit is a variable of its
// package; goja is all that uses it here.
func init() { regexp2.DefaultMatchTimeout = time.Second }

func checkSource(src string) error {
	if len(src) > maxSource {
		return limitError("source of more than %d bytes", maxSource)
	}
	return nil
}
