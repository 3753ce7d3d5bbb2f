package tutti

import "github.com/tutti-run/tutti/value"

// Preparer is an ability of programs, found by type assertion: to complete and check a
// request to start a run before the run exists.
type Preparer interface {
	// Prepare fills in what the definition says of its runs (timeout, limit, defaults of
	// the input) and refuses, with an Invalid error, what it forbids. It must not change
	// the maps and payloads that the spec points to, only replace them.
	Prepare(spec *RunSpec) error
}

// HandoffResolver is an ability of dialects, found by type assertion: to replace references
// in a task's input that must not be resolved before the task leaves the server, since what
// they stand for may be stored nowhere.
type HandoffResolver interface {
	// Handoff returns the input with its references replaced, or the input itself when it
	// has none. secrets answers the value of a secret of the run's namespace.
	Handoff(input value.Raw, secrets func(name string) (string, bool)) value.Raw
}

// RetentionPolicy says for how long ended runs of a definition are kept. Zero fields do not
// limit.
type RetentionPolicy struct {
	AgeMs int64 // since the end of the run
	Count int   // newest ended runs that are kept
}

// RetentionReader is an ability of dialects, found by type assertion: to read from the
// catalogue how long ended runs of a definition are kept.
type RetentionReader interface {
	// Retention returns the policy of a definition; ok is false when it states none, and
	// the server's default applies.
	Retention(docs Documents, definition string) (p RetentionPolicy, ok bool)
}
