package api

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api/textindex"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
)

// DefaultNamespace is the namespace of protocols that have no notion of one.
const DefaultNamespace = "default"

// The bounds of names and payloads, in bytes. Dialects may set narrower ones.
const (
	MaxNameBytes    = engine.MaxName
	MaxTextBytes    = engine.MaxText // correlation ids, queues and mail boxes
	MaxPayloadBytes = 32 << 20
)

// Options configure a Service. Runner and Dialects are required.
type Options struct {
	Runner   *runner.Runner
	Dialects []tutti.Dialect
	Logger   *slog.Logger
	// Secrets answers the value of a secret of a namespace. It is asked only when a task
	// leaves the server. Nil means that there are none.
	Secrets func(namespace, name string) (string, bool)
	// Authorizer decides who may do what; nil allows everything to everybody.
	Authorizer Authorizer
	// Text answers free-text searches; nil means that they read the rows. RunTextIndex
	// feeds it.
	Text *textindex.Index
	// Retention applies to ended runs of definitions that state no policy of their own.
	Retention tutti.RetentionPolicy
	// Trace returns the W3C trace context of a task, given to workers and services; nil
	// means none.
	Trace func(run *tutti.Run, seq tutti.Seq) string
	// OnAudit is told of every round of the auditor.
	OnAudit func(AuditStats)
}

// Service is everything the server can do. Its methods are safe for concurrent use and
// return errors of type *tutti.Error for whatever the caller can do something about.
type Service struct {
	opts     Options
	run      *runner.Runner
	log      *slog.Logger
	dialects map[string]tutti.Dialect
	programs programCache
	audit    auditState
	seen     namespaces
	begun    time.Time
}

// New returns a Service.
func New(opts Options) *Service {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		opts: opts, run: opts.Runner, log: opts.Logger, begun: time.Now(),
		dialects: map[string]tutti.Dialect{},
	}
	for _, d := range opts.Dialects {
		s.dialects[d.Name()] = d
	}
	return s
}

// Healthy returns nil, or why the server cannot serve. It needs no permission.
func (s *Service) Healthy() error { return s.run.Healthy() }

// programCache keeps compiled definitions for readers; the shards have their own.
type programCache struct {
	mu     sync.Mutex
	byHash map[tutti.Hash]tutti.Program
	linked map[*tutti.Source]tutti.Hash // of sources of the catalogue, which never change
}

// maxPrograms bounds the compiled definitions that are kept; over it all are dropped.
const maxPrograms = 2048

func (c *programCache) get(hash tutti.Hash) (tutti.Program, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.byHash[hash]
	return p, ok
}

func (c *programCache) put(hash tutti.Hash, p tutti.Program) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byHash == nil || len(c.byHash) >= maxPrograms {
		c.byHash = map[tutti.Hash]tutti.Program{}
	}
	c.byHash[hash] = p
}

// hashOf is engine.SourceHash of a source of the catalogue, computed once.
func (c *programCache) hashOf(src *tutti.Source) tutti.Hash {
	c.mu.Lock()
	hash, ok := c.linked[src]
	c.mu.Unlock()
	if ok {
		return hash
	}
	hash = engine.SourceHash(src)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.linked == nil || len(c.linked) >= maxPrograms {
		c.linked = map[*tutti.Source]tutti.Hash{}
	}
	c.linked[src] = hash
	return hash
}

// program compiles a source with a hash, or finds it compiled.
func (s *Service) program(src *tutti.Source, hash tutti.Hash) (tutti.Program, error) {
	if p, ok := s.programs.get(hash); ok {
		return p, nil
	}
	d, err := s.dialect("compile", src.Dialect)
	if err != nil {
		return nil, err
	}
	p, diags := d.Compile(src)
	if p == nil {
		return nil, &tutti.Error{
			Kind: tutti.Invalid, Op: "compile " + src.Name, Code: "InvalidDefinition",
			Err: diags.Err(),
		}
	}
	s.programs.put(hash, p)
	return p, nil
}

func (s *Service) dialect(op, name string) (tutti.Dialect, error) {
	if d, ok := s.dialects[name]; ok {
		return d, nil
	}
	return nil, tutti.E(tutti.Unsupported, op, "UnknownDialect",
		fmt.Sprintf("this server has no dialect %q", name))
}

// submit applies a command to a run of a namespace.
func (s *Service) submit(
	ctx context.Context, ns string, id tutti.RunID, cmd engine.Command,
) (any, error) {
	return s.run.ForRun(ctx, id, engine.Within{Namespace: ns, Run: id, Command: cmd})
}

func checkNamespace(ns string) error { return checkName("namespace", ns) }

// checkName refuses what cannot be part of a key: the empty name, zero bytes, the slash that
// parts a namespace from a queue, and names over their bound.
func checkName(what, name string) error {
	most := MaxNameBytes
	if what == "correlation id" || what == "queue" || what == "box" {
		most = MaxTextBytes
	}
	problem := ""
	switch {
	case name == "":
		problem = "is empty"
	case len(name) > most:
		problem = fmt.Sprintf("is longer than %d bytes", most)
	case strings.ContainsRune(name, 0):
		problem = "contains a zero byte"
	case what == "namespace" && strings.Contains(name, "/"):
		problem = "contains a slash"
	default:
		return nil
	}
	return tutti.E(tutti.Invalid, "check "+what, "InvalidName", "the "+what+" "+problem)
}

func checkOptional(what, name string) error {
	if name == "" {
		return nil
	}
	return checkName(what, name)
}

// Stats are figures of the server since it started.
type Stats struct {
	runner.Stats
	Shards  int
	Started time.Time
	// TextLag is by how much the index of free text is behind.
	TextLag time.Duration
}

// Stats returns the server's current figures.
func (s *Service) Stats(ctx context.Context, ns string) (Stats, error) {
	if err := s.authorize(ctx, ReadQueues, ns); err != nil {
		return Stats{}, err
	}
	st := Stats{Stats: s.run.Stats(), Shards: s.run.Shards(), Started: s.begun}
	if s.opts.Text != nil {
		st.TextLag = s.opts.Text.Lag()
	}
	return st, nil
}
