// Package grpcapi serves the native gRPC API: the worker stream, runs and definitions. It
// sits on package api and adds nothing but the protocol; besides api it may import the root
// package, value, engine and the generated messages.
//
// Its invariants: what a client may make the server hold is bounded, and a client that does
// not read what it asked for is cut off; a worker's report is answered only once it is
// durable; what a worker holds when its stream ends goes back to the queues, unless it is the
// server that stops, since leases outlive a restart.
package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// Bounds of the transport.
const (
	// MaxMessageBytes bounds one message.
	MaxMessageBytes = 64 << 20
	maxStreams      = 10_000
	// messageBytes is about how large a message of several parts becomes.
	messageBytes = 4 << 20
)

// Options configure a Server. Service is required.
type Options struct {
	Service  *api.Service
	Appliers api.Appliers
	Version  string // told to workers
	Logger   *slog.Logger
	// Lease is how long a task stays with a worker that gives no sign of life; 30 s when
	// zero. Workers are asked for one three times as often.
	Lease time.Duration
}

// Server is a gRPC server with the native services, health and reflection registered.
// Further services may be registered before it serves.
type Server struct {
	*grpc.Server

	opts     Options
	log      *slog.Logger
	stopping context.Context
	stop     context.CancelFunc
	streams  sync.WaitGroup // what streams leave to be done after their end
}

// NewServer returns a server that is ready to serve.
func NewServer(o Options, opts ...grpc.ServerOption) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Lease == 0 {
		o.Lease = 30 * time.Second
	}
	s := &Server{opts: o, log: o.Logger}
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.Server = grpc.NewServer(append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessageBytes), grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.WriteBufferSize(256 << 10), grpc.ReadBufferSize(256 << 10),
		grpc.InitialWindowSize(1 << 20), grpc.InitialConnWindowSize(4 << 20),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second}),
		// Idle workers may ask whether the server is still there.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: 5 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(s.recoverUnary),
		grpc.ChainStreamInterceptor(s.recoverStream),
	}, opts...)...)
	tuttipb.RegisterWorkersServer(s, &workers{srv: s, svc: o.Service})
	tuttipb.RegisterRunsServer(s, &runs{srv: s, svc: o.Service})
	tuttipb.RegisterDefinitionsServer(s, &definitions{svc: o.Service, appliers: o.Appliers})
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	return s
}

// GracefulStop refuses new calls, ends streams and waiting calls with an Unavailable error,
// and waits for the others. What workers hold stays theirs until its lease ends.
func (s *Server) GracefulStop() {
	s.stop()
	s.Server.GracefulStop()
	s.streams.Wait()
}

// Stop is GracefulStop without waiting for calls: they are cut off.
func (s *Server) Stop() {
	s.stop()
	s.Server.Stop()
	s.streams.Wait()
}

var errStopping = &tutti.Error{
	Kind: tutti.Unavailable, Op: "serve", Code: "ServerStopping",
	Err: errors.New("the server is stopping"), Hint: "connect again",
}

// untilStop returns a context that ends, with errStopping as its cause, when the server stops.
func (s *Server) untilStop(
	ctx context.Context,
) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	detach := context.AfterFunc(s.stopping, func() { cancel(errStopping) })
	return ctx, func(err error) {
		detach()
		cancel(err)
	}
}

// cutShort is an error with its reason, when that is the stopping of the server.
func cutShort(ctx context.Context, err error) error {
	if err != nil && errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	return err
}

func (s *Server) recoverUnary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler,
) (_ any, err error) {
	defer s.recovered(info.FullMethod, &err)
	return next(ctx, req)
}

func (s *Server) recoverStream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler,
) (err error) {
	defer s.recovered(info.FullMethod, &err)
	return next(srv, stream)
}

// recovered makes a panic the failure of one call.
func (s *Server) recovered(method string, err *error) {
	p := recover()
	if p == nil {
		return
	}
	s.log.Error("handler panicked", "method", method, "panic", p,
		slog.String("stack", string(debug.Stack())))
	*err = asStatus(tutti.E(tutti.Internal, method, "Panic",
		fmt.Sprintf("internal error in %s", method)))
}

// guarded calls a part of a handler that runs in a goroutine of its own.
func (s *Server) guarded(method string, fn func() error) (err error) {
	defer s.recovered(method, &err)
	return fn()
}

// namespace is the namespace that a request means.
func namespace(ns string) string {
	if ns == "" {
		return api.DefaultNamespace
	}
	return ns
}

// info describes an error to a program.
func info(err error) *tuttipb.ErrorInfo {
	var e *tutti.Error
	if !errors.As(err, &e) {
		return &tuttipb.ErrorInfo{
			Code: "Internal", Kind: tutti.Internal.String(), Message: valid(err.Error()),
		}
	}
	return &tuttipb.ErrorInfo{
		Code: e.Code, Kind: e.Kind.String(), Hint: valid(e.Hint),
		Message: valid(strings.TrimPrefix(e.Pos+": "+e.Message(), ": ")),
	}
}

// valid makes a text fit for a message: an error may quote bytes that are no UTF-8.
func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// asStatus turns an error into what gRPC answers: the code of its kind, its message, and an
// ErrorInfo as detail. A status stays as it is, and nil stays nil.
func asStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	var e *tutti.Error
	if !errors.As(err, &e) && (errors.Is(err, context.Canceled) ||
		errors.Is(err, context.DeadlineExceeded)) {
		return status.FromContextError(err).Err()
	}
	in := info(err)
	st := status.New(api.GRPCCode(tutti.KindOf(err)), in.Message)
	if with, derr := st.WithDetails(in); derr == nil {
		st = with
	}
	return st.Err()
}

func invalid(op, code, message string) error {
	return asStatus(tutti.E(tutti.Invalid, op, code, message))
}
