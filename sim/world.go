package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/memstore"
)

// Options adjust a game. The zero value plays a short one with Toy definitions.
type Options struct {
	Seed   uint64
	Steps  int // with faults; 600 when zero
	Shards int // from 1 to 4, as the seed says, when zero
	// Cast makes the definitions of the game and plays the workers; the default is Toys.
	Cast Cast
	// Trace, when not nil, gets a line for everything that happens.
	Trace io.Writer
	// Break plays with a broken engine, to prove that the game finds it.
	Break Breakage
}

// Report says how a game went.
type Report struct {
	Hash    string // of the trace: equal for equal games
	Starts  int    // that were acknowledged
	Done    int    // completions of tasks that were acknowledged
	Batches int
	Crashes int // of the process
	Rebuilt int // shards rebuilt after a failed commit
	EndMs   int64
}

// Breakage is a way to break the engine or what is around it.
type Breakage uint8

// The breakages.
const (
	Sound             Breakage = iota
	EffectsTooEarly            // effects leave before their batch is durable
	MessagesTwice              // a shard forgets which messages it has applied
	NoFencing                  // completions come without their lease's token
	PermitsLeak                // given back permits stay in the store
	WakeUpsLost                // wake-ups are not stored
	MemoryKept                 // a shard goes on with its memory after a failed commit
	IndexForgotten             // ended runs stay in the index as they were
	TimersNotReloaded          // a rebuilt shard does not look for its wake-ups
)

// startMs is when every game begins.
const startMs = 1_790_000_000_000

// failure ends a game.
type failure struct{ text string }

// world is the whole game.
type world struct {
	opts    Options
	rng     *rand.Rand
	now     int64
	store   *memstore.Store
	disk    *disk
	nodes   []*node
	flying  []*inflight // in the order of commits over all shards
	net     []packet
	queues  *queues
	staff   []*worker
	cast    Cast
	sources map[string]*tutti.Source
	names   []string
	oracle  *oracle
	life    int // of the process; answers to earlier ones are lost
	calm    bool

	trace  hash.Hash
	report Report
}

// Play plays one game and returns how it went. The error says what rule was broken and how
// to see it again.
func Play(opts Options) (report Report, err error) {
	if opts.Steps == 0 {
		opts.Steps = 600
	}
	if opts.Shards == 0 {
		opts.Shards = 1 + int(opts.Seed%4)
	}
	if opts.Cast == nil {
		opts.Cast = Toys{}
	}
	w := &world{
		opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, 0x7574747469)), now: startMs,
		disk: new(disk), cast: opts.Cast, trace: sha256.New(),
		sources: map[string]*tutti.Source{},
	}
	defer func() {
		report = w.report
		report.Hash = hex.EncodeToString(w.trace.Sum(nil)[:8])
		report.EndMs = w.now
		switch p := recover().(type) {
		case nil:
		case failure:
			err = fmt.Errorf("seed %d: %s\nreplay: go test ./sim -run TestSeed -cast %s -seed %d -v",
				opts.Seed, p.text, opts.Cast.Name(), opts.Seed)
		default:
			panic(p)
		}
	}()
	w.play()
	return report, nil
}

// fail ends the game.
func (w *world) fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.say("FAILED: %s", text)
	panic(failure{text})
}

func (w *world) check(err error) {
	if err != nil {
		w.fail("%v", err)
	}
}

// say writes to the trace.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%d "+format+"\n", append([]any{w.now - startMs}, args...)...)
	_, _ = io.WriteString(w.trace, line)
	if w.opts.Trace != nil {
		_, _ = io.WriteString(w.opts.Trace, line)
	}
}

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

// pick draws one of some choices.
func pick[T any](w *world, choices ...T) T { return choices[w.rng.IntN(len(choices))] }

func (w *world) play() {
	w.oracle = newOracle(w)
	w.queues = newQueues(w)
	for _, src := range w.cast.Definitions(w.rng) {
		w.sources[src.Name] = src
		w.names = append(w.names, src.Name)
	}
	st, err := memstore.Open(memstore.Options{Shards: w.opts.Shards, Faults: w.disk})
	w.check(err)
	w.store = st
	w.boot()
	for range 4 {
		w.hire()
	}
	for range w.opts.Steps {
		w.now += int64(w.rng.IntN(40))
		w.step()
	}
	w.rest()
}

// step lets one thing happen.
func (w *world) step() {
	switch n := w.rng.IntN(100); {
	case n < 34:
		w.turn(w.nodes[w.rng.IntN(len(w.nodes))])
	case n < 50:
		w.sync(1 + w.rng.IntN(3))
	case n < 62:
		w.deliver()
	case n < 70:
		w.start()
	case n < 88:
		w.act(w.staff[w.rng.IntN(len(w.staff))])
	case n < 94:
		w.operate()
	default:
		w.fault()
	}
}

// fault lets something go wrong.
func (w *world) fault() {
	switch w.rng.IntN(12) {
	case 0, 1:
		keep := w.rng.IntN(3)
		w.say("crash, keeping %d batches", keep)
		w.crash(keep)
	case 2:
		w.disk.next = memstore.Refuse
	case 3:
		w.disk.next = memstore.Unknown
	case 4:
		w.say("the disk loses all batches in flight")
		w.store.Lose(store.ErrIO)
		w.settleFlying()
	case 5:
		w.now += pick[int64](w, 1000, 20_000, 100_000)
		w.say("the clock jumps on")
	case 6:
		w.now -= pick[int64](w, 50, 1000, 5000)
		w.say("the clock jumps back")
	case 7:
		i := w.rng.IntN(len(w.staff))
		w.say("worker %s dies", w.staff[i].name)
		w.dismiss(w.staff[i])
		w.staff = append(w.staff[:i], w.staff[i+1:]...)
		w.hire()
	case 8, 9:
		w.shuffleNet()
	case 10:
		w.loseNet()
	case 11:
		w.reportAgain()
	}
}

// boot starts the process: every shard is claimed and loads what is due.
func (w *world) boot() {
	w.nodes = nil
	for i := range w.opts.Shards {
		w.nodes = append(w.nodes, &node{w: w, id: i})
	}
	for _, n := range w.nodes {
		n.claim()
	}
	for _, n := range w.nodes {
		n.load()
	}
}

// crash is a loss of power: of what was not durable, the disk keeps some.
func (w *world) crash(keep int) {
	w.report.Crashes++
	w.life++
	w.store = w.store.Crash(keep)
	w.flying, w.net = nil, nil
	w.queues = newQueues(w)
	w.oracle.lostAnswers()
	for _, p := range w.staff {
		p.poll = 0
	}
	w.boot()
	w.oracle.compare()
}

// views shows every shard as its writer sees it.
func (w *world) views() (views []engine.View) {
	for _, n := range w.nodes {
		views = append(views, n.view())
	}
	return views
}

// disk decides the fate of batches.
type disk struct {
	next    memstore.Outcome // of the next batch, when not Sync
	decided memstore.Outcome
}

// Claim implements memstore.Faults.
func (d *disk) Claim(store.ShardID) error { return nil }

// Commit implements memstore.Faults.
func (d *disk) Commit(store.ShardID, uint64, *store.Batch) memstore.Outcome {
	d.decided = memstore.Hold
	if d.next != memstore.Sync {
		d.decided, d.next = d.next, memstore.Sync
	}
	return d.decided
}
