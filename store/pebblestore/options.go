package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tutti-run/tutti/store"
)

// pebbleFormat is pinned because a higher one cannot be undone; raise it with [Format].
const pebbleFormat = pebble.FormatValueSeparation

// pebbleOptions tunes for many small batches, reads of recent records and few processors.
func (st *Store) pebbleOptions(opts Options) *pebble.Options {
	o := &pebble.Options{
		FS:                          vfs.OnDiskFull(opts.FS, st.space.dropBallast),
		Lock:                        st.lock,
		FormatMajorVersion:          pebbleFormat,
		Logger:                      logger{st.log, &st.health},
		EventListener:               st.events(),
		CacheSize:                   opts.CacheBytes,
		MemTableSize:                uint64(opts.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       1000,
		CompactionConcurrencyRange: func() (int, int) {
			return 1, max(1, runtime.GOMAXPROCS(0)/2)
		},
	}
	o.Levels[0] = pebble.LevelOptions{
		BlockSize: 16 << 10, IndexBlockSize: 64 << 10, FilterPolicy: bloom.FilterPolicy(10),
	}
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings {
		return pebble.DBCompressionBalanced
	})
	return o
}

func (st *Store) events() *pebble.EventListener {
	h, log := &st.health, st.log
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			h.background(err)
			log.Error("background write failed, will be tried again", "dir", st.dir, "err", err)
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			h.corrupt(info)
			log.Error("stored data is damaged", "dir", st.dir, "file", info.Path,
				"err", info.Details)
		},
		DiskSlow: func(info pebble.DiskSlowInfo) {
			log.Warn("disk is slow", "dir", st.dir, "info", info)
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			st.count.stalls.Add(1)
			log.Warn("commits wait for background work", "dir", st.dir, "reason", info.Reason)
		},
		FlushEnd: func(info pebble.FlushInfo) {
			if info.Err == nil {
				h.background(nil)
			}
			log.Debug("flush", "info", info)
		},
		CompactionEnd: func(info pebble.CompactionInfo) {
			if info.Err == nil {
				h.background(nil)
			}
			log.Debug("compaction", "info", info)
		},
	}
}

// logger passes Pebble's messages on.
type logger struct {
	log    *slog.Logger
	health *health
}

func (l logger) Infof(format string, args ...any) {
	l.log.Debug(fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error(fmt.Sprintf(format, args...))
}

// Fatalf ends the process: Pebble calls it when memory and disk disagree, and the log on disk
// holds everything that was acknowledged.
func (l logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.Error("the database cannot go on; restart to recover from its log", "err", msg)
	panic(l.health.breakWith(errors.New(msg)))
}

// health remembers what went wrong.
type health struct {
	mu       sync.Mutex
	fatal    error // until the store is opened again
	retrying error // until background work succeeds again
}

// breakWith stops all further writes, because a write failed and Pebble cannot undo it.
func (h *health) breakWith(cause error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fatal == nil {
		h.fatal = fmt.Errorf("%w: no more commits until it is opened again: %w",
			store.ErrIO, cause)
	}
	return h.fatal
}

func (h *health) broken() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fatal
}

func (h *health) background(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retrying = err
}

func (h *health) corrupt(info pebble.DataCorruptionInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fatal == nil {
		h.fatal = fmt.Errorf("file %q: %w: %w", info.Path, store.ErrCorrupt, info.Details)
	}
}

// Healthy returns what is wrong: damage, a failed log, background work that fails, or a disk
// that is nearly full.
func (st *Store) Healthy() error {
	if err := st.gate.enter(); err != nil {
		return err
	}
	defer st.gate.leave()
	if err := st.health.broken(); err != nil {
		return fmt.Errorf("pebblestore: %w", err)
	}
	st.health.mu.Lock()
	retrying := st.health.retrying
	st.health.mu.Unlock()
	if retrying != nil {
		return fmt.Errorf("pebblestore: background work: %w", ioError(retrying))
	}
	if err := st.space.check(); err != nil {
		return fmt.Errorf("pebblestore: %w", err)
	}
	return nil
}

// Stats returns figures for metrics.
func (st *Store) Stats() store.Stats {
	s := store.Stats{
		Commits: st.count.commits.Load(), Ops: st.count.ops.Load(),
		Bytes: st.count.bytes.Load(), Refused: st.count.refused.Load(),
		WriteStalls: st.count.stalls.Load(), DiskFreeBytes: st.space.freeBytes(),
	}
	if st.gate.enter() != nil {
		return s
	}
	defer st.gate.leave()
	m := st.db.Metrics()
	s.WALBytes, s.MemTableBytes = m.WAL.Size, m.MemTable.Size
	s.CacheBytes = uint64(max(m.BlockCache.Size, 0))
	s.DiskBytes = m.DiskSpaceUsage()
	s.Flushes, s.Compactions = uint64(m.Flush.Count), uint64(m.Compact.Count)
	s.CompactionDebtBytes = m.Compact.EstimatedDebt
	return s
}

// lockDir takes the lock of the folder, to tell a folder in use from other trouble.
func lockDir(dir string, fs vfs.FS) (*pebble.Lock, error) {
	lock, err := pebble.LockDirectory(dir, fs)
	if err == nil {
		return lock, nil
	}
	if errors.Is(err, syscall.EAGAIN) ||
		strings.Contains(err.Error(), "lock held by current process") {
		return nil, fmt.Errorf("pebblestore: data folder %q: %w", dir, store.ErrInUse)
	}
	return nil, fmt.Errorf("pebblestore: lock data folder %q: %w", dir, err)
}

// openCause names what a failed open means for the user.
func openCause(err error) error {
	if strings.Contains(err.Error(), "unknown format major version") {
		return fmt.Errorf("%w: this program knows up to %d: %w",
			store.ErrNewerFormat, pebble.FormatNewest, err)
	}
	return ioError(err)
}

// ioError sorts an error of Pebble.
func ioError(err error) error {
	switch {
	case errors.Is(err, store.ErrIO), errors.Is(err, store.ErrCorrupt):
		return err
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%w: %w", store.ErrDiskFull, err)
	default:
		return fmt.Errorf("%w: %w", store.ErrIO, err)
	}
}
