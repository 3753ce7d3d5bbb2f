// Package conductorgrpc serves Conductor's gRPC services: every call is the operation of the
// REST API that has the same meaning, its messages put into the JSON of that API and back by
// their descriptors.
//
// It may import the root package, value, api, api/conductorapi and the generated messages.
//
// Its invariants: no message has conversion code of its own; what the REST API would refuse is
// refused here, with the same words. Numbers in free-form payloads are doubles, as protobuf's
// Value has them: integers beyond 2^53 lose digits on this API, and on no other.
package conductorgrpc
