// Package pebblestore is the store driver for one machine: a Pebble database in a folder.
//
// It may import the standard library, store and Pebble, and nothing above store may know it.
//
// All shards share one write-ahead log, so batches that are in flight together share an fsync.
// Keys are those of the shard behind its number in two bytes; the driver's own records stand
// behind the number 0xffff, which is never a shard:
//
//	ff ff "format"          format of the data space, decimal
//	ff ff "shards"          number of shards, decimal
//	ff ff "epoch" ss ss     epoch of a shard, decimal
//
// The invariant it keeps: a batch is applied only by the handle of the last claim, in the order
// of calls, and a ticket answers nil only after the log holds the batch on disk. When the disk
// runs low, batches are refused before Pebble sees them, because it cannot take back a failed
// write.
package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tutti-run/tutti/store"
)

// Format is the version of the layout described above. A data space of a higher one is refused.
const Format = 1

// Options adjust a data space. The zero value works.
type Options struct {
	// Shards is the number of shards of a new data space, from 1 to [store.MaxShards]; 0 means
	// 4. An existing one keeps the number that it was created with.
	Shards int
	// Logger gets events at debug level and trouble above; nil discards them.
	Logger *slog.Logger
	// CacheBytes bounds the cache of blocks read; 0 means 64 MiB.
	CacheBytes int64
	// MemTableBytes is how much is collected in memory before it is flushed, up to four times
	// over under load; 0 means 32 MiB.
	MemTableBytes int64
	// ReserveBytes is the free space under which batches are refused with
	// [store.ErrDiskFull]; 0 means 256 MiB, and a negative number never refuses.
	ReserveBytes int64
	// BallastBytes is the size of a file that is given up if the disk fills nevertheless, so
	// that what is accepted can still be written; 0 means 16 MiB, negative none.
	BallastBytes int64
	// FS is the file system; nil means the real one.
	FS vfs.FS
}

func (o Options) withDefaults() Options {
	o.Shards = orDefault(o.Shards, 4)
	o.CacheBytes = orDefault(o.CacheBytes, 64<<20)
	o.MemTableBytes = orDefault(o.MemTableBytes, 32<<20)
	o.ReserveBytes = orDefault(o.ReserveBytes, 256<<20)
	o.BallastBytes = orDefault(o.BallastBytes, 16<<20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	return o
}

func orDefault[N int | int64](n, d N) N {
	if n == 0 {
		return d
	}
	return n
}

// Store is an opened data space. Open makes one.
type Store struct {
	dir   string
	fs    vfs.FS
	log   *slog.Logger
	db    *pebble.DB
	lock  *pebble.Lock
	space *spaceGuard
	slots []slot

	gate   gate
	health health
	count  counters
}

var (
	_ store.Store        = (*Store)(nil)
	_ store.Inspector    = (*Store)(nil)
	_ store.Checkpointer = (*Store)(nil)
)

// slot is the place of one shard's writer. The lock orders its commits and claims.
type slot struct {
	mu    sync.Mutex
	owner atomic.Pointer[shard]
}

type counters struct {
	commits, ops, bytes, refused, stalls atomic.Uint64
}

// Open opens the data space in dir and creates it, readable by its owner only, if there is none.
// It fails with [store.ErrInUse], [store.ErrNewerFormat] or [store.ErrCorrupt].
func Open(dir string, opts Options) (*Store, error) {
	opts = opts.withDefaults()
	if opts.Shards < 0 || opts.Shards > store.MaxShards {
		return nil, fmt.Errorf("pebblestore: %d shards asked for, from 1 to %d are possible",
			opts.Shards, store.MaxShards)
	}
	if err := opts.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pebblestore: create data folder: %w", err)
	}
	dir, err := resolve(dir, opts.FS)
	if err != nil {
		return nil, fmt.Errorf("pebblestore: data folder: %w", err)
	}
	lock, err := lockDir(dir, opts.FS)
	if err != nil {
		return nil, err
	}
	st := &Store{dir: dir, fs: opts.FS, log: opts.Logger, lock: lock}
	st.space = newSpaceGuard(dir, opts)
	if err := st.open(opts); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return st, nil
}

// resolve names the folder the same way every time, because the lock goes by name within one
// process.
func resolve(dir string, fs vfs.FS) (string, error) {
	if fs != vfs.Default {
		return dir, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(dir)
}

func (st *Store) open(opts Options) error {
	db, err := pebble.Open(st.dir, st.pebbleOptions(opts))
	if err != nil {
		return fmt.Errorf("pebblestore: open %q: %w", st.dir, openCause(err))
	}
	st.db = db
	shards, err := st.readMeta(opts.Shards)
	if err != nil {
		return errors.Join(fmt.Errorf("pebblestore: open %q: %w", st.dir, err), db.Close())
	}
	st.slots = make([]slot, shards)
	return nil
}

// readMeta checks the format and returns the number of shards, after writing both to a new data
// space.
func (st *Store) readMeta(shards int) (int, error) {
	format, ok, err := st.getNumber(metaKey("format"))
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return shards, st.writeMeta(shards)
	case format > Format:
		return 0, fmt.Errorf("its format is %d, this program knows up to %d: %w",
			format, Format, store.ErrNewerFormat)
	}
	n, ok, err := st.getNumber(metaKey("shards"))
	if err == nil && (!ok || n < 1 || n > store.MaxShards) {
		err = fmt.Errorf("the number of shards is %d: %w", n, store.ErrCorrupt)
	}
	return int(n), err
}

func (st *Store) writeMeta(shards int) error {
	b := st.db.NewBatch()
	defer b.Close()
	err := errors.Join(
		b.Set(metaKey("format"), strconv.AppendUint(nil, Format, 10), nil),
		b.Set(metaKey("shards"), strconv.AppendInt(nil, int64(shards), 10), nil),
	)
	if err != nil {
		return ioError(err)
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return ioError(err)
	}
	return nil
}

// metaShard is the number behind which the driver keeps its own records.
const metaShard = 0xffff

func metaKey(name string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, metaShard), name...)
}

func epochKey(s store.ShardID) []byte {
	return binary.BigEndian.AppendUint16(metaKey("epoch"), uint16(s))
}

func (st *Store) getNumber(key []byte) (uint64, bool, error) {
	value, ok, err := get(st.db, key)
	if err != nil || !ok {
		return 0, false, err
	}
	n, err := strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		return 0, false, fmt.Errorf("record %q: %w: %w", key, store.ErrCorrupt, err)
	}
	return n, true, nil
}

// Shards is the number of shards.
func (st *Store) Shards() int { return len(st.slots) }

// Claim makes the caller the writer of a shard.
func (st *Store) Claim(ctx context.Context, s store.ShardID) (store.Shard, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := store.CheckShard(s, len(st.slots)); err != nil {
		return nil, err
	}
	if err := st.gate.enter(); err != nil {
		return nil, err
	}
	defer st.gate.leave()
	sh, err := st.claim(s)
	if err != nil {
		return nil, fmt.Errorf("pebblestore: claim shard %d: %w", s, err)
	}
	return sh, nil
}

func (st *Store) claim(s store.ShardID) (*shard, error) {
	sl := &st.slots[s]
	sl.mu.Lock()
	defer sl.mu.Unlock()
	if err := st.health.broken(); err != nil {
		return nil, err
	}
	if err := st.space.admit(0); err != nil {
		return nil, err
	}
	epoch, _, err := st.getNumber(epochKey(s))
	if err != nil {
		return nil, err
	}
	epoch++
	err = st.db.Set(epochKey(s), strconv.AppendUint(nil, epoch, 10), pebble.Sync)
	if err != nil {
		return nil, st.health.breakWith(err)
	}
	sh := newShard(st, sl, s, epoch)
	sl.owner.Store(sh)
	return sh, nil
}

// Close waits for the calls and batches in flight and closes the folder.
func (st *Store) Close() error {
	if !st.gate.close() {
		return errClosed
	}
	if err := errors.Join(st.db.Close(), st.lock.Close()); err != nil {
		return fmt.Errorf("pebblestore: close %q: %w", st.dir, err)
	}
	return nil
}

// Checkpoint copies the data space into a new folder, by hard links where it can.
func (st *Store) Checkpoint(dir string) error {
	if err := st.gate.enter(); err != nil {
		return err
	}
	defer st.gate.leave()
	if err := st.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("pebblestore: checkpoint into %q: %w", dir, ioError(err))
	}
	if st.fs != vfs.Default {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("pebblestore: checkpoint: %w", err)
	}
	return nil
}

var errClosed = fmt.Errorf("pebblestore: %w", store.ErrClosed)

// gate lets calls in until the store closes, which then waits for those inside.
type gate struct {
	mu     sync.RWMutex
	closed bool
	inside sync.WaitGroup
}

func (g *gate) enter() error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return errClosed
	}
	g.inside.Add(1)
	return nil
}

func (g *gate) leave() { g.inside.Done() }

// close reports whether this call closed the gate.
func (g *gate) close() bool {
	g.mu.Lock()
	was := g.closed
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
	return !was
}
