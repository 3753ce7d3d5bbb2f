package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
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

// Within applies a command to a run of a namespace. To other namespaces the run does not
// exist.
type Within struct {
	Namespace string
	Run       tutti.RunID
	Command   Command
}

func (c Within) apply(b *Batch) (any, error) {
	if r := b.run(c.Run); r == nil || r.Namespace != c.Namespace {
		return nil, errNoRun(c.Run)
	}
	return c.Command.apply(b)
}

// The bounds on what a caller or a program may put into a run (invariant I9). What is over
// a bound is refused; of a program it ends the run as failed.
const (
	// MaxName bounds, in bytes, the names that become part of keys: namespaces,
	// definitions, labels and their values, idempotency and limit keys.
	MaxName = 256
	// MaxText bounds correlation identifiers, queue names and mail boxes, in bytes.
	MaxText = 512
	// MaxPayload bounds one input or output, in bytes.
	MaxPayload = 32 << 20
	// MaxReason bounds a reason, in bytes; what is longer is cut.
	MaxReason = 4 << 10
	// MaxDetail bounds the detail of one history entry, in bytes.
	MaxDetail = 64 << 10
	// MaxTurnTasks bounds the attempts that a program may add in one turn.
	MaxTurnTasks = 20_000
	// MaxPosts bounds the posts of a run that wait.
	MaxPosts = 1000
)

// keySize is the size of a string within a key.
func keySize(s string) int { return len(s) + strings.Count(s, "\x00") + strings.Count(s, "\x01") }

func checkName(what, s string, most int) error {
	if keySize(s) <= most {
		return nil
	}
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "check names", Code: "NameTooLong",
		Err:  fmt.Errorf("%s has %d bytes, the limit is %d", what, len(s), most),
		Hint: "use a shorter one",
	}
}

func checkPayload(what string, raw value.Raw) error {
	if len(raw) <= MaxPayload {
		return nil
	}
	return &tutti.Error{
		Kind: tutti.Exhausted, Op: "check payload", Code: "PayloadTooLarge",
		Err:  fmt.Errorf("%s has %d bytes, the limit is %d", what, len(raw), MaxPayload),
		Hint: "store it elsewhere and pass a reference",
	}
}

// firstError returns the first of its arguments that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkSpec(s *tutti.RunSpec) error {
	err := firstError(
		checkName("the namespace", s.Namespace, MaxName),
		checkName("the name of the definition", s.Definition, MaxName),
		checkName("the correlation id", s.CorrelationID, MaxText),
		checkName("the idempotency key", s.IdempotencyKey, MaxName),
		checkPayload("the input", s.Input), checkPayload("the start arguments", s.Ext),
	)
	if s.Limit != nil {
		err = firstError(err, checkName("the limit's key", s.Limit.Key, MaxName))
	}
	for _, k := range slices.Sorted(maps.Keys(s.Labels)) {
		err = firstError(err, checkName("the name of a label", k, MaxName),
			checkName("the value of a label", s.Labels[k], MaxName))
	}
	return err
}

func checkTask(s *tutti.TaskSpec) error {
	err := firstError(
		checkName("the name of the queue", s.Queue, MaxText),
		checkPayload("the input of step "+s.Name, s.Input),
		checkPayload("the output of step "+s.Name, s.Output),
	)
	if s.Limit != nil {
		err = firstError(err, checkName("the limit's key", s.Limit.Key, MaxName))
	}
	if s.Cache != nil {
		err = firstError(err, checkName("the cache key", s.Cache.Key, MaxText))
	}
	if s.Child != nil {
		err = firstError(err, checkSpec(s.Child))
	}
	return err
}

// clip cuts a reason to its bound, between characters.
func clip(s string) string {
	if len(s) <= MaxReason {
		return s
	}
	cut := MaxReason
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
