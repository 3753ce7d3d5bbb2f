// Package toyserver is a server for tests of whatever speaks to one over gRPC: the native
// services on a loopback port, over a runner and a store in memory, with the toy dialect of
// package enginetest. Only tests import it. Its invariant: what it acknowledged is still there
// after Restart.
package toyserver

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/grpcapi"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/value"
)

// Server is a running server.
type Server struct {
	Addr    string
	Service *api.Service // of the server that runs now
	GRPC    *grpcapi.Server

	t      testing.TB
	opts   grpcapi.Options
	store  *memstore.Store
	run    *runner.Runner
	served chan error
}

// New starts a server, which ends with the test. Leases last as long as is said.
func New(t testing.TB, lease time.Duration) *Server {
	t.Helper()
	st, err := memstore.Open(memstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(logTo{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	s := &Server{
		Addr: "127.0.0.1:0", t: t, store: st,
		opts: grpcapi.Options{Version: "test", Logger: log, Lease: lease},
	}
	s.open()
	t.Cleanup(func() {
		s.Stop()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

type logTo struct{ t testing.TB }

func (w logTo) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func (s *Server) open() {
	s.t.Helper()
	dialects := []tutti.Dialect{enginetest.Toy{}}
	var err error
	s.run, err = runner.Open(s.t.Context(), runner.Options{
		Store: s.store, Dialects: dialects, Logger: s.opts.Logger,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.Service = api.New(api.Options{
		Runner: s.run, Dialects: dialects, Logger: s.opts.Logger,
	})
	s.opts.Service = s.Service
	var lc net.ListenConfig
	l, err := lc.Listen(s.t.Context(), "tcp", s.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Addr = l.Addr().String()
	s.GRPC = grpcapi.NewServer(s.opts)
	s.served = make(chan error, 1)
	go func() { s.served <- s.GRPC.Serve(l) }()
}

// Stop ends the server in order. Calling it again does nothing.
func (s *Server) Stop() {
	if s.GRPC == nil {
		return
	}
	s.GRPC.GracefulStop()
	if err := <-s.served; err != nil {
		s.t.Error(err)
	}
	s.run.Close()
	s.GRPC = nil
}

// Restart stops the server, if it runs, and starts it again at the same address.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.open()
}

// Dial returns a connection to the server that ends with the test.
func (s *Server) Dial() *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient(s.Addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(grpcapi.MaxMessageBytes)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Define stores a toy definition.
func (s *Server) Define(name, steps string) {
	s.t.Helper()
	_, err := s.Service.PutDocument(s.t.Context(), engine.Document{
		Namespace: api.DefaultNamespace, Dialect: "toy", Kind: "toy", Name: name,
		Version: 1, Body: value.Raw(steps),
	}, engine.PutAny)
	if err != nil {
		s.t.Fatal(err)
	}
}

// Start begins a run of a definition.
func (s *Server) Start(definition string) tutti.RunID {
	s.t.Helper()
	st, err := s.Service.Start(s.t.Context(), tutti.RunSpec{
		Namespace: api.DefaultNamespace, Dialect: "toy", Definition: definition,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return st.ID
}

// Task returns an attempt of a run.
func (s *Server) Task(id tutti.RunID, seq tutti.Seq) *tutti.Task {
	s.t.Helper()
	_, task, err := s.Service.Task(s.t.Context(), api.DefaultNamespace, id, seq)
	if err != nil {
		s.t.Fatal(err)
	}
	return task
}

// Patience is how long tests wait for what must come.
const Patience = 20 * time.Second

// Until waits until a condition on a run holds.
func (s *Server) Until(id tutti.RunID, what string, cond func(v *api.RunView) (bool, error)) {
	s.t.Helper()
	met, err := s.Service.WaitUntil(s.t.Context(), api.DefaultNamespace, id, Patience, cond)
	if err != nil || !met {
		s.t.Fatalf("run %s: waiting until %s: %v", id, what, err)
	}
}

// End waits for the end of a run.
func (s *Server) End(id tutti.RunID) *tutti.Run {
	s.t.Helper()
	var run *tutti.Run
	s.Until(id, "it has ended", func(v *api.RunView) (bool, error) {
		run = v.Run
		return !v.Run.Status.Open(), nil
	})
	return run
}

// UntilTask waits until an attempt of a run is in a state. It looks again and again, since not
// all that is noted of an attempt counts as a change of its run.
func (s *Server) UntilTask(
	id tutti.RunID, seq tutti.Seq, what string, cond func(*tutti.Task) bool,
) {
	s.t.Helper()
	Eventually(s.t, what, func() bool { return cond(s.Task(id, seq)) })
}

// Eventually waits until a condition holds that nothing tells of.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(Patience); !cond(); <-tick.C {
		if time.Now().After(late) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}
