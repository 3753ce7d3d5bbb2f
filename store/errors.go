package store

import (
	"errors"
	"fmt"
)

// The errors of every driver, to be compared with errors.Is. Drivers wrap them with the place
// and the cause.
var (
	// ErrFenced means that another writer has claimed the shard.
	ErrFenced = errors.New("another writer has claimed this shard; " +
		"stop using this handle and claim the shard again only if this server should own it")
	// ErrClosed means that the data space was closed.
	ErrClosed = errors.New("the data space is closed; open it again")
	// ErrDiskFull means that a batch was refused, before anything was written, to keep the
	// rest of the disk for what is already accepted.
	ErrDiskFull = errors.New("the disk is full; nothing was lost: free some space, " +
		"then claim the shard again")
	// ErrIO means that the database failed to write or read.
	ErrIO = errors.New("the database failed; look at the cause and the log, " +
		"then claim the shard again or restart")
	// ErrInUse means that another process has the data space open.
	ErrInUse = errors.New("the data space is in use by another process; " +
		"stop that process or choose another one")
	// ErrNewerFormat means that a newer version of the program wrote the data space.
	ErrNewerFormat = errors.New("the data space was written by a newer version; " +
		"run that version or a later one")
	// ErrTooLarge means that a batch, a key or a value is over the documented limit.
	ErrTooLarge = errors.New("over the size limit; split it into smaller parts")
	// ErrCorrupt means that stored data does not read back as it was written.
	ErrCorrupt = errors.New("the stored data is damaged; stop, keep a copy of the data space, " +
		"and restore the latest backup")
	// ErrNoShard means that the data space has no shard of that number.
	ErrNoShard = errors.New("no such shard; shards are numbered from 0 and " +
		"their count was fixed when the data space was created")
)

// Failed is the ticket of a batch that was refused.
func Failed(err error) Ticket { return done{err} }

// Durable is the ticket of a batch that is durable already.
func Durable() Ticket { return done{} }

type done struct{ err error }

func (d done) Wait() error { return d.err }

// CheckShard returns [ErrNoShard] unless s is one of the given number of shards.
func CheckShard(s ShardID, shards int) error {
	if int(s) < shards {
		return nil
	}
	return fmt.Errorf("store: shard %d of %d: %w", s, shards, ErrNoShard)
}
