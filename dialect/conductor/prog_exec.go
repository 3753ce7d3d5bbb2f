package conductor

import (
	"encoding/binary"
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Bounds of what one turn does. The rest of the work is posted to a later turn, so that
// other runs of the shard get theirs.
const (
	stepsPerTurn   = 500 // tasks created
	branchesAtOnce = 500 // branches of one fork started
)

// exec interprets one turn.
type exec struct {
	t       tutti.Turn
	p       *program
	run     *tutti.Run
	root    *rootState
	queue   []work // what follows from what was done in this turn, in order
	later   []work // what is left to the next turn
	steps   int
	over    bool // the run has been ended
	homes   map[tutti.Seq]*body
	vars    *value.Object // decoded variables, once needed
	wfInput *value.Object
}

// work is something that is to be done: the unit of the queue.
type work struct {
	kind byte
	id   uint32 // task or frame number
}

const (
	workEnded  = 'e' // task id has ended
	workBranch = 'b' // go on starting the branches of the fork in frame id
	workLoop   = 'l' // begin the iteration that the loop in frame id is at
)

// op schedules a node. It creates the node's task, in whatever state its type asks for.
type op func(x *exec, s site, a attempt) error

// attempt says which attempt at a node is made. The zero value is the first.
type attempt struct {
	of       *tutti.Task // the attempt that is repeated; nil for the first
	delayMs  int64
	input    value.Raw // replaces the resolved input; nil = none
	detached bool      // what follows the node has been done already
}

func newExec(p *program, t tutti.Turn) *exec {
	x := &exec{t: t, p: p, run: t.Run()}
	f := t.Frame(0)
	root, ok := f.State.(*rootState)
	if !ok {
		root = p.newRoot()
		f.State = root
		t.SaveFrame(0)
	}
	x.root = root
	return x
}

func (p *program) newRoot() *rootState {
	root := &rootState{}
	if n := len(p.body.nodes); n <= tableNodes {
		root.newest = make([]tutti.Seq, n)
	}
	return root
}

// drain does the queued work, as far as one turn may.
func (x *exec) drain() error {
	for len(x.queue) > 0 && !x.over {
		if x.steps >= stepsPerTurn {
			x.later = append(x.queue, x.later...)
			break
		}
		w := x.queue[0]
		x.queue = x.queue[1:]
		if err := x.do(w); err != nil {
			return err
		}
	}
	x.queue = nil
	if x.over {
		return nil
	}
	x.postpone()
	return x.settle()
}

func (x *exec) do(w work) error {
	switch w.kind {
	case workEnded:
		if t := x.t.Task(tutti.Seq(w.id)); t != nil && !t.Status.Open() {
			return x.ended(t)
		}
	case workBranch:
		if f := x.frame(tutti.FrameID(w.id)); f != nil {
			return x.spread(f)
		}
	case workLoop:
		if f := x.frame(tutti.FrameID(w.id)); f != nil {
			return x.iterate(f)
		}
	}
	return nil
}

// postpone stores the work that is left and asks for a turn to do it in. It is kept in a
// cell so that it survives when the run ends and is taken up again by an operator.
func (x *exec) postpone() {
	if len(x.later) == 0 {
		return
	}
	var b []byte
	for _, w := range x.later {
		b = binary.AppendUvarint(append(b, w.kind), uint64(w.id))
	}
	x.later = nil
	x.root.deferred++
	x.root.pending++
	x.saveRoot()
	x.t.SetCell(deferredCell(x.root.deferred), b)
	x.t.Post(0, binary.AppendUvarint(nil, x.root.deferred))
}

// takeUp queues work that was put off. Work that was taken up before is ignored.
func (x *exec) takeUp(payload []byte) {
	id, _ := binary.Uvarint(payload)
	b, ok := x.t.Cell(deferredCell(id))
	if !ok {
		return
	}
	x.t.SetCell(deferredCell(id), nil)
	x.root.pending--
	x.saveRoot()
	for len(b) > 1 {
		n, size := binary.Uvarint(b[1:])
		if size <= 0 {
			return
		}
		x.queue = append(x.queue, work{b[0], uint32(n)})
		b = b[1+size:]
	}
}

// settle ends the run when nothing is left that could go on.
func (x *exec) settle() error {
	switch {
	case x.root.pending > 0 || x.run.OpenTasks > x.root.scopes+x.root.notices:
		return nil
	case x.root.finished && x.root.scopes == 0:
		return x.complete()
	}
	return x.stuck()
}

// stuck fails a run in which only joins are left that wait for tasks nobody will start. The
// official server leaves such a run open for ever.
func (x *exec) stuck() error {
	for t := range x.t.OpenTasks() {
		if why := x.p.explain(x.t, t); why != "" {
			return x.finish(tutti.RunFailed, fmt.Sprintf("Task %s (%s) can never end: %s",
				x.taskID(t.Seq), t.Name, why), t)
		}
	}
	return x.finish(tutti.RunFailed, "nothing is left to do, but not all tasks have run", nil)
}

func (x *exec) saveRoot() { x.t.SaveFrame(0) }

func (x *exec) push(kind byte, id uint32) { x.queue = append(x.queue, work{kind, id}) }

// nextSeq is the number that the next task will have.
func (x *exec) nextSeq() tutti.Seq { return x.run.LastSeq + 1 }

func (x *exec) taskID(seq tutti.Seq) string { return x.run.ID.TaskID(seq) }

// frame returns an open frame. One that an operator's action replaced is found by its old
// number.
func (x *exec) frame(id tutti.FrameID) *tutti.Frame {
	for hops := 0; hops < 64; hops++ {
		if f := x.t.Frame(id); f != nil {
			return f
		}
		b, ok := x.t.Cell(aliasCell(id))
		if !ok {
			return nil
		}
		n, _ := binary.Uvarint(b)
		id = tutti.FrameID(n)
	}
	return nil
}

// siteOf returns where a task is. It is false when its scope has been closed.
func (x *exec) siteOf(t *tutti.Task) (site, bool) {
	f := x.frame(t.Frame)
	if f == nil {
		return site{}, false
	}
	b, home := x.bodyOf(t)
	if b == nil || int(t.Node) >= len(b.nodes) || t.Node < 0 {
		return site{}, false
	}
	s := site{frame: f, body: b, home: home, node: &b.nodes[t.Node]}
	if home == t.Seq {
		e := decodeExt(t.Ext)
		s.head, s.fork = e.head, e.fork
	}
	return s, true
}

func (x *exec) bodyOf(t *tutti.Task) (*body, tutti.Seq) {
	e := decodeExt(t.Ext)
	switch {
	case e.head != nil:
		return x.dynamicBody(t.Seq, e.head), t.Seq
	case e.home != 0:
		return x.homeBody(e.home), e.home
	}
	return x.p.body, 0
}

// homeBody returns the body that tasks and frames with the given home run.
func (x *exec) homeBody(home tutti.Seq) *body {
	if home == 0 {
		return x.p.body
	}
	if b, ok := x.homes[home]; ok {
		return b
	}
	t := x.t.Task(home)
	if t == nil {
		return nil
	}
	return x.dynamicBody(home, decodeExt(t.Ext).head)
}

func (x *exec) dynamicBody(home tutti.Seq, src []byte) *body {
	if b, ok := x.homes[home]; ok {
		return b
	}
	b, err := compileDynamic(src)
	if err != nil {
		return nil
	}
	x.keepBody(home, b)
	return b
}

func (x *exec) keepBody(home tutti.Seq, b *body) {
	if x.homes == nil {
		x.homes = map[tutti.Seq]*body{}
	}
	x.homes[home] = b
}

// scopeSite returns the site, in the frame around it, of the FORK or DO_WHILE that a frame
// belongs to.
func (x *exec) scopeSite(f *tutti.Frame) (site, bool) {
	parent := x.frame(f.Parent)
	var at int32
	switch s := f.State.(type) {
	case *forkState:
		at = s.node
	case *loopState:
		at = s.node
	default:
		return site{}, false
	}
	home := f.State.(scopeState).origin()
	b := x.homeBody(home)
	if parent == nil || b == nil || at < 0 || int(at) >= len(b.nodes) {
		return site{}, false
	}
	return site{frame: parent, body: b, home: home, node: &b.nodes[at]}, true
}

// schedule makes the first attempt at a node.
func (x *exec) schedule(s site) error {
	if s.head != nil {
		s.home = x.nextSeq()
		x.keepBody(s.home, s.body)
	}
	if x.root.skips > 0 && x.skipped(s) {
		return nil
	}
	return s.node.run(x, s, attempt{})
}

// name returns what a task at the site is called.
func (s site) name() string {
	suffix, _ := s.scope().naming()
	return s.node.task.TaskReferenceName + suffix
}

// add creates a task and queues what follows from it when it has ended already.
func (x *exec) add(s site, a attempt, spec tutti.TaskSpec) *tutti.Task {
	t := x.record(s, a, spec)
	if !t.Status.Open() {
		x.push(workEnded, uint32(t.Seq))
	}
	return t
}

// record creates a task at a site.
func (x *exec) record(s site, a attempt, spec tutti.TaskSpec) *tutti.Task {
	x.steps++
	spec.Frame, spec.Node = s.frame.ID, s.node.index
	spec.Name = s.name()
	_, spec.Iteration = s.scope().naming()
	if spec.Type == "" {
		spec.Type = s.node.task.Type
	}
	if spec.DefName == "" {
		spec.DefName = s.node.task.Name
	}
	if a.of != nil {
		spec.Attempt, spec.RetryOf, spec.FirstAt = a.of.Attempt+1, a.of.Seq, a.of.FirstMs
		if spec.Reason == "" && spec.Status.Open() {
			spec.Reason = a.of.Reason
		}
		x.t.MarkRetried(a.of.Seq)
	}
	e := decodeExt(spec.Ext)
	e.detached = a.detached
	if s.head != nil {
		e.head, e.fork = s.head, s.fork
	} else {
		e.home = s.home
	}
	spec.Ext = e.encode()
	x.bound(&spec)
	t := x.t.AddTask(spec)
	x.setNewest(s, t.Seq)
	x.announce(s, t, stateScheduled)
	if t.Kind == tutti.Scope && t.Status.Open() {
		x.root.scopes++
		x.saveRoot()
	}
	return t
}

// bound fails a task whose input is larger than payloads may be.
func (x *exec) bound(spec *tutti.TaskSpec) {
	if len(spec.Input) <= DefaultPayloadLimits.TaskHard || spec.Type == TypeFork {
		return
	}
	id := x.taskID(x.nextSeq())
	fault := DefaultPayloadLimits.CheckTask(len(spec.Input), id, x.run.ID.String())
	spec.Kind, spec.Status, spec.Reason = tutti.Local, tutti.Fatal, fault.Error()
	spec.Input, spec.Child = value.Raw("{}"), nil
}

// endScope ends an open JOIN or loop and queues what follows.
func (x *exec) endScope(seq tutti.Seq, st tutti.TaskStatus, output value.Raw, reason string) {
	x.t.EndTask(seq, st, output, reason)
	x.root.scopes--
	x.saveRoot()
	x.push(workEnded, uint32(seq))
}

// setNewest notes the newest task of a node.
func (x *exec) setNewest(s site, seq tutti.Seq) {
	if s.home == 0 && int(s.node.index) < len(x.root.newest) {
		x.root.newest[s.node.index] = seq
		x.saveRoot()
		return
	}
	x.t.SetCell(refCell(s.node.task.TaskReferenceName), binary.AppendUvarint(nil, uint64(seq)))
}

// newest returns the newest task of a node of the given body, or 0.
func (x *exec) newest(b *body, at int32) tutti.Seq {
	if b == x.p.body && int(at) < len(x.root.newest) {
		return x.root.newest[at]
	}
	return cellSeq(x.t, refCell(b.nodes[at].task.TaskReferenceName))
}

// follow goes on after a task that has ended well enough.
func (x *exec) follow(s site, t *tutti.Task) error {
	x.tellJoins(s)
	switch {
	case x.over:
		return nil
	case decodeExt(t.Ext).detached:
		return x.repeated(s)
	}
	return x.goTo(s, s.node.next)
}

// goTo schedules a node, or ends the body that the site is in.
func (x *exec) goTo(s site, next int32) error {
	if next >= 0 {
		return x.schedule(s.at(next))
	}
	switch state := s.frame.State.(type) {
	case *forkState:
		x.branchEnded(s, state)
		return nil
	case *loopState:
		return x.iterated(s.frame, state)
	}
	x.root.finished = true
	x.saveRoot()
	return nil
}
