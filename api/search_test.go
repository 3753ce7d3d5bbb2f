package api_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/api/textindex"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func TestListPages(t *testing.T) {
	onEveryStore(t, func(t *testing.T, s *server) {
		s.define("a", `[{"local":1}]`)
		s.define("b", `[{"wait":0}]`)
		var all []tutti.RunID
		for i := range 57 {
			all = append(all, s.start(tutti.RunSpec{Definition: []string{"a", "b"}[i%2]}))
		}
		for _, oldest := range []bool{false, true} {
			var got []engine.IndexEntry
			q := api.ListQuery{RunQuery: engine.RunQuery{Namespace: ns, OldestFirst: oldest}, Limit: 10}
			for pages := 0; ; pages++ {
				page := must[api.ListPage](t)(s.List(t.Context(), q))
				got = append(got, page.Entries...)
				if q.Cursor = page.Next; q.Cursor == "" {
					break
				}
				if pages > 10 {
					t.Fatal("the list does not end")
				}
			}
			if len(got) != len(all) {
				t.Errorf("%d entries, want %d", len(got), len(all))
			}
			sorted := slices.IsSortedFunc(got, func(a, b engine.IndexEntry) int {
				if oldest {
					return int(a.StartMs - b.StartMs)
				}
				return int(b.StartMs - a.StartMs)
			})
			if !sorted {
				t.Error("the list is not in order")
			}
			for _, id := range all {
				n := 0
				for _, e := range got {
					if e.ID == id {
						n++
					}
				}
				if n != 1 {
					t.Errorf("run %s is listed %d times", id, n)
				}
			}
		}
		_, err := s.List(t.Context(), api.ListQuery{
			RunQuery: engine.RunQuery{Namespace: ns}, Cursor: "x",
		})
		if tutti.KindOf(err) != tutti.Invalid {
			t.Errorf("a bad cursor: %v", err)
		}
	})
}

// shelf starts runs that searches tell apart, a second between them.
func shelf(s *server) []tutti.RunID {
	s.define("done", `[{"local":1}]`)
	s.define("bad", `[{"fail":"card declined"}]`)
	s.define("open", `[{"wait":0}]`)
	s.define("parent", `[{"child":"open"}]`)
	var ids []tutti.RunID
	for _, spec := range []tutti.RunSpec{
		{Definition: "done", CorrelationID: "c1", Priority: 3, Input: value.Raw(`{"fruit":"Apple"}`)},
		{Definition: "bad", CorrelationID: "c1", Input: value.Raw(`{"fruit":"pear"}`)},
		{Definition: "open", CorrelationID: "c2", Labels: map[string]string{"team": "red", "x": "1"}},
		{Definition: "done", Labels: map[string]string{"team": "red"}, Priority: 9},
		{Definition: "parent", CorrelationID: "c3", Input: value.Raw(`["apple","pear"]`)},
	} {
		time.Sleep(time.Second) // fake time
		ids = append(ids, s.start(spec))
	}
	synctest.Wait()
	return ids
}

func TestSearch(t *testing.T) {
	for _, indexed := range []bool{false, true} {
		t.Run(fmt.Sprint("indexed=", indexed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testSearch(t, indexed) })
		})
	}
}

func testSearch(t *testing.T, indexed bool) {
	opts := api.Options{}
	if indexed {
		opts.Text = textindex.New(textindex.Options{})
	}
	s := inMemory(t, opts)
	begin := time.Now().UnixMilli()
	ids := shelf(s)
	if indexed {
		go s.RunTextIndex(t.Context())
		time.Sleep(time.Second)
	}
	const child = 5
	urgent := func(r *tutti.Run) bool { return r.Priority > 0 }
	ended := []tutti.RunStatus{tutti.RunCompleted, tutti.RunFailed}
	byDef := []api.SortKey{{Field: api.SortDefinition}, {Field: api.SortStart}}
	for name, tt := range map[string]struct {
		q     api.Query
		want  []int // places in ids; the child run is 5
		total int
	}{
		"all":         {api.Query{}, []int{4, 5, 3, 2, 1, 0}, 6},
		"page":        {api.Query{Offset: 2, Limit: 2}, []int{3, 2}, 6},
		"beyond":      {api.Query{Offset: 20}, nil, 6},
		"status":      {api.Query{Statuses: ended}, []int{3, 1, 0}, 3},
		"definition":  {api.Query{Definitions: []string{"bad", "parent"}}, []int{4, 1}, 2},
		"times":       {api.Query{FromMs: begin + 2000, ToMs: begin + 4000}, []int{2, 1}, 2},
		"end time":    {api.Query{EndFromMs: begin + 2000, EndToMs: begin + 3000}, []int{1}, 1},
		"correlation": {api.Query{CorrelationID: "c1"}, []int{1, 0}, 2},
		"label":       {api.Query{Labels: map[string]string{"team": "red"}}, []int{3, 2}, 2},
		"labels":      {api.Query{Labels: map[string]string{"team": "red", "x": "1"}}, []int{2}, 1},
		"top level":   {api.Query{TopLevel: true, Definitions: []string{"open"}}, []int{2}, 1},
		"parent":      {api.Query{Parent: ids[4]}, []int{child}, 1},
		"ids":         {api.Query{IDs: []tutti.RunID{ids[1], ids[3], {}}}, []int{3, 1}, 2},
		"version":     {api.Query{Version: 2}, nil, 0},
		"where":       {api.Query{Where: urgent}, []int{3, 0}, 2},
		"text":        {api.Query{Text: "apple"}, []int{4, 0}, 2},
		"words":       {api.Query{Text: "PEAR apple"}, []int{4}, 1},
		"reason":      {api.Query{Text: "decl*"}, []int{1}, 1},
		"text where":  {api.Query{Text: "apple", Statuses: ended}, []int{0}, 1},
		"text id":     {api.Query{Text: ids[2].String()}, []int{2}, 1},
		"no text":     {api.Query{Text: "kiwi"}, nil, 0},
		"sort":        {api.Query{Sort: byDef, TopLevel: true}, []int{1, 0, 3, 2, 4}, 5},
		"sort page":   {api.Query{Sort: byDef, Offset: 1, Limit: 2}, []int{0, 3}, 6},
		"sort priority": {api.Query{
			Sort: []api.SortKey{{Field: api.SortPriority, Desc: true}}, Limit: 2,
		}, []int{3, 0}, 6},
		"oldest": {api.Query{Sort: []api.SortKey{{Field: api.SortStart}}, Limit: 2}, []int{0, 1}, 6},
	} {
		tt.q.Namespace = ns
		res := must[*api.SearchResult](t)(s.Search(t.Context(), tt.q))
		var got []int
		for _, r := range res.Runs {
			at := slices.Index(ids, r.ID)
			if at < 0 {
				at = child
			}
			if r.Input == nil {
				t.Errorf("%s: a result has no input", name)
			}
			got = append(got, at)
		}
		// The parent and its child start at the same time: their order is not fixed.
		if len(tt.want) > 1 && len(got) > 1 && got[0] == child && tt.want[1] == child {
			got[0], got[1] = got[1], got[0]
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || res.Total != tt.total || res.Partial {
			t.Errorf("%s: total %d, want %d; %s", name, res.Total, tt.total, diff)
		}
	}
}

func TestSearchSeesLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, api.Options{Text: textindex.New(textindex.Options{})})
		s.define("done", `[{"local":1}]`)
		s.end(tutti.RunSpec{Definition: "done", Input: value.Raw(`"mango"`)})
		time.Sleep(3 * time.Second)
		q := api.Query{Namespace: ns, Text: "mango"}
		res := must[*api.SearchResult](t)(s.Search(t.Context(), q))
		if len(res.Runs) != 0 || res.Lag < 3*time.Second {
			t.Errorf("found %d with a lag of %v before the index ran", len(res.Runs), res.Lag)
		}
		go s.RunTextIndex(t.Context())
		time.Sleep(time.Second)
		res = must[*api.SearchResult](t)(s.Search(t.Context(), q))
		if len(res.Runs) != 1 || res.Lag != 0 {
			t.Errorf("found %d with a lag of %v", len(res.Runs), res.Lag)
		}
	})
}

func TestSearchTasks(t *testing.T) {
	s := inMemory(t, api.Options{})
	s.define("d", `[{"task":"q","name":"a","input":{"n":"plum"}},{"wait":0,"name":"b"}]`)
	for range 3 {
		s.start(tutti.RunSpec{Definition: "d"})
	}
	s.finish(s.poll("q", 1)[0])
	q := api.TaskQuery{Runs: api.Query{Namespace: ns}}
	res := must[*api.TaskSearchResult](t)(s.SearchTasks(t.Context(), q))
	if res.Total != 4 || len(res.Tasks) != 4 {
		t.Errorf("%d tasks, total %d", len(res.Tasks), res.Total)
	}
	q.Where = func(_ *tutti.Run, x *tutti.Task) bool { return x.Status == tutti.Completed }
	res = must[*api.TaskSearchResult](t)(s.SearchTasks(t.Context(), q))
	if res.Total != 1 || res.Tasks[0].Task.Name != "a" {
		t.Errorf("completed tasks: %+v", res)
	}
	q.Where, q.Text, q.Offset, q.Limit = nil, "plum", 1, 1
	res = must[*api.TaskSearchResult](t)(s.SearchTasks(t.Context(), q))
	if res.Total != 3 || len(res.Tasks) != 1 {
		t.Errorf("by text: %d of %d", len(res.Tasks), res.Total)
	}
}
