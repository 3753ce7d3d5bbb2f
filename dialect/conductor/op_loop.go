package conductor

import (
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// opDoWhile opens a loop. Its frame counts iterations; each iteration leaves one cell that
// lists its tasks, so a step costs the same in the first iteration and in the millionth.
func opDoWhile(x *exec, s site, a attempt) error {
	in, err := x.input(s, a)
	if err != nil {
		return x.broken(s, err)
	}
	items, isList, err := x.loopItems(s, in)
	if err != nil {
		return x.broken(s, err)
	}
	if isList && len(items) == 0 {
		x.add(s, a, tutti.TaskSpec{
			Kind: tutti.Local, Status: tutti.Completed, Input: value.Marshal(in),
			Output: value.Marshal(single("iteration", value.Int(0))),
		})
		return nil
	}
	state := &loopState{
		home: s.home, node: s.node.index, loop: x.nextSeq(), iteration: 1, items: -1,
		first: x.nextSeq(),
	}
	state.suffix, _ = s.scope().naming()
	if isList {
		state.items = len(items)
		x.keepItems(state.loop, items)
	}
	f := x.t.OpenFrame(s.frame.ID, state)
	x.record(s, a, tutti.TaskSpec{
		Kind: tutti.Scope, Status: tutti.Running, Input: value.Marshal(in),
		Output: x.loopProgress(state), Ext: taskExt{frame: f.ID}.encode(),
		Timeouts: x.timeouts(s, nil),
	})
	x.push(workLoop, uint32(f.ID))
	return nil
}

// loopItems returns the list that a loop goes over, if it has one.
func (x *exec) loopItems(s site, in *value.Object) ([]any, bool, error) {
	v, ok := in.Get("_items")
	if s.node.extra != nil {
		var err error
		if v, err = x.resolve(s.node.extra, x.nextSeq()); err != nil {
			return nil, false, err
		}
		ok = true
	}
	if !ok {
		return nil, false, nil
	}
	list, isList := v.([]any)
	if !isList && v != nil {
		return nil, false, fmt.Errorf("items must be a list, found %s", value.Kind(v))
	}
	return list, true, nil
}

// keepItems stores the list in chunks, so that an iteration reads a bounded part of it.
func (x *exec) keepItems(loop tutti.Seq, items []any) {
	for i := 0; i < len(items); i += itemsPerChunk {
		chunk := items[i:min(i+itemsPerChunk, len(items))]
		x.t.SetCell(itemsCell(loop, i/itemsPerChunk), value.Marshal(chunk))
	}
}

func (x *exec) dropItems(state *loopState) {
	for i := 0; i < state.items; i += itemsPerChunk {
		x.t.SetCell(itemsCell(state.loop, i/itemsPerChunk), nil)
	}
}

func (x *exec) item(state *loopState) any {
	at := int(state.iteration) - 1
	b, _ := x.t.Cell(itemsCell(state.loop, at/itemsPerChunk))
	i := 0
	for e := range value.Raw(b).Elements() {
		if i == at%itemsPerChunk {
			return decoded(e)
		}
		i++
	}
	return nil
}

// loopProgress is the stored part of a loop's output.
func (x *exec) loopProgress(state *loopState) value.Raw {
	out := single("iteration", value.Int(int64(state.iteration)))
	if state.items >= 0 {
		out.Set("loopIndex", value.Int(int64(state.iteration)-1))
		out.Set("loopItem", x.item(state))
	}
	return value.Marshal(out)
}

// iterate begins the iteration that a loop is at.
func (x *exec) iterate(f *tutti.Frame) error {
	state, ok := f.State.(*loopState)
	if !ok {
		return nil
	}
	s, ok := x.scopeSite(f)
	if !ok {
		return nil
	}
	in := site{frame: f, body: s.body, home: s.home, node: s.node}
	if head := s.node.heads[0]; head >= 0 {
		return x.schedule(in.at(head))
	}
	x.steps++
	return x.iterated(f, state)
}

// iterated ends an iteration, and begins the next one or ends the loop.
func (x *exec) iterated(f *tutti.Frame, state *loopState) error {
	s, ok := x.scopeSite(f)
	if !ok {
		return nil
	}
	tasks := x.iterationTasks(s, state)
	x.t.SetCell(iterationCell(state.loop, int(state.iteration)), appendSeqs(nil, tasks))
	for _, seq := range tasks {
		if t := x.t.Task(seq); t != nil && !t.Status.Open() && !t.Status.Successful() {
			return x.endLoop(s, f, state, tutti.Failed, t.Reason+" ")
		}
	}
	loop := x.t.Task(state.loop)
	in, err := s.node.input.Resolve(scope{x, state.loop})
	if err != nil {
		return x.broken(s, err)
	}
	x.forget(s, state, in)
	again, err := x.goesOn(s, state, loop, in)
	switch {
	case err != nil:
		return x.endLoop(s, f, state, tutti.Fatal, fmt.Sprintf(
			"Unable to evaluate condition %s, exception %s", s.node.task.LoopCondition, err))
	case !again:
		return x.endLoop(s, f, state, tutti.Completed, "")
	}
	state.iteration++
	state.first = x.run.LastSeq
	x.t.SaveFrame(f.ID)
	x.t.AmendTask(state.loop, nil, x.loopProgress(state))
	x.push(workLoop, uint32(f.ID))
	return nil
}

// iterationTasks lists the newest tasks of the current iteration, of nested loops only the
// loop itself, in the order of the definition.
func (x *exec) iterationTasks(s site, state *loopState) []tutti.Seq {
	var seqs []tutti.Seq
	for at := s.node.index + 1; at < s.node.end; at++ {
		if s.body.loopOf(at) != s.node.index {
			continue
		}
		if seq := x.newest(s.body, at); seq > state.first {
			seqs = append(seqs, seq)
		}
	}
	return seqs
}

// loopOf returns the innermost DO_WHILE around a node, or -1.
func (b *body) loopOf(at int32) int32 {
	for up := b.nodes[at].scope; up >= 0; up = b.nodes[up].scope {
		if b.nodes[up].task.Type == TypeDoWhile {
			return up
		}
	}
	return -1
}

// goesOn decides whether there is another iteration.
func (x *exec) goesOn(
	s site, state *loopState, loop *tutti.Task, in *value.Object,
) (bool, error) {
	condition := s.node.task.LoopCondition
	if state.items >= 0 && int(state.iteration) >= state.items {
		return false, nil
	}
	if condition == "" {
		return state.items >= 0, nil
	}
	return x.condition(condition, s, loop, in)
}

func (x *exec) endLoop(
	s site, f *tutti.Frame, state *loopState, status tutti.TaskStatus, reason string,
) error {
	if status != tutti.Completed {
		x.cancelWithin(f)
	}
	if status == tutti.Completed {
		x.dropItems(state)
	}
	x.t.CloseFrame(f.ID)
	x.endScope(state.loop, status, nil, reason)
	return nil
}

// cancelWithin cancels what is still open in a frame, and closes the frames inside it.
func (x *exec) cancelWithin(f *tutti.Frame) {
	var inside []*tutti.Task
	for t := range x.t.OpenTasks() {
		if x.framedBy(t.Frame, f.ID) {
			inside = append(inside, t)
		}
	}
	for _, t := range inside {
		if t.Kind == tutti.Scope {
			x.root.scopes--
			x.saveRoot()
		}
		for _, id := range []tutti.FrameID{x.canonical(t.Frame), decodeExt(t.Ext).frame} {
			if g := x.frame(id); g != nil && g.ID != 0 && g.ID != f.ID {
				x.t.CloseFrame(g.ID)
			}
		}
		x.t.EndTask(t.Seq, tutti.CancelledTask, nil, t.Reason)
	}
}

func (x *exec) framedBy(id, outer tutti.FrameID) bool {
	for f := x.frame(id); f != nil; f = x.frame(f.Parent) {
		if f.ID == outer {
			return true
		}
		if f.ID == 0 {
			return false
		}
	}
	return false
}

// forget drops iterations beyond those that keepLastN asks to keep.
func (x *exec) forget(s site, state *loopState, in *value.Object) {
	n, ok := value.Number(textOf(firstOf(in, "keepLastN"))).Int64()
	if !ok || n < 1 || int64(state.iteration) <= n {
		return
	}
	x.dropIteration(state.loop, int(int64(state.iteration)-n))
}

// dropIteration removes the tasks and the cell of one iteration, nested ones included.
func (x *exec) dropIteration(loop tutti.Seq, n int) {
	key := iterationCell(loop, n)
	for _, seq := range cellSeqs(x.t, key) {
		x.dropTask(seq)
	}
	x.t.SetCell(key, nil)
}

// dropTask removes a task with its earlier attempts and all that it covers.
func (x *exec) dropTask(seq tutti.Seq) {
	for seq != 0 {
		t := x.t.Task(seq)
		if t == nil || t.Status.Open() {
			return
		}
		switch t.Type {
		case TypeDoWhile:
			for n := 1; n <= Iteration(t); n++ {
				x.dropIteration(seq, n)
			}
		case TypeJoin:
			x.dropJoined(t)
		}
		x.t.RemoveTask(seq)
		seq = t.RetryOf
	}
}

// dropJoined removes the tasks of dynamic branches, which only their JOIN knows of.
func (x *exec) dropJoined(join *tutti.Task) {
	for _, seq := range cellSeqs(x.t, joinedCell(join.Seq)) {
		if t := x.t.Task(seq); t != nil && decodeExt(t.Ext).fork != 0 {
			x.dropTask(seq)
		}
	}
	x.t.SetCell(joinedCell(join.Seq), nil)
}
