// Package events carries out Conductor's event handlers: it subscribes to the queues that
// active handlers name, evaluates their conditions and performs their actions. The internal
// queues, of type "conductor", live here too: durable lists in the engine.
//
// It may import the root package, value, expr/script, dialect/conductor, connector/eventbus and
// api. Its invariants: a message is given up only after all its actions were performed or can
// never be; an action that starts a workflow starts one for each message, however often the
// message is delivered.
package events

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/dialect/conductor/model"
)

// KindHandler is the kind of document that event handlers are.
const KindHandler = "eventhandler"

const namespace = api.DefaultNamespace

// Handlers subscribes to what the active event handlers of the catalogue name. Changes of the
// catalogue take effect at once.
type Handlers struct {
	svc *api.Service
	bus eventbus.Bus
	log *slog.Logger

	changed chan struct{}

	mu      sync.Mutex
	byEvent map[string][]*handler
	subs    map[string]*subscription
}

// handler is a handler of the catalogue, read once.
type handler struct {
	name string
	def  *model.EventHandler
}

// subscription is a queue that is listened to. Err says why it is not.
type subscription struct {
	stop func()
	err  error
}

// NewHandlers returns the handlers of a service, which receive from a bus.
func NewHandlers(svc *api.Service, bus eventbus.Bus, log *slog.Logger) *Handlers {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Handlers{
		svc: svc, bus: bus, log: log, changed: make(chan struct{}, 1),
		byEvent: map[string][]*handler{}, subs: map[string]*subscription{},
	}
	svc.OnDocuments(KindHandler, func() {
		select {
		case h.changed <- struct{}{}:
		default:
		}
	})
	return h
}

// Run keeps the subscriptions in line with the catalogue until ctx is done. When it returns,
// none is left.
func (h *Handlers) Run(ctx context.Context) {
	defer h.stopAll()
	for {
		if err := h.reconcile(ctx); err != nil {
			h.log.Error("event handlers could not be read", "error", err)
		}
		select {
		case <-h.changed:
		case <-ctx.Done():
			return
		}
	}
}

// reconcile reads the catalogue and starts and ends subscriptions.
func (h *Handlers) reconcile(ctx context.Context) error {
	docs, err := h.svc.Documents(ctx, namespace, model.Dialect, KindHandler)
	if err != nil {
		return err
	}
	byEvent := map[string][]*handler{}
	for _, d := range docs {
		def, err := model.DecodeEventHandler(d.Body)
		if err != nil {
			h.log.Error("event handler could not be read", "handler", d.Name, "error", err)
			continue
		}
		if def.Active {
			byEvent[def.Event] = append(byEvent[def.Event], &handler{d.Name, def})
		}
	}
	h.mu.Lock()
	h.byEvent = byEvent
	var ended []func()
	for queue, s := range h.subs {
		if byEvent[queue] == nil {
			delete(h.subs, queue)
			if s.stop != nil {
				ended = append(ended, s.stop)
			}
		}
	}
	var fresh []string
	for queue := range byEvent {
		if s := h.subs[queue]; s == nil || s.err != nil {
			fresh = append(fresh, queue)
		}
	}
	h.mu.Unlock()
	for _, stop := range ended {
		stop()
	}
	slices.Sort(fresh)
	for _, queue := range fresh {
		h.subscribe(ctx, queue)
	}
	return nil
}

func (h *Handlers) subscribe(ctx context.Context, queue string) {
	stop, err := h.bus.Subscribe(ctx, queue, h.handle)
	if err != nil {
		h.log.Warn("event queue cannot be listened to", "queue", queue, "error", err)
	}
	h.mu.Lock()
	h.subs[queue] = &subscription{stop: stop, err: err}
	h.mu.Unlock()
}

func (h *Handlers) stopAll() {
	h.mu.Lock()
	subs := h.subs
	h.subs, h.byEvent = map[string]*subscription{}, map[string][]*handler{}
	h.mu.Unlock()
	for _, s := range subs {
		if s.stop != nil {
			s.stop()
		}
	}
}

// handlersOf returns the active handlers of a queue.
func (h *Handlers) handlersOf(queue string) []*handler {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byEvent[queue]
}
