package runner

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/store"
)

// Options configure a Runner. Store and Dialects are required.
type Options struct {
	Store    store.Store
	Dialects []tutti.Dialect
	Logger   *slog.Logger
	// CacheRuns is how many runs each shard keeps in memory; 4,096 when zero.
	CacheRuns int
	// MaxPending bounds the commands that wait at one shard; 65,536 when zero. More are
	// refused with Exhausted.
	MaxPending int
	// Observe, when set, is called with the transitions of every durable batch. It must be
	// quick and must not block.
	Observe func(notes []engine.Notification)
	// OnBatch, when set, is called with every durable batch: how many commands and rows it
	// held and how long it took from being formed. It must be quick and must not block.
	OnBatch func(shard, commands, rows int, took time.Duration)
	// Seed makes identifiers reproducible in simulation; 0 takes a random one.
	Seed uint64
}

// Runner runs all shards of a store. Its methods are safe for concurrent use.
type Runner struct {
	opts    Options
	log     *slog.Logger
	shards  []*shard
	queues  *dispatcher
	catalog *Catalog
	watch   *watchers
	stats   counters
	answers sync.Pool // of reply channels; one that was given up on is not put back

	cancel context.CancelFunc
	done   sync.WaitGroup

	mu  sync.Mutex
	rng *rand.Rand
}

// Open claims every shard of the store and starts them.
func Open(ctx context.Context, opts Options) (*Runner, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.MaxPending == 0 {
		opts.MaxPending = 1 << 16
	}
	if opts.Seed == 0 {
		opts.Seed = rand.Uint64()
	}
	r := &Runner{
		opts: opts, log: opts.Logger,
		rng:   rand.New(rand.NewPCG(opts.Seed, opts.Seed^0x9e3779b97f4a7c15)),
		watch: newWatchers(),
	}
	r.answers.New = func() any { return make(chan answer, 1) }
	r.queues = newDispatcher(r)
	r.catalog = newCatalog(opts.Dialects)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r.cancel = cancel
	for id := range opts.Store.Shards() {
		r.shards = append(r.shards, newShard(r, id))
	}
	for _, s := range r.shards {
		if err := s.open(ctx); err != nil {
			cancel()
			return nil, fmt.Errorf("open shard %d: %w", s.id, err)
		}
	}
	for _, s := range r.shards {
		r.done.Go(func() { s.supervise(run) })
	}
	return r, nil
}

// Close stops all shards after the batches under way are durable. Commands that wait are
// refused with Unavailable. The store stays open.
func (r *Runner) Close() {
	r.cancel()
	for _, s := range r.shards {
		s.box.close()
	}
	r.done.Wait()
	r.queues.close()
}

// Shards is the number of shards.
func (r *Runner) Shards() int { return len(r.shards) }

// Catalog is the runner's copy of the definitions.
func (r *Runner) Catalog() *Catalog { return r.catalog }

// Submit applies a command in a shard and returns its result once it is durable. When ctx
// ends first the command may still take effect.
func (r *Runner) Submit(ctx context.Context, shard int, cmd engine.Command) (any, error) {
	ans := r.answers.Get().(chan answer)
	err := r.shards[shard].box.put(request{cmd: cmd, reply: func(v any, err error) {
		ans <- answer{v, err}
	}})
	if err != nil {
		r.answers.Put(ans)
		return nil, err
	}
	select {
	case a := <-ans:
		r.answers.Put(ans)
		return a.val, a.err
	case <-ctx.Done():
		return nil, &tutti.Error{
			Kind: tutti.Timeout, Op: "submit", Code: "NoAnswerYet", Err: context.Cause(ctx),
			Hint: "the request may still take effect; look before repeating it",
		}
	}
}

// SubmitAsync is Submit without waiting: reply is called once, from a goroutine of the
// runner, and must not block.
func (r *Runner) SubmitAsync(shard int, cmd engine.Command, reply func(any, error)) {
	if err := r.shards[shard].box.put(request{cmd: cmd, reply: reply}); err != nil {
		reply(nil, err)
	}
}

// ForRun submits a command to the shard that owns a run.
func (r *Runner) ForRun(ctx context.Context, id tutti.RunID, cmd engine.Command) (any, error) {
	return r.Submit(ctx, id.Shard(len(r.shards)), cmd)
}

type answer struct {
	val any
	err error
}

// PlaceRun returns a new run identifier for a start. The run is placed beside the row that
// its idempotency key or limit must be unique in.
func (r *Runner) PlaceRun(spec *tutti.RunSpec) tutti.RunID {
	r.mu.Lock()
	entropy := r.rng.Uint64()
	r.mu.Unlock()
	id := tutti.NewRunID(nowMs(), entropy)
	n := len(r.shards)
	switch {
	case spec.IdempotencyKey != "":
		key := spec.Namespace + "\x00" + spec.Definition + "\x00" + spec.IdempotencyKey
		return id.OnShard(engine.KeyShard(key, n), n)
	case spec.Limit != nil:
		return id.OnShard(engine.RunLimitShard(spec.Namespace, spec.Limit.Key, n), n)
	}
	return id
}

// Start begins a run of a linked source.
func (r *Runner) Start(
	ctx context.Context, spec tutti.RunSpec, src *tutti.Source,
) (engine.Started, error) {
	id := r.PlaceRun(&spec)
	res, err := r.ForRun(ctx, id, engine.Start{ID: id, Spec: spec, Source: src, Fresh: true})
	if err != nil {
		return engine.Started{}, err
	}
	return res.(engine.Started), nil
}

// Read gives fn a consistent view of one shard. It returns only after everything that fn
// could see is durable, so that no answer can be lost in a crash (invariant I2).
func (r *Runner) Read(ctx context.Context, shard int, fn func(engine.View) error) error {
	return r.shards[shard].read(ctx, fn)
}

// ReadRun is Read on the shard that owns a run.
func (r *Runner) ReadRun(ctx context.Context, id tutti.RunID, fn func(engine.View) error) error {
	return r.Read(ctx, id.Shard(len(r.shards)), fn)
}

// Healthy returns nil, or why the runner cannot serve.
func (r *Runner) Healthy() error {
	var errs []error
	for _, s := range r.shards {
		if err := s.health(); err != nil {
			errs = append(errs, fmt.Errorf("shard %d: %w", s.id, err))
		}
	}
	if in, ok := r.opts.Store.(store.Inspector); ok {
		errs = append(errs, in.Healthy())
	}
	return errors.Join(errs...)
}

func nowMs() int64 { return time.Now().UnixMilli() }

func unavailable(op string, cause error) error {
	return &tutti.Error{
		Kind: tutti.Unavailable, Op: op, Code: "ShardUnavailable", Err: cause,
		Hint: "try again in a moment; whether it took effect can be seen by reading",
	}
}
