package api

import "context"

// Permission names what a caller may do in a namespace.
type Permission string

// The permissions.
const (
	ReadDefinitions  Permission = "definitions.read"
	WriteDefinitions Permission = "definitions.write"
	ReadRuns         Permission = "runs.read"
	StartRuns        Permission = "runs.start"
	ControlRuns      Permission = "runs.control" // pause, terminate, retry, signal, change …
	RemoveRuns       Permission = "runs.remove"
	ReadQueues       Permission = "queues.read"
	PollTasks        Permission = "tasks.poll"
	CompleteTasks    Permission = "tasks.complete" // report on tasks, logs included
	UseEvents        Permission = "events.use"
	Administer       Permission = "server.administer"
)

// Permissions lists every permission.
var Permissions = []Permission{
	ReadDefinitions, WriteDefinitions, ReadRuns, StartRuns, ControlRuns, RemoveRuns,
	ReadQueues, PollTasks, CompleteTasks, UseEvents, Administer,
}

// Authorizer decides what the caller that ctx carries may do. It answers nil, or a Denied or
// Unauthenticated error.
type Authorizer interface {
	Authorize(ctx context.Context, p Permission, namespace string) error
}

// authorize is the choke point that every operation passes before anything else.
func (s *Service) authorize(ctx context.Context, p Permission, namespace string) error {
	if err := checkNamespace(namespace); err != nil {
		return err
	}
	if s.opts.Authorizer == nil {
		return nil
	}
	return s.opts.Authorizer.Authorize(ctx, p, namespace)
}
