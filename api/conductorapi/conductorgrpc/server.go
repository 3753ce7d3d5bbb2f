package conductorgrpc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/conductorapi"
	"github.com/tutti-run/tutti/api/pb/conductor/eventspb"
	"github.com/tutti-run/tutti/api/pb/conductor/metadatapb"
	"github.com/tutti-run/tutti/api/pb/conductor/taskspb"
	"github.com/tutti-run/tutti/api/pb/conductor/workflowspb"
	"github.com/tutti-run/tutti/value"
)

// Register adds Conductor's services to a gRPC server that does not serve yet.
func Register(g grpc.ServiceRegistrar, a *conductorapi.API) {
	b := backend{a}
	metadatapb.RegisterMetadataServiceServer(g, &metadataService{backend: b})
	taskspb.RegisterTaskServiceServer(g, &taskService{backend: b})
	workflowspb.RegisterWorkflowServiceServer(g, &workflowService{backend: b})
	eventspb.RegisterEventServiceServer(g, &eventService{backend: b})
}

// backend performs the operations of the REST API.
type backend struct{ api *conductorapi.API }

// operation is a call of an endpoint.
type operation struct {
	endpoint string // method and pattern, as in "GET /api/workflow/{workflowId}"
	path     []string
	query    map[string]any // texts, numbers and flags; empty texts are left out
	body     proto.Message  // nil = none
	raw      []byte         // the body, when it is no message
}

// do performs an operation and returns the text that it answers.
func (b backend) do(ctx context.Context, op operation) ([]byte, error) {
	method, pattern, _ := strings.Cut(op.endpoint, " ")
	in := conductorapi.Invocation{
		Method: method, Pattern: pattern, Path: pathOf(pattern, op.path),
		Query: queryOf(op.query), Body: op.raw,
	}
	if op.body != nil {
		var err error
		if in.Body, err = encode(op.body); err != nil {
			return nil, asStatus(err)
		}
	}
	out, err := b.api.Invoke(ctx, in)
	return out, asStatus(err)
}

// read performs an operation and reads what it answers into a message. An empty answer leaves
// the message as it is.
func (b backend) read(ctx context.Context, op operation, into proto.Message) error {
	out, err := b.do(ctx, op)
	if err != nil || len(out) == 0 {
		return err
	}
	return asStatus(decode(out, into))
}

// pathOf names the parameters of a pattern.
func pathOf(pattern string, params []string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(pattern, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if part == "*" {
			name, ok = "*", true
		}
		if ok && len(params) > 0 {
			m[strings.TrimSuffix(name, "}")] = params[0]
			params = params[1:]
		}
	}
	return m
}

func queryOf(params map[string]any) url.Values {
	q := url.Values{}
	for name, v := range params {
		switch v := v.(type) {
		case string:
			if v != "" {
				q.Set(name, v)
			}
		case []string:
			q[name] = v
		default:
			q.Set(name, fmt.Sprint(v))
		}
	}
	return q
}

// number is a query parameter that is left out when it is zero.
func number[N int32 | int64](n N) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}

// names is the JSON of a list of texts.
func names(list []string) []byte {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return value.Marshal(all)
}

// under puts an answer into an object under a name, so that a message can hold it.
func under(name string, raw []byte) []byte {
	if len(raw) == 0 {
		return []byte("{}")
	}
	b := append(value.AppendString([]byte{'{'}, name), ':')
	return append(append(b, raw...), '}')
}

// each sends the elements of a list, each in a message of its own.
func each[M proto.Message](raw []byte, fresh func() M, send func(M) error) error {
	if len(raw) == 0 {
		return nil
	}
	v, err := value.Parse(raw, limits)
	if err != nil {
		return asStatus(unfit(err))
	}
	list, _ := v.([]any)
	for _, e := range list {
		m := fresh()
		if err := decodeValue(e, m); err != nil {
			return asStatus(err)
		}
		if err := send(m); err != nil {
			return err
		}
	}
	return nil
}

// refusedIn returns what a bulk operation could not do as an error.
func refusedIn(raw []byte) error {
	faults, _ := value.Raw(raw).Field("bulkErrorResults")
	found := map[string]string{}
	for name, why := range faults.Members() {
		found[name], _ = why.Text()
	}
	if len(found) == 0 {
		return nil
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		texts = append(texts, name+": "+found[name])
	}
	return status.Error(codes.FailedPrecondition, valid(strings.Join(texts, "; ")))
}

// asStatus turns an error into what gRPC answers. Nil stays nil.
func asStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	var e *tutti.Error
	if !errors.As(err, &e) {
		return status.Error(codes.Internal, valid(err.Error()))
	}
	text := e.Message()
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return status.Error(api.GRPCCode(e.Kind), valid(text))
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
