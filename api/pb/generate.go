// Package pb holds the protobuf sources of Tutti's gRPC services and the Go code generated from
// them: tutti/v1 is the native API, conductor the one that Conductor's gRPC clients speak.
// It imports nothing; the generated packages import the protobuf runtime and gRPC only.
// Invariant: names and field numbers never change once released (wire_test.go holds them), and
// the committed Go code is what go generate makes of the sources.
package pb

//go:generate go run ../../internal/devtools/genpb
