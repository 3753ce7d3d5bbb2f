package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/observe"
	"github.com/tutti-run/tutti/value"
)

// Start begins a run of a definition of the catalogue, or of spec.Source. It answers once
// the start is durable.
func (s *Service) Start(ctx context.Context, spec tutti.RunSpec) (engine.Started, error) {
	cmd, err := s.prepareStart(ctx, spec)
	if err != nil {
		return engine.Started{}, err
	}
	res, err := s.run.ForRun(ctx, cmd.ID, cmd)
	if err != nil {
		return engine.Started{}, err
	}
	return res.(engine.Started), nil
}

// prepareStart checks a start and completes it into the command for the run's shard.
func (s *Service) prepareStart(ctx context.Context, spec tutti.RunSpec) (engine.Start, error) {
	var none engine.Start
	if err := s.authorize(ctx, StartRuns, spec.Namespace); err != nil {
		return none, err
	}
	if err := checkSpec(&spec); err != nil {
		return none, err
	}
	src, hash := spec.Source, tutti.Hash{}
	if src != nil {
		hash = engine.SourceHash(src)
	} else {
		if err := s.chooseDialect(&spec); err != nil {
			return none, err
		}
		var err error
		src, err = s.run.Catalog().Link(
			spec.Namespace, spec.Dialect, spec.Definition, spec.Version)
		if err != nil {
			return none, err
		}
		hash = s.programs.hashOf(src)
	}
	spec.Definition = src.Name
	prog, err := s.program(src, hash)
	if err != nil {
		return none, err
	}
	if p, ok := prog.(tutti.Preparer); ok {
		if err := p.Prepare(&spec); err != nil {
			return none, err
		}
	}
	s.seen.see(spec.Namespace)
	s.inheritTrace(ctx, &spec)
	return engine.Start{
		ID: s.run.PlaceRun(&spec), Spec: spec, Source: src, Hash: hash, Prepared: true,
		Fresh: true,
	}, nil
}

// chooseDialect finds the dialect of a start that names none: the one that has a definition
// of this name.
func (s *Service) chooseDialect(spec *tutti.RunSpec) error {
	if spec.Dialect != "" {
		return nil
	}
	for _, d := range s.opts.Dialects {
		_, ok := s.run.Catalog().Get(
			spec.Namespace, d.Name(), tutti.DefinitionKind, spec.Definition, spec.Version)
		if !ok {
			continue
		}
		if spec.Dialect != "" {
			return tutti.E(tutti.Invalid, "start", "AmbiguousDefinition", fmt.Sprintf(
				"%s is a definition of %s and of %s; name the dialect",
				spec.Definition, spec.Dialect, d.Name()))
		}
		spec.Dialect = d.Name()
	}
	if spec.Dialect == "" {
		return tutti.E(tutti.NotFound, "start", "DefinitionNotFound", fmt.Sprintf(
			"there is no definition %s version %d (0 = the newest)",
			spec.Definition, spec.Version))
	}
	return nil
}

func checkSpec(spec *tutti.RunSpec) error {
	if spec.Source == nil {
		if err := checkName("definition", spec.Definition); err != nil {
			return err
		}
	}
	if err := checkOptional("correlation id", spec.CorrelationID); err != nil {
		return err
	}
	if err := checkOptional("idempotency key", spec.IdempotencyKey); err != nil {
		return err
	}
	for name, val := range spec.Labels {
		if checkName("label", name) != nil || checkOptional("label", val) != nil {
			return tutti.E(tutti.Invalid, "start", "InvalidLabel",
				fmt.Sprintf("label %q is empty, too long or contains a zero byte", name))
		}
	}
	return checkPayload("start", spec.Input)
}

// checkPayload refuses payloads that are over the bound or no JSON. Nil is no payload.
func checkPayload(op string, raw value.Raw) error {
	if raw == nil {
		return nil
	}
	if len(raw) > MaxPayloadBytes {
		return tutti.E(tutti.Exhausted, op, "PayloadTooLarge", fmt.Sprintf(
			"the payload has %d bytes, over the bound of %d", len(raw), MaxPayloadBytes))
	}
	if err := value.Check(raw, value.DefaultLimits); err != nil {
		return &tutti.Error{Kind: tutti.Invalid, Op: op, Code: "InvalidJSON", Err: err}
	}
	return nil
}

// traceKey is the key under which a context carries the trace context of a request.
type traceKey struct{}

// WithTraceParent returns a context that carries the W3C trace context of a request, so that
// runs started by it become part of its trace, when the server traces at all.
func WithTraceParent(ctx context.Context, traceParent string) context.Context {
	if !observe.ValidTraceParent(traceParent) {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, traceParent)
}

// TraceContext takes the W3C trace context of HTTP requests for the runs that they start.
func TraceContext(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tp := r.Header.Get("Traceparent"); tp != "" {
			r = r.WithContext(WithTraceParent(r.Context(), tp))
		}
		next.ServeHTTP(w, r)
	})
}

// inheritTrace labels a start with the trace context of its request.
func (s *Service) inheritTrace(ctx context.Context, spec *tutti.RunSpec) {
	tp, ok := ctx.Value(traceKey{}).(string)
	if !ok || s.opts.Trace == nil || spec.Labels[tutti.LabelTrace] != "" {
		return
	}
	labels := map[string]string{tutti.LabelTrace: tp}
	maps.Copy(labels, spec.Labels)
	spec.Labels = labels
}
