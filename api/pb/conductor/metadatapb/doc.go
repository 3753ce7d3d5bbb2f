// Package metadatapb is the definition service of the Conductor gRPC API.
// All of it is generated from the protobuf sources; it may import conductorpb, searchpb, the
// protobuf runtime and gRPC only.
// Invariant: names and field numbers never change once released.
package metadatapb
