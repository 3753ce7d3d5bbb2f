// Package conductorapi serves the REST API of Conductor, so that its official SDKs, its UI and
// its command line work unchanged: every endpoint of the open-source server with its status
// codes, plain-text answers, empty bodies and error bodies, and the OpenAPI document of all of
// it. Event handlers and schedules, which only Conductor's API knows, are carried out here too.
//
// It may import the root package, value, expr, dialect/conductor, engine (for views),
// connector/eventbus, observe and api; never the runner, a store or another wire protocol.
//
// Its invariants: no route exists without a permission; every operation passes through
// api.Service, which authorises it; a payload that is passed on is copied as bytes and never
// decoded.
package conductorapi

import (
	"context"
	"log/slog"
	"sync"

	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi/events"
	"github.com/tutti-run/tutti/api/conductorapi/schedule"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/dialect/conductor/model"
)

// Options configure an API. Service is required.
type Options struct {
	Service *api.Service
	Logger  *slog.Logger
	// Rules are the optional checks of definitions.
	Rules model.Rules
	// Version and BuildDate are what /api/version and /api/admin/config tell.
	Version, BuildDate string
	// Environment answers /api/environment: what ${workflow.env.NAME} resolves to. Nil means
	// that there is none.
	Environment map[string]string
	// SecretNames lists the names of the secrets for /api/secrets; nil means that there are
	// none. Their values never leave through the API.
	SecretNames func() []string
	// Secret answers the value of a secret that a task definition asks to be given to its
	// workers (runtimeMetadata); nil means that there are none.
	Secret func(name string) (string, bool)
	// Bus carries the events that event handlers receive; nil means that they receive none.
	Bus eventbus.Bus
	// Config are further entries of /api/admin/config.
	Config map[string]string
}

// API serves Conductor's REST API. Its methods are safe for concurrent use.
type API struct {
	opts Options
	svc  *api.Service
	log  *slog.Logger

	kept      kept
	schedules *schedule.Service
	openapi   func() []byte
}

// New returns the API over a service.
func New(opts Options) *API {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{opts: opts, svc: opts.Service, log: opts.Logger}
	a.openapi = sync.OnceValue(a.document)
	a.schedules = schedule.New(schedule.Options{
		Service: a.svc, Start: a.Start, Logger: a.log,
	})
	return a
}

// Run carries out event handlers and schedules until ctx is done.
func (a *API) Run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { a.schedules.Run(ctx) })
	if a.opts.Bus != nil {
		handlers := events.NewHandlers(a.svc, a.opts.Bus, a.log)
		parts.Go(func() { handlers.Run(ctx) })
	}
	parts.Wait()
}
