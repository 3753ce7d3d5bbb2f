package conductorapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

// startRequest is the official StartWorkflowRequest.
type startRequest struct {
	name, correlationID, createdBy, event string
	version                               int
	priority                              int64
	input                                 value.Raw
	routing                               map[string]string
	def                                   value.Raw // inline definition; nil = none
	idempotencyKey, strategy              string
}

// readStart reads a StartWorkflowRequest and checks it. Where names it in violations.
func readStart(raw value.Raw, where string) (*startRequest, error) {
	b := bodyReader{raw: raw}
	s := &startRequest{
		name: b.text("name"), correlationID: b.text("correlationId"),
		createdBy: b.text("createdBy"), version: int(max(b.number("version", 0), 0)),
		priority: b.number("priority", 0), input: b.object("input"),
		routing: b.texts("taskToDomain"), def: b.object("workflowDef"),
		idempotencyKey: b.text("idempotencyKey"),
		strategy: b.choice("idempotencyStrategy", string(model.IdempotencyFail),
			string(model.IdempotencyReturnExisting),
			string(model.IdempotencyFailOnRunning)),
	}
	external := b.text("externalInputPayloadStoragePath")
	switch {
	case b.err != nil:
		return nil, b.err
	case external != "":
		return nil, noStorage()
	}
	if in, ok := raw.Field("input"); ok && in.IsNull() {
		return nil, fail(http.StatusBadRequest, "NULL input passed when starting workflow")
	}
	return s, s.check(where)
}

func (s *startRequest) check(where string) error {
	var list []violation
	if s.name == "" {
		list = append(list, violation{
			path: where + ".name", message: "Workflow name cannot be null or empty",
		})
	}
	switch p := s.priority; {
	case p < 0:
		list = append(list, violation{
			path: where + ".priority", message: fmt.Sprintf("priority: %d should be minimum 0", p),
			invalid: fmt.Sprint(p),
		})
	case p > 99:
		list = append(list, violation{
			path: where + ".priority", message: fmt.Sprintf("priority: %d should be maximum 99", p),
			invalid: fmt.Sprint(p),
		})
	}
	if len(list) > 0 {
		return invalid(list...)
	}
	return nil
}

// noStorage answers payloads that a client keeps in a storage of its own.
func noStorage() error {
	return &tutti.Error{
		Kind: tutti.Unsupported, Op: "read payload", Code: "NoExternalStorage",
		Err:  fmt.Errorf("this server has no external payload storage"),
		Hint: "send the payload itself; it may have up to 32 MiB",
	}
}

// spec turns the request into the engine's words.
func (a *API) spec(ctx context.Context, s *startRequest) (tutti.RunSpec, error) {
	spec := tutti.RunSpec{
		Namespace: namespace, Dialect: model.Dialect, Definition: s.name,
		Version: s.version, Input: s.input, CorrelationID: s.correlationID,
		Priority: int(s.priority), CreatedBy: s.createdBy, Event: s.event, Routing: s.routing,
		IdempotencyKey: s.idempotencyKey,
	}
	if spec.Input == nil {
		spec.Input = value.Raw("{}")
	}
	switch model.IdempotencyStrategy(s.strategy) {
	case model.IdempotencyReturnExisting:
		spec.OnDuplicate = tutti.DuplicateReturn
	case model.IdempotencyFailOnRunning:
		spec.OnDuplicate = tutti.DuplicateFailOnRunning
	}
	if s.def == nil {
		return spec, nil
	}
	docs, err := a.documents(ctx)
	if err != nil {
		return spec, err
	}
	def, err := a.checkedWorkflow(ctx, s.def, "startWorkflow.startWorkflowRequest.workflowDef")
	if err != nil {
		return spec, err
	}
	spec.Source, err = model.LinkInline(docs, def.Encode())
	return spec, err
}

// start starts a run and returns its identifier.
func (a *API) start(ctx context.Context, s *startRequest) (tutti.RunID, error) {
	spec, err := a.spec(ctx, s)
	if err != nil {
		return tutti.RunID{}, err
	}
	started, err := a.svc.Start(ctx, spec)
	return started.ID, err
}

// Start starts the workflow of a StartWorkflowRequest. Without an idempotency key of its own the
// request gets one, so that a repeated call answers the workflow that the first one started.
func (a *API) Start(ctx context.Context, request value.Raw, key string) (tutti.RunID, error) {
	s, err := readStart(request, "startWorkflow.startWorkflowRequest")
	if err != nil {
		return tutti.RunID{}, err
	}
	if s.idempotencyKey == "" {
		s.idempotencyKey, s.strategy = key, string(model.IdempotencyReturnExisting)
	}
	return a.start(ctx, s)
}

func (a *API) startWorkflow(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	req, err := readStart(raw, "startWorkflow.startWorkflowRequest")
	if err != nil {
		return answer{}, err
	}
	id, err := a.start(c.ctx(), req)
	return textOr(id.String(), err)
}

func (a *API) startNamed(c *call) (answer, error) {
	version, err := readVersion(c.text("version", ""))
	if err != nil {
		return answer{}, err
	}
	priority, err := c.integer("priority", 0)
	if err != nil {
		return answer{}, err
	}
	input, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	list := []violation{{path: "startWorkflow.priority", invalid: fmt.Sprint(priority)}}
	switch {
	case priority < 0:
		list[0].message = "0 is the minimum priority value"
		return answer{}, invalid(list...)
	case priority > 99:
		list[0].message = "99 is the maximum priority value"
		return answer{}, invalid(list...)
	}
	id, err := a.start(c.ctx(), &startRequest{
		name: c.path("name"), version: version, input: input, priority: int64(priority),
		correlationID: c.text("correlationId", ""),
	})
	return textOr(id.String(), err)
}
