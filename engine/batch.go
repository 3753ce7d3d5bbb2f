package engine

import (
	"fmt"
	"slices"

	"github.com/tutti-run/tutti"
)

// Batch is a set of commands that become durable together. Do applies commands one after
// the other; Finish writes the rows and returns the effects.
type Batch struct {
	s    *Shard
	rows Rows
	w    Writes
	now  int64
	err  error             // the first failed read; the batch is lost
	over map[string][]byte // rows written in this batch that may be read again; nil = deleted

	touched []*runState // in order of first use
	local   []message   // messages to this shard, applied before the command returns
	fx      Effects
}

// Command is something that is asked of a shard. The commands are in commands.go.
type Command interface {
	apply(b *Batch) (any, error)
}

// Do applies a command. A *tutti.Error is a rejection: nothing was changed. The caller must
// not answer before the batch is durable.
func (b *Batch) Do(cmd Command) (result any, err error) {
	result, err = cmd.apply(b)
	b.deliverLocal()
	if b.err != nil {
		return nil, b.err
	}
	return result, err
}

// maxLocal bounds how many messages to itself a shard follows within one command.
const maxLocal = 10_000

func (b *Batch) deliverLocal() {
	for n := 0; len(b.local) > 0 && n < maxLocal; n++ {
		m := b.local[0]
		b.local = b.local[1:]
		b.receive(m)
	}
	for _, m := range b.local {
		b.sendStored(uint16(b.s.id), m)
	}
	b.local = nil
}

// Finish writes all changed records and returns what is to be done once they are durable.
// An error means that the store failed: the batch and the Shard must be dropped.
func (b *Batch) Finish() (*Effects, error) {
	b.handOutReady()
	for _, r := range b.touched {
		b.flushRun(r)
	}
	b.s.shrink()
	b.s.shrinkLimits()
	if b.err != nil {
		return nil, b.err
	}
	return &b.fx, nil
}

// Len is the number of runs that the batch has touched: a measure for bounding it.
func (b *Batch) Len() int { return len(b.touched) }

func (b *Batch) fail(err error) {
	if b.err == nil && err != nil {
		b.err = fmt.Errorf("shard %d: %w", b.s.id, err)
	}
}

func (b *Batch) get(key []byte) ([]byte, bool) {
	if v, ok := b.over[string(key)]; ok {
		return v, v != nil
	}
	v, ok, err := b.rows.Get(key)
	b.fail(err)
	return v, ok && err == nil
}

// set writes a row that may be read again within this batch.
func (b *Batch) set(key, val []byte) {
	if val == nil {
		val = []byte{}
	}
	b.over[string(key)] = val
	b.w.Set(key, val)
}

func (b *Batch) del(key []byte) {
	b.over[string(key)] = nil
	b.w.Delete(key)
}

// scan visits committed rows and those of this batch, in order. The callback must not
// write.
func (b *Batch) scan(lo, hi []byte, fn func(k, v []byte) bool) {
	var mine []string
	for k := range b.over {
		if k >= string(lo) && (hi == nil || k < string(hi)) {
			mine = append(mine, k)
		}
	}
	slices.Sort(mine)
	stopped := false
	emit := func(k string) bool {
		v := b.over[k]
		return v == nil || fn([]byte(k), v)
	}
	err := b.rows.Scan(lo, hi, false, func(k, v []byte) bool {
		for len(mine) > 0 && mine[0] <= string(k) {
			same := mine[0] == string(k)
			if stopped = !emit(mine[0]); stopped {
				return false
			}
			mine = mine[1:]
			if same {
				return true
			}
		}
		stopped = !fn(k, v)
		return !stopped
	})
	b.fail(err)
	for ; !stopped && len(mine) > 0; mine = mine[1:] {
		stopped = !emit(mine[0])
	}
}

// Effects are what must happen outside once a batch is durable, and not before.
type Effects struct {
	Ready   []Ready        // tasks that wait for a worker
	Handed  []HandOut      // tasks handed to a worker that waits for them
	Freed   []uint64       // polls whose reserved worker got nothing and waits on
	Timers  []Timer        // new wake-up times
	Sends   []Send         // messages to other shards
	Acks    []Ack          // messages applied; their senders may forget them
	Ended   []tutti.Run    // runs that have ended
	Revoked []Revoked      // leases that are no longer good
	Docs    []DocChange    // definitions that changed
	Letters []string       // mail boxes that have something new
	Moved   []tutti.RunID  // runs that changed, for those who watch them
	Notes   []Notification // task and run transitions for metrics and traces
}

// Ready names a task that may be handed out.
type Ready struct {
	Queue    string
	Priority int
	ReadyMs  int64
	Fair     uint32 // hash of the fairness key
	Run      tutti.RunID
	Seq      tutti.Seq
}

// HandOut is a task given to a worker, with all that the worker needs.
type HandOut struct {
	Poll  uint64
	Queue string
	Run   tutti.Run
	Task  tutti.Task
}

// Timer is a time at which a command Wake is due.
type Timer struct {
	DueMs int64
	Run   tutti.RunID
	Seq   tutti.Seq
}

// Revoked is a lease that ended without the worker's doing.
type Revoked struct {
	Queue  string
	Run    tutti.RunID
	Seq    tutti.Seq
	Token  uint64
	Worker string
}

// Notification tells observers of a transition; it carries no payloads.
type Notification struct {
	Kind    HistoryKind
	Run     *RunInfo
	AtMs    int64
	Seq     tutti.Seq
	Attempt int32
	Name    string // the step's
	Queue   string
	Type    string
	// WaitMs is how long the task waited (handed out) or ran (ended).
	WaitMs int64
	Status uint8 // tutti.TaskStatus or tutti.RunStatus, as the kind says
}

// RunInfo is what observers are told of a run: what does not change with its steps. It is
// shared by notifications and never changed.
type RunInfo struct {
	ID         tutti.RunID
	Namespace  string
	Dialect    string
	Definition string
	Version    int
	Labels     map[string]string
	Parent     tutti.RunID
	ParentTask tutti.Seq
	StartMs    int64
}
