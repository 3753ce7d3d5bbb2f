package observe

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// TraceOptions configure a Tracer.
type TraceOptions struct {
	// Endpoint is the URL of an OTLP receiver over HTTP. When it is empty, the environment
	// variables of OpenTelemetry (OTEL_EXPORTER_OTLP_ENDPOINT and its kin) count.
	Endpoint string
	// Ratio is the share of runs that are traced; 1 when zero. Runs that were started in a
	// trace follow its sampling flag instead.
	Ratio   float64
	Version string // of the server
	// Exporter, when set, gets the spans instead of an OTLP receiver.
	Exporter sdktrace.SpanExporter
}

// Tracer makes a span of every run and of every task attempt, when it ends. The trace of a
// run has the run's own identifier, and the identifiers of spans follow from the run and the
// number of the attempt, so that whoever knows a task knows its place in the trace. A nil
// Tracer makes no spans.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	pump     *pump
	ratio    float64
}

// NewTracer returns a Tracer, or nil when no receiver is configured. It must be closed.
func NewTracer(ctx context.Context, o TraceOptions) (*Tracer, error) {
	exp := o.Exporter
	if exp == nil {
		if o.Endpoint == "" && os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" &&
			os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
			return nil, nil
		}
		var opts []otlptracehttp.Option
		if o.Endpoint != "" {
			opts = append(opts, otlptracehttp.WithEndpointURL(o.Endpoint))
		}
		var err error
		if exp, err = otlptracehttp.New(ctx, opts...); err != nil {
			return nil, fmt.Errorf("open the receiver of traces: %w", err)
		}
	}
	t := &Tracer{ratio: o.Ratio}
	if t.ratio <= 0 {
		t.ratio = 1
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exp), sdktrace.WithIDGenerator(givenIDs{}),
		sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "tutti"),
			attribute.String("service.version", o.Version),
		)),
	)
	t.tracer = t.provider.Tracer("tutti")
	t.pump = newPump(t.export)
	return t, nil
}

// Close exports what is left.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.pump.close()
	return t.provider.Shutdown(ctx)
}

// Observe takes transitions. It does not block.
func (t *Tracer) Observe(notes []engine.Notification) {
	if t == nil {
		return
	}
	for i := range notes {
		if isEnd(&notes[i]) {
			t.pump.put(notes)
			return
		}
	}
}

// Dropped counts the transitions that were not traced because too many came at once.
func (t *Tracer) Dropped() uint64 {
	if t == nil {
		return 0
	}
	return t.pump.dropped.Load()
}

func isEnd(n *engine.Notification) bool {
	return n.Kind == engine.HistoryRunEnded || n.Kind == engine.HistoryTaskDone
}

// TraceParent returns the W3C trace context for a task of a run: what goes to the worker or
// service that performs it. Without a Tracer it is the context that the run was started in.
func (t *Tracer) TraceParent(run *tutti.Run, seq tutti.Seq) string {
	if t == nil {
		if _, ok := parseTraceParent(run.Labels[tutti.LabelTrace]); !ok {
			return ""
		}
		return run.Labels[tutti.LabelTrace]
	}
	sc := t.context(run.ID, run.Labels, seq)
	return fmt.Sprintf("00-%s-%s-%s", sc.TraceID(), sc.SpanID(), sc.TraceFlags())
}

// context is the identity of the span of a task, or of the run itself when seq is 0.
func (t *Tracer) context(
	id tutti.RunID, labels map[string]string, seq tutti.Seq,
) trace.SpanContext {
	conf := trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: spanID(id, seq)}
	if given, ok := parseTraceParent(labels[tutti.LabelTrace]); ok {
		conf.TraceID, conf.TraceFlags = given.TraceID(), given.TraceFlags()
	} else if t.samples(id) {
		conf.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(conf)
}

// samples decides by the run's identifier, so that all its tasks are treated alike.
func (t *Tracer) samples(id tutti.RunID) bool {
	if t.ratio >= 1 {
		return true
	}
	return float64(mix(binary.BigEndian.Uint64(id[8:]))) < t.ratio*math.MaxUint64
}

// spanID derives the identifier of a span, which must not be zero.
func spanID(id tutti.RunID, seq tutti.Seq) (s trace.SpanID) {
	hi, lo := binary.BigEndian.Uint64(id[:8]), binary.BigEndian.Uint64(id[8:])
	binary.BigEndian.PutUint64(s[:], max(mix(hi^mix(lo^mix(uint64(seq)+1))), 1))
	return s
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// export makes spans of what ended.
func (t *Tracer) export(notes []engine.Notification) {
	for i := range notes {
		n := &notes[i]
		if !isEnd(n) {
			continue
		}
		seq := n.Seq
		if n.Kind == engine.HistoryRunEnded {
			seq = 0
		}
		sc := t.context(n.Run.ID, n.Run.Labels, seq)
		if !sc.IsSampled() {
			continue
		}
		ctx := context.WithValue(context.Background(), spanIDs{}, sc)
		if seq == 0 {
			t.runSpan(ctx, n)
		} else {
			t.taskSpan(ctx, n)
		}
	}
}

func (t *Tracer) runSpan(ctx context.Context, n *engine.Notification) {
	var links []trace.Link
	given, inTrace := parseTraceParent(n.Run.Labels[tutti.LabelTrace])
	child := !n.Run.Parent.IsZero()
	switch {
	case child && inTrace: // the parent is in the same trace
		ctx = trace.ContextWithRemoteSpanContext(ctx,
			t.context(n.Run.Parent, n.Run.Labels, n.Run.ParentTask))
	case child:
		links = []trace.Link{{SpanContext: t.context(n.Run.Parent, nil, n.Run.ParentTask)}}
	case inTrace:
		ctx = trace.ContextWithRemoteSpanContext(ctx, given)
	}
	opts := []trace.SpanStartOption{
		trace.WithTimestamp(time.UnixMilli(n.Run.StartMs)),
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("tutti.run", n.Run.ID.String()),
			attribute.String("tutti.namespace", n.Run.Namespace),
			attribute.String("tutti.definition", n.Run.Definition),
			attribute.Int("tutti.version", n.Run.Version),
		),
		trace.WithLinks(links...),
	}
	_, span := t.tracer.Start(ctx, n.Run.Definition, opts...)
	if st := tutti.RunStatus(n.Status); st != tutti.RunCompleted {
		span.SetStatus(codes.Error, st.String())
	}
	span.End(trace.WithTimestamp(time.UnixMilli(n.AtMs)))
}

func (t *Tracer) taskSpan(ctx context.Context, n *engine.Notification) {
	ctx = trace.ContextWithRemoteSpanContext(ctx, t.context(n.Run.ID, n.Run.Labels, 0))
	_, span := t.tracer.Start(ctx, n.Name,
		trace.WithTimestamp(time.UnixMilli(n.AtMs-n.WaitMs)),
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("tutti.run", n.Run.ID.String()),
			attribute.String("tutti.task", n.Run.ID.TaskID(n.Seq)),
			attribute.String("tutti.type", n.Type),
			attribute.Int("tutti.attempt", int(n.Attempt)+1),
		))
	st := tutti.TaskStatus(n.Status)
	span.SetAttributes(attribute.String("tutti.status", st.String()))
	if !st.Successful() {
		span.SetStatus(codes.Error, st.String())
	}
	span.End(trace.WithTimestamp(time.UnixMilli(n.AtMs)))
}

// spanIDs is the key under which a context carries the identity of the span to be made.
type spanIDs struct{}

// givenIDs is an ID generator that takes what the context carries.
type givenIDs struct{}

// NewIDs implements sdktrace.IDGenerator.
func (givenIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	sc, _ := ctx.Value(spanIDs{}).(trace.SpanContext)
	return sc.TraceID(), sc.SpanID()
}

// NewSpanID implements sdktrace.IDGenerator.
func (givenIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	sc, _ := ctx.Value(spanIDs{}).(trace.SpanContext)
	return sc.SpanID()
}

// ValidTraceParent reports whether a text is a W3C trace context of version 00.
func ValidTraceParent(s string) bool {
	_, ok := parseTraceParent(s)
	return ok
}

func parseTraceParent(s string) (trace.SpanContext, bool) {
	var id trace.TraceID
	var span trace.SpanID
	var flags [1]byte
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' {
		return trace.SpanContext{}, false
	}
	for _, part := range []struct {
		to   []byte
		text string
	}{{id[:], s[3:35]}, {span[:], s[36:52]}, {flags[:], s[53:]}} {
		if _, err := hex.Decode(part.to, []byte(part.text)); err != nil {
			return trace.SpanContext{}, false
		}
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags[0]), Remote: true,
	})
	return sc, sc.IsValid()
}
