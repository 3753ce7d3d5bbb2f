package enginetest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
)

// each runs a test on a quiet harness, and with crashes, shards and doubled mail.
func each(t *testing.T, fn func(t *testing.T, h *enginetest.Harness)) {
	for name, opts := range map[string]enginetest.Options{
		"Plain":  {},
		"Crash":  {CrashEverywhere: true},
		"Shards": {Shards: 4, CrashEverywhere: true, DuplicateMail: true},
		"NoRoom": {Shards: 3, CacheRuns: 1},
	} {
		t.Run(name, func(t *testing.T) { fn(t, enginetest.New(t, opts)) })
	}
}

func TestSteps(t *testing.T) {
	each(t, func(t *testing.T, h *enginetest.Harness) {
		h.Define("child", `[{"task":"c"}]`)
		id := h.StartToy(`[
			{"task":"a","retries":1,"retryDelay":1000},
			{"wait":500},
			{"child":"child"},
			{"fork":3,"steps":[{"task":"b"},{"local":1}]},
			{"loop":2,"steps":[{"draw":2}]},
			{"posts":3},
			{"start":"child"},
			{"note":"here"}]`)
		h.CheckInvariants()
		h.Fail(h.Poll("a", "w"), "no luck")
		if h.Poll("a", "w") != nil {
			t.Fatal("the second attempt was not delayed")
		}
		h.Advance(1000)
		h.Complete(h.Poll("a", "w"), `{"x":1}`)
		h.CheckInvariants()
		h.Advance(500)
		h.CheckInvariants()
		if n := h.Work("c"); n != 1 {
			t.Fatalf("%d tasks of the child run, want 1\n%s", n, h.Dump(id))
		}
		if n := h.Work("b"); n != 3 {
			t.Fatalf("%d branches, want 3\n%s", n, h.Dump(id))
		}
		h.Advance(10)
		r := h.Run(id)
		if r.Status != tutti.RunCompleted || string(r.Output) != `{"done":16}` {
			t.Fatalf("the run ended otherwise:\n%s", h.Dump(id))
		}
		h.CheckInvariants()
	})
}

func TestWideFork(t *testing.T) {
	h := enginetest.New(t, enginetest.Options{})
	id := h.StartToy(`[{"fork":1000,"steps":[{"task":"b"}]},{"task":"end"}]`)
	h.Advance(100)
	if n := h.Work("b"); n != 1000 {
		t.Fatalf("%d branches, want 1000", n)
	}
	h.CheckInvariants()
	h.Work("end")
	if r := h.Run(id); r.Status != tutti.RunCompleted {
		t.Fatalf("the run ended otherwise: %s %s", r.Status, r.Reason)
	}
}

func TestLimitOfOne(t *testing.T) {
	each(t, func(t *testing.T, h *enginetest.Harness) {
		var ids []tutti.RunID
		for range 5 {
			ids = append(ids, h.StartToy(`[{"task":"a","limit":{"key":"k","concurrency":1}}]`))
		}
		for i := range ids {
			out := h.Poll("a", "w")
			for range 40 { // who waits asks again when nobody calls, as after a crash
				if out != nil {
					break
				}
				h.Advance(1000)
				out = h.Poll("a", "w")
			}
			if out == nil {
				t.Fatalf("nothing was handed out, round %d", i)
			}
			if h.Poll("a", "w") != nil {
				t.Fatal("two hand-outs under a limit of one")
			}
			h.CheckInvariants()
			h.Complete(out, "")
			h.CheckInvariants()
		}
		for _, id := range ids {
			if s := h.Run(id).Status; s != tutti.RunCompleted {
				t.Errorf("a run is %s", s)
			}
		}
	})
}

// A check that cannot fail proves nothing.
func TestCheckFindsDamage(t *testing.T) {
	body := `[{"task":"a","response":1000,"limit":{"key":"k","concurrency":2}},{"wait":0}]`
	for name, damage := range map[string]func(h *enginetest.Harness, id tutti.RunID){
		"index": func(h *enginetest.Harness, id tutti.RunID) { drop(t, h, "i") },
		"wake":  func(h *enginetest.Harness, id tutti.RunID) { drop(t, h, "w") },
		"limit": func(h *enginetest.Harness, id tutti.RunID) { drop(t, h, "L") },
		"ready": func(h *enginetest.Harness, id tutti.RunID) {
			h.StartToy(body)
			drop(t, h, "q")
		},
		"correlation": func(h *enginetest.Harness, id tutti.RunID) { drop(t, h, "j") },
		"task":        func(h *enginetest.Harness, id tutti.RunID) { drop(t, h, "r"+string(id[:])+"t") },
		"history":     func(h *enginetest.Harness, id tutti.RunID) { drop(t, h, "r"+string(id[:])+"y") },
		"extra wake": func(h *enginetest.Harness, id tutti.RunID) {
			h.Rows(0).Set([]byte("w"+strings.Repeat("x", 28)), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := enginetest.New(t, enginetest.Options{SkipFinalCheck: true})
			h.Define("d", body)
			id := h.Start(tutti.RunSpec{Definition: "d", CorrelationID: "c"})
			if h.Poll("a", "w") == nil {
				t.Fatal("nothing was handed out")
			}
			if p := h.Problems(); len(p) > 0 {
				t.Fatalf("problems before the damage: %v", p)
			}
			damage(h, id)
			if p := h.Problems(); len(p) == 0 {
				t.Error("the check found nothing")
			}
		})
	}
}

func drop(t *testing.T, h *enginetest.Harness, prefix string) {
	t.Helper()
	keys := h.Rows(0).Keys(prefix)
	if len(keys) == 0 {
		t.Fatalf("there are no rows %q", prefix)
	}
	for _, k := range keys {
		h.Rows(0).Delete(k)
	}
}

func ExampleToy() {
	src := &tutti.Source{Dialect: "toy", Name: "order", Body: []byte(`[{"task":"pay"}]`)}
	_, diags := enginetest.Toy{}.Compile(src)
	fmt.Println(len(diags), engine.QueueKey("shop", "pay"))
	// Output: 0 shop/pay
}
