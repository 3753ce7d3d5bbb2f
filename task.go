package tutti

import "github.com/tutti-run/tutti/value"

// TaskKind says who brings a task to its end.
type TaskKind uint8

// The kinds of task.
const (
	// Work is queued for a worker or for a connector in the server.
	Work TaskKind = iota
	// Wait ends at its Until time, or by a signal when Until is zero.
	Wait
	// Child ends with the run it started.
	Child
	// Scope is ended by its own program (a join, a loop), when tasks it covers have ended.
	Scope
	// Local was done within the turn that created it; it is stored already ended.
	Local
)

// TaskStatus is where a task attempt stands.
type TaskStatus uint8

// The states of a task. Queued and Running are open, the others final.
const (
	Queued              TaskStatus = iota // not handed out: queued, delayed or held by a limit
	Running                               // leased to a worker, or waiting for what ends it
	Completed                             // ended well
	CompletedWithErrors                   // failed, and declared optional
	Failed                                // failed; a retry may follow
	Fatal                                 // failed; no retry may follow
	TimedOut                              // a deadline passed
	CancelledTask                         // ended by its run or an operator
	Skipped                               // stepped over by an operator
)

// Open reports whether the attempt has not ended.
func (s TaskStatus) Open() bool { return s <= Running }

// Successful reports whether the attempt ended in a way that lets its run go on.
func (s TaskStatus) Successful() bool {
	return s == Completed || s == CompletedWithErrors || s == Skipped
}

var taskStatusNames = [...]string{
	"queued", "running", "completed", "completed with errors", "failed", "fatal", "timed out",
	"cancelled", "skipped",
}

// String returns the status in words.
func (s TaskStatus) String() string { return taskStatusNames[s] }

// Limit bounds how often the tasks that share a key run, over all runs of a namespace.
// Zero fields do not limit.
type Limit struct {
	Key         string
	Concurrency int   // attempts leased at the same time
	Rate        int   // attempts handed out per window
	WindowMs    int64 // length of the rate's sliding window
}

// CacheSpec lets the output of a Work task be used again. The first attempt ends at once with
// the output that a task of the same namespace, definition name and key had when it completed
// less than its TTLMs ago. Outputs over 64 KiB are not kept.
type CacheSpec struct {
	Key   string
	TTLMs int64
}

// Timeouts are the deadlines of one attempt, in milliseconds; zero means none. When one
// passes, the engine clears it and tells the program, which decides what follows.
type Timeouts struct {
	PollMs     int64 // from the time it may be handed out until it is
	ResponseMs int64 // length of a lease: from hand-out, or the last update, to the next
	TaskMs     int64 // from the first hand-out to the end
	TotalAt    int64 // absolute Unix time by which all attempts must have ended
}

// TaskSpec asks for a new task attempt.
type TaskSpec struct {
	Frame     FrameID
	Name      string // step name; attempts of one step share it
	Type      string // the dialect's word for what kind of step this is
	DefName   string // name of the task definition or service called; for views and search
	Kind      TaskKind
	Queue     string // for Work: the queue's name within the namespace
	Node      int32  // the dialect's own reference into its program
	Iteration int32  // loop iteration, from 1; 0 outside loops
	Attempt   int32  // 0 for the first
	RetryOf   Seq    // the attempt that this one repeats
	FirstAt   int64  // when the first attempt was scheduled (Unix ms); 0 = now
	Input     value.Raw
	Output    value.Raw  // for Local and Running tasks that begin with an output
	Status    TaskStatus // initial state: Queued, Running (Wait, Scope, Child), or final (Local)
	Reason    string
	DelayMs   int64 // Work: not handed out before this long from now
	UntilMs   int64 // Wait: absolute Unix time at which it completes; 0 = when signalled
	Timeouts  Timeouts
	Limit     *Limit
	Cache     *CacheSpec
	Child     *RunSpec // Child: what to start
	Domain    string   // routing domain; for views
	Ext       []byte   // the dialect's private bytes, kept with the task
	// HoldOpen makes a connector's success leave the task running until it is updated.
	HoldOpen bool
}

// Task is the stored record of one attempt. Programs must not change it; they use the
// methods of Turn.
type Task struct {
	Seq       Seq
	Frame     FrameID
	Name      string
	Type      string
	DefName   string
	Kind      TaskKind
	Queue     string
	Node      int32
	Iteration int32
	Attempt   int32
	RetryOf   Seq
	Retried   bool // a later attempt took its place
	Status    TaskStatus
	Reason    string
	Input     value.Raw
	Output    value.Raw
	Domain    string
	Ext       []byte
	HoldOpen  bool

	ScheduledMs int64 // when this attempt was created
	ReadyMs     int64 // earliest hand-out
	FirstMs     int64 // when the first attempt was scheduled
	StartedMs   int64 // first hand-out of this attempt
	UpdatedMs   int64
	EndedMs     int64
	DelayMs     int64

	Timeouts Timeouts
	UntilMs  int64 // Wait: when it completes
	Limit    *Limit
	Cache    *CacheSpec

	Worker     string // holder of the lease, or who ended the task
	Polls      int32  // times it was handed out
	Token      uint64 // fencing token of the newest lease
	LeaseMs    int64  // when the newest lease ends (Unix ms); 0 = none held
	CallbackMs int64  // the worker asked to be handed the task again after this long
	InDoubt    bool   // a holder vanished after it may have acted

	ChildRun RunID // Child: the run it started
}
