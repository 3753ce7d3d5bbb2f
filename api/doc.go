// Package api is what the server can do, one method per operation, for every wire protocol
// alike: each method authorises, validates, submits to the engine or reads from it.
//
// It knows no dialect: the wire protocols of dialects, one package each below this one, pass
// definitions, sources and payloads through it. It may import the packages of lower levels
// (root, value, engine, runner, connector, store, observe), never a dialect or a protocol.
//
// Its invariant: no method touches a run, task, queue or document before authorize has
// allowed the permission that the method stands for in the namespace it is asked about, and
// what belongs to another namespace does not exist.
package api
