// Package client is the Go client of a Tutti server: it starts, reads and controls runs, and
// serves queues as a worker. It speaks the native gRPC API and imports nothing else of the
// module but the generated messages.
//
// A worker in a few lines:
//
//	c, err := client.Dial("127.0.0.1:8090", client.Options{})
//	w := c.Worker(client.WorkerOptions{})
//	client.Handle(w, "charge_card", func(ctx context.Context, o Order) (Receipt, error) { … })
//	err = w.Run(ctx)
//
// Its invariants: a result that a handler has given is reported until the server has taken it
// or has said that nobody waits for it; a worker never has more tasks than it has room for.
package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// maxMessage bounds one message from the server, in bytes.
const maxMessage = 64 << 20

// The pauses between attempts to reach a server, the first and the longest.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Options configure a Client. The zero value talks plain text to the default namespace.
type Options struct {
	Namespace string
	// Dial is passed to gRPC, for example to set TLS credentials. Without any, the
	// connection is not encrypted, which suits a server on the same machine only.
	Dial []grpc.DialOption
}

// Client is a connection to a server. It is safe for concurrent use, connects when it is
// first used and again whenever the connection is lost.
type Client struct {
	conn        *grpc.ClientConn
	ns          string
	runs        tuttipb.RunsClient
	workers     tuttipb.WorkersClient
	definitions tuttipb.DefinitionsClient
}

// Dial returns a client of the server at a gRPC address such as "127.0.0.1:8090".
func Dial(addr string, opts Options) (*Client, error) {
	dial := []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: firstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: lastPause,
			},
			MinConnectTimeout: lastPause,
		}),
	}
	if len(opts.Dial) == 0 {
		dial = append(dial, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	conn, err := grpc.NewClient(addr, append(dial, opts.Dial...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return &Client{
		conn: conn, ns: opts.Namespace,
		runs: tuttipb.NewRunsClient(conn), workers: tuttipb.NewWorkersClient(conn),
		definitions: tuttipb.NewDefinitionsClient(conn),
	}, nil
}

// Close ends the connection and whatever uses it.
func (c *Client) Close() error { return c.conn.Close() }

// Error is what a server says of a request it refuses.
type Error struct {
	Kind    string // class, such as "not found"
	Code    string // stable CamelCase name of the very error
	Message string
	Hint    string // what to do next
}

// Error formats the message with its hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + " (" + e.Hint + ")"
}

// refused turns a gRPC status into an *Error, and into an error of package context where the
// caller's context was the reason. Nil stays nil.
func refused(err error) error {
	st, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, d := range st.Details() {
		if info, ok := d.(*tuttipb.ErrorInfo); ok {
			return fromInfo(info)
		}
	}
	e := &Error{Kind: kinds[st.Code()], Code: st.Code().String(), Message: st.Message()}
	switch st.Code() {
	case codes.Canceled:
		return fmt.Errorf("%s: %w", st.Message(), context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", st.Message(), context.DeadlineExceeded)
	case codes.Unavailable:
		e.Hint = "is the server running at this address?"
	case codes.Unimplemented:
		e.Hint = "is this address the gRPC port of a Tutti server?"
	}
	return e
}

// kinds are the classes of errors that carry none: those of gRPC itself and of proxies.
var kinds = map[codes.Code]string{
	codes.InvalidArgument: "invalid", codes.NotFound: "not found",
	codes.AlreadyExists: "exists", codes.FailedPrecondition: "conflict",
	codes.PermissionDenied: "denied", codes.Unauthenticated: "unauthenticated",
	codes.ResourceExhausted: "exhausted", codes.Unavailable: "unavailable",
	codes.Unimplemented: "unsupported", codes.Internal: "internal",
	codes.Unknown: "internal", codes.Aborted: "conflict", codes.OutOfRange: "invalid",
	codes.DataLoss: "internal",
}

func fromInfo(i *tuttipb.ErrorInfo) *Error {
	return &Error{Kind: i.Kind, Code: i.Code, Message: i.Message, Hint: i.Hint}
}

// hasKind reports whether an error is the server's and of one of some kinds.
func hasKind(err error, kinds ...string) bool {
	var e *Error
	return errors.As(err, &e) && slices.Contains(kinds, e.Kind)
}
