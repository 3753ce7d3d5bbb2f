// Package httpcall is the connector that calls HTTP services: Conductor's HTTP task, with
// its input forms, its output and the wording of its failures.
//
// It may import connector, connector/egress, value, the root package and the standard
// library. Its invariants: every connection, redirects included, passes the egress guard;
// what a workflow sends to one origin never follows a redirect to another; requests,
// responses and waits are bounded.
package httpcall
