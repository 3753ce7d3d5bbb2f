package textindex

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// Options bound an index. The zero value takes the defaults.
type Options struct {
	MaxRuns    int // newest runs that are kept; 200,000
	MaxBytes   int // memory of the index, roughly; 32 MiB
	MaxPending int // changed runs that wait to be read; 100,000
	PerSecond  int // runs read in a second at most; 1,000
	Logger     *slog.Logger
}

// segments is how many parts the index has; the oldest is dropped as a whole.
const segments = 8

// every is how often changed runs are taken up. Those of a run that starts and ends within
// it are read once.
const every = 250 * time.Millisecond

// Index is an inverted index over runs. Its methods are safe for concurrent use.
type Index struct {
	opts Options

	mu       sync.Mutex
	pending  map[tutti.RunID]time.Time
	order    []tutti.RunID
	parts    []*part
	latest   map[tutti.RunID]place
	reading  time.Time // since when the oldest of the runs being read has waited
	seededMs int64     // runs that started earlier were never read
	lostMs   int64     // some that started earlier were read and dropped, or not read
}

// part is a segment of the index.
type part struct {
	docs  []doc
	posts map[string][]uint32
	bytes int
}

type doc struct {
	id        tutti.RunID
	namespace string
	startMs   int64
}

// place is where the newest entry of a run stands.
type place struct {
	in *part
	at uint32
}

// New returns an empty index that is complete for runs that start from now on, provided that
// Observe is told of them.
func New(opts Options) *Index {
	def := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&opts.MaxRuns, 200_000)
	def(&opts.MaxBytes, 32<<20)
	def(&opts.MaxPending, 100_000)
	def(&opts.PerSecond, 1000)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Index{
		opts: opts, pending: map[tutti.RunID]time.Time{}, latest: map[tutti.RunID]place{},
		seededMs: time.Now().UnixMilli(),
	}
}

// Observe takes up runs that began, ended or began anew. It does not block.
func (x *Index) Observe(notes []engine.Notification) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range notes {
		switch notes[i].Kind {
		case engine.HistoryRunStarted, engine.HistoryRunEnded, engine.HistoryRunReset:
			x.push(notes[i].Run.ID, notes[i].Run.StartMs)
		}
	}
}

// push notes that a run is to be read. Over the bound the index gives up completeness for
// runs as old as this one.
func (x *Index) push(id tutti.RunID, startMs int64) {
	if _, ok := x.pending[id]; ok {
		return
	}
	if len(x.pending) >= x.opts.MaxPending {
		x.lostMs = max(x.lostMs, startMs+1)
		return
	}
	x.pending[id] = time.Now()
	x.order = append(x.order, id)
}

// Reader gives the index what it reads.
type Reader interface {
	// Newest calls fn for the newest runs of all namespaces until it returns false.
	Newest(ctx context.Context, fn func(id tutti.RunID, startMs int64) bool) error
	// Load calls fn for each of the runs that exists.
	Load(ctx context.Context, ids []tutti.RunID, fn func(*tutti.Run)) error
}

// Run keeps the index up to date until ctx is done. What time is left goes to runs from
// before the server started, so that the index comes to cover them too.
func (x *Index) Run(ctx context.Context, src Reader) {
	older, from := x.older(ctx, src)
	tick := time.NewTicker(every)
	defer tick.Stop()
	budget := max(x.opts.PerSecond*int(every/time.Millisecond)/1000, 1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n := budget - x.catchUp(ctx, src, budget)
		if older == nil || n == 0 {
			continue
		}
		n = min(n, len(older))
		if err := src.Load(ctx, older[:n], x.add); err != nil {
			x.warn(ctx, err)
			continue
		}
		if older = older[n:]; len(older) == 0 {
			older = nil
			x.mu.Lock()
			x.seededMs = from
			x.mu.Unlock()
		}
	}
}

// older lists the newest runs that there are, oldest first, and from when on they are all.
func (x *Index) older(ctx context.Context, src Reader) (ids []tutti.RunID, fromMs int64) {
	err := src.Newest(ctx, func(id tutti.RunID, startMs int64) bool {
		if len(ids) == x.opts.MaxRuns {
			fromMs = startMs + 1
			return false
		}
		ids = append(ids, id)
		return true
	})
	if err != nil {
		x.warn(ctx, err)
		return nil, 0
	}
	if len(ids) == 0 {
		x.mu.Lock()
		x.seededMs = 0
		x.mu.Unlock()
	}
	slices.Reverse(ids)
	return ids, fromMs
}

func (x *Index) warn(ctx context.Context, err error) {
	if ctx.Err() == nil {
		x.opts.Logger.Warn("the text index could not read runs; their rows are searched instead",
			"error", err)
	}
}

// fromMs is the start time from which on the index is complete.
func (x *Index) fromMs() int64 { return max(x.seededMs, x.lostMs) }

// catchUp reads at most n of the runs that wait, and returns how many.
func (x *Index) catchUp(ctx context.Context, src Reader, n int) int {
	x.mu.Lock()
	n = min(n, len(x.order))
	ids := x.order[:n:n]
	if x.order = x.order[n:]; len(x.order) == 0 {
		x.order = nil
	}
	x.reading = time.Time{}
	for _, id := range ids {
		if at := x.pending[id]; x.reading.IsZero() || at.Before(x.reading) {
			x.reading = at
		}
		delete(x.pending, id) // a change from now on is noted again
	}
	x.mu.Unlock()
	if n == 0 {
		return 0
	}
	err := src.Load(ctx, ids, x.add)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading = time.Time{}
	if err != nil {
		x.warn(ctx, err)
		for _, id := range ids {
			x.push(id, id.StartMs())
		}
	}
	return n
}

// add indexes a run as it is now.
func (x *Index) add(r *tutti.Run) {
	words := map[string]bool{}
	eachWordOf(r, func(w string) bool {
		words[w] = true
		return len(words) < maxWords
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.open()
	at := uint32(len(p.docs))
	p.docs = append(p.docs, doc{r.ID, r.Namespace, r.StartMs})
	p.bytes += 128
	for w := range words {
		list, known := p.posts[w]
		if !known {
			w = strings.Clone(w)
			p.bytes += len(w) + 80
		}
		p.posts[w] = append(list, at)
		p.bytes += 8
	}
	x.latest[r.ID] = place{p, at}
}

// open returns the part that takes new runs.
func (x *Index) open() *part {
	if n := len(x.parts); n > 0 {
		p := x.parts[n-1]
		if len(p.docs) < max(x.opts.MaxRuns/segments, 1) && p.bytes < x.opts.MaxBytes/segments {
			return p
		}
	}
	if len(x.parts) == segments {
		x.drop(x.parts[0])
		x.parts = x.parts[1:]
	}
	p := &part{posts: map[string][]uint32{}}
	x.parts = append(x.parts, p)
	return p
}

// drop forgets a part, and completeness for runs that only it held.
func (x *Index) drop(p *part) {
	for at, d := range p.docs {
		if x.latest[d.id] == (place{p, uint32(at)}) {
			delete(x.latest, d.id)
			x.lostMs = max(x.lostMs, d.startMs+1)
		}
	}
}

// Find calls fn for the runs of a namespace that hold all words, newest first, until it
// returns false. It returns the start time (Unix ms) from which on it is complete; runs that
// started earlier are not among those it finds.
func (x *Index) Find(namespace string, words []string, fn func(tutti.RunID) bool) int64 {
	x.mu.Lock()
	from := x.fromMs()
	var found []doc
	for _, p := range x.parts {
		for _, at := range p.find(words) {
			d := p.docs[at]
			if d.namespace == namespace && d.startMs >= from &&
				x.latest[d.id] == (place{p, at}) {
				found = append(found, d)
			}
		}
	}
	x.mu.Unlock()
	slices.SortFunc(found, func(a, b doc) int {
		if a.startMs != b.startMs {
			return int(min(max(b.startMs-a.startMs, -1), 1))
		}
		return bytes.Compare(b.id[:], a.id[:])
	})
	for _, d := range found {
		if !fn(d.id) {
			break
		}
	}
	return from
}

// find returns the places of the documents that hold all words, in order.
func (p *part) find(words []string) []uint32 {
	var all []uint32
	for i, w := range words {
		list := p.list(w)
		if i == 0 {
			all = list
			continue
		}
		all = intersect(all, list)
		if len(all) == 0 {
			return nil
		}
	}
	return all
}

func (p *part) list(word string) []uint32 {
	prefix, wild := strings.CutSuffix(word, "*")
	if !wild {
		return p.posts[word]
	}
	var all []uint32
	for w, list := range p.posts {
		if strings.HasPrefix(w, prefix) {
			all = append(all, list...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// intersect returns what two ordered lists share, in a list of its own.
func intersect(a, b []uint32) []uint32 {
	var both []uint32
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			a = a[1:]
		case a[0] > b[0]:
			b = b[1:]
		default:
			both = append(both, a[0])
			a, b = a[1:], b[1:]
		}
	}
	return both
}

// Lag is for how long the oldest change has been waiting to be indexed.
func (x *Index) Lag() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	oldest := x.reading
	if len(x.order) > 0 {
		if at := x.pending[x.order[0]]; oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return 0
	}
	return time.Since(oldest)
}

// Stats are figures of an index.
type Stats struct {
	Runs    int // entries, superseded ones included
	Pending int // runs that wait to be read
	Bytes   int // memory, roughly
	Lag     time.Duration
	FromMs  int64 // complete for runs that started at or after
}

// Stats returns the current figures.
func (x *Index) Stats() Stats {
	st := Stats{Lag: x.Lag()}
	x.mu.Lock()
	defer x.mu.Unlock()
	st.Pending, st.FromMs = len(x.pending), x.fromMs()
	for _, p := range x.parts {
		st.Runs += len(p.docs)
		st.Bytes += p.bytes
	}
	return st
}
