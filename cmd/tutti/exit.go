package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tutti-run/tutti"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1 // the command was refused, or the run that it waited for failed
	exitUsage       = 2
	exitUnreachable = 3
	exitNotFound    = 4
	exitInterrupted = 130
)

const exitHelp = "Exit codes: 0 done; 1 refused, or the run failed; 2 wrong usage; " +
	"3 the server cannot be reached; 4 not found; 130 interrupted."

// usageError is a mistake in how the program was called.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// errSilent ends a command with exitFailed when all has been said.
var errSilent = errors.New("failed")

// unreachableError is a server that does not answer.
type unreachableError struct {
	addr  string
	cause string
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no server answers at %s: %s\n"+
		"hint: start one with `tutti serve`, or name another with --server or $TUTTI_SERVER",
		e.addr, e.cause)
}

// fail prints an error and returns the exit code that it stands for.
func (m Main) fail(err error) int {
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errSilent) {
		fmt.Fprintf(m.Stderr, "tutti: %s\n", message(err))
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage *usageError
	var gone *unreachableError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &gone):
		return exitUnreachable
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case tutti.KindOf(err) == tutti.NotFound, status.Code(err) == codes.NotFound:
		return exitNotFound
	}
	return exitFailed
}

// message is an error as a person should read it, its hint on a line of its own.
func message(err error) string {
	var e *tutti.Error
	if errors.As(err, &e) {
		plain := *e
		plain.Hint = ""
		return withHint(plain.Error(), e.Hint)
	}
	if st, ok := status.FromError(err); ok && st.Code() != codes.OK {
		for _, d := range st.Details() {
			if info, ok := d.(*tuttipb.ErrorInfo); ok {
				return withHint(info.Message, info.Hint)
			}
		}
		return st.Message()
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

func withHint(text, hint string) string {
	if hint == "" {
		return text
	}
	return text + "\nhint: " + hint
}
