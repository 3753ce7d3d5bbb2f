// Package conductorpb is the data model of the Conductor gRPC API: definitions, workflows, tasks.
// All of it is generated from the protobuf sources; it may import the protobuf runtime only.
// Invariant: names and field numbers never change once released.
package conductorpb
