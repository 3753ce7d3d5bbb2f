package tutti

import (
	"errors"
	"strings"
)

// Kind classifies an Error by what the caller can do about it. Wire APIs map each kind to
// their own status in one table.
type Kind uint8

// The kinds. Internal is the zero value, so that an unclassified error is never taken for
// the caller's fault.
const (
	Internal        Kind = iota // a fault of the server; report it
	Invalid                     // the request is wrong; change it
	NotFound                    // what the request names does not exist
	Exists                      // what the request creates is there already
	Conflict                    // the state of the object forbids the request now
	Denied                      // the caller may not do this
	Unauthenticated             // the caller is unknown
	Exhausted                   // a documented bound is reached; wait or raise it
	Timeout                     // the deadline passed before an answer
	Cancelled                   // the caller went away
	Unavailable                 // the server cannot serve this now; retry
	Unsupported                 // a feature that this server does not have
)

var kindNames = [...]string{
	"internal", "invalid", "not found", "exists", "conflict", "denied", "unauthenticated",
	"exhausted", "timeout", "cancelled", "unavailable", "unsupported",
}

// String returns the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Error is the one error type that users see. Op says what was attempted, Code is a stable
// CamelCase identifier that programs may match on, Pos says where in the user's input, Hint
// says what to do next, and Err is the cause.
type Error struct {
	Kind Kind
	Op   string
	Code string
	Pos  string
	Hint string
	Err  error
}

// Error formats op: position: cause (hint), leaving out what is empty.
func (e *Error) Error() string {
	var parts []string
	for _, s := range []string{e.Op, e.Pos, e.Message()} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	msg := strings.Join(parts, ": ")
	if e.Hint != "" {
		msg += " (" + e.Hint + ")"
	}
	return msg
}

// Message returns the cause alone, or the code or kind when there is none: the text for
// wire formats that carry the rest in fields of their own.
func (e *Error) Message() string {
	switch {
	case e.Err != nil:
		return e.Err.Error()
	case e.Code != "":
		return e.Code
	}
	return e.Kind.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// E builds an Error of a kind for an operation with a message. Code may be empty.
func E(kind Kind, op, code, message string) *Error {
	return &Error{Kind: kind, Op: op, Code: code, Err: errors.New(message)}
}

// KindOf returns the kind of the first Error in err's chain, or Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
