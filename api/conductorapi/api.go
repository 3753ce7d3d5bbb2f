package conductorapi

import (
	"log/slog"
	"sync"

	"github.com/tutti-run/tutti/api"
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
	// Config are further entries of /api/admin/config.
	Config map[string]string
}

// API serves Conductor's REST API. Its methods are safe for concurrent use.
type API struct {
	opts Options
	svc  *api.Service
	log  *slog.Logger

	kept    kept
	openapi func() []byte
}

// New returns the API over a service.
func New(opts Options) *API {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{opts: opts, svc: opts.Service, log: opts.Logger}
	a.openapi = sync.OnceValue(a.document)
	return a
}
