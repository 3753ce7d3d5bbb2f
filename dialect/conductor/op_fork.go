package conductor

import (
	"fmt"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// opFork starts the branches of a FORK_JOIN. All of them live in one frame, which counts
// what the JOIN waits for, so that the end of a branch costs the same however many there are.
func opFork(x *exec, s site, a attempt) error {
	if s.node.join < 0 {
		return x.finish(tutti.RunFailed,
			"Fork task definition is not followed by a join task.  Check the blueprint", nil)
	}
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	f := x.openFork(s, len(s.node.heads))
	x.recordFork(s, a, f, value.Marshal(in))
	return x.spread(f)
}

func (x *exec) openFork(s site, branches int) *tutti.Frame {
	state := &forkState{
		home: s.home, node: s.node.index, fork: x.nextSeq(), total: branches,
	}
	state.suffix, state.iteration = s.scope().naming()
	return x.t.OpenFrame(s.frame.ID, state)
}

func (x *exec) recordFork(s site, a attempt, f *tutti.Frame, in value.Raw) {
	state := f.State.(*forkState)
	state.live = state.total
	state.waits = x.awaited(s, state)
	t := x.record(s, a, tutti.TaskSpec{
		Kind: tutti.Local, Status: tutti.Completed, Type: TypeFork, DefName: TypeFork,
		Input: in, Ext: taskExt{frame: f.ID}.encode(),
	})
	x.announceEnd(s, t)
	x.noteFar(s.at(s.node.join), f)
	x.tellJoins(s)
}

// awaited counts what the JOIN of a fork waits for when no branch has begun.
func (x *exec) awaited(s site, state *forkState) int {
	j := &s.body.nodes[s.node.join]
	if j.all {
		return state.total
	}
	n := 0
	for _, at := range j.slots {
		if at < 0 || !x.settledOutside(s, j, at) {
			n++
		}
	}
	return n
}

// settledOutside reports whether a JOIN's slot is a task outside its fork that has ended.
func (x *exec) settledOutside(s site, j *node, at int32) bool {
	if x.insideFork(s.body, at, j.join) {
		return false
	}
	return x.terminal(s, at)
}

// terminal reports whether the newest task of a node, in the scope of s, is final.
func (x *exec) terminal(s site, at int32) bool {
	t := x.t.Task(x.newest(s.body, at))
	return t != nil && !t.Status.Open() && s.covers(t, at)
}

// covers reports whether a task of the node at belongs to the iterations that s is in.
func (s site) covers(t *tutti.Task, at int32) bool {
	suffix, _ := s.scope().naming()
	rest, ok := strings.CutPrefix(t.Name, s.body.nodes[at].task.TaskReferenceName+suffix)
	return ok && (rest == "" || rest[0] == '_')
}

func (x *exec) insideFork(b *body, at, fork int32) bool {
	return fork >= 0 && at > fork && at < b.nodes[fork].end
}

// spread starts branches of a fork, a window at a time, and then its JOIN.
func (x *exec) spread(f *tutti.Frame) error {
	state, ok := f.State.(*forkState)
	if !ok {
		return nil
	}
	s, ok := x.scopeSite(f)
	if !ok {
		return nil
	}
	for n := 0; state.started < state.total; n++ {
		if n == branchesAtOnce {
			x.later = append(x.later, work{workBranch, uint32(f.ID)})
			x.t.SaveFrame(f.ID)
			return nil
		}
		state.started++
		if err := x.startBranch(f, state, s, state.started-1); err != nil || x.over {
			return err
		}
	}
	state.plan = nil
	x.t.SaveFrame(f.ID)
	return x.openJoin(s.at(s.node.join), attempt{}, f, state)
}

func (x *exec) startBranch(f *tutti.Frame, state *forkState, s site, n int) error {
	if state.dynamic {
		return x.startDynamic(f, state, s, n)
	}
	in := site{frame: f, body: s.body, home: s.home, node: s.node}
	head := s.node.heads[n]
	if head < 0 {
		in.node = &node{branch: int32(n)}
		x.branchEnded(in, state)
		return nil
	}
	return x.schedule(in.at(head))
}

// openJoin creates the JOIN task of a fork whose branches have all been started.
func (x *exec) openJoin(s site, a attempt, f *tutti.Frame, state *forkState) error {
	in, err := x.joinInput(s, state)
	if err != nil {
		return x.broken(s, err)
	}
	t := x.record(s, a, tutti.TaskSpec{
		Kind: tutti.Scope, Status: tutti.Running, DefName: TypeJoin, Type: TypeJoin,
		Input: in, Ext: taskExt{frame: f.ID}.encode(), Timeouts: x.timeouts(s, nil),
	})
	state.join = t.Seq
	x.t.SaveFrame(f.ID)
	x.checkJoin(s, f, state)
	return nil
}

// noteFar lets tasks outside a fork find the frame that counts for the fork's JOIN.
func (x *exec) noteFar(s site, f *tutti.Frame) {
	if s.node.reachesOut(s.body) {
		key := farJoinCell(s.node.index, s.frame.ID)
		x.t.SetCell(key, appendSeqs(nil, []tutti.Seq{tutti.Seq(f.ID)}))
	}
}

// reachesOut reports whether a JOIN waits for tasks outside its fork.
func (n *node) reachesOut(b *body) bool {
	for _, at := range n.slots {
		if at >= 0 && (n.join < 0 || at < n.join || at >= b.nodes[n.join].end) {
			return true
		}
	}
	return false
}

func (x *exec) joinInput(s site, state *forkState) (value.Raw, error) {
	if state.dynamic {
		in, err := x.input(s, attempt{})
		if err != nil {
			return nil, err
		}
		fork, _ := x.t.Task(state.fork).Input.Field("forkedTasks")
		in.Delete("joinOn")
		return appendMember(value.Append(nil, in), "joinOn", fork), nil
	}
	refs := s.node.task.JoinOn
	if s.node.all {
		refs = nil
		for _, at := range s.node.slots {
			refs = append(refs, s.body.nodes[at].task.TaskReferenceName)
		}
	}
	list := make([]any, len(refs))
	for i, r := range refs {
		list[i] = r
	}
	in := value.NewObject()
	in.Set("joinOn", list)
	return value.Marshal(in), nil
}

// appendMember adds a member to the text of an object that has no such member.
func appendMember(object value.Raw, name string, v value.Raw) value.Raw {
	body := object[:len(object)-1]
	if len(body) > 1 {
		body = append(body, ',')
	}
	body = append(value.AppendString(body, name), ':')
	if len(v) == 0 {
		v = value.Raw("[]")
	}
	return append(append(body, v...), '}')
}

// opJoin schedules a JOIN that does not belong to a fork: it waits for what it names.
func opJoin(x *exec, s site, a attempt) error {
	state := &forkState{home: s.home, node: -1, fork: x.nextSeq()}
	state.suffix, state.iteration = s.scope().naming()
	f := x.t.OpenFrame(s.frame.ID, state)
	for _, at := range s.node.slots {
		if at < 0 || !x.terminal(s, at) {
			state.waits++
		}
	}
	x.noteFar(s, f)
	return x.openJoin(s, a, f, state)
}

// tellJoins lets the JOINs know that name the node of a task which has ended.
func (x *exec) tellJoins(s site) {
	for _, w := range s.node.watchers {
		j := &s.body.nodes[w]
		if j.task.Type == TypeExclusiveJoin {
			x.wakeExclusive(s, j)
			continue
		}
		if f, state := x.joinFrame(s, j); f != nil && (state.join == 0 || x.joinOpen(state)) {
			state.waits--
			x.t.SaveFrame(f.ID)
			x.checkJoin(x.joinSite(f, s, j), f, state)
		}
	}
}

func (x *exec) joinOpen(state *forkState) bool {
	t := x.t.Task(state.join)
	return t != nil && t.Status.Open()
}

// joinFrame finds the frame that counts for a JOIN which names the node of s: the frame of
// its fork, when the node is in there; else the one it noted when it was scheduled.
func (x *exec) joinFrame(s site, j *node) (*tutti.Frame, *forkState) {
	inside := x.insideFork(s.body, s.node.index, j.join)
	for f := s.frame; f != nil; f = x.frame(f.Parent) {
		state, isFork := f.State.(*forkState)
		if inside && isFork && state.node == j.join && state.home == s.home {
			return f, state
		}
		if !inside {
			id := cellSeqs(x.t, farJoinCell(j.index, f.ID))
			if len(id) == 1 {
				g := x.frame(tutti.FrameID(id[0]))
				if g != nil {
					return g, g.State.(*forkState)
				}
			}
		}
		if f.ID == 0 {
			break
		}
	}
	return nil, nil
}

func (x *exec) joinSite(f *tutti.Frame, s site, j *node) site {
	return site{frame: x.frame(f.Parent), body: s.body, home: s.home, node: j}
}

// branchEnded counts a branch that has come to its end.
func (x *exec) branchEnded(s site, state *forkState) {
	f := s.frame
	state.live--
	x.t.SaveFrame(f.ID)
	fork, ok := x.scopeSite(f)
	if !ok || fork.node.join < 0 {
		return
	}
	j := fork.at(fork.node.join)
	if state.dynamic || j.node.all {
		state.waits--
	} else {
		state.waits -= x.neverStarted(fork, j.node, state, s.node.branch)
	}
	if state.join != 0 && !x.joinOpen(state) {
		x.closeFork(f, state)
		return
	}
	x.checkJoin(j, f, state)
}

// neverStarted counts the tasks in a branch that a JOIN waits for and that the branch, which
// has ended, did not come by: those of a SWITCH's other cases. Without this the JOIN would
// wait for ever.
func (x *exec) neverStarted(fork site, j *node, state *forkState, branch int32) int {
	n := 0
	for _, at := range j.slots {
		if at >= 0 && fork.body.within(at, fork.node.index, branch) &&
			x.newest(fork.body, at) < state.fork {
			n++
		}
	}
	return n
}

// checkJoin ends a JOIN when nothing is left that it waits for.
func (x *exec) checkJoin(s site, f *tutti.Frame, state *forkState) {
	if state.join == 0 || state.waits > 0 || !x.joinOpen(state) {
		return
	}
	seqs := x.joined(s, state)
	x.t.SetCell(joinedCell(state.join), appendSeqs(nil, seqs))
	status, reason := tutti.Completed, ""
	if state.problems > 0 || s.node.reachesOut(s.body) {
		status, reason = x.joinVerdict(seqs)
	}
	x.endScope(state.join, status, nil, reason)
	if s.node.reachesOut(s.body) {
		x.t.SetCell(farJoinCell(s.node.index, s.frame.ID), nil)
	}
	x.closeFork(f, state)
}

// closeFork drops the frame of a fork when its JOIN and all its branches have ended.
func (x *exec) closeFork(f *tutti.Frame, state *forkState) {
	if state.live <= 0 && state.redo <= 0 {
		x.t.CloseFrame(f.ID)
	}
}

// joined returns the newest task of each step that a JOIN covers, of those that ran.
func (x *exec) joined(s site, state *forkState) []tutti.Seq {
	var seqs []tutti.Seq
	if state.dynamic {
		refs, _ := x.t.Task(state.fork).Input.Field("forkedTasks")
		for r := range refs.Elements() {
			ref, _ := r.Text()
			if seq := cellSeq(x.t, refCell(ref)); seq > state.fork {
				seqs = append(seqs, seq)
			}
		}
		return seqs
	}
	for _, at := range s.node.slots {
		if at < 0 {
			continue
		}
		if t := x.t.Task(x.newest(s.body, at)); t != nil && s.covers(t, at) {
			seqs = append(seqs, t.Seq)
		}
	}
	return seqs
}

// reasonsMax bounds the length of a reason made of the reasons of other tasks, in bytes.
const reasonsMax = 4096

// joinVerdict says how a JOIN ends that covers tasks which did not end well.
func (x *exec) joinVerdict(seqs []tutti.Seq) (tutti.TaskStatus, string) {
	var bad, lenient strings.Builder
	cancelled, failed := 0, 0
	for _, seq := range seqs {
		t := x.t.Task(seq)
		switch {
		case t == nil:
		case t.Status == tutti.CompletedWithErrors:
			note(&lenient, fmt.Sprintf("%s/%s completed with errors", t.DefName, x.taskID(seq)))
		case !t.Status.Open() && !t.Status.Successful():
			failed++
			if t.Status == tutti.CancelledTask {
				cancelled++
			}
			note(&bad, t.Reason)
		}
	}
	switch {
	case failed > 0 && failed == cancelled:
		return tutti.CancelledTask, bad.String()
	case failed > 0:
		return tutti.Failed, bad.String()
	case lenient.Len() > 0:
		return tutti.CompletedWithErrors, lenient.String()
	}
	return tutti.Completed, ""
}

func note(b *strings.Builder, s string) {
	if b.Len()+len(s) > reasonsMax {
		return
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString(s)
}
