// Package connector performs tasks inside the server: its subpackages call HTTP services
// (httpcall), carry events in and out (eventbus) and guard what the server may connect to
// (egress). The Pool here leases tasks from queues and hands them to connectors.
//
// It may import the root package, value, the standard library and the clients of what it
// connects to; never the runner, the engine, a store, an API or a dialect.
//
// Its invariants: an effect on the outside carries an idempotency key that is the same for
// all attempts of a step; every wait has a bound; a connector that panics fails its task
// and nothing else.
package connector
