// Package tuttipb is Tutti's native gRPC API: workers, runs and definitions.
// All of it is generated from the protobuf sources; it may import the protobuf runtime and
// gRPC only.
// Invariant: names and field numbers never change once released.
package tuttipb
