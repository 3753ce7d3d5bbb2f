package textindex

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// runs is a Reader over runs in memory.
type runs struct {
	mu   sync.Mutex
	all  map[tutti.RunID]*tutti.Run
	fail error
}

func (s *runs) put(r *tutti.Run) *tutti.Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[tutti.RunID]*tutti.Run{}
	}
	if r.Namespace == "" {
		r.Namespace = "ns"
	}
	s.all[r.ID] = r
	return r
}

func (s *runs) Newest(_ context.Context, fn func(tutti.RunID, int64) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*tutti.Run
	for _, r := range s.all {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b *tutti.Run) int { return int(b.StartMs - a.StartMs) })
	for _, r := range list {
		if !fn(r.ID, r.StartMs) {
			break
		}
	}
	return s.fail
}

func (s *runs) Load(_ context.Context, ids []tutti.RunID, fn func(*tutti.Run)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if r := s.all[id]; r != nil {
			fn(r)
		}
	}
	return s.fail
}

func newRun(n uint64, startMs int64, text string) *tutti.Run {
	return &tutti.Run{
		ID: tutti.NewRunID(startMs, n<<20), StartMs: startMs, Input: value.Marshal(text),
	}
}

func note(kind engine.HistoryKind, r *tutti.Run) []engine.Notification {
	return []engine.Notification{{
		Kind: kind, Run: &engine.RunInfo{ID: r.ID, StartMs: r.StartMs},
	}}
}

func find(x *Index, query string) (ids []tutti.RunID) {
	x.Find("ns", Words(query), func(id tutti.RunID) bool {
		ids = append(ids, id)
		return true
	})
	return ids
}

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"Order 4711, für Ärger!", []string{"order", "4711", "für", "ärger"}},
		{"pay* a*b *", []string{"pay*", "a*", "b"}},
		{strings.Repeat("ä", 40), []string{strings.Repeat("ä", 32)}},
	} {
		if diff := cmp.Diff(tt.want, Words(tt.in)); diff != "" {
			t.Errorf("Words(%q): %s", tt.in, diff)
		}
	}
}

func TestMatch(t *testing.T) {
	r := &tutti.Run{
		Definition: "checkout", Reason: "card was DECLINED", CorrelationID: "c-17",
		Input: value.Raw(`{"order":"A-4711"}`), Output: value.Raw(`{"n":[1,"zebra"]}`),
	}
	for _, tt := range []struct {
		query string
		want  bool
	}{
		{"declined checkout", true},
		{"4711", true},
		{"zeb*", true},
		{"zeb", false},
		{"c-17 zebra", true},
		{"declined giraffe", false},
	} {
		if got := Match(r, Words(tt.query)); got != tt.want {
			t.Errorf("Match(%q) = %v", tt.query, got)
		}
	}
}

func TestIndexFollowsRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &runs{}
		x := New(Options{})
		go x.Run(ctx, src)
		start := time.Now().UnixMilli()
		a := src.put(newRun(1, start, "apple pie"))
		b := src.put(newRun(2, start+1, "apple tart"))
		x.Observe(note(engine.HistoryRunStarted, a))
		x.Observe(note(engine.HistoryRunStarted, b))
		if ids := find(x, "apple"); len(ids) != 0 {
			t.Errorf("found %v before the index read anything", ids)
		}
		time.Sleep(100 * time.Millisecond) // fake time
		if lag := x.Lag(); lag != 100*time.Millisecond {
			t.Errorf("lag = %v, want 100ms", lag)
		}
		time.Sleep(time.Second)
		if diff := cmp.Diff([]tutti.RunID{b.ID, a.ID}, find(x, "apple")); diff != "" {
			t.Errorf("newest first: %s", diff)
		}
		if lag := x.Lag(); lag != 0 {
			t.Errorf("lag = %v, want none", lag)
		}
		ended := newRun(1, start, "plum cake")
		src.put(ended)
		x.Observe(note(engine.HistoryRunEnded, ended))
		time.Sleep(time.Second)
		if ids := find(x, "apple"); len(ids) != 1 || ids[0] != b.ID {
			t.Errorf("after a change found %v, want only the other run", ids)
		}
		if ids := find(x, "plum cake"); len(ids) != 1 {
			t.Errorf("the change was not found: %v", ids)
		}
		cancel()
		synctest.Wait()
	})
}

func TestIndexReadsOlderRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &runs{}
		now := time.Now().UnixMilli()
		for i := range 30 {
			src.put(newRun(uint64(i), now-int64(i)-1, fmt.Sprint("old ", i)))
		}
		x := New(Options{MaxRuns: 20})
		from := x.Find("ns", Words("old"), func(tutti.RunID) bool { return true })
		if from < now {
			t.Errorf("complete from %d before anything was read, want %d", from, now)
		}
		go x.Run(ctx, src)
		time.Sleep(time.Second)
		found := find(x, "old")
		from = x.Stats().FromMs
		for i := range 30 {
			start := now - int64(i) - 1
			has := slices.Contains(found, tutti.NewRunID(start, uint64(i)<<20))
			if start >= from && !has {
				t.Errorf("run %d is missing, though the index says it is complete", i)
			}
			if start < from && has {
				t.Errorf("run %d is found, though the index does not cover it", i)
			}
		}
		if len(found) < 10 {
			t.Errorf("found %d, want most of the 20 that fit", len(found))
		}
		cancel()
		synctest.Wait()
	})
}

func TestIndexIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &runs{}
		x := New(Options{MaxRuns: 80, MaxPending: 50})
		go x.Run(ctx, src)
		begin := time.Now().UnixMilli()
		for i := range 1000 {
			r := src.put(newRun(uint64(i), begin+int64(i), "same"))
			x.Observe(note(engine.HistoryRunStarted, r))
			if i%40 == 39 {
				time.Sleep(time.Second)
			}
		}
		time.Sleep(time.Second)
		st := x.Stats()
		if st.Runs > 80 {
			t.Errorf("%d runs are kept, over the bound of 80", st.Runs)
		}
		found := find(x, "same")
		for i := range 1000 {
			start := begin + int64(i)
			has := slices.Contains(found, tutti.NewRunID(start, uint64(i)<<20))
			if has != (start >= st.FromMs) {
				t.Errorf("run %d: found %v, complete from %d", i, has, st.FromMs-begin)
			}
		}
		for i := range 100 { // more than may wait
			r := src.put(newRun(uint64(5000+i), begin+5000+int64(i), "burst"))
			x.Observe(note(engine.HistoryRunStarted, r))
		}
		if from := x.Stats().FromMs; from != begin+5100 {
			t.Errorf("complete from %d after runs were left out, want %d", from-begin, 5100)
		}
		cancel()
		synctest.Wait()
	})
}

func TestIndexTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &runs{}
		x := New(Options{})
		go x.Run(ctx, src)
		time.Sleep(time.Second)
		src.mu.Lock()
		src.fail = errors.New("store is away")
		src.mu.Unlock()
		r := newRun(1, time.Now().UnixMilli(), "kiwi")
		x.Observe(note(engine.HistoryRunStarted, r))
		time.Sleep(time.Second)
		src.put(r)
		src.mu.Lock()
		src.fail = nil
		src.mu.Unlock()
		time.Sleep(time.Second)
		if ids := find(x, "kiwi"); len(ids) != 1 {
			t.Errorf("found %v, want the run that could not be read at first", ids)
		}
		cancel()
		synctest.Wait()
	})
}

func FuzzWords(f *testing.F) {
	f.Add("Order 4711*", "order 47110")
	f.Fuzz(func(t *testing.T, query, text string) {
		words := Words(query)
		for _, w := range words {
			if w == "" || len(w) > 4*maxWordBytes {
				t.Errorf("word %q of %q", w, query)
			}
		}
		if MatchText(words, text) != Match(&tutti.Run{Reason: text}, words) {
			t.Errorf("Match and MatchText differ for %q in %q", query, text)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	x := New(Options{})
	r := newRun(1, 1, "")
	r.Namespace = "ns"
	r.Input = value.Raw(`{"order":"A-4711","customer":{"name":"Grace Hopper","city":"Arlington"},` +
		`"items":[{"sku":"x-1","n":2},{"sku":"x-2","n":1}],"note":"leave at the door"}`)
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		n++
		c := *r
		c.ID = tutti.NewRunID(int64(n), n<<20)
		x.add(&c)
	}
}

func BenchmarkObserve(b *testing.B) {
	x := New(Options{})
	r := newRun(1, 1, "")
	notes := note(engine.HistoryRunEnded, r)
	n := uint64(0)
	for b.Loop() {
		n++
		notes[0].Run.ID = tutti.NewRunID(int64(n), n<<20)
		x.Observe(notes)
	}
}
