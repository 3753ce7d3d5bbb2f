// Package grpcapi serves the native gRPC API: the worker stream, runs and definitions. It
// sits on package api and adds nothing but the protocol.
package grpcapi

import (
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
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
)

// NewServer returns a gRPC server with the native services, health and reflection
// registered. Further services may be registered before it serves.
func NewServer(
	svc *api.Service, appliers api.Appliers, version string, opts ...grpc.ServerOption,
) *grpc.Server {
	opts = append([]grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessageBytes), grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.WriteBufferSize(256 << 10), grpc.ReadBufferSize(256 << 10),
		grpc.InitialWindowSize(1 << 20), grpc.InitialConnWindowSize(4 << 20),
	}, opts...)
	g := grpc.NewServer(opts...)
	tuttipb.RegisterWorkersServer(g, &workers{svc: svc, version: version})
	tuttipb.RegisterRunsServer(g, &runs{svc: svc})
	tuttipb.RegisterDefinitionsServer(g, &definitions{svc: svc, appliers: appliers})
	healthpb.RegisterHealthServer(g, health.NewServer())
	reflection.Register(g)
	return g
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
			Code: "Internal", Kind: tutti.Internal.String(), Message: err.Error(),
		}
	}
	return &tuttipb.ErrorInfo{
		Code: e.Code, Kind: e.Kind.String(), Hint: e.Hint,
		Message: strings.TrimPrefix(e.Pos+": "+e.Message(), ": "),
	}
}

// asStatus turns an error into what gRPC answers. Nil stays nil.
func asStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	in := info(err)
	st := status.New(grpcCode(tutti.KindOf(err)), in.Message)
	if with, derr := st.WithDetails(in); derr == nil {
		st = with
	}
	return st.Err()
}

var grpcCodes = map[tutti.Kind]codes.Code{
	tutti.Internal:        codes.Internal,
	tutti.Invalid:         codes.InvalidArgument,
	tutti.NotFound:        codes.NotFound,
	tutti.Exists:          codes.AlreadyExists,
	tutti.Conflict:        codes.FailedPrecondition,
	tutti.Denied:          codes.PermissionDenied,
	tutti.Unauthenticated: codes.Unauthenticated,
	tutti.Exhausted:       codes.ResourceExhausted,
	tutti.Timeout:         codes.DeadlineExceeded,
	tutti.Cancelled:       codes.Canceled,
	tutti.Unavailable:     codes.Unavailable,
	tutti.Unsupported:     codes.Unimplemented,
}

func grpcCode(k tutti.Kind) codes.Code { return grpcCodes[k] }

func invalid(op, code, message string) error {
	return asStatus(tutti.E(tutti.Invalid, op, code, message))
}
