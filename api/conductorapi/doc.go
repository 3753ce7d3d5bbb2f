// Package conductorapi serves the REST API of Conductor, so that its official SDKs, its UI and
// its command line work unchanged: every endpoint of the open-source server with its status
// codes, plain-text answers, empty bodies and error bodies, and the OpenAPI document of all of
// it. Event handlers and schedules, which only Conductor's API knows, are carried out here too.
//
// It may import the root package, value, expr, dialect/conductor, engine (for views), runner
// (for watches), connector/eventbus, observe and api; never a store or another wire protocol.
//
// Its invariants: no route exists without a permission; every operation passes through
// api.Service, which authorises it; a payload that is passed on is copied as bytes and never
// decoded.
package conductorapi
