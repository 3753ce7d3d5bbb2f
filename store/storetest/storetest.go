// Package storetest is the conformance suite of package store: every driver passes it unchanged.
//
// It may import the standard library, store, go-cmp and rapid, and is for tests only. A driver
// calls [Run] with a function that makes a fresh data space, and [Bench] for its figures.
//
// The invariant it keeps: a test relies on nothing that the contract of package store does not
// promise, so what passes here may take any driver's place.
package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tutti-run/tutti/store"
)

// Harness is one fresh, empty data space with at least two shards.
type Harness struct {
	// Store is the data space, open.
	Store store.Store
	// Reopen closes the store and opens the data space again.
	Reopen func(t testing.TB, st store.Store) store.Store
	// Crash cuts the power: it returns the data space opened again as a crash would leave it.
	// Nil skips the tests that need it.
	Crash func(t testing.TB, st store.Store) store.Store
}

// Run tests a driver. It calls open for each test and closes every store that it got.
func Run(t *testing.T, open func(t testing.TB) Harness) {
	tests := []struct {
		name string
		run  func(*testing.T, *world)
	}{
		{"ReadYourWrites", readYourWrites},
		{"Order", order},
		{"OpsInOneBatch", opsInOneBatch},
		{"Append", appendValues},
		{"Ranges", ranges},
		{"ScanLimits", scanLimits},
		{"ScanIsFixed", scanIsFixed},
		{"DeleteRange", deleteRange},
		{"Ownership", ownership},
		{"Snapshots", snapshots},
		{"SnapshotsSeeWholeBatches", snapshotsSeeWholeBatches},
		{"Fencing", fencing},
		{"FencingInFlight", fencingInFlight},
		{"EpochsGrow", epochsGrow},
		{"NoSuchShard", noSuchShard},
		{"Reopen", reopen},
		{"CloseFinishesCommits", closeFinishesCommits},
		{"Closed", closed},
		{"EmptyBatch", emptyBatch},
		{"Limits", limits},
		{"BigValues", bigValues},
		{"ShardsAreApart", shardsAreApart},
		{"ConcurrentShards", concurrentShards},
		{"Crash", crash},
		{"Model", model},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, newWorld(t, open)) })
	}
}

// world is a data space under test and the shard that most tests need.
type world struct {
	testing.TB
	Harness
	open  func(testing.TB) Harness
	shard store.Shard
}

func newWorld(t testing.TB, open func(testing.TB) Harness) *world {
	t.Helper()
	w := &world{TB: t, Harness: open(t), open: open}
	t.Cleanup(func() {
		if err := w.Store.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
	})
	w.shard = w.claim(0)
	return w
}

func (w *world) claim(s store.ShardID) store.Shard {
	w.Helper()
	sh, err := w.Store.Claim(w.Context(), s)
	if err != nil {
		w.Fatalf("Claim(%d): %v", s, err)
	}
	return sh
}

func (w *world) reopen() {
	w.Helper()
	w.Store = w.Reopen(w, w.Store)
	w.shard = w.claim(0)
}

// commit commits a batch and leaves it in flight.
func (w *world) commit(fill func(b *store.Batch)) store.Ticket {
	return commit(w.shard, fill)
}

func commit(sh store.Shard, fill func(b *store.Batch)) store.Ticket {
	var b store.Batch
	fill(&b)
	return sh.Commit(&b)
}

func (w *world) wait(ticket store.Ticket) {
	w.Helper()
	if err := ticket.Wait(); err != nil {
		w.Fatalf("Wait: %v", err)
	}
}

// set commits pairs of key and value in one batch and leaves it in flight.
func (w *world) set(pairs ...string) store.Ticket {
	return w.commit(func(b *store.Batch) {
		for p := range slices.Chunk(pairs, 2) {
			b.Set([]byte(p[0]), []byte(p[1]))
		}
	})
}

// wantGet checks a value; want is "-" where there must be none.
func wantGet(t testing.TB, r store.Reader, key, want string) {
	t.Helper()
	value, ok, err := r.Get([]byte(key))
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	got := string(value)
	switch {
	case !ok && value != nil:
		t.Errorf("Get(%q) = %q and false, want a nil value", key, value)
	case !ok:
		got = "-"
	case value == nil:
		t.Errorf("Get(%q) = nil and true, want a value that is not nil", key)
	}
	if got != want {
		t.Errorf("Get(%q) = %q, want %q", key, got, want)
	}
}

// dump lists a range as "key=value".
func dump(t testing.TB, r store.Reader, lo, hi string, opts store.ScanOptions) []string {
	t.Helper()
	got := []string{}
	for kv, err := range r.Scan([]byte(lo), []byte(hi), opts) {
		if err != nil {
			t.Fatalf("Scan(%q, %q, %+v): %v", lo, hi, opts, err)
		}
		got = append(got, fmt.Sprintf("%s=%s", kv.Key, kv.Value))
	}
	return got
}

func wantAll(t testing.TB, r store.Reader, want ...string) {
	t.Helper()
	got := dump(t, r, "", "", store.ScanOptions{})
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		t.Errorf("all records (-want +got):\n%s", diff)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

// wantDead checks that every way to use a handle fails with the error.
func wantDead(t testing.TB, sh store.Shard, want error) {
	t.Helper()
	_, _, err := sh.Get([]byte("k"))
	wantErr(t, "Get", err, want)
	wantErr(t, "Scan", scanErr(sh), want)
	wantErr(t, "Commit", commit(sh, func(b *store.Batch) { b.Set([]byte("k"), nil) }).Wait(), want)
	wantErr(t, "Commit of nothing", sh.Commit(new(store.Batch)).Wait(), want)
	snap := sh.Snapshot()
	_, _, err = snap.Get([]byte("k"))
	wantErr(t, "Snapshot.Get", err, want)
	wantErr(t, "Snapshot.Scan", scanErr(snap), want)
	if err := snap.Close(); err != nil {
		t.Errorf("Snapshot.Close: %v", err)
	}
}

func scanErr(r store.Reader) error {
	for _, err := range r.Scan(nil, nil, store.ScanOptions{}) {
		if err != nil {
			return err
		}
	}
	return nil
}
