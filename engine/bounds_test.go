package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// script is a program whose first turn is a function.
type script struct{ start func(t tutti.Turn) error }

func (s script) Name() string { return "script" }

func (s script) Link(tutti.Documents, string, int) (*tutti.Source, error) { return nil, nil }

func (s script) Compile(*tutti.Source) (tutti.Program, value.Diagnostics) { return s, nil }

func (s script) Start(t tutti.Turn) error { return s.start(t) }

func (s script) Resume(tutti.Turn, tutti.Event) error { return nil }

func (s script) EncodeState(dst []byte, _ any) []byte { return dst }

func (s script) DecodeState([]byte) (any, error) { return nil, nil }

// nobody is a Matcher without workers.
type nobody struct{}

func (nobody) Reserve(string) (Slot, bool) { return Slot{}, false }
func (nobody) LastPoll(string) int64       { return 0 }

// table is an unordered key space that is empty at first: enough for one batch.
type table map[string]string

func (m table) Get(k []byte) ([]byte, bool, error) { v, ok := m[string(k)]; return []byte(v), ok, nil }

func (m table) Scan(_, _ []byte, _ bool, _ func(k, v []byte) bool) error { return nil }

func (m table) Set(k, v []byte)         { m[string(k)] = string(v) }
func (m table) Delete(k []byte)         { delete(m, string(k)) }
func (m table) Append(k, v []byte)      { m[string(k)] += string(v) }
func (m table) DeleteRange(_, _ []byte) {}

func scriptShard(start func(t tutti.Turn) error) *Shard {
	return NewShard(0, 1, Options{
		Dialects: map[string]tutti.Dialect{"script": script{start}}, Matcher: nobody{},
		Resolve: func(_, _, name string, _ int) (*tutti.Source, error) {
			return nil, tutti.E(tutti.NotFound, "resolve", "NoSuchDefinition", name)
		},
	})
}

// runScript starts a run of a script and returns it.
func runScript(t *testing.T, prepare func(r *runState), start func(t tutti.Turn) error) *runState {
	t.Helper()
	var r *runState
	s := scriptShard(func(tt tutti.Turn) error {
		r = tt.(*turn).r
		if prepare != nil {
			prepare(r)
		}
		return start(tt)
	})
	rows := table{}
	b := s.Begin(rows, rows, 1000)
	_, err := b.Do(Start{
		ID: tutti.NewRunID(1000, 1), Source: &tutti.Source{Dialect: "script"},
	})
	if err == nil {
		_, err = b.Finish()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wait(t tutti.Turn) {
	t.AddTask(tutti.TaskSpec{Kind: tutti.Wait, Status: tutti.Running})
}

// What a program may do is bounded, and the bound itself is allowed.
func TestBoundsOfATurn(t *testing.T) {
	name := func(n int) string { return strings.Repeat("n", n) }
	big := value.Raw(`"` + name(MaxPayload) + `"`)
	for _, c := range []struct {
		name    string
		code    string
		prepare func(r *runState)
		ok, bad func(t tutti.Turn)
	}{
		{
			"attempts of a turn", "TooManyTasksAtOnce", nil,
			func(t tutti.Turn) { addTasks(t, MaxTurnTasks-1) },
			func(t tutti.Turn) { addTasks(t, MaxTurnTasks) },
		},
		{
			"attempts of a run", "TooManyTasks",
			func(r *runState) { r.LastSeq = tutti.MaxTasks - 3 },
			func(t tutti.Turn) { addTasks(t, 2) },
			func(t tutti.Turn) { addTasks(t, 3) },
		},
		{
			"queue", "NameTooLong", nil,
			func(t tutti.Turn) { t.AddTask(tutti.TaskSpec{Queue: name(MaxText)}) },
			func(t tutti.Turn) { t.AddTask(tutti.TaskSpec{Queue: name(MaxText + 1)}) },
		},
		{
			"limit key", "NameTooLong", nil,
			func(t tutti.Turn) { t.AddTask(tutti.TaskSpec{Limit: &tutti.Limit{Key: name(MaxName)}}) },
			func(t tutti.Turn) { t.AddTask(tutti.TaskSpec{Limit: &tutti.Limit{Key: name(MaxName + 1)}}) },
		},
		{
			"input", "PayloadTooLarge", nil,
			func(t tutti.Turn) { t.AddTask(tutti.TaskSpec{Input: big[:MaxPayload]}) },
			func(t tutti.Turn) { t.AddTask(tutti.TaskSpec{Input: big}) },
		},
		{
			"output", "PayloadTooLarge", nil,
			func(t tutti.Turn) { t.EndTask(1, tutti.Completed, big[:MaxPayload], ""); wait(t) },
			func(t tutti.Turn) { t.EndTask(1, tutti.Completed, big, "") },
		},
		{
			"amended output", "PayloadTooLarge", nil,
			func(t tutti.Turn) { t.AmendTask(1, nil, big[:MaxPayload]) },
			func(t tutti.Turn) { t.AmendTask(1, nil, big) },
		},
		{
			"cell name", "CellTooLarge", nil,
			func(t tutti.Turn) { t.SetCell(name(512), nil) },
			func(t tutti.Turn) { t.SetCell(name(513), nil) },
		},
		{
			"posts", "TooManyPosts", nil,
			func(t tutti.Turn) { postTo(t, MaxPosts) }, func(t tutti.Turn) { postTo(t, MaxPosts+1) },
		},
		{
			"note", "NoteTooLarge", nil,
			func(t tutti.Turn) { t.Note("", big[:MaxDetail]) },
			func(t tutti.Turn) { t.Note("", big[:MaxDetail+1]) },
		},
		{
			"namespace of a started run", "NameTooLong", nil,
			func(t tutti.Turn) { t.StartRun(tutti.RunSpec{Namespace: name(MaxName)}) },
			func(t tutti.Turn) { t.StartRun(tutti.RunSpec{Namespace: name(MaxName + 1)}) },
		},
	} {
		for _, over := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, over), func(t *testing.T) {
				var end error
				r := runScript(t, c.prepare, func(tt tutti.Turn) error {
					wait(tt)
					if over {
						c.bad(tt)
					} else {
						c.ok(tt)
					}
					end = tt.(*turn).err
					return nil
				})
				if over != (r.Status == tutti.RunFailed) {
					t.Errorf("the run is %s: %s", r.Status, r.Reason)
				}
				if e, _ := end.(*tutti.Error); over && (e == nil || e.Code != c.code) {
					t.Errorf("error %v, want one with code %s", end, c.code)
				}
			})
		}
	}
}

func addTasks(t tutti.Turn, n int) {
	for range n {
		wait(t)
	}
}

func postTo(t tutti.Turn, n int) {
	for range n {
		t.Post(0, nil)
	}
}

func TestBoundsOfCommands(t *testing.T) {
	long := strings.Repeat("n", MaxText+1)
	big := make(value.Raw, MaxPayload+1)
	src := &tutti.Source{Dialect: "script"}
	id := tutti.NewRunID(1000, 1)
	start := func(spec tutti.RunSpec) Command {
		return Start{ID: tutti.NewRunID(1000, 9), Source: src, Spec: spec}
	}
	for i, c := range []struct {
		cmd  Command
		code string
	}{
		{start(tutti.RunSpec{Namespace: long}), "NameTooLong"},
		{start(tutti.RunSpec{Definition: long}), "NameTooLong"},
		{start(tutti.RunSpec{CorrelationID: long}), "NameTooLong"},
		{start(tutti.RunSpec{CorrelationID: strings.Repeat("\x00", 300)}), "NameTooLong"},
		{start(tutti.RunSpec{IdempotencyKey: long}), "NameTooLong"},
		{start(tutti.RunSpec{Labels: map[string]string{long: ""}}), "NameTooLong"},
		{start(tutti.RunSpec{Labels: map[string]string{"k": long}}), "NameTooLong"},
		{start(tutti.RunSpec{Limit: &tutti.RunLimit{Key: long}}), "NameTooLong"},
		{start(tutti.RunSpec{Input: big}), "PayloadTooLarge"},
		{start(tutti.RunSpec{Ext: big}), "PayloadTooLarge"},
		{Complete{Run: id, Seq: 1, Outcome: Outcome{Output: big}}, "PayloadTooLarge"},
		{SetVariables{Run: id, Cell: long}, "NameTooLong"},
		{SetVariables{Run: id, Value: big}, "PayloadTooLarge"},
		{PutDocument{Doc: Document{Name: long}}, "NameTooLong"},
		{PutDocument{Doc: Document{Body: big}}, "PayloadTooLarge"},
		{PutLetter{Box: long}, "NameTooLong"},
		{PutLetter{Body: big}, "PayloadTooLarge"},
		{PutLetter{Box: "full"}, "BoxFull"},
	} {
		s := scriptShard(func(t tutti.Turn) error { wait(t); return nil })
		rows := table{}
		b := s.Begin(rows, rows, 1000)
		if _, err := b.Do(Start{ID: id, Source: src}); err != nil {
			t.Fatal(err)
		}
		s.mail["full"] = box{last: MaxBox, count: MaxBox}
		if _, err := b.Finish(); err != nil {
			t.Fatal(err)
		}
		before := fmt.Sprint(rows)
		b = s.Begin(rows, rows, 1001)
		_, err := b.Do(c.cmd)
		if e, _ := err.(*tutti.Error); e == nil || e.Code != c.code {
			t.Errorf("command %d: error %v, want one with code %s", i, err, c.code)
		}
		if _, err := b.Finish(); err != nil {
			t.Fatal(err)
		}
		if after := fmt.Sprint(rows); after != before {
			t.Errorf("command %d, which was refused, changed rows", i)
		}
	}
}

func TestReasonsAreCut(t *testing.T) {
	reason := strings.Repeat("é", MaxReason)
	r := runScript(t, nil, func(t tutti.Turn) error {
		t.EndRun(tutti.RunFailed, nil, reason, 0)
		return nil
	})
	if len(r.Reason) > MaxReason || !strings.HasPrefix(reason, r.Reason) {
		t.Errorf("the reason has %d bytes", len(r.Reason))
	}
	if got := clip("x" + reason); len(got) != MaxReason-1 || !strings.HasSuffix(got, "é") {
		t.Errorf("cut within a character: %d bytes", len(got))
	}
}

func TestLogsAreBounded(t *testing.T) {
	r := runScript(t, nil, func(tt tutti.Turn) error {
		wait(tt)
		b, r := tt.(*turn).b, tt.(*turn).r
		for range logsMax + 5 {
			b.appendLogs(r, r.tasks[1], [][]byte{[]byte("line")})
		}
		return nil
	})
	if n := r.tasks[1].logs; n != logsMax {
		t.Errorf("%d lines are kept, want %d", n, logsMax)
	}
}

// The memory of a shard does not grow with what it has seen (invariant I10).
func TestCachesAreBounded(t *testing.T) {
	sizes := func(cacheRuns int) (runs, programs, sources, limits, boxes int) {
		s := scriptShard(func(t tutti.Turn) error { wait(t); return nil })
		s.opts.CacheRuns = cacheRuns
		rows := table{}
		for i := range 5000 {
			b := s.Begin(rows, rows, 1000)
			src := &tutti.Source{Dialect: "script", Body: value.Marshal(value.Int(int64(i)))}
			id := tutti.NewRunID(1000, uint64(i)<<20)
			for _, cmd := range []Command{
				Start{ID: id, Source: src, Spec: tutti.RunSpec{
					Limit: &tutti.RunLimit{Key: fmt.Sprint(i), Concurrency: 1},
				}},
				PutLetter{Box: fmt.Sprint(i)},
			} {
				if _, err := b.Do(cmd); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := b.Finish(); err != nil {
				t.Fatal(err)
			}
			if s.lru.Len() != len(s.runs) {
				t.Fatalf("%d runs in order of use, %d by name", s.lru.Len(), len(s.runs))
			}
		}
		return len(s.runs), len(s.programs), len(s.sources), len(s.limits), len(s.mail)
	}
	runs, programs, sources, limits, boxes := sizes(100)
	if runs > 100 || programs > maxPrograms || sources > maxPrograms || limits > maxLimits ||
		boxes > maxMail {
		t.Errorf("kept: %d runs, %d programs, %d sources, %d limits, %d boxes",
			runs, programs, sources, limits, boxes)
	}
	if runs, _, _, _, _ := sizes(1 << 30); runs != 5000 {
		t.Errorf("without a bound %d runs are kept, want 5000: the test proves nothing", runs)
	}
}

// What is kept of one run does not grow with its length or width either.
func TestCachedRunIsTrimmed(t *testing.T) {
	r := runScript(t, nil, func(tt tutti.Turn) error {
		for range 5000 {
			wait(tt)
			tt.OpenFrame(0, nil)
			tt.SaveFrame(0)
			tt.AddTask(tutti.TaskSpec{Kind: tutti.Local, Status: tutti.Completed})
		}
		tt.(*turn).b.openSeqs(tt.(*turn).r)
		return nil
	})
	if len(r.tasks) > 4*tasksKept || len(r.frames) > 4*tasksKept || len(r.spill) > 16*tasksKept {
		t.Errorf("kept: %d tasks, %d frames, %d open", len(r.tasks), len(r.frames), len(r.spill))
	}
	if _, ok := r.frames[0]; ok && r.frames[0] == nil {
		t.Error("the root frame is lost")
	}
}
