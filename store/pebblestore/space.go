package pebblestore

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tutti-run/tutti/store"
)

// The free space is measured again after this time and this many bytes, whichever is first.
const (
	spaceInterval = 50 * time.Millisecond
	spaceBytes    = 4 << 20
)

const ballastName = "ballast"

// spaceGuard refuses batches while the disk is nearly full. Pebble ends the process when its log
// cannot be written, so it must never get there.
type spaceGuard struct {
	fs      vfs.FS // below the wrapper that calls dropBallast
	dir     string
	log     *slog.Logger
	reserve int64
	ballast int64

	mu       sync.Mutex
	measured time.Time
	free     int64 // at the last measurement, less what was admitted since
	written  int64 // admitted since the last measurement
	unknown  bool  // the file system does not tell
	hasLoad  bool  // the ballast file is there
	full     bool  // the last measurement was under the reserve
}

func newSpaceGuard(dir string, opts Options) *spaceGuard {
	return &spaceGuard{
		fs: opts.FS, dir: dir, log: opts.Logger,
		reserve: opts.ReserveBytes, ballast: opts.BallastBytes,
	}
}

// admit counts n bytes that are about to be written, or refuses them.
func (g *spaceGuard) admit(n int) error {
	if g.reserve < 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	stale := g.written+int64(n) > spaceBytes || g.free-int64(n) < g.reserve ||
		time.Since(g.measured) > spaceInterval
	if stale {
		g.measure()
	}
	if g.unknown {
		return nil
	}
	if g.free-int64(n) < g.reserve {
		return fmt.Errorf("data folder %q: %d MiB free, a batch of %d bytes needs more than "+
			"the reserve of %d MiB: %w", g.dir, g.free>>20, n, g.reserve>>20, store.ErrDiskFull)
	}
	g.free -= int64(n)
	g.written += int64(n)
	return nil
}

// check measures anew and reports a disk that is nearly full.
func (g *spaceGuard) check() error {
	g.mu.Lock()
	g.measured = time.Time{}
	g.mu.Unlock()
	return g.admit(0)
}

func (g *spaceGuard) measure() {
	usage, err := g.fs.GetDiskUsage(g.dir)
	g.measured, g.written, g.unknown = time.Now(), 0, err != nil
	if err != nil {
		return
	}
	g.free = int64(min(usage.AvailBytes, 1<<62))
	full := g.free < g.reserve
	if full && !g.full {
		g.log.Error("disk nearly full: commits are refused until space is freed",
			"dir", g.dir, "free_bytes", g.free, "reserve_bytes", g.reserve)
	}
	g.full = full
	if !g.hasLoad && g.ballast > 0 && g.free > g.reserve+2*g.ballast {
		g.hasLoad = g.makeBallast()
	}
}

// makeBallast takes the space for the ballast file. Going without one is no error.
func (g *spaceGuard) makeBallast() bool {
	path := g.fs.PathJoin(g.dir, ballastName)
	f, err := g.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false
	}
	err = f.Preallocate(0, g.ballast)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err == nil
}

// dropBallast gives up the ballast file. Pebble's file system calls it when a write found the
// disk full, and then writes again.
func (g *spaceGuard) dropBallast() {
	err := g.fs.Remove(g.fs.PathJoin(g.dir, ballastName))
	g.log.Error("disk full: gave up the ballast file to write what is accepted",
		"dir", g.dir, "removed", err == nil)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hasLoad, g.free = false, 0
}

// freeBytes is the free space at the last measurement, less what was admitted since.
func (g *spaceGuard) freeBytes() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return uint64(max(g.free, 0))
}
