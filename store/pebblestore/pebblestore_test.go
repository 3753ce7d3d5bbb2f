package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tutti-run/tutti/store"
	"github.com/tutti-run/tutti/store/storetest"
)

func TestConformanceOnDisk(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Harness {
		dir := t.TempDir()
		return storetest.Harness{
			Store:  open(t, dir, Options{}),
			Reopen: func(t testing.TB, st store.Store) store.Store { return reopen(t, st, Options{}) },
		}
	})
}

// TestConformancePowerLoss crashes a file system that forgets what was not synced, or keeps a
// random part of it.
func TestConformancePowerLoss(t *testing.T) {
	for _, percent := range []int{0, 50} {
		t.Run(fmt.Sprintf("unsynced=%d", percent), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(uint64(percent), 1))
			storetest.Run(t, func(t testing.TB) storetest.Harness {
				opts := Options{FS: vfs.NewCrashableMem(), MemTableBytes: 64 << 10}
				return storetest.Harness{
					Store: open(t, "data", opts),
					Reopen: func(t testing.TB, st store.Store) store.Store {
						return reopen(t, st, opts)
					},
					Crash: func(t testing.TB, st store.Store) store.Store {
						after := opts.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{
							UnsyncedDataPercent: percent, RNG: rng,
						})
						if err := st.Close(); err != nil {
							t.Fatal(err)
						}
						opts.FS = after
						return open(t, "data", opts)
					},
				}
			})
		})
	}
}

func open(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	st, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func reopen(t testing.TB, st store.Store, opts Options) *Store {
	t.Helper()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	return open(t, st.(*Store).dir, opts)
}

// opened is open with a Close at the end of the test.
func opened(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	st := open(t, dir, opts)
	t.Cleanup(func() {
		if err := st.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("Close: %v", err)
		}
	})
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

func set(sh store.Shard, key string, size int) store.Ticket {
	var b store.Batch
	b.Set([]byte(key), make([]byte, size))
	return sh.Commit(&b)
}

func count(t testing.TB, r store.Reader) int {
	t.Helper()
	n := 0
	for _, err := range r.Scan(nil, nil, store.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

func wantErr(t testing.TB, err, want error, parts ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	st := opened(t, dir, Options{Shards: 7})
	st = reopen(t, st, Options{Shards: 3})
	defer st.Close()
	if got := st.Shards(); got != 7 {
		t.Errorf("%d shards, want the 7 of the creation", got)
	}
	for _, n := range []int{-1, store.MaxShards + 1} {
		if _, err := Open(t.TempDir(), Options{Shards: n}); err == nil {
			t.Errorf("Open with %d shards succeeded", n)
		}
	}
}

func TestInUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	opened(t, dir, Options{})
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, dir + "/../data/", link} {
		_, err := Open(name, Options{})
		wantErr(t, err, store.ErrInUse, dir)
	}
}

func TestFolderIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	st := opened(t, dir, Options{})
	copied := filepath.Join(t.TempDir(), "copy")
	if err := st.Checkpoint(copied); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{dir, copied} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if perm := info.Mode().Perm(); perm != 0o700 {
			t.Errorf("%s has the permissions %o, want 700", name, perm)
		}
	}
}

func TestNotAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open of a file: %v, want an error that names it", err)
	}
}

func TestNewerFormat(t *testing.T) {
	dir := t.TempDir()
	st := open(t, dir, Options{})
	if err := st.db.Set(metaKey("format"), []byte("23"), nil); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a refused open leaves nothing locked
		_, err := Open(dir, Options{})
		wantErr(t, err, store.ErrNewerFormat, dir, "23", fmt.Sprint(Format))
	}
}

func TestNewerPebble(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	marks, err := filepath.Glob(filepath.Join(dir, "marker.format-version.*"))
	if err != nil || len(marks) != 1 {
		t.Fatalf("format markers %q, %v, want one", marks, err)
	}
	newer := filepath.Join(dir, "marker.format-version.000999.999")
	if err := os.Rename(marks[0], newer); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err = Open(dir, Options{})
		wantErr(t, err, store.ErrNewerFormat, dir, "999")
	}
}

func TestDamagedMeta(t *testing.T) {
	for key, value := range map[string]string{"format": "one", "shards": "0"} {
		dir := t.TempDir()
		st := open(t, dir, Options{})
		if err := st.db.Set(metaKey(key), []byte(value), nil); err != nil {
			t.Fatal(err)
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := Open(dir, Options{})
		wantErr(t, err, store.ErrCorrupt, dir)
	}
}

func TestDiskFull(t *testing.T) {
	fs := vfs.NewCrashableMem()
	setFree := func(n uint64) { fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n}) }
	setFree(1 << 30)
	st := opened(t, "data", Options{FS: fs, ReserveBytes: 100 << 20})
	sh := claim(t, st, 0)
	if err := set(sh, "a", 10).Wait(); err != nil {
		t.Fatal(err)
	}
	setFree(102 << 20)
	wantErr(t, set(sh, "b", 8<<20).Wait(), store.ErrDiskFull, "data", "102 MiB")
	wantErr(t, set(sh, "c", 1).Wait(), store.ErrDiskFull)
	setFree(99 << 20)
	wantErr(t, st.Healthy(), store.ErrDiskFull)
	_, err := st.Claim(t.Context(), 0)
	wantErr(t, err, store.ErrDiskFull)
	setFree(1 << 30)
	if err := st.Healthy(); err != nil {
		t.Errorf("Healthy with space again: %v", err)
	}
	sh = claim(t, st, 0)
	if err := set(sh, "d", 10).Wait(); err != nil {
		t.Fatal(err)
	}
	if n := count(t, sh); n != 2 {
		t.Errorf("%d records, want the 2 that were accepted", n)
	}
	if s := st.Stats(); s.Refused != 1 || s.Commits != 2 {
		t.Errorf("%d refused and %d commits, want 1 and 2", s.Refused, s.Commits)
	}
}

// TestDiskFullBySize: the guard does not wait for its next measurement to add up what it let in.
func TestDiskFullBySize(t *testing.T) {
	fs := vfs.NewCrashableMem()
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 110 << 20})
	g := newSpaceGuard("data", Options{
		FS: fs, ReserveBytes: 100 << 20, Logger: slog.New(slog.DiscardHandler),
	})
	if err := g.admit(9 << 20); err != nil {
		t.Fatal(err)
	}
	fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 101 << 20})
	wantErr(t, g.admit(2<<20), store.ErrDiskFull)
	if err := g.admit(1 << 20); err != nil {
		t.Errorf("a batch that fits: %v", err)
	}
}

// TestBallast: a write that finds the disk full is tried again without the ballast.
func TestBallast(t *testing.T) {
	mem := vfs.NewCrashableMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 40})
	var full atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch {
		case op.Kind == errorfs.OpRemove && strings.HasSuffix(op.Path, ballastName):
			full.Store(false)
		case full.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log"):
			return errNoSpace
		}
		return nil
	}))
	var log bytes.Buffer
	st := opened(t, "data", Options{FS: fs, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	sh := claim(t, st, 0)
	if _, err := fs.Stat("data/" + ballastName); err != nil {
		t.Fatalf("no ballast: %v", err)
	}
	full.Store(true)
	if err := set(sh, "a", 10).Wait(); err != nil {
		t.Fatalf("a commit on a full disk with ballast: %v", err)
	}
	if full.Load() || !strings.Contains(log.String(), "ballast") {
		t.Errorf("the ballast was not given up; log: %s", &log)
	}
}

// TestLogFails: a log that cannot be written stops the store, loudly, and loses nothing.
func TestLogFails(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var broken atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileSyncData {
			return errors.New("the disk is gone")
		}
		return nil
	}))
	st := open(t, "data", Options{FS: fs})
	sh, other := claim(t, st, 0), claim(t, st, 1)
	if err := set(sh, "a", 10).Wait(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	wantErr(t, set(sh, "b", 10).Wait(), store.ErrIO, "the disk is gone")
	wantErr(t, set(sh, "c", 10).Wait(), store.ErrIO)
	wantErr(t, set(other, "d", 10).Wait(), store.ErrIO)
	wantErr(t, st.Healthy(), store.ErrIO, "the disk is gone")
	_, err := st.Claim(t.Context(), 0)
	wantErr(t, err, store.ErrIO)

	after := mem.CrashClone(vfs.CrashCloneCfg{})
	again := opened(t, "data", Options{FS: after})
	if n := count(t, claim(t, again, 0)); n != 1 {
		t.Errorf("%d records after a restart, want the 1 that was acknowledged", n)
	}
}

func TestCheckpoint(t *testing.T) {
	st := opened(t, t.TempDir(), Options{})
	sh := claim(t, st, 2)
	if err := set(sh, "a", 10).Wait(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	if err := st.Checkpoint(dir); err != nil {
		t.Fatal(err)
	}
	if err := set(sh, "b", 10).Wait(); err != nil {
		t.Fatal(err)
	}
	copied := opened(t, dir, Options{})
	if n := count(t, claim(t, copied, 2)); n != 1 {
		t.Errorf("%d records in the copy, want 1", n)
	}
	if err := st.Checkpoint(dir); err == nil {
		t.Errorf("Checkpoint into a folder that exists succeeded")
	}
}

func TestStats(t *testing.T) {
	st := opened(t, t.TempDir(), Options{MemTableBytes: 256 << 10})
	sh := claim(t, st, 0)
	for i := range 40 {
		if err := set(sh, fmt.Sprint(i), 64<<10).Wait(); err != nil {
			t.Fatal(err)
		}
	}
	s := st.Stats()
	if s.Commits != 40 || s.Ops != 40 || s.Bytes < 40*64<<10 || s.Flushes == 0 ||
		s.DiskBytes == 0 || s.DiskFreeBytes == 0 || s.MemTableBytes == 0 {
		t.Errorf("stats %+v leave out what happened", s)
	}
}

// TestQuiet: Pebble's own talk goes to the debug level.
func TestQuiet(t *testing.T) {
	var log bytes.Buffer
	opts := Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	st := reopen(t, open(t, t.TempDir(), opts), opts)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("opening and closing logs:\n%s", &log)
	}
	if !opts.Logger.Enabled(context.Background(), slog.LevelInfo) {
		t.Fatal("the test's logger is off")
	}
}

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B, shards int) store.Store {
		return open(b, b.TempDir(), Options{Shards: shards})
	})
}
