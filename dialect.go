package tutti

import (
	"iter"

	"github.com/tutti-run/tutti/value"
)

// Dialect is a workflow language. Implementations are stateless and pure.
type Dialect interface {
	// Name is the dialect's identifier: "conductor", "asl" or "gwf".
	Name() string
	// Link turns a named definition into the self-contained source that a run is pinned to,
	// reading whatever other documents it refers to. It fails with NotFound when the
	// definition is missing. Version 0 means the newest.
	Link(docs Documents, name string, version int) (*Source, error)
	// Compile checks a source and makes it executable. Diagnostics of severity error mean
	// that there is no program.
	Compile(src *Source) (Program, value.Diagnostics)
}

// DefinitionKind is the kind under which every dialect keeps its definitions in the catalogue.
const DefinitionKind = "workflow"

// Documents is the read side of the definition catalogue of one namespace and dialect.
type Documents interface {
	// Document returns the newest body of a document, or that of one version. The version
	// found is returned too; documents that are not versioned have version 0.
	Document(kind, name string, version int) (body value.Raw, found int, ok bool)
}

// Program is a compiled definition. It is immutable, shared by many runs, and interprets
// events deterministically: everything it may know comes from its arguments.
//
// An error of kind Conflict, Invalid or NotFound that answers EventRetry, EventRerun or
// EventSkip before any effect was asked for rejects the operator's request: the run stays as
// it was. Any other error means that the run cannot go on: the engine ends it as failed with
// the error's text as its reason, keeping every effect that the turn had asked for before.
type Program interface {
	// Start handles the first turn of a run.
	Start(t Turn) error
	// Resume handles one event.
	Resume(t Turn, ev Event) error
	// EncodeState appends the encoding of a frame's state to dst. It must be canonical.
	EncodeState(dst []byte, state any) []byte
	// DecodeState reads what EncodeState wrote.
	DecodeState(b []byte) (any, error)
}

// EventKind says what happened.
type EventKind uint8

// The events that a program resumes with.
const (
	// EventTaskEnded: task Seq reached a final state other than by the program's own
	// EndTask; the record holds its output. Sent for Work, Wait and Child tasks.
	EventTaskEnded EventKind = iota
	// EventTaskTimeout: deadline Timeout of task Seq passed. The task is still open.
	EventTaskTimeout
	// EventRunTimeout: the run's timeout passed. The run is still open.
	EventRunTimeout
	// EventPosted: a payload that the program posted to itself.
	EventPosted
	// EventRetry: an operator asked to go on with a run that ended badly. The run is open
	// again; the program schedules what is to be repeated.
	EventRetry
	// EventRerun: an operator asked to repeat from task Seq (0: from the start, all tasks
	// were removed). Input, when not nil, replaces that task's input.
	EventRerun
	// EventSkip: an operator asked to step over step Name before it starts.
	EventSkip
	// EventDecide: an operator asked to look again; normally nothing is to be done.
	EventDecide
	// EventReopened: child run of task Seq, which had ended, was reopened by an operator.
	// The parent run is open again; the program takes the task up as running.
	EventReopened
)

// TimeoutKind names a deadline of a task.
type TimeoutKind uint8

// The deadlines.
const (
	TimeoutPoll TimeoutKind = iota
	TimeoutResponse
	TimeoutTask
	TimeoutTotal
)

// Event is one thing that happened to a run.
type Event struct {
	Kind    EventKind
	Seq     Seq
	Frame   FrameID
	Timeout TimeoutKind
	Name    string
	Input   value.Raw // EventRerun, EventSkip: new input
	Output  value.Raw // EventSkip: output of the skipped step
	Payload []byte    // EventPosted
	// Deep asks EventRetry to reopen failed child runs instead of starting new ones.
	Deep bool
}

// Frame is a scope of a run with its own stored record. State belongs to the program.
type Frame struct {
	ID     FrameID
	Parent FrameID
	State  any
}

// Turn is all that a program can see and do while it handles one event. Reads see the
// effects of the same turn. Nothing it does leaves the shard before the turn is durable.
// A Turn is used by one goroutine and must not be kept.
type Turn interface { //tidy:allow interface: the whole surface a dialect may touch, in one place
	// Run describes the run. Its Input is loaded.
	Run() *Run
	// Now is the run's clock in Unix milliseconds; it does not change within a turn.
	Now() int64
	// Random returns the next number of the run's random source.
	Random() uint64
	// Document reads the catalogue as it is now: for steps that only come to be known while
	// the run goes on. What the run uses of it must be kept with the step (invariant I8).
	Documents
	// LastPoll is when a worker last asked for tasks of a queue (Unix ms); 0 = never.
	LastPoll(queue string) int64

	// Frame returns an open frame, or nil. The root frame, 0, is open while the run is.
	Frame(id FrameID) *Frame
	// OpenFrame creates a frame.
	OpenFrame(parent FrameID, state any) *Frame
	// SaveFrame must be called after a change to a frame's State.
	SaveFrame(id FrameID)
	// CloseFrame deletes a frame's record. Its tasks stay.
	CloseFrame(id FrameID)

	// Cell reads one of the run's named values: small records of the program's own, each
	// stored by itself so that its cost does not depend on how many there are.
	Cell(key string) ([]byte, bool)
	// SetCell writes a cell; nil deletes it. Keys are at most 512 bytes.
	SetCell(key string, val []byte)

	// Task returns an attempt, or nil. Its payloads are loaded.
	Task(seq Seq) *Task
	// Tasks yields attempts in order from the given number on. It is for operators'
	// actions; a normal step must not need it, since its cost grows with the run.
	Tasks(from Seq) iter.Seq[*Task]
	// OpenTasks yields the attempts that have not ended, in order.
	OpenTasks() iter.Seq[*Task]
	// AddTask creates an attempt.
	AddTask(spec TaskSpec) *Task
	// EndTask ends an attempt, or corrects the state of one that has ended. No event
	// follows. A nil output keeps the output it has. An open child run is terminated.
	EndTask(seq Seq, status TaskStatus, output value.Raw, reason string)
	// ReopenTask makes an ended Wait, Scope or Child attempt running again.
	ReopenTask(seq Seq)
	// AmendTask replaces input and output of an attempt; nil keeps what is there.
	AmendTask(seq Seq, input, output value.Raw)
	// MarkRetried notes that a later attempt took this one's place.
	MarkRetried(seq Seq)
	// RemoveTask deletes the record of an ended attempt.
	RemoveTask(seq Seq)

	// StartRun starts a run that this one does not wait for, and returns its identifier.
	StartRun(spec RunSpec) RunID
	// RetryChild asks the child run of an attempt to retry; Child tasks only.
	RetryChild(seq Seq)
	// Post sends the program an EventPosted in a later turn. A program that has much to do
	// does it in windows, so that other runs are not held up.
	Post(frame FrameID, payload []byte)
	// Note appends an entry of the program's own to the history.
	Note(kind string, detail value.Raw)
	// EndRun ends the run. Open tasks are cancelled. failed names the task to blame, or 0.
	EndRun(status RunStatus, output value.Raw, reason string, failed Seq)
}
