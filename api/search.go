package api

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api/textindex"
	"github.com/tutti-run/tutti/engine"
)

// Query selects runs by anything that is known of them. Zero fields select all.
type Query struct {
	Namespace     string
	IDs           []tutti.RunID
	Statuses      []tutti.RunStatus
	Definitions   []string
	Version       int
	FromMs, ToMs  int64 // start time: inclusive, exclusive
	EndFromMs     int64 // end time, inclusive; selects ended runs only
	EndToMs       int64 // end time, exclusive; selects ended runs only
	CorrelationID string
	Labels        map[string]string
	Parent        tutti.RunID
	TopLevel      bool // only runs without a parent
	// Text selects runs whose input, output or reason holds all of its words; a word that
	// ends with an asterisk stands for all that begin so. The identifier of a run selects
	// that run.
	Text string
	// Where, when set, selects further. It must not keep or change the run.
	Where func(*tutti.Run) bool

	Sort   []SortKey // newest start first when empty
	Offset int       // results to leave out at the beginning
	Limit  int       // DefaultListLimit when zero, cut to MaxListLimit
}

// SortKey orders the results of a search.
type SortKey struct {
	Field SortField
	Desc  bool
}

// SortField is what results can be ordered by.
type SortField uint8

// The fields. Ordering by one of the first five needs no record of a run.
const (
	SortStart SortField = iota
	SortEnd
	SortDefinition
	SortStatus
	SortID
	SortUpdate
	SortCorrelation
	SortVersion
	SortPriority

	sortInIndex = SortID
)

// SearchResult is what a search found.
type SearchResult struct {
	Runs []*tutti.Run // with payloads
	// Total is how many runs the query selects, whatever Offset and Limit are.
	Total int
	// Partial says that the search ended at its bound (MaxLooked or MaxTotal), so that
	// Total is too low and, on other pages, the oldest results may be missing. Narrow the
	// query.
	Partial bool
	// Lag is by how much the index of free text was behind; 0 when it was not asked.
	Lag time.Duration
}

// TaskQuery selects task attempts.
type TaskQuery struct {
	// Runs selects the runs whose tasks are looked at; its Sort, Offset and Limit do not
	// count.
	Runs  Query
	Where func(*tutti.Run, *tutti.Task) bool
	// Text selects attempts whose input, output or reason holds all of its words.
	Text   string
	Offset int
	Limit  int // DefaultListLimit when zero, cut to MaxListLimit
}

// FoundTask is a result of a task search.
type FoundTask struct {
	Run  *tutti.Run
	Task *tutti.Task
}

// TaskSearchResult is what a task search found, newest run first.
type TaskSearchResult struct {
	Tasks   []FoundTask
	Total   int
	Partial bool // as in SearchResult
}

// Search returns the runs that a query selects.
func (s *Service) Search(ctx context.Context, q Query) (*SearchResult, error) {
	if err := s.authorize(ctx, ReadRuns, q.Namespace); err != nil {
		return nil, err
	}
	return s.search(ctx, q)
}

// SearchTasks returns the task attempts that a query selects.
func (s *Service) SearchTasks(ctx context.Context, q TaskQuery) (*TaskSearchResult, error) {
	if err := s.authorize(ctx, ReadRuns, q.Runs.Namespace); err != nil {
		return nil, err
	}
	return s.searchTasks(ctx, q)
}

// The bounds of a search.
const (
	MaxLooked      = 100_000   // runs whose records it reads
	MaxTotal       = 100_000   // up to where results are counted, if the page needs no more
	MaxTasksLooked = 1_000_000 // records of tasks that it reads
)

// finder answers one search. It walks candidates, newest first, from the narrowest list of
// rows that the query allows, and reads the records of those that the list alone cannot
// decide.
type finder struct {
	s      *Service
	q      *Query
	views  []engine.View
	words  []string
	useIdx bool // ask the text index
	looked int
	hits   []hit
	res    *SearchResult
	err    error
	// visit, when set, is called with the selected runs instead of collecting them, until
	// it returns false.
	visit func(engine.View, *tutti.Run) (bool, error)
}

// hit is a selected run; run is nil while the index row was enough.
type hit struct {
	found
	run *tutti.Run
}

func (s *Service) search(ctx context.Context, q Query) (*SearchResult, error) {
	f := &finder{s: s, q: &q, res: &SearchResult{}}
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	return f.res, nil
}

func (f *finder) run(ctx context.Context) error {
	if id, err := tutti.ParseRunID(strings.TrimSpace(f.q.Text)); err == nil && len(f.q.IDs) == 0 {
		f.q.Text, f.q.IDs = "", []tutti.RunID{id}
	}
	f.words = textindex.Words(f.q.Text)
	f.useIdx = f.s.opts.Text != nil && len(f.words) > 0
	if len(f.q.IDs) > MaxListLimit {
		return tutti.E(tutti.Invalid, "search", "TooManyIDs", fmt.Sprintf(
			"%d ids are named, over the bound of %d", len(f.q.IDs), MaxListLimit))
	}
	return f.s.readAll(ctx, func(views []engine.View) error {
		f.views = views
		if err := f.candidates(ctx); err != nil {
			return err
		}
		return f.page()
	})
}

// candidates calls f.consider with every run that may be selected.
func (f *finder) candidates(ctx context.Context) (err error) {
	q := f.q
	take := func(e found) bool { return f.consider(ctx, e) }
	labelled := func(name, val string) error {
		list := func(v engine.View, yield func(engine.IndexEntry) bool) error {
			return v.ByLabel(q.Namespace, name, val, yield)
		}
		return merge(perView(f.views, list), false, take)
	}
	switch {
	case len(q.IDs) > 0:
		for _, id := range q.IDs {
			if !take(f.at(id)) {
				break
			}
		}
	case q.CorrelationID != "":
		list := func(v engine.View, yield func(engine.IndexEntry) bool) error {
			return v.ByCorrelation(q.Namespace, q.CorrelationID, yield)
		}
		err = merge(perView(f.views, list), false, take)
	case !q.Parent.IsZero():
		err = labelled(engine.LabelParent, q.Parent.String())
	case len(q.Labels) > 0:
		name := slices.Min(slices.Collect(maps.Keys(q.Labels)))
		err = labelled(name, q.Labels[name])
	case f.useIdx:
		err = f.indexed(take)
	default:
		err = eachEntry(f.views, f.runQuery(), take)
	}
	return cmp.Or(f.err, err)
}

func (f *finder) runQuery() engine.RunQuery {
	return engine.RunQuery{
		Namespace: f.q.Namespace, Statuses: f.q.Statuses, Definitions: f.q.Definitions,
		FromMs: f.q.FromMs, ToMs: f.q.ToMs,
	}
}

// at is the entry of a run that no list gave. Its record tells the rest.
func (f *finder) at(id tutti.RunID) found {
	return found{IndexEntry: engine.IndexEntry{ID: id}, view: f.views[id.Shard(len(f.views))]}
}

// indexed takes the runs that the text index knows, then older ones from their rows.
func (f *finder) indexed(take func(found) bool) error {
	goOn := true
	f.res.Lag = f.s.opts.Text.Lag()
	from := f.s.opts.Text.Find(f.q.Namespace, f.words, func(id tutti.RunID) bool {
		goOn = take(f.at(id))
		return goOn
	})
	rq := f.runQuery()
	if rq.ToMs == 0 || rq.ToMs > from {
		rq.ToMs = from
	}
	if !goOn || rq.ToMs <= rq.FromMs {
		return nil
	}
	return eachEntry(f.views, rq, take)
}

// decided reports whether an index row holds all that the query asks of a run.
func (f *finder) decided() bool {
	q := f.q
	return f.visit == nil && len(q.IDs) == 0 && q.Version == 0 && q.CorrelationID == "" &&
		len(q.Labels) == 0 && q.Parent.IsZero() && !q.TopLevel && len(f.words) == 0 &&
		q.Where == nil &&
		!slices.ContainsFunc(q.Sort, func(k SortKey) bool { return k.Field > sortInIndex })
}

// consider decides on a candidate. It returns false when the search must stop.
func (f *finder) consider(ctx context.Context, e found) bool {
	if f.decided() {
		if f.endsWithin(e.EndMs) {
			f.keep(hit{found: e})
		}
		f.res.Partial = f.res.Total >= max(MaxTotal, f.q.Offset+listLimit(f.q.Limit))
		return !f.res.Partial
	}
	if f.looked++; f.looked > MaxLooked {
		f.res.Partial = true
		return false
	}
	if f.looked%256 == 0 && ctx.Err() != nil {
		f.err = cancelled("search", ctx)
		return false
	}
	r, err := e.view.Run(e.ID)
	switch {
	case tutti.KindOf(err) == tutti.NotFound:
		return true // removed since, or an id that nobody has
	case err != nil:
		f.err = err
		return false
	}
	switch {
	case !f.selects(r):
		return true
	case f.visit != nil:
		goOn, err := f.visit(e.view, r)
		f.err = err
		return goOn && err == nil
	}
	e.Status, e.Definition, e.StartMs, e.EndMs = r.Status, r.Definition, r.StartMs, r.EndMs
	r.Input, r.Output = nil, nil // read again for the page
	f.keep(hit{found: e, run: r})
	return true
}

func (f *finder) endsWithin(endMs int64) bool {
	q := f.q
	if q.EndFromMs == 0 && q.EndToMs == 0 {
		return true
	}
	return endMs > 0 && endMs >= q.EndFromMs && (q.EndToMs == 0 || endMs < q.EndToMs)
}

// selects reports whether a run is what the query asks for.
func (f *finder) selects(r *tutti.Run) bool {
	q := f.q
	switch {
	case r.Namespace != q.Namespace,
		len(q.Statuses) > 0 && !slices.Contains(q.Statuses, r.Status),
		len(q.Definitions) > 0 && !slices.Contains(q.Definitions, r.Definition),
		q.Version != 0 && r.Version != q.Version,
		r.StartMs < q.FromMs, q.ToMs != 0 && r.StartMs >= q.ToMs,
		!f.endsWithin(r.EndMs),
		q.CorrelationID != "" && r.CorrelationID != q.CorrelationID,
		!q.Parent.IsZero() && r.Parent != q.Parent,
		q.TopLevel && !r.Parent.IsZero():
		return false
	}
	for name, val := range q.Labels {
		if r.Labels[name] != val {
			return false
		}
	}
	return (len(f.words) == 0 || textindex.Match(r, f.words)) && (q.Where == nil || q.Where(r))
}

// keep counts a selected run, and holds on to it when it may be on the page.
func (f *finder) keep(h hit) {
	f.res.Total++
	if len(f.q.Sort) == 0 && f.ordered() && len(f.hits) >= f.q.Offset+listLimit(f.q.Limit) {
		return
	}
	f.hits = append(f.hits, h)
}

// ordered reports whether candidates come in the default order of results.
func (f *finder) ordered() bool { return len(f.q.IDs) == 0 }

// page sorts what was found and reads the runs of the page.
func (f *finder) page() error {
	keys := f.q.Sort
	if len(keys) == 0 {
		keys = []SortKey{{Field: SortStart, Desc: true}}
	}
	slices.SortStableFunc(f.hits, func(a, b hit) int {
		for _, k := range keys {
			c := k.Field.compare(&a, &b)
			if k.Desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	offset := min(max(f.q.Offset, 0), len(f.hits))
	for _, h := range f.hits[offset:min(offset+listLimit(f.q.Limit), len(f.hits))] {
		r, err := h.view.Run(h.ID)
		if err != nil {
			return err
		}
		f.res.Runs = append(f.res.Runs, r)
	}
	return nil
}

// compare orders two hits by a field. Fields after sortInIndex need their records.
func (k SortField) compare(a, b *hit) int {
	switch k {
	case SortStart:
		return cmp.Compare(a.StartMs, b.StartMs)
	case SortEnd:
		return cmp.Compare(a.EndMs, b.EndMs)
	case SortDefinition:
		return cmp.Compare(a.Definition, b.Definition)
	case SortStatus:
		return cmp.Compare(a.Status.String(), b.Status.String())
	case SortID:
		return slices.Compare(a.ID[:], b.ID[:])
	case SortUpdate:
		return cmp.Compare(a.run.UpdateMs, b.run.UpdateMs)
	case SortCorrelation:
		return cmp.Compare(a.run.CorrelationID, b.run.CorrelationID)
	case SortVersion:
		return cmp.Compare(a.run.Version, b.run.Version)
	case SortPriority:
		return cmp.Compare(a.run.Priority, b.run.Priority)
	}
	return 0
}

func (s *Service) searchTasks(ctx context.Context, q TaskQuery) (*TaskSearchResult, error) {
	res := &TaskSearchResult{}
	words, limit, looked := textindex.Words(q.Text), listLimit(q.Limit), 0
	f := &finder{s: s, q: &q.Runs, res: &SearchResult{}}
	f.visit = func(v engine.View, r *tutti.Run) (bool, error) {
		err := v.Tasks(r.ID, 0, func(t *tutti.Task) bool {
			if looked++; looked > MaxTasksLooked {
				res.Partial = true
				return false
			}
			if !selectsTask(&q, words, r, t) {
				return true
			}
			if res.Total >= q.Offset && len(res.Tasks) < limit {
				res.Tasks = append(res.Tasks, FoundTask{Run: r, Task: t})
			}
			res.Total++
			return true
		})
		return !res.Partial, err
	}
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	res.Partial = res.Partial || f.res.Partial
	return res, nil
}

func selectsTask(q *TaskQuery, words []string, r *tutti.Run, t *tutti.Task) bool {
	if len(words) > 0 && !textindex.MatchText(
		words, t.Name, t.Type, t.DefName, t.Reason, string(t.Input), string(t.Output)) {
		return false
	}
	return q.Where == nil || q.Where(r, t)
}

// textReader shows the runs of all namespaces to the text index.
type textReader struct{ s *Service }

// RunTextIndex keeps the text index of the Options up to date until ctx is done.
func (s *Service) RunTextIndex(ctx context.Context) {
	if s.opts.Text != nil {
		s.opts.Text.Run(ctx, textReader{s})
	}
}

// Newest implements textindex.Reader.
func (t textReader) Newest(ctx context.Context, fn func(tutti.RunID, int64) bool) error {
	return t.s.readAll(ctx, func(views []engine.View) error {
		return eachEntryOfAll(views, engine.RunQuery{}, func(e found) bool { return fn(e.ID, e.StartMs) })
	})
}

// Load implements textindex.Reader.
func (t textReader) Load(
	ctx context.Context, ids []tutti.RunID, fn func(*tutti.Run),
) error {
	shards := t.s.run.Shards()
	byShard := make([][]tutti.RunID, shards)
	for _, id := range ids {
		n := id.Shard(shards)
		byShard[n] = append(byShard[n], id)
	}
	for n, ids := range byShard {
		if len(ids) == 0 {
			continue
		}
		err := t.s.run.Read(ctx, n, func(v engine.View) error {
			for _, id := range ids {
				r, err := v.Run(id)
				switch {
				case err == nil:
					fn(r)
				case tutti.KindOf(err) != tutti.NotFound:
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var _ textindex.Reader = textReader{}
