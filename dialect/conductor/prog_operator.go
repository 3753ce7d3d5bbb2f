package conductor

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// survey is what an operator's action works on: all tasks of the run, which scope each is in,
// and what is to be repeated. Normal steps never look at a run like this.
type survey struct {
	x     *exec
	tasks []*tutti.Task
	owner map[tutti.FrameID]*tutti.Task // FORK or DO_WHILE whose branches or body a frame holds
	join  map[tutti.FrameID]*tutti.Task // JOIN that a frame counts for
	redo  map[tutti.Seq]repeat
	// again holds the frames whose JOIN or loop has to run again although it ended well.
	again map[tutti.FrameID]bool
	moved bool // tasks have been removed
}

// repeat says how a task is repeated.
type repeat struct {
	detached bool // what follows it has been done already
	inPlace  bool // a child run that goes on
	adopted  bool // that has been told to already
	fresh    bool // as a first attempt: the old one is removed
	input    value.Raw
}

func (x *exec) survey() *survey {
	v := &survey{
		x: x, owner: map[tutti.FrameID]*tutti.Task{}, join: map[tutti.FrameID]*tutti.Task{},
		redo: map[tutti.Seq]repeat{}, again: map[tutti.FrameID]bool{},
	}
	for t := range x.t.Tasks(1) {
		if Hidden(t) {
			continue
		}
		v.tasks = append(v.tasks, t)
		id := x.canonical(decodeExt(t.Ext).frame)
		switch {
		case id == 0:
		case t.Type == TypeFork, t.Type == TypeDoWhile:
			v.owner[id] = t
		default:
			v.join[id] = t
		}
	}
	return v
}

// canonical follows the numbers of frames that took others' places.
func (x *exec) canonical(id tutti.FrameID) tutti.FrameID {
	for hops := 0; hops < 64; hops++ {
		n := cellSeq(x.t, aliasCell(id))
		if n == 0 {
			break
		}
		id = tutti.FrameID(n)
	}
	return id
}

// retryRun goes on with a run that ended badly: what ended badly is repeated, joins and loops
// around it run on in place, and work that was put off is taken up.
func (x *exec) retryRun(deep bool) error {
	v := x.survey()
	v.collectBad(deep)
	if len(v.redo) == 0 && !v.anyBad() && x.root.pending == 0 && x.root.finished {
		return tutti.E(tutti.Conflict, "retry", "NothingToRetry", "There are no retryable tasks!"+
			" Use restart if you want to attempt entire workflow execution again.")
	}
	return v.apply()
}

// bad reports whether a task ended in a way that a retry repeats.
func bad(t *tutti.Task) bool {
	return !t.Retried && !t.Status.Open() && !t.Status.Successful()
}

// resumes reports whether t is a JOIN or loop that ended badly and runs on in place.
func (v *survey) resumes(t *tutti.Task) bool {
	_, again := v.redo[t.Seq]
	return bad(t) && t.Kind == tutti.Scope && !again
}

func (v *survey) anyBad() bool { return slices.ContainsFunc(v.tasks, bad) }

// collectBad marks what ended badly to be repeated; deep lets failed child runs go on.
func (v *survey) collectBad(deep bool) {
	permitted := v.x.permittedSet()
	for _, t := range v.tasks {
		if _, known := v.redo[t.Seq]; known || !bad(t) || t.Kind == tutti.Scope {
			continue
		}
		v.redo[t.Seq] = repeat{
			detached: permitted[t.Seq] || decodeExt(t.Ext).detached,
			inPlace:  deep && t.Kind == tutti.Child && !t.ChildRun.IsZero(),
		}
	}
}

func (x *exec) permittedSet() map[tutti.Seq]bool {
	set := map[tutti.Seq]bool{}
	for i := 1; i <= x.root.permitted; i++ {
		for _, seq := range cellSeqs(x.t, permittedCell(i)) {
			set[seq] = true
		}
	}
	return set
}

// apply makes the state of the run fit what is to be repeated, and repeats it.
func (v *survey) apply() error {
	x := v.x
	x.root.notices = 0
	x.t.SetCell(endingCell, nil)
	v.recount()
	for _, id := range v.openFrames() {
		v.revive(id)
	}
	frames := v.openFrames()
	for _, id := range frames {
		v.reopenScope(id)
	}
	v.reopenOthers()
	for _, id := range frames {
		v.refill(id)
	}
	for _, seq := range slices.Sorted(maps.Keys(v.redo)) {
		if err := v.repeatTask(seq); err != nil || x.over {
			return err
		}
	}
	x.repost()
	return v.settleScopes(frames)
}

// recount brings the root frame in line with the tasks that are left.
func (v *survey) recount() {
	x := v.x
	for i := 1; i <= x.root.permitted; i++ {
		x.t.SetCell(permittedCell(i), nil)
	}
	x.root.permitted, x.root.scopes = 0, 0
	for _, t := range v.tasks {
		if !v.moved {
			break
		}
		if b, home := x.bodyOf(t); b != nil && int(t.Node) < len(b.nodes) {
			x.setNewest(site{body: b, home: home, node: &b.nodes[t.Node]}, t.Seq)
		}
	}
	x.saveRoot()
}

// openFrames lists the frames that have something to do again, outer before inner.
func (v *survey) openFrames() []tutti.FrameID {
	depth := map[tutti.FrameID]int{}
	add := func(id tutti.FrameID) {
		id = v.x.canonical(id)
		var chain []tutti.FrameID
		for id != 0 && v.owner[id] != nil {
			chain = append(chain, id)
			id = v.x.canonical(v.owner[id].Frame)
		}
		for i, id := range chain {
			depth[id] = len(chain) - i
		}
	}
	for seq := range v.redo {
		if t := v.x.t.Task(seq); t != nil {
			add(t.Frame)
		}
	}
	for _, t := range v.tasks {
		if v.resumes(t) {
			add(decodeExt(t.Ext).frame)
			add(t.Frame)
		}
	}
	for id := range v.again {
		add(id)
	}
	list := slices.Sorted(maps.Keys(depth))
	slices.SortStableFunc(list, func(a, b tutti.FrameID) int { return depth[a] - depth[b] })
	return list
}

// revive opens a frame in place of one that has been closed.
func (v *survey) revive(id tutti.FrameID) {
	x := v.x
	owner := v.owner[id]
	parent := x.frame(owner.Frame)
	b, home := x.bodyOf(owner)
	if x.frame(id) != nil || parent == nil || b == nil {
		return
	}
	n := &b.nodes[owner.Node]
	suffix := strings.TrimPrefix(owner.Name, n.task.TaskReferenceName)
	var state any
	if owner.Type == TypeDoWhile {
		state = &loopState{
			home: home, node: n.index, loop: owner.Seq, suffix: suffix, items: -1,
			iteration: int32(max(Iteration(owner), 1)),
		}
	} else {
		s := &forkState{
			home: home, node: n.index, fork: owner.Seq, suffix: suffix,
			iteration: owner.Iteration, total: len(n.heads), problems: 1,
			dynamic: n.task.Type == TypeForkJoinDynamic,
		}
		if s.dynamic {
			s.total = len(forkedRefs(owner))
		}
		if j := v.join[id]; j != nil {
			s.join = j.Seq
		}
		s.started = s.total
		state = s
	}
	f := x.t.OpenFrame(parent.ID, state)
	x.t.SetCell(aliasCell(id), binary.AppendUvarint(nil, uint64(f.ID)))
	v.moveFrame(id, f.ID)
}

func forkedRefs(fork *tutti.Task) []string {
	var refs []string
	list, _ := fork.Input.Field("forkedTasks")
	for r := range list.Elements() {
		ref, _ := r.Text()
		refs = append(refs, ref)
	}
	return refs
}

func (v *survey) moveFrame(from, to tutti.FrameID) {
	v.owner[to], v.again[to] = v.owner[from], v.again[from]
	if j := v.join[from]; j != nil {
		v.join[to] = j
	}
}

// reopenScope takes up the JOIN or loop of a frame, unless it ended well and may stay so.
func (v *survey) reopenScope(id tutti.FrameID) {
	t := v.owner[id]
	if t.Type == TypeFork {
		t = v.join[id]
	}
	if t == nil || t.Kind != tutti.Scope || (t.Status.Successful() && !v.again[id]) {
		return
	}
	v.reopen(t)
	v.x.t.SetCell(joinedCell(t.Seq), nil)
}

func (v *survey) reopen(t *tutti.Task) {
	if !t.Status.Open() {
		v.x.t.ReopenTask(t.Seq)
	}
	v.x.root.scopes++
	v.x.saveRoot()
}

// reopenOthers takes up scopes that have no branches or body of their own.
func (v *survey) reopenOthers() {
	for _, t := range v.tasks {
		id := v.x.canonical(decodeExt(t.Ext).frame)
		if !v.resumes(t) || (id != 0 && v.owner[id] != nil) {
			continue
		}
		if t.Type == TypeJoin && v.x.frame(id) == nil {
			v.redo[t.Seq] = repeat{}
			continue
		}
		v.reopen(t)
	}
}

// refill counts again what the JOIN or loop of a frame waits for.
func (v *survey) refill(id tutti.FrameID) {
	f := v.x.frame(id)
	if f == nil {
		return
	}
	switch state := f.State.(type) {
	case *forkState:
		v.refillFork(f, state)
	case *loopState:
		v.refillLoop(state)
	}
	v.x.t.SaveFrame(f.ID)
}

func (v *survey) refillFork(f *tutti.Frame, state *forkState) {
	s, ok := v.x.scopeSite(f)
	if !ok {
		return
	}
	live, detached := v.liveBranches(f.ID)
	state.redo = v.detachedWithin(f.ID)
	state.live = len(live) + state.total - state.started
	j := &s.body.nodes[s.node.join]
	if state.dynamic || j.all {
		state.waits = state.live + detached
		return
	}
	state.waits = 0
	for _, at := range j.slots {
		if at < 0 || v.unsettled(s, state, at, live) {
			state.waits++
		}
	}
}

// unsettled reports whether a JOIN still has to wait for a node.
func (v *survey) unsettled(s site, state *forkState, at int32, live map[int64]bool) bool {
	t := v.x.t.Task(v.x.newest(s.body, at))
	if t != nil && t.Seq > state.fork && s.covers(t, at) {
		_, again := v.redo[t.Seq]
		return again || t.Status.Open()
	}
	if !v.x.insideFork(s.body, at, s.node.index) {
		return !v.x.terminal(s, at)
	}
	for n := range s.node.heads {
		if s.body.within(at, s.node.index, int32(n)) {
			return live[int64(n)] || n >= state.started
		}
	}
	return true
}

// detachedWithin counts the tasks inside a frame, at any depth, that are repeated for their
// own sake. The frame stays open for them.
func (v *survey) detachedWithin(id tutti.FrameID) int {
	n := 0
	for seq, r := range v.redo {
		if t := v.x.t.Task(seq); r.detached && v.within(t, id) != nil {
			n++
		}
	}
	return n
}

// liveBranches returns which branches of a fork have something to repeat that their flow
// depends on, and how many tasks directly in them are repeated for their own sake.
func (v *survey) liveBranches(id tutti.FrameID) (live map[int64]bool, detached int) {
	live = map[int64]bool{}
	for seq, r := range v.redo {
		t := v.x.t.Task(seq)
		if t == nil {
			continue
		}
		inner := v.within(t, id)
		switch {
		case inner == nil:
		case !r.detached:
			live[v.branchOf(inner)] = true
		case inner == t:
			detached++
		}
	}
	for _, t := range v.tasks {
		if t.Kind == tutti.Scope && t.Status.Open() {
			if inner := v.within(t, id); inner != nil {
				live[v.branchOf(inner)] = true
			}
		}
	}
	return live, detached
}

// within returns the task directly in a frame that holds t, or is it; nil if none does.
func (v *survey) within(t *tutti.Task, id tutti.FrameID) *tutti.Task {
	for t != nil {
		at := v.x.canonical(t.Frame)
		if at == id {
			return t
		}
		if at == 0 {
			return nil
		}
		t = v.owner[at]
	}
	return nil
}

// branchOf tells the branches of a fork apart: by number, or dynamic ones by their first task.
func (v *survey) branchOf(t *tutti.Task) int64 {
	b, home := v.x.bodyOf(t)
	if b == nil {
		return -1
	}
	if n := &b.nodes[t.Node]; n.scope >= 0 {
		return int64(n.branch)
	}
	return 1<<32 + int64(v.firstAttempt(home))
}

func (v *survey) firstAttempt(seq tutti.Seq) tutti.Seq {
	for t := v.x.t.Task(seq); t != nil && t.RetryOf != 0; t = v.x.t.Task(seq) {
		seq = t.RetryOf
	}
	return seq
}

// refillLoop finds where the current iteration of a loop began.
func (v *survey) refillLoop(state *loopState) {
	x := v.x
	suffix, _ := state.naming()
	first := x.run.LastSeq + 1
	id := v.frameOfLoop(state.loop)
	for _, t := range v.tasks {
		if inner := v.within(t, id); inner != nil && inner.Iteration == state.iteration &&
			strings.Contains(inner.Name, suffix) {
			first = min(first, t.Seq)
		}
	}
	state.redo, state.idle = v.detachedWithin(id), !v.busy(id)
	state.first = first - 1
	x.t.SetCell(iterationCell(state.loop, int(state.iteration)), nil)
	loop := x.t.Task(state.loop)
	if s, ok := x.siteOf(loop); ok && state.items < 0 {
		in := asObject(decoded(loop.Input), "input")
		if items, isList, err := x.loopItems(s, in); err == nil && isList {
			state.items = len(items)
			x.keepItems(state.loop, items)
		}
	}
	x.t.AmendTask(state.loop, nil, x.loopProgress(state))
}

func (v *survey) frameOfLoop(loop tutti.Seq) tutti.FrameID {
	return v.x.canonical(decodeExt(v.x.t.Task(loop).Ext).frame)
}

// repeatTask repeats one task.
func (v *survey) repeatTask(seq tutti.Seq) error {
	x, r := v.x, v.redo[seq]
	t := x.t.Task(seq)
	if r.inPlace {
		x.t.ReopenTask(seq)
		if !r.adopted {
			x.t.RetryChild(seq)
		}
		return nil
	}
	s, ok := x.siteOf(t)
	if !ok {
		return nil
	}
	if t.Type != s.node.task.Type && s.node.task.Type != TypeDynamic && IsSystemType(t.Type) &&
		t.Type != TypeFork {
		s.node = s.node.as(t.Type)
	}
	a := attempt{of: t, input: r.input, detached: r.detached}
	if r.fresh {
		a.of = nil
		v.forgetTask(t)
		x.t.RemoveTask(seq)
		if s.head != nil {
			s.home = x.nextSeq()
			x.keepBody(s.home, s.body)
		}
	}
	return s.node.run(x, s, a)
}

// repost asks again for the turns in which work that was put off is done.
func (x *exec) repost() {
	found := 0
	for id := x.root.deferred; id > 0 && found < x.root.pending; id-- {
		if _, ok := x.t.Cell(deferredCell(id)); ok {
			found++
			x.t.Post(0, binary.AppendUvarint(nil, id))
		}
	}
	x.root.pending = found
	x.saveRoot()
}

// settleScopes ends or goes on with the scopes that have nothing left to wait for.
func (v *survey) settleScopes(frames []tutti.FrameID) error {
	x := v.x
	for _, id := range frames {
		f := x.frame(id)
		if f == nil {
			continue
		}
		if state, ok := f.State.(*forkState); ok && state.join != 0 {
			if s, ok := x.scopeSite(f); ok {
				x.checkJoin(s.at(s.node.join), f, state)
			}
		}
	}
	for _, t := range v.tasks {
		if t.Type == TypeExclusiveJoin && t.Status.Open() {
			if s, ok := x.siteOf(t); ok {
				x.tryExclusive(s, t.Seq)
			}
		}
	}
	for _, id := range frames {
		if f := x.frame(id); f != nil && !x.over {
			if state, ok := f.State.(*loopState); ok && state.idle && state.redo == 0 {
				if err := x.resumeLoop(f, state); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// resumeLoop decides about an iteration again whose flow had been done, or drops the frame
// of a loop that had ended well.
func (x *exec) resumeLoop(f *tutti.Frame, state *loopState) error {
	state.idle = false
	if t := x.t.Task(state.loop); t == nil || !t.Status.Open() {
		x.t.CloseFrame(f.ID)
		return nil
	}
	return x.iterated(f, state)
}

// repeated counts a task that was repeated for its own sake: what follows it had been done.
func (x *exec) repeated(s site) error {
	for f := s.frame; f != nil && f.ID != 0 && !x.over; {
		parent := x.frame(f.Parent)
		switch state := f.State.(type) {
		case *forkState:
			x.repeatedInFork(f, state, f == s.frame)
		case *loopState:
			state.redo--
			x.t.SaveFrame(f.ID)
			if state.idle && state.redo == 0 {
				if err := x.resumeLoop(f, state); err != nil {
					return err
				}
			}
		}
		f = parent
	}
	return nil
}

func (x *exec) repeatedInFork(f *tutti.Frame, state *forkState, direct bool) {
	s, ok := x.scopeSite(f)
	if !ok || s.node.join < 0 {
		return
	}
	state.redo--
	x.t.SaveFrame(f.ID)
	j := s.at(s.node.join)
	if direct && (state.dynamic || j.node.all) {
		state.waits--
	}
	if state.join != 0 && !x.joinOpen(state) {
		x.closeFork(f, state)
		return
	}
	x.checkJoin(j, f, state)
}

// busy reports whether the flow of anything in a frame is under way again.
func (v *survey) busy(id tutti.FrameID) bool {
	for seq, r := range v.redo {
		if t := v.x.t.Task(seq); !r.detached && (t == nil || v.within(t, id) != nil) {
			return true
		}
	}
	for _, t := range v.tasks {
		if t.Status.Open() && v.within(t, id) != nil {
			return true
		}
	}
	return v.x.root.pending > 0
}

// reopened takes a SUB_WORKFLOW task up whose run an operator reopened. What else ended badly
// with this run is repeated too, child runs in place.
func (x *exec) reopened(seq tutti.Seq) error {
	t := x.t.Task(seq)
	if t == nil || !bad(t) || x.run.OpenTasks > 0 {
		return nil
	}
	v := x.survey()
	v.collectBad(true)
	v.redo[seq] = repeat{inPlace: true, adopted: true}
	return v.apply()
}
