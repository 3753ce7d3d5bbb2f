package grpcapi

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tutti-run/tutti"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// TestUnreadAnswers checks that a worker cannot make the server keep answers without end.
func TestUnreadAnswers(t *testing.T) {
	s := &session{held: map[hold]bool{}, wake: make(chan struct{}, 1)}
	s.ctx, s.cut = context.WithCancelCause(t.Context())
	for i := range maxUnread + 1 {
		if s.ctx.Err() != nil {
			t.Fatalf("cut off after %d answers", i)
		}
		s.ack(&tuttipb.Completion{}, hold{}, errSlow)
	}
	if err := context.Cause(s.ctx); !errors.Is(err, errSlow) {
		t.Errorf("over the bound: %v", err)
	}
}

// TestRoom checks how much of a worker's credit the dispatcher is told of.
func TestRoom(t *testing.T) {
	holding := func(n int) map[hold]bool {
		m := map[hold]bool{}
		for i := range n {
			m[hold{seq: tutti.Seq(i)}] = true
		}
		return m
	}
	for _, tt := range []struct {
		name string
		s    *session
		want int
	}{
		{"all", &session{wanted: 5, held: holding(0)}, 5},
		{"over what may wait", &session{wanted: 5000, held: holding(0)}, maxUnsent},
		{"beside what is granted", &session{wanted: 5000, credit: 400, held: holding(0)}, 600},
		{"almost full", &session{wanted: 50, held: holding(maxHeld - 20)}, 20},
		{"full", &session{wanted: 50, held: holding(maxHeld)}, 0},
		{"more than full", &session{wanted: 50, held: holding(maxHeld + 9)}, 0},
		{"draining", &session{wanted: 50, held: holding(0), draining: true}, 0},
		{"ended", &session{wanted: 50}, 0},
	} {
		wanted, credit := tt.s.wanted, tt.s.credit
		if got := tt.s.room(); got != tt.want || tt.s.wanted != wanted-got ||
			tt.s.credit != credit+got {
			t.Errorf("%s: %d, leaves %d wanted and %d granted",
				tt.name, got, tt.s.wanted, tt.s.credit)
		}
	}
}

// TestPanicsFailOneCall checks that a fault in a handler does not end the server.
func TestPanicsFailOneCall(t *testing.T) {
	s := NewServer(Options{})
	defer s.Stop()
	_, err := s.recoverUnary(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "m"},
		func(context.Context, any) (any, error) { panic("boom") })
	if status.Code(err) != codes.Internal {
		t.Errorf("unary: %v", err)
	}
	err = s.recoverStream(nil, nil, &grpc.StreamServerInfo{FullMethod: "m"},
		func(any, grpc.ServerStream) error { panic("boom") })
	if status.Code(err) != codes.Internal {
		t.Errorf("stream: %v", err)
	}
	if err := s.guarded("m", func() error { panic("boom") }); status.Code(err) != codes.Internal {
		t.Errorf("part: %v", err)
	}
}

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code codes.Code
		info string
	}{
		{nil, codes.OK, ""},
		{errors.New("fault"), codes.Internal, "Internal"},
		{tutti.E(tutti.NotFound, "op", "Code", "text"), codes.NotFound, "Code"},
		{tutti.E(tutti.Conflict, "op", "Code", "\xff"), codes.FailedPrecondition, "Code"},
		{context.Canceled, codes.Canceled, ""},
		{status.Error(codes.Aborted, "as it is"), codes.Aborted, ""},
	} {
		st := status.Convert(asStatus(tt.err))
		code := ""
		for _, d := range st.Details() {
			code = d.(*tuttipb.ErrorInfo).Code
		}
		if st.Code() != tt.code || code != tt.info {
			t.Errorf("%v: %s %q", tt.err, st.Code(), code)
		}
	}
}
