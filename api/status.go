package api

import (
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/tutti-run/tutti"
)

// wire is what a kind of error is in HTTP and gRPC: the one table for all protocols.
var wire = map[tutti.Kind]struct {
	http int
	grpc codes.Code
}{
	tutti.Internal:        {http.StatusInternalServerError, codes.Internal},
	tutti.Invalid:         {http.StatusBadRequest, codes.InvalidArgument},
	tutti.NotFound:        {http.StatusNotFound, codes.NotFound},
	tutti.Exists:          {http.StatusConflict, codes.AlreadyExists},
	tutti.Conflict:        {http.StatusConflict, codes.FailedPrecondition},
	tutti.Denied:          {http.StatusForbidden, codes.PermissionDenied},
	tutti.Unauthenticated: {http.StatusUnauthorized, codes.Unauthenticated},
	tutti.Exhausted:       {http.StatusTooManyRequests, codes.ResourceExhausted},
	tutti.Timeout:         {http.StatusGatewayTimeout, codes.DeadlineExceeded},
	tutti.Cancelled:       {499, codes.Canceled},
	tutti.Unavailable:     {http.StatusServiceUnavailable, codes.Unavailable},
	tutti.Unsupported:     {http.StatusNotImplemented, codes.Unimplemented},
}

// HTTPStatus is the HTTP status of a kind of error. 499 is what proxies log for a caller
// that went away.
func HTTPStatus(k tutti.Kind) int {
	if w, ok := wire[k]; ok {
		return w.http
	}
	return http.StatusInternalServerError
}

// GRPCCode is the gRPC status code of a kind of error.
func GRPCCode(k tutti.Kind) codes.Code {
	if w, ok := wire[k]; ok {
		return w.grpc
	}
	return codes.Internal
}
