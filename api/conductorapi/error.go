package conductorapi

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
)

// failure is an error with the answer that the official server gives for it.
type failure struct {
	status     int
	message    string
	retryable  bool
	violations []violation
	cause      error
}

// violation is one entry of validationErrors.
type violation struct {
	path, message string
	invalid       string // JSON; empty = null
}

func (f *failure) Error() string { return f.message }

func (f *failure) Unwrap() error { return f.cause }

func fail(status int, format string, args ...any) error {
	return &failure{status: status, message: fmt.Sprintf(format, args...)}
}

// invalid answers a failed bean validation.
func invalid(list ...violation) error {
	return &failure{
		status: http.StatusBadRequest, violations: list,
		message: "Validation failed, check below errors for detail.",
	}
}

// codeStatus are the exceptions to the table of kinds, by the error's code.
var codeStatus = map[string]int{
	"PayloadTooLarge": http.StatusRequestEntityTooLarge,
	"AnswerTooLarge":  http.StatusRequestEntityTooLarge,
	"RunNotPaused":    http.StatusInternalServerError, // an IllegalStateException there
}

// failureOf returns the answer for any error.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	f = &failure{status: http.StatusInternalServerError, cause: err}
	var e *tutti.Error
	if !errors.As(err, &e) {
		f.message = err.Error()
		return f
	}
	f.status = api.HTTPStatus(e.Kind)
	if s, ok := codeStatus[e.Code]; ok {
		f.status = s
	}
	f.message = e.Message()
	if e.Pos != "" {
		f.message = e.Pos + ": " + f.message
	}
	if e.Hint != "" {
		f.message += " (" + e.Hint + ")"
	}
	switch f.status {
	case http.StatusTooManyRequests, http.StatusGatewayTimeout, http.StatusServiceUnavailable:
		f.retryable = true
	}
	return f
}

var hostname = sync.OnceValue(func() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
})

// body is the official ErrorResponse.
func (f *failure) body() []byte {
	o := newObject(nil)
	o.num("status", int64(f.status))
	o.string("message", f.message)
	if f.violations == nil {
		o.string("instance", hostname())
	}
	o.flag("retryable", f.retryable)
	if f.violations != nil {
		o.name("validationErrors")
		o.b = appendList(o.b, f.violations, func(dst []byte, v violation) []byte {
			e := newObject(dst)
			e.string("path", v.path)
			e.string("message", v.message)
			e.raw("invalidValue", []byte(v.invalid))
			return e.end()
		})
	}
	return o.end()
}

// isKind reports whether an error is of a kind.
func isKind(err error, k tutti.Kind) bool { return err != nil && tutti.KindOf(err) == k }

// hasCode reports whether an error has a code.
func hasCode(err error, code string) bool {
	var e *tutti.Error
	return errors.As(err, &e) && e.Code == code
}

// missing words a NotFound error as the official server does and leaves others alone.
func missing(err error, format string, args ...any) error {
	if !isKind(err, tutti.NotFound) {
		return err
	}
	return fail(http.StatusNotFound, format, args...)
}

// noWorkflow is missing for a workflow.
func noWorkflow(err error, id string) error {
	return missing(err, "No such workflow found by id: %s", id)
}

// namespace is where all of Conductor's documents and runs live: its API has no notion of
// namespaces.
const namespace = api.DefaultNamespace

// failureOfKind reports whether an error answers a status.
func failureOfKind(err error, status int) bool {
	return err != nil && failureOf(err).status == status
}
