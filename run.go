package tutti

import "github.com/tutti-run/tutti/value"

// RunStatus is where a run stands.
type RunStatus uint8

// The states of a run. RunRunning and RunPaused are open, the others final.
const (
	RunRunning RunStatus = iota
	RunPaused
	RunCompleted
	RunFailed
	RunTimedOut
	RunTerminated
)

// Open reports whether the run has not ended.
func (s RunStatus) Open() bool { return s <= RunPaused }

var runStatusNames = [...]string{
	"RUNNING", "PAUSED", "COMPLETED", "FAILED", "TIMED_OUT", "TERMINATED",
}

// RunStatuses lists every status in order.
var RunStatuses = [...]RunStatus{
	RunRunning, RunPaused, RunCompleted, RunFailed, RunTimedOut, RunTerminated,
}

// String returns the status as the native API writes it.
func (s RunStatus) String() string { return runStatusNames[s] }

// ParseRunStatus is the inverse of String.
func ParseRunStatus(s string) (RunStatus, bool) {
	for i, n := range runStatusNames {
		if n == s {
			return RunStatus(i), true
		}
	}
	return 0, false
}

// Source is a self-contained, immutable definition to which runs are pinned. Body holds
// everything the program needs; two sources with equal Dialect and Body are the same.
type Source struct {
	Dialect string
	Name    string
	Version int
	Body    value.Raw
}

// LabelTrace is the label of a run that holds the W3C trace context that it was started in.
// Child runs inherit it.
const LabelTrace = "traceparent"

// RunSpec asks for a new run.
type RunSpec struct {
	Namespace     string // empty = that of the run that asks
	Dialect       string // empty = that of the run that asks
	Definition    string
	Version       int     // 0 = the newest
	Source        *Source // when set, used instead of Definition and Version
	Input         value.Raw
	CorrelationID string
	Priority      int // 0 lowest .. 99 highest
	CreatedBy     string
	Event         string // name of the event that caused the run
	Labels        map[string]string
	Routing       map[string]string // task type to domain list; "*" for all
	Ext           value.Raw         // the dialect's own start arguments, JSON
	// IdempotencyKey makes starts with an equal namespace, definition and key meet the
	// same run, as OnDuplicate says. Empty = none.
	IdempotencyKey string
	OnDuplicate    DuplicatePolicy
	// Limit holds the run back (or rejects it) while as many runs with its key are open.
	Limit *RunLimit
	// TimeoutMs ends the run by an EventRunTimeout this long after its start; 0 = never.
	TimeoutMs int64
}

// RunLimit bounds how many runs with one key are open at the same time.
type RunLimit struct {
	Key         string
	Concurrency int
	Reject      bool // refuse the start instead of holding the run back
}

// DuplicatePolicy says what a start with a known idempotency key does.
type DuplicatePolicy uint8

// The policies.
const (
	DuplicateFail          DuplicatePolicy = iota // refuse with Exists
	DuplicateReturn                               // answer the known run
	DuplicateFailOnRunning                        // refuse only while the known run is open
)

// Run is what is known of a run. Programs must not change it.
type Run struct {
	ID             RunID
	Namespace      string
	Dialect        string
	Definition     string
	Version        int
	SourceHash     Hash
	Status         RunStatus
	Reason         string
	Input          value.Raw
	Output         value.Raw
	CorrelationID  string
	Priority       int
	CreatedBy      string
	Event          string
	Labels         map[string]string
	Routing        map[string]string
	Ext            value.Raw
	IdempotencyKey string
	Limit          *RunLimit

	Parent     RunID // zero for a top-level run
	ParentTask Seq

	StartMs   int64
	UpdateMs  int64
	EndMs     int64
	RetriedMs int64 // newest retry, restart or resume; 0 = never
	TimeoutMs int64

	FailedTask  Seq  // the task that made the run fail; 0 = none
	HeldByLimit bool // waits for its RunLimit before its first step
	OpenTasks   int  // attempts that have not ended
	LastSeq     Seq  // number of the newest attempt
	RerunOf     string
}

// Hash names a Source by content.
type Hash [16]byte
