package main

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/textindex"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/observe"
)

// observers are told of every durable transition.
type observers struct {
	metrics *observe.Metrics
	events  *observe.EventLog
	tracer  *observe.Tracer // nil when nobody collects traces
	text    *textindex.Index
}

// openObservers creates them; they come before what they observe.
func (s *server) openObservers(ctx context.Context) (err error) {
	s.obs.metrics = observe.NewMetrics()
	s.obs.text = textindex.New(textindex.Options{Logger: s.log})
	s.obs.events = observe.NewEventLog(s.log)
	s.onClose(s.obs.events.Close)
	s.obs.tracer, err = observe.NewTracer(ctx, observe.TraceOptions{
		Endpoint: s.opts.OTLPEndpoint, Version: version,
	})
	if err != nil {
		return &usageError{err}
	}
	s.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.opts.DrainTimeout)
		defer cancel()
		if err := s.obs.tracer.Close(ctx); err != nil {
			s.log.Warn("some traces were not sent", "error", err)
		}
	})
	return nil
}

// observe is called by goroutines of the shards, which it must not hold up.
func (s *server) observe(notes []engine.Notification) {
	s.obs.metrics.Observe(notes)
	s.obs.events.Observe(notes)
	s.obs.text.Observe(notes)
	s.obs.tracer.Observe(notes)
	if c := s.connectors.Load(); c != nil {
		c.observe(notes)
	}
}

// measure adds what metrics ask of the running parts.
func (s *server) measure() error {
	return s.obs.metrics.Register(observe.NewCollector(observe.Sources{
		Runner: s.run, Store: s.data, IndexLag: s.obs.text.Lag, Dropped: s.obs.tracer.Dropped,
		Audit: func() (runs, problems, repairs uint64) {
			st, err := s.svc.Audit(context.Background(), api.DefaultNamespace)
			if err != nil {
				return 0, 0, 0 // nobody may know
			}
			return st.Runs, st.Problems, st.Repairs
		},
	}))
}

// background runs fn until the server closes, which waits for it.
func (s *server) background(fn func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	s.onClose(func() {
		cancel()
		<-done
	})
}

// openProfiles serves Go profiles at an address of their own, when one is given.
func (s *server) openProfiles(ctx context.Context) error {
	if s.opts.PprofListen == "" {
		return nil
	}
	l, err := listen(ctx, "pprof-listen", s.opts.PprofListen)
	if err != nil {
		return err
	}
	m := http.NewServeMux()
	m.HandleFunc("/debug/pprof/", pprof.Index)
	m.HandleFunc("/debug/pprof/profile", pprof.Profile)
	m.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	m.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := &http.Server{Handler: newGuard(m, true, nil), ReadHeaderTimeout: 10 * time.Second}
	s.background(func(ctx context.Context) {
		context.AfterFunc(ctx, func() { _ = srv.Close() })
		_ = srv.Serve(l) // ends with Close
	})
	s.log.Info("profiles", "address", "http://"+l.Addr().(*net.TCPAddr).String()+"/debug/pprof/")
	return nil
}
