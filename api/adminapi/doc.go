// Package adminapi is the native JSON API of the server, /admin/v1: runs of every dialect,
// definitions, queues, the auditor and figures, with streams of history and events.
//
// All of it is one table of routes: method, pattern, permission, documentation, types and
// handler. The router, the permission check and the OpenAPI document come from that table,
// so that no route can lack a permission and no document can lag behind. It may import api
// and what lies below, and chi; it knows no dialect.
package adminapi
