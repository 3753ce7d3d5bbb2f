// Package tutti is the vocabulary of the orchestrator: identifiers, the records of runs and
// tasks, the one error type, and the contract between the engine and a workflow dialect.
//
// It imports only value and the standard library, performs no I/O and reads no clock.
// Everything else in the module is written in the words defined here.
package tutti
