// Command tutti is the orchestrator in one binary: the server, the command line that talks to
// it, the expression evaluator, the benchmark and the demo.
//
// It is the only package that knows every other one: it opens the store, starts the runner
// and joins dialects, connectors and wire protocols to it. Nothing imports it. Its invariant:
// whatever a command does goes through Main, which owns the standard streams and the
// environment, so that a test can start all of it in its own process.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	m := Main{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Environ()}
	os.Exit(m.Run(ctx, os.Args[1:]))
}
