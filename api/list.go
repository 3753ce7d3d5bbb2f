package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"iter"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// The bounds of lists.
const (
	DefaultListLimit = 100
	MaxListLimit     = 5000
)

// ListQuery selects runs by what the index holds: status, definition and start time.
type ListQuery struct {
	engine.RunQuery
	// Cursor continues a list: it is the Next of the page before.
	Cursor string
	Limit  int // DefaultListLimit when zero, cut to MaxListLimit
}

// ListPage is a part of a list.
type ListPage struct {
	Entries []engine.IndexEntry
	Next    string // empty when there is no more
}

// List returns runs in order of start time, newest first unless the query says otherwise.
// Its cost depends on the length of the page, not on how many runs there are.
func (s *Service) List(ctx context.Context, q ListQuery) (ListPage, error) {
	var page ListPage
	if err := s.authorize(ctx, ReadRuns, q.Namespace); err != nil {
		return page, err
	}
	after, err := parseCursor(q.Cursor)
	if err != nil {
		return page, err
	}
	limit := listLimit(q.Limit)
	err = s.readAll(ctx, func(views []engine.View) error {
		return eachEntry(views, after.narrow(q.RunQuery), func(e found) bool {
			if !after.passed(e.IndexEntry, q.OldestFirst) {
				return true
			}
			if len(page.Entries) == limit {
				page.Next = CursorAfter(page.Entries[limit-1])
				return false
			}
			page.Entries = append(page.Entries, e.IndexEntry)
			return true
		})
	})
	return page, err
}

func listLimit(n int) int {
	if n <= 0 {
		return DefaultListLimit
	}
	return min(n, MaxListLimit)
}

// readAll gives fn a view of every shard at once.
func (s *Service) readAll(ctx context.Context, fn func([]engine.View) error) error {
	views := make([]engine.View, s.run.Shards())
	var open func(i int) error
	open = func(i int) error {
		if i == len(views) {
			return fn(views)
		}
		return s.run.Read(ctx, i, func(v engine.View) error {
			views[i] = v
			return open(i + 1)
		})
	}
	return open(0)
}

// found is an entry of the index with the view that it comes from.
type found struct {
	engine.IndexEntry
	view engine.View
}

// source is an ordered list of entries of one view.
type source struct {
	view engine.View
	list func(yield func(engine.IndexEntry) bool) error
}

// perView makes a source of every view.
func perView(
	views []engine.View, list func(engine.View, func(engine.IndexEntry) bool) error,
) []source {
	all := make([]source, len(views))
	for i, v := range views {
		all[i] = source{v, func(yield func(engine.IndexEntry) bool) error { return list(v, yield) }}
	}
	return all
}

// eachEntry merges the lists of all shards in order of start time.
func eachEntry(views []engine.View, q engine.RunQuery, fn func(found) bool) error {
	return merge(perView(views, func(v engine.View, yield func(engine.IndexEntry) bool) error {
		return v.ListRuns(q, yield)
	}), q.OldestFirst, fn)
}

// eachEntryOfAll is eachEntry over all namespaces; the query's own does not count.
func eachEntryOfAll(views []engine.View, q engine.RunQuery, fn func(found) bool) error {
	var all []source
	for _, v := range views {
		names, err := v.Namespaces()
		if err != nil {
			return err
		}
		for _, ns := range names {
			q.Namespace = ns
			all = append(all, source{v, func(yield func(engine.IndexEntry) bool) error {
				return v.ListRuns(q, yield)
			}})
		}
	}
	return merge(all, q.OldestFirst, fn)
}

// merge calls fn with the entries of ordered lists, in the order of all, until it returns
// false.
func merge(sources []source, oldestFirst bool, fn func(found) bool) error {
	var failed error
	type head struct {
		found
		next func() (engine.IndexEntry, bool)
	}
	var heads []*head
	for _, src := range sources {
		next, stop := iter.Pull(func(yield func(engine.IndexEntry) bool) {
			if err := src.list(yield); err != nil && failed == nil {
				failed = err
			}
		})
		defer stop()
		h := &head{found: found{view: src.view}, next: next}
		var ok bool
		if h.IndexEntry, ok = next(); ok {
			heads = append(heads, h)
		}
	}
	for len(heads) > 0 && failed == nil {
		best := 0
		for i := range heads {
			if precedes(heads[i].IndexEntry, heads[best].IndexEntry, oldestFirst) {
				best = i
			}
		}
		h := heads[best]
		if !fn(h.found) {
			return failed
		}
		var ok bool
		if h.IndexEntry, ok = h.next(); !ok {
			heads = slices.Delete(heads, best, best+1)
		}
	}
	return failed
}

// precedes is the order of lists: by start time, then identifier.
func precedes(a, b engine.IndexEntry, oldestFirst bool) bool {
	if a.StartMs != b.StartMs {
		return (a.StartMs < b.StartMs) == oldestFirst
	}
	c := bytes.Compare(a.ID[:], b.ID[:])
	return c != 0 && (c < 0) == oldestFirst
}

// cursor is the place of an entry in a list. Nil is the beginning.
type cursor struct{ engine.IndexEntry }

// CursorAfter returns the cursor of what follows an entry, for callers that end a page
// early. Only the entry's identifier and start time count.
func CursorAfter(e engine.IndexEntry) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(e.StartMs))
	return base64.RawURLEncoding.EncodeToString(append(b, e.ID[:]...))
}

func parseCursor(s string) (*cursor, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 24 {
		return nil, &tutti.Error{
			Kind: tutti.Invalid, Op: "list", Code: "InvalidCursor", Err: err,
			Hint: "a cursor is the next field of the page before, unchanged",
		}
	}
	c := new(cursor)
	c.StartMs = int64(binary.BigEndian.Uint64(b))
	copy(c.ID[:], b[8:])
	return c, nil
}

// narrow leaves out of a query what lies before the cursor.
func (c *cursor) narrow(q engine.RunQuery) engine.RunQuery {
	switch {
	case c == nil:
	case q.OldestFirst:
		q.FromMs = max(q.FromMs, c.StartMs)
	case q.ToMs == 0 || q.ToMs > c.StartMs:
		q.ToMs = c.StartMs + 1
	}
	return q
}

func (c *cursor) passed(e engine.IndexEntry, oldestFirst bool) bool {
	return c == nil || precedes(c.IndexEntry, e, oldestFirst)
}

// PastCursor narrows a query to the runs that follow a cursor in the default order of
// results, newest first.
func (q *Query) PastCursor(text string) error {
	c, err := parseCursor(text)
	if err != nil || c == nil {
		return err
	}
	if q.ToMs == 0 || q.ToMs > c.StartMs {
		q.ToMs = c.StartMs + 1
	}
	where := q.Where
	q.Where = func(r *tutti.Run) bool {
		e := engine.IndexEntry{ID: r.ID, StartMs: r.StartMs}
		return c.passed(e, false) && (where == nil || where(r))
	}
	return nil
}

// MaxCount is up to where runs are counted.
const MaxCount = 1_000_000

// Count returns how many runs a query selects, by status. exact is false when the bound
// MaxCount was reached.
func (s *Service) Count(
	ctx context.Context, q engine.RunQuery,
) (by map[tutti.RunStatus]int, exact bool, err error) {
	if err := s.authorize(ctx, ReadRuns, q.Namespace); err != nil {
		return nil, false, err
	}
	by, exact = map[tutti.RunStatus]int{}, true
	n := 0
	err = s.readAll(ctx, func(views []engine.View) error {
		for _, v := range views {
			err := v.ListRuns(q, func(e engine.IndexEntry) bool {
				if n++; n > MaxCount {
					exact = false
					return false
				}
				by[e.Status]++
				return true
			})
			if err != nil || !exact {
				return err
			}
		}
		return nil
	})
	return by, exact, err
}

// ByCorrelation returns the runs with a correlation identifier, newest first, up to a limit.
func (s *Service) ByCorrelation(
	ctx context.Context, ns, corr string, limit int,
) ([]engine.IndexEntry, error) {
	return s.labelled(ctx, ns, limit, func(v engine.View, yield func(engine.IndexEntry) bool) error {
		return v.ByCorrelation(ns, corr, yield)
	})
}

// ByLabel returns the runs with a label, newest first, up to a limit.
func (s *Service) ByLabel(
	ctx context.Context, ns, name, val string, limit int,
) ([]engine.IndexEntry, error) {
	return s.labelled(ctx, ns, limit, func(v engine.View, yield func(engine.IndexEntry) bool) error {
		return v.ByLabel(ns, name, val, yield)
	})
}

func (s *Service) labelled(
	ctx context.Context, ns string, limit int,
	list func(engine.View, func(engine.IndexEntry) bool) error,
) (out []engine.IndexEntry, err error) {
	if err := s.authorize(ctx, ReadRuns, ns); err != nil {
		return nil, err
	}
	limit = listLimit(limit)
	err = s.readAll(ctx, func(views []engine.View) error {
		return merge(perView(views, list), false, func(e found) bool {
			out = append(out, e.IndexEntry)
			return len(out) < limit
		})
	})
	return out, err
}
