package conductor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tutti-run/tutti"
)

// tableNodes is how many static nodes keep the number of their newest task in the root
// frame. Those of larger definitions, and dynamic tasks, have a cell each, so that the root
// frame's record stays small.
const tableNodes = 256

// rootState is the state of a run's root frame.
type rootState struct {
	newest    []tutti.Seq // newest task of each static node; empty for large definitions
	finished  bool        // the main chain has reached its end
	scopes    int         // scope tasks that are open
	pending   int         // positions put off to a later turn, each in a cell
	deferred  uint64      // number of the newest such position
	failed    int         // entries of the list of failed tasks
	permitted int         // entries of the list of failures that permissive tasks survived
	skips     int         // tasks skipped by operators
	notices   int         // notifications that have not been delivered
}

// forkState is the state of the frame that the branches of one fork live in.
type forkState struct {
	home      tutti.Seq // dynamic task whose program the fork belongs to; 0 = the definition
	node      int32     // FORK node
	fork      tutti.Seq // FORK task
	join      tutti.Seq // JOIN task; 0 until all branches have been started
	total     int       // branches
	started   int       // branches started
	live      int       // branches that have not ended
	waits     int       // what the JOIN still waits for
	problems  int       // tasks in the branches that ended badly and were survived
	redo      int       // repeated tasks that the frame is open for though their flow is done
	suffix    string    // of task names, from the loops around the fork
	iteration int32
	dynamic   bool

	plan *forkPlan // decoded branches of a dynamic fork while they are being started
}

// loopState is the state of the frame that the body of one DO_WHILE lives in.
type loopState struct {
	home      tutti.Seq
	node      int32
	loop      tutti.Seq // DO_WHILE task
	iteration int32
	first     tutti.Seq // tasks of the current iteration have larger numbers
	items     int       // number of items; -1 when the loop has no list
	redo      int       // repeated tasks that the iteration waits for though its flow is done
	idle      bool      // the flow of the iteration is done; only redo is waited for
	suffix    string    // of the names around the loop
}

// state is what all frames that hold tasks have in common.
type scopeState interface {
	// naming returns what tasks in the frame add to their names, and their iteration.
	naming() (suffix string, iteration int32)
	// origin returns the dynamic task whose program the frame runs; 0 = the definition.
	origin() tutti.Seq
}

func (*rootState) naming() (string, int32)   { return "", 0 }
func (f *forkState) naming() (string, int32) { return f.suffix, f.iteration }
func (l *loopState) naming() (string, int32) {
	return fmt.Sprintf("%s__%d", l.suffix, l.iteration), l.iteration
}

func (*rootState) origin() tutti.Seq   { return 0 }
func (f *forkState) origin() tutti.Seq { return f.home }
func (l *loopState) origin() tutti.Seq { return l.home }

const (
	tagRoot = 'r'
	tagFork = 'f'
	tagLoop = 'l'
)

// EncodeState implements tutti.Program.
func (p *program) EncodeState(dst []byte, state any) []byte {
	w := stateWriter{b: dst}
	switch s := state.(type) {
	case *rootState:
		w.b = append(w.b, tagRoot)
		w.flag(s.finished)
		w.num(s.scopes, s.pending, int(s.deferred), s.failed, s.permitted, s.skips, s.notices)
		w.num(len(s.newest))
		for _, seq := range s.newest {
			w.num(int(seq))
		}
	case *forkState:
		w.b = append(w.b, tagFork)
		w.flag(s.dynamic)
		w.num(int(s.home), int(s.node)+1, int(s.fork), int(s.join))
		w.num(s.total, s.started, max(s.live, 0), max(s.waits, 0), s.problems, max(s.redo, 0))
		w.num(int(s.iteration))
		w.text(s.suffix)
	case *loopState:
		w.b = append(w.b, tagLoop)
		w.num(int(s.home), int(s.node), int(s.loop), int(s.iteration), int(s.first))
		w.num(s.items+1, max(s.redo, 0))
		w.flag(s.idle)
		w.text(s.suffix)
	}
	return w.b
}

// DecodeState implements tutti.Program.
func (p *program) DecodeState(b []byte) (any, error) {
	if len(b) == 0 {
		return p.newRoot(), nil // a run that has not started
	}
	r := stateReader{b: b[1:]}
	var state any
	switch b[0] {
	case tagRoot:
		s := &rootState{finished: r.flag(), scopes: r.num(), pending: r.num()}
		s.deferred = uint64(r.num())
		s.failed, s.permitted, s.skips, s.notices = r.num(), r.num(), r.num(), r.num()
		if n := r.num(); n <= tableNodes && n > 0 {
			s.newest = make([]tutti.Seq, n)
		}
		for i := range s.newest {
			s.newest[i] = tutti.Seq(r.num())
		}
		state = s
	case tagFork:
		s := &forkState{dynamic: r.flag(), home: r.seq(), node: int32(r.num() - 1)}
		s.fork, s.join = r.seq(), r.seq()
		s.total, s.started, s.live, s.waits = r.num(), r.num(), r.num(), r.num()
		s.problems, s.redo, s.iteration, s.suffix = r.num(), r.num(), int32(r.num()), r.text()
		state = s
	case tagLoop:
		s := &loopState{home: r.seq(), node: int32(r.num()), loop: r.seq()}
		s.iteration, s.first, s.items = int32(r.num()), r.seq(), r.num()-1
		s.redo, s.idle = r.num(), r.flag()
		s.suffix = r.text()
		state = s
	default:
		return nil, errState
	}
	if r.bad || len(r.b) > 0 {
		return nil, errState
	}
	return state, nil
}

var errState = errors.New("conductor: malformed frame state")

type stateWriter struct{ b []byte }

func (w *stateWriter) num(list ...int) {
	for _, n := range list {
		w.b = binary.AppendUvarint(w.b, uint64(n))
	}
}

func (w *stateWriter) flag(v bool) {
	if v {
		w.num(1)
	} else {
		w.num(0)
	}
}

func (w *stateWriter) text(s string) {
	w.num(len(s))
	w.b = append(w.b, s...)
}

// stateReader reads what stateWriter wrote; bad is set once anything is amiss.
type stateReader struct {
	b   []byte
	bad bool
}

func (r *stateReader) num() int {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > math.MaxInt32 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return int(n)
}

func (r *stateReader) seq() tutti.Seq { return tutti.Seq(r.num()) }

func (r *stateReader) flag() bool { return r.num() == 1 }

func (r *stateReader) text() string {
	n := r.num()
	if n > len(r.b) {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// appendSeqs encodes task numbers in order as their differences.
func appendSeqs(dst []byte, seqs []tutti.Seq) []byte {
	last := tutti.Seq(0)
	for _, s := range seqs {
		dst = binary.AppendVarint(dst, int64(s)-int64(last))
		last = s
	}
	return dst
}

func decodeSeqs(b []byte) []tutti.Seq {
	var seqs []tutti.Seq
	last := int64(0)
	for len(b) > 0 {
		d, size := binary.Varint(b)
		if size <= 0 {
			return seqs
		}
		last += d
		seqs = append(seqs, tutti.Seq(last))
		b = b[size:]
	}
	return seqs
}
