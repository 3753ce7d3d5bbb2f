// Package sdk runs the official Conductor SDKs of Python, JavaScript and Java, unchanged, against
// a server of this checkout. Each language has a program of its own with the same scenarios:
// definitions, workers, failures and retries, timeouts, the operations on runs, search, signals,
// and every task type. What the SDKs expect of a server stands in docs/compatibility.md.
//
// The tests need the build tag sdk, a built bin/tutti, and the languages themselves; what the
// SDKs need they install into test/sdk/.cache. `make sdk` does all of it. The package may import
// the standard library only: it knows the server as a process, like the SDKs. It keeps one
// invariant: nothing is skipped, a language that is missing is a failure.
package sdk
