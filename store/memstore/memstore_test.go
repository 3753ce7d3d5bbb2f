package memstore

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/storetest"
)

// always lets every claim pass and gives every batch the same fate.
type always Outcome

func (always) Claim(store.ShardID) error { return nil }

func (a always) Commit(store.ShardID, uint64, *store.Batch) Outcome { return Outcome(a) }

// scripted gives each batch the next fate of a list.
type scripted struct {
	outcomes []Outcome
	claim    error
}

func (s *scripted) Claim(store.ShardID) error { return s.claim }

func (s *scripted) Commit(store.ShardID, uint64, *store.Batch) Outcome {
	o := s.outcomes[0]
	s.outcomes = s.outcomes[1:]
	return o
}

func TestConformance(t *testing.T) {
	for name, faults := range map[string]Faults{"Sync": nil, "SyncOnWait": always(SyncOnWait)} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			storetest.Run(t, func(t testing.TB) storetest.Harness {
				return storetest.Harness{
					Store: open(t, Options{Faults: faults}),
					Reopen: func(t testing.TB, st store.Store) store.Store {
						if err := st.Close(); err != nil {
							t.Fatal(err)
						}
						return st.(*Store).Crash(0)
					},
					Crash: func(t testing.TB, st store.Store) store.Store {
						return st.(*Store).Crash(rng.IntN(4))
					},
				}
			})
		})
	}
}

func open(t testing.TB, opts Options) *Store {
	t.Helper()
	st, err := Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func claim(t testing.TB, st *Store, s store.ShardID) store.Shard {
	t.Helper()
	sh, err := st.Claim(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return sh
}

func set(sh store.Shard, key string) store.Ticket {
	var b store.Batch
	b.Set([]byte(key), []byte("v"))
	return sh.Commit(&b)
}

func keys(t testing.TB, r store.Reader) string {
	t.Helper()
	all := ""
	for kv, err := range r.Scan(nil, nil, store.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		all += string(kv.Key)
	}
	return all
}

func TestHeldBatchesAreLostFromTheEnd(t *testing.T) {
	for keep, want := range []string{"a", "ab", "abc", "abc"} {
		st := open(t, Options{Faults: &scripted{outcomes: []Outcome{Sync, Hold, Hold}}})
		sh := claim(t, st, 0)
		tickets := []store.Ticket{set(sh, "a"), set(sh, "b"), set(sh, "c")}
		if got := keys(t, sh); got != "abc" || st.Pending() != 2 {
			t.Errorf("before the crash: %q with %d in flight, want abc with 2", got, st.Pending())
		}
		next := st.Crash(keep)
		var answers []bool
		for _, ticket := range tickets {
			answers = append(answers, ticket.Wait() == nil)
		}
		if diff := cmp.Diff([]bool{true, false, false}, answers); diff != "" {
			t.Errorf("tickets (-want +got):\n%s", diff)
		}
		if got := keys(t, claim(t, next, 0)); got != want {
			t.Errorf("Crash(%d) leaves %q, want %q", keep, got, want)
		}
		if err := st.Healthy(); !errors.Is(err, store.ErrClosed) {
			t.Errorf("Healthy after a crash: %v, want %v", err, store.ErrClosed)
		}
	}
}

func TestSyncInSteps(t *testing.T) {
	st := open(t, Options{Faults: always(Hold)})
	one, two := claim(t, st, 0), claim(t, st, 1)
	first, second := set(one, "a"), set(two, "b")
	if n := st.Sync(1); n != 1 || first.Wait() != nil || st.Pending() != 1 {
		t.Errorf("Sync(1) = %d with %d in flight after, want 1 and 1", n, st.Pending())
	}
	if n := st.Sync(5); n != 1 || second.Wait() != nil {
		t.Errorf("Sync(5) = %d, want 1", n)
	}
}

func TestLose(t *testing.T) {
	st := open(t, Options{Faults: always(Hold)})
	one, two := claim(t, st, 0), claim(t, st, 1)
	ticket := set(one, "a")
	st.Lose(store.ErrIO)
	if err := ticket.Wait(); !errors.Is(err, store.ErrIO) {
		t.Errorf("Wait: %v, want %v", err, store.ErrIO)
	}
	if _, _, err := one.Get(nil); !errors.Is(err, store.ErrIO) {
		t.Errorf("Get of a dead handle: %v, want %v", err, store.ErrIO)
	}
	if got := keys(t, two); got != "" {
		t.Errorf("the other shard has %q, want nothing and no error", got)
	}
	if got := keys(t, claim(t, st, 0)); got != "" {
		t.Errorf("after the next claim: %q, want nothing", got)
	}
}

func TestRefusedAndUnknown(t *testing.T) {
	for outcome, want := range map[Outcome]string{Refuse: "a", Unknown: "ab"} {
		st := open(t, Options{Faults: &scripted{outcomes: []Outcome{Hold, outcome}}})
		sh := claim(t, st, 0)
		first, second := set(sh, "a"), set(sh, "b")
		for name, err := range map[string]error{
			"the batch": second.Wait(), "the next batch": set(sh, "c").Wait(),
		} {
			if !errors.Is(err, store.ErrIO) {
				t.Errorf("outcome %d, %s: %v, want %v", outcome, name, err, store.ErrIO)
			}
		}
		next := claim(t, st, 0)
		if err := first.Wait(); err != nil {
			t.Errorf("outcome %d: the batch before: %v", outcome, err)
		}
		if got := keys(t, next); got != want {
			t.Errorf("outcome %d leaves %q, want %q", outcome, got, want)
		}
		if s := st.Stats(); s.Refused != 1 {
			t.Errorf("outcome %d: %d refused, want 1", outcome, s.Refused)
		}
	}
}

func TestClaimFault(t *testing.T) {
	st := open(t, Options{Faults: &scripted{claim: store.ErrIO}})
	if _, err := st.Claim(t.Context(), 0); !errors.Is(err, store.ErrIO) {
		t.Errorf("Claim: %v, want %v", err, store.ErrIO)
	}
}

func TestOptions(t *testing.T) {
	for _, n := range []int{-1, store.MaxShards + 1} {
		if _, err := Open(Options{Shards: n}); err == nil {
			t.Errorf("Open with %d shards succeeded", n)
		}
	}
	if n := open(t, Options{}).Shards(); n != DefaultShards {
		t.Errorf("%d shards by default, want %d", n, DefaultShards)
	}
}

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B, shards int) store.Store {
		return open(b, Options{Shards: shards})
	})
}
