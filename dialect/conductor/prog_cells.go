package conductor

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/tutti-run/tutti"
)

// The cells of a run, by key:
//
//	r/<ref>            newest task of a step that is not in the root frame's table
//	v                  workflow variables, JSON; missing = those of the definition
//	w/<n>              work put off to a later turn
//	a/<frame>          frame that took a closed one's place
//	o/<join>           tasks whose outputs make up the output of JOIN task <join>
//	i/<loop>/<n>       tasks of iteration n of DO_WHILE task <loop>
//	x/<loop>/<chunk>   items of the loop's list
//	j/<node>/<frame>   frame of the JOIN at a node that also waits for tasks outside its fork
//	f/<n>              the n-th task whose name is in the list of failed tasks
//	p/<n>              the n-th failure that a permissive task survived
//	e                  how the run ends once its notifications are delivered
//	s/<name>           task that an operator skipped before it was scheduled
const (
	endingCell    = "e"
	itemsPerChunk = 64
)

// VariablesCell is the cell that holds a run's variables as a JSON object. A run that has set
// none has no such cell; see Variables.
const VariablesCell = "v"

func deferredCell(n uint64) string                { return fmt.Sprintf("w/%d", n) }
func aliasCell(f tutti.FrameID) string            { return fmt.Sprintf("a/%d", f) }
func joinedCell(join tutti.Seq) string            { return fmt.Sprintf("o/%d", join) }
func iterationCell(loop tutti.Seq, n int) string  { return fmt.Sprintf("i/%d/%d", loop, n) }
func itemsCell(loop tutti.Seq, chunk int) string  { return fmt.Sprintf("x/%d/%d", loop, chunk) }
func farJoinCell(n int32, f tutti.FrameID) string { return fmt.Sprintf("j/%d/%d", n, f) }
func failedCell(n int) string                     { return fmt.Sprintf("f/%d", n) }
func permittedCell(n int) string                  { return fmt.Sprintf("p/%d", n) }
func skippedCell(name string) string              { return named("s/", name) }
func refCell(ref string) string                   { return named("r/", ref) }

// named makes a key of a name of any length: a long one ends in its hash.
func named(prefix, name string) string {
	const most = 400
	if len(name) <= most {
		return prefix + name
	}
	h := fnv.New128a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf("%s%s#%x", prefix, name[:most], h.Sum(nil))
}

// cellReader is the part of a turn that reads cells.
type cellReader interface {
	Cell(key string) ([]byte, bool)
}

// cellSeqs reads a cell of task numbers.
func cellSeqs(r cellReader, key string) []tutti.Seq {
	b, _ := r.Cell(key)
	return decodeSeqs(b)
}

func cellSeq(r cellReader, key string) tutti.Seq {
	b, ok := r.Cell(key)
	if !ok {
		return 0
	}
	n, _ := binary.Uvarint(b)
	return tutti.Seq(n)
}

// taskExt is what the program keeps with a task besides the fields of the engine.
type taskExt struct {
	detached bool          // what follows the task has been done already
	hidden   bool          // not a step of the workflow: a notification
	home     tutti.Seq     // dynamic task whose program the task belongs to
	fork     tutti.Seq     // FORK task that forked this one dynamically
	frame    tutti.FrameID // FORK, JOIN and DO_WHILE: the frame of their branches or body
	head     []byte        // JSON of the WorkflowTask of a dynamic task
}

const (
	extDetached = 1 << iota
	extHidden
	extHead
)

// encode returns nil for the task of a plain step.
func (e taskExt) encode() []byte {
	var flags byte
	if e.detached {
		flags |= extDetached
	}
	if e.hidden {
		flags |= extHidden
	}
	if e.head != nil {
		flags |= extHead
	}
	if flags == 0 && e.home == 0 && e.fork == 0 && e.frame == 0 {
		return nil
	}
	b := binary.AppendUvarint([]byte{flags}, uint64(e.home))
	b = binary.AppendUvarint(b, uint64(e.fork))
	b = binary.AppendUvarint(b, uint64(e.frame))
	return append(b, e.head...)
}

func decodeExt(b []byte) taskExt {
	var e taskExt
	if len(b) == 0 {
		return e
	}
	flags := b[0]
	e.detached, e.hidden = flags&extDetached != 0, flags&extHidden != 0
	r := stateReader{b: b[1:]}
	e.home, e.fork, e.frame = r.seq(), r.seq(), tutti.FrameID(r.num())
	if flags&extHead != 0 && !r.bad {
		e.head = r.b
	}
	return e
}
