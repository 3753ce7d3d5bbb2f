package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/adminapi"
	"github.com/tutti-run/tutti/api/conductorapi"
	"github.com/tutti-run/tutti/api/conductorapi/conductorgrpc"
	"github.com/tutti-run/tutti/api/conductorapi/events"
	"github.com/tutti-run/tutti/api/grpcapi"
	"github.com/tutti-run/tutti/connector"
	"github.com/tutti-run/tutti/connector/egress"
	"github.com/tutti-run/tutti/connector/eventbus"
	"github.com/tutti-run/tutti/connector/httpcall"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/memstore"
	"github.com/tutti-run/tutti/store/pebblestore"
)

// serverOptions are what a server is made from: the flags and what they refer to.
type serverOptions struct {
	serveCmd
	secrets secrets
	log     *slog.Logger
	memory  bool // keep the data in memory; for servers that store nothing
}

// dataSpace is what the server needs of a store.
type dataSpace interface {
	store.Store
	store.Inspector
}

// server is a running server: everything from the store up to the listeners.
type server struct {
	opts       serverOptions
	log        *slog.Logger
	httpL      net.Listener
	grpcL      net.Listener
	data       dataSpace
	run        *runner.Runner
	svc        *api.Service
	obs        observers
	connectors atomic.Pointer[connectors]
	bus        *eventbus.Registry
	appliers   api.Appliers
	mux        *http.ServeMux
	http       *http.Server
	grpc       *grpcapi.Server // on its own port
	grpcHTTP   *grpcapi.Server // on the port of HTTP
	undo       []func()        // what ends the parts, in order of creation
	hurry      context.CancelFunc
	failed     chan error
}

// startServer opens the data and serves. An error leaves nothing open.
func startServer(ctx context.Context, o serverOptions) (_ *server, err error) {
	s := &server{opts: o, log: o.log, failed: make(chan error, 4), appliers: api.Appliers{}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for _, step := range []func(context.Context) error{
		s.listen, s.openObservers, s.openData, s.openConnectors, s.openProtocols, s.openProfiles,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	s.serve()
	return s, nil
}

func (s *server) onClose(fn func()) { s.undo = append(s.undo, fn) }

// close ends all parts, the newest first.
func (s *server) close() {
	for _, fn := range slices.Backward(s.undo) {
		fn()
	}
	s.undo = nil
}

func (s *server) httpAddr() string { return s.httpL.Addr().String() }
func (s *server) grpcAddr() string { return s.grpcL.Addr().String() }

func (s *server) listen(ctx context.Context) (err error) {
	if s.httpL, err = listen(ctx, "listen", s.opts.Listen); err != nil {
		return err
	}
	s.onClose(func() { _ = s.httpL.Close() })
	if s.grpcL, err = listen(ctx, "grpc-listen", s.opts.GRPCListen); err != nil {
		return err
	}
	s.onClose(func() { _ = s.grpcL.Close() })
	return nil
}

// maxConns bounds the connections of one listener; further ones wait to be accepted.
const maxConns = 20_000

func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err == nil {
		return netutil.LimitListener(l, maxConns), nil
	}
	e := &tutti.Error{Kind: tutti.Unavailable, Op: "listen on " + addr, Err: err}
	var op *net.OpError
	if errors.As(err, &op) {
		e.Err = op.Err
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		e.Err = errors.New("the address is in use by another process")
		e.Hint = fmt.Sprintf("stop that process, or use a free port with --%s 127.0.0.1:0", flag)
	}
	return nil, e
}

// openData opens the folder, the runner over it and the service over that.
func (s *server) openData(ctx context.Context) (err error) {
	if s.data, err = s.openStore(); err != nil {
		return dataError(s.opts.Data, err)
	}
	s.onClose(func() {
		if err := s.data.Close(); err != nil {
			s.log.Error("closing the data folder failed", "error", err)
		}
	})
	dialects := []tutti.Dialect{conductor.Dialect{}}
	s.run, err = runner.Open(ctx, runner.Options{
		Store: s.data, Dialects: dialects, Logger: s.log, Observe: s.observe,
		OnBatch: s.obs.metrics.OnBatch,
	})
	if err != nil {
		return dataError(s.opts.Data, err)
	}
	s.onClose(s.run.Close)
	s.svc = api.New(api.Options{
		Runner: s.run, Dialects: dialects, Logger: s.log,
		Secrets: func(_, name string) (string, bool) { return s.opts.secrets.get(name) },
		Retention: tutti.RetentionPolicy{
			AgeMs: s.opts.RetentionAge.Milliseconds(), Count: s.opts.RetentionCount,
		},
		Text: s.obs.text, Trace: s.obs.tracer.TraceParent,
	})
	if s.opts.memory {
		return nil
	}
	s.background(s.svc.RunAuditor)
	s.background(s.svc.RunRetention)
	s.background(s.svc.RunTextIndex)
	return s.measure()
}

func (s *server) openStore() (dataSpace, error) {
	if s.opts.memory {
		return memstore.Open(memstore.Options{Shards: 1})
	}
	return pebblestore.Open(s.opts.Data, pebblestore.Options{
		Shards: s.opts.Shards, Logger: s.log,
	})
}

// scratchServer is a server in memory that nobody can reach, to check definitions with.
func scratchServer(ctx context.Context, log *slog.Logger) (*server, error) {
	s := &server{
		opts: serverOptions{memory: true}, log: log, appliers: api.Appliers{},
	}
	for _, step := range []func(context.Context) error{s.openObservers, s.openData} {
		if err := step(ctx); err != nil {
			s.close()
			return nil, err
		}
	}
	s.openAppliers()
	return s, nil
}

// dataError says what is wrong with a data folder and what to do.
func dataError(dir string, err error) error {
	e := &tutti.Error{Kind: tutti.Internal, Op: "open the data folder " + dir, Err: err}
	switch {
	case errors.Is(err, store.ErrInUse):
		e.Kind, e.Code = tutti.Unavailable, "DataInUse"
		e.Hint = "another server has it open: stop that one, or name another folder with --data"
	case errors.Is(err, store.ErrNewerFormat):
		e.Kind, e.Code = tutti.Unsupported, "DataNewer"
		e.Hint = "use the newer version of tutti that wrote it"
	case errors.Is(err, store.ErrDiskFull), errors.Is(err, syscall.ENOSPC):
		e.Kind, e.Code = tutti.Exhausted, "DiskFull"
		e.Hint = "free some space on that disk, or name a folder on another with --data"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EROFS):
		e.Kind, e.Hint = tutti.Denied, "name a folder that this user may write with --data"
	}
	return e
}

// openConnectors starts what performs tasks inside the server.
func (s *server) openConnectors(context.Context) error {
	guard, err := egress.New(egress.Policy{
		Mode: egressModes[s.opts.Egress], Allow: s.opts.EgressAllow,
		OwnAddrs: []netip.AddrPort{addrPort(s.httpL), addrPort(s.grpcL)},
		AllowOwn: s.opts.EgressSelf,
	})
	if err != nil {
		return &usageError{err}
	}
	always := func(string) *egress.Guard { return guard }
	calls := httpcall.New(httpcall.Config{Guard: always})
	kafka := eventbus.NewKafkaTask(eventbus.KafkaTaskConfig{Guard: always})
	s.bus = eventbus.New(eventbus.Config{
		Internal: events.NewQueues(s.svc), NATS: eventbus.NATSConfig{URL: s.opts.NATSURL},
		Kafka: eventbus.KafkaConfig{Brokers: s.opts.KafkaBrokers},
		Report: func(queue string, err error) {
			s.log.Warn("event queue", "queue", queue, "error", err)
		},
	})
	pools := newConnectors(s.svc, map[string]connector.Connector{
		conductor.QueueHTTP: calls, conductor.QueueKafka: kafka,
		conductor.QueueEvent: &eventbus.EventTask{Bus: s.bus},
	}, s.log, s.opts.DrainTimeout)
	s.onClose(func() {
		pools.close()
		s.bus.Close()
		kafka.Close()
		calls.Close()
	})
	s.connectors.Store(pools)
	pools.serve(api.DefaultNamespace)
	for _, q := range s.run.Queues() {
		if ns, name, ok := strings.Cut(q.Name, "/"); ok && strings.HasPrefix(name, "@") {
			pools.serve(ns)
		}
	}
	return nil
}

func addrPort(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// openProtocols builds the handlers of every wire protocol.
func (s *server) openProtocols(context.Context) error {
	s.mux = http.NewServeMux()
	capi := conductorapi.New(conductorapi.Options{
		Service: s.svc, Logger: s.log, Version: version,
		SecretNames: s.opts.secrets.names, Secret: s.opts.secrets.get, Bus: s.bus,
	})
	s.background(capi.Run)
	s.openAppliers()
	conductorHandler := capi.Handler()
	for _, path := range []string{
		"/api/", "/api-docs", "/v3/api-docs", "/health", "/actuator/health",
	} {
		s.mux.Handle(path, conductorHandler)
	}
	admin := adminapi.New(adminapi.Options{
		Service: s.svc, Appliers: s.appliers, Logger: s.log, Version: version,
	})
	s.mux.Handle(adminapi.Prefix+"/", admin.Handler())
	s.mux.Handle("GET /metrics", s.obs.metrics.Handler())
	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.HandleFunc("GET /{$}", s.landing)
	native := grpcapi.Options{
		Service: s.svc, Appliers: s.appliers, Version: version, Logger: s.log,
	}
	s.grpc, s.grpcHTTP = grpcapi.NewServer(native), grpcapi.NewServer(native)
	conductorgrpc.Register(s.grpc, capi)
	conductorgrpc.Register(s.grpcHTTP, capi)
	return nil
}

// openAppliers joins the dialects that can store definitions from files.
func (s *server) openAppliers() {
	s.appliers[conductor.DialectName] = conductorFiles{s.svc}
}

// healthz says that the process is alive.
func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	_, _ = fmt.Fprintln(w, "ok")
}

// readyz says whether requests would be served, and why not.
func (s *server) readyz(w http.ResponseWriter, _ *http.Request) {
	err := s.svc.Healthy()
	if err == nil {
		err = s.data.Healthy()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ready")
}

// serve starts to answer requests.
func (s *server) serve() {
	ctx, hurry := context.WithCancel(context.Background())
	s.hurry = hurry
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: newGuard(
			api.TraceContext(s.split()), loopback(s.opts.Listen), s.opts.AllowedHosts),
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      api.MaxWait + time.Minute,
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    256 << 10,
		Protocols:         &protocols,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	if s.opts.Insecure && !(loopback(s.opts.Listen) && loopback(s.opts.GRPCListen)) {
		s.log.Warn("everybody who can reach the server may do everything: it was started " +
			"with --insecure")
	}
	go func() { s.failed <- s.http.Serve(s.httpL) }()
	go func() { s.failed <- s.grpc.Serve(s.grpcL) }()
}

// split sends gRPC that comes to the port of HTTP to its handler, so that clients need to
// know one port only.
func (s *server) split() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 &&
			strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			s.grpcHTTP.ServeHTTP(w, r)
			return
		}
		s.mux.ServeHTTP(w, r)
	})
}

// wait serves until ctx is done or a listener fails, then drains.
func (s *server) wait(ctx context.Context) error {
	var err error
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
	case err = <-s.failed:
	}
	s.stop()
	return err
}

// stop ends the server in order: no new requests; those in progress are answered, waiting
// ones at once; streams are cut; connectors finish; the shards stop; the folder is closed.
func (s *server) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), s.opts.DrainTimeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	s.hurry() // long polls and waits answer now
	s.grpcHTTP.Stop()
	if err := s.http.Shutdown(ctx); err != nil {
		s.log.Warn("requests were cut off", "error", err)
		_ = s.http.Close()
	}
	select {
	case <-stopped:
	case <-time.After(min(streamGrace, s.opts.DrainTimeout)):
		s.grpc.Stop()
		<-stopped
	}
	s.close()
}

// streamGrace is how long calls over gRPC may take after the order to stop. Workers' streams
// never end by themselves; their leases outlive the restart.
const streamGrace = time.Second
