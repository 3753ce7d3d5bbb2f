// Package searchpb is the search request that services of the Conductor gRPC API share.
// All of it is generated from the protobuf sources; it may import the protobuf runtime only.
// Invariant: names and field numbers never change once released.
package searchpb
