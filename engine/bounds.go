package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// The bounds on what a caller or a program may put into a run (invariant I9). What is over
// a bound is refused; of a program it ends the run as failed.
const (
	// MaxName bounds, in bytes, the names that become part of keys: namespaces,
	// definitions, labels and their values, idempotency and limit keys.
	MaxName = 256
	// MaxText bounds correlation identifiers, queue names and mail boxes, in bytes.
	MaxText = 512
	// MaxPayload bounds one input or output, in bytes.
	MaxPayload = 32 << 20
	// MaxReason bounds a reason, in bytes; what is longer is cut.
	MaxReason = 4 << 10
	// MaxDetail bounds the detail of one history entry, in bytes.
	MaxDetail = 64 << 10
	// MaxTurnTasks bounds the attempts that a program may add in one turn.
	MaxTurnTasks = 20_000
	// MaxPosts bounds the posts of a run that wait.
	MaxPosts = 1000
)

// keySize is the size of a string within a key.
func keySize(s string) int { return len(s) + strings.Count(s, "\x00") + strings.Count(s, "\x01") }

func checkName(what, s string, most int) error {
	if keySize(s) <= most {
		return nil
	}
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "check names", Code: "NameTooLong",
		Err:  fmt.Errorf("%s has %d bytes, the limit is %d", what, len(s), most),
		Hint: "use a shorter one",
	}
}

func checkPayload(what string, raw value.Raw) error {
	if len(raw) <= MaxPayload {
		return nil
	}
	return &tutti.Error{
		Kind: tutti.Exhausted, Op: "check payload", Code: "PayloadTooLarge",
		Err:  fmt.Errorf("%s has %d bytes, the limit is %d", what, len(raw), MaxPayload),
		Hint: "store it elsewhere and pass a reference",
	}
}

// firstError returns the first of its arguments that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkSpec(s *tutti.RunSpec) error {
	err := firstError(
		checkName("the namespace", s.Namespace, MaxName),
		checkName("the name of the definition", s.Definition, MaxName),
		checkName("the correlation id", s.CorrelationID, MaxText),
		checkName("the idempotency key", s.IdempotencyKey, MaxName),
		checkPayload("the input", s.Input), checkPayload("the start arguments", s.Ext),
	)
	if s.Limit != nil {
		err = firstError(err, checkName("the limit's key", s.Limit.Key, MaxName))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		err = firstError(err, checkName("the name of a label", k, MaxName),
			checkName("the value of a label", s.Labels[k], MaxName))
	}
	return err
}

func checkTask(s *tutti.TaskSpec) error {
	err := firstError(
		checkName("the name of the queue", s.Queue, MaxText),
		checkPayload("the input of step "+s.Name, s.Input),
		checkPayload("the output of step "+s.Name, s.Output),
	)
	if s.Limit != nil {
		err = firstError(err, checkName("the limit's key", s.Limit.Key, MaxName))
	}
	if s.Child != nil {
		err = firstError(err, checkSpec(s.Child))
	}
	return err
}

// clip cuts a reason to its bound, between characters.
func clip(s string) string {
	if len(s) <= MaxReason {
		return s
	}
	cut := MaxReason
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
