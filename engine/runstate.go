package engine

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
)

// runState is a run as the shard works on it: its records as loaded or changed.
type runState struct {
	tutti.Run
	hot
	in, out payload
	prog    tutti.Program
	frames  map[tutti.FrameID]*frameState
	tasks   map[tutti.Seq]*taskState
	spill   map[tutti.Seq]bool // open tasks in rows of their own; nil = not loaded
	history journal            // entries of this batch

	touched   bool // is in the batch's list
	headDirty bool
	hotDirty  bool
	isNew     bool
	wasIndex  []byte // key of the stored index row
	wasWakes  [2]int64
	fired     [2]bool // the stored wake-up went off in this batch
	removed   bool
	info      *RunInfo // made when observers are first told of the run
}

type frameState struct {
	tutti.Frame
	dirty  bool
	closed bool
}

// run returns a run for change, or nil when the shard has none with this identifier.
func (b *Batch) run(id tutti.RunID) *runState {
	if el, ok := b.s.runs[id]; ok {
		b.s.lru.MoveToFront(el)
		return b.touch(el.Value.(*runState))
	}
	r := b.loadRun(id)
	if r == nil {
		return nil
	}
	b.s.remember(r)
	return b.touch(r)
}

func (b *Batch) touch(r *runState) *runState {
	if !r.touched {
		r.touched = true
		b.touched = append(b.touched, r)
	}
	return r
}

func (b *Batch) loadRun(id tutti.RunID) *runState {
	head, ok := b.get(runKey(id, partHead))
	if !ok {
		return nil
	}
	hotRow, ok := b.get(runKey(id, partHot))
	if !ok {
		b.fail(errCorrupt)
		return nil
	}
	r := newRunState(id)
	b.fail(decodeHead(&r.Run, &r.in, head))
	b.fail(decodeHot(&r.Run, &r.hot, &r.out, hotRow))
	r.wasIndex = r.indexRow()
	r.wasWakes = r.wakes()
	return r
}

func newRunState(id tutti.RunID) *runState {
	r := &runState{
		frames: map[tutti.FrameID]*frameState{}, tasks: map[tutti.Seq]*taskState{},
		in: newPayload(nil), out: newPayload(nil),
	}
	r.ID = id
	return r
}

// load makes a payload's bytes present.
func (b *Batch) load(id tutti.RunID, p *payload) {
	if p.loaded {
		return
	}
	raw, ok := b.get(append(runKey(id, partPayload), p.hash[:]...))
	if !ok {
		b.fail(errCorrupt)
	}
	p.raw, p.loaded = raw, true
}

// task returns an attempt with its payloads loaded, or nil.
func (b *Batch) task(r *runState, seq tutti.Seq) *taskState {
	t, ok := r.tasks[seq]
	if !ok {
		if t = b.loadTask(r, seq); t == nil {
			return nil
		}
		r.tasks[seq] = t
	}
	b.load(r.ID, &t.in)
	b.load(r.ID, &t.out)
	t.Input, t.Output = t.in.raw, t.out.raw
	return t
}

func (b *Batch) loadTask(r *runState, seq tutti.Seq) *taskState {
	if seq == 0 || seq > r.LastSeq {
		return nil
	}
	raw, ok := b.get(taskKey(r.ID, seq))
	if !ok {
		return nil
	}
	t, err := decodeTask(seq, raw)
	b.fail(err)
	t.wake, t.ready = t.wakeAt(), t.readyRow(&r.Run)
	return t
}

// addOpen notes an attempt as open (or ended but not yet seen by its program).
func (b *Batch) addOpen(r *runState, seq tutti.Seq) {
	r.OpenTasks++
	r.hotDirty = true
	if len(r.inline) < openInline {
		at, _ := slices.BinarySearch(r.inline, seq)
		r.inline = slices.Insert(r.inline, at, seq)
		return
	}
	r.spilled++
	b.set(numberedKey(r.ID, partOpen, uint32(seq)), nil)
	if r.spill != nil {
		r.spill[seq] = true
	}
}

func (b *Batch) dropOpen(r *runState, seq tutti.Seq) {
	r.OpenTasks--
	r.hotDirty = true
	if at, ok := slices.BinarySearch(r.inline, seq); ok {
		r.inline = slices.Delete(r.inline, at, at+1)
		return
	}
	r.spilled--
	b.del(numberedKey(r.ID, partOpen, uint32(seq)))
	delete(r.spill, seq)
}

// isOpen reports whether seq is in the run's open set.
func (b *Batch) isOpen(r *runState, seq tutti.Seq) bool {
	if _, ok := slices.BinarySearch(r.inline, seq); ok {
		return true
	}
	if r.spilled == 0 {
		return false
	}
	_, ok := b.get(numberedKey(r.ID, partOpen, uint32(seq)))
	return ok
}

// firstOpen lists the first n of the run's open set in order, at a cost that depends on n.
func (b *Batch) firstOpen(r *runState, n int) []tutti.Seq {
	if r.spill != nil || r.spilled == 0 || r.OpenTasks <= n {
		seqs := b.openSeqs(r)
		return seqs[:min(n, len(seqs))]
	}
	seqs := slices.Clone(r.inline)
	lo := runKey(r.ID, partOpen)
	b.scan(lo, prefixEnd(lo), func(k, _ []byte) bool {
		seqs = append(seqs, tutti.Seq(binary.BigEndian.Uint32(k[len(k)-4:])))
		return len(seqs) < n+len(r.inline)
	})
	slices.Sort(seqs)
	return seqs[:min(n, len(seqs))]
}

// openSeqs lists the run's open set in order.
func (b *Batch) openSeqs(r *runState) []tutti.Seq {
	seqs := slices.Clone(r.inline)
	if r.spilled == 0 {
		return seqs
	}
	if r.spill == nil {
		r.spill = map[tutti.Seq]bool{}
		lo := runKey(r.ID, partOpen)
		b.scan(lo, prefixEnd(lo), func(k, _ []byte) bool {
			r.spill[tutti.Seq(binary.BigEndian.Uint32(k[len(k)-4:]))] = true
			return true
		})
	}
	for seq := range r.spill {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	return seqs
}

func (r *runState) indexRow() []byte {
	return indexKey(r.Namespace, r.Status, r.Definition, r.StartMs, r.ID)
}

// wakes are the due times of the run's own wake rows: its timeout, and its messages to
// itself.
func (r *runState) wakes() (due [2]int64) {
	if r.Status.Open() && r.TimeoutMs > 0 && !r.outOfTime && !r.HeldByLimit {
		due[0] = max(r.StartMs, r.RetriedMs) + r.TimeoutMs
	}
	switch {
	case r.sweeping, len(r.posts) > 0 && r.Status == tutti.RunRunning:
		due[1] = r.UpdateMs
	case r.HeldByLimit && r.Status.Open():
		due[1] = r.UpdateMs + askAgainMs
	}
	return due
}

// splitMix is the increment of the SplitMix64 generator.
const splitMix = 0x9e3779b97f4a7c15

func (r *runState) nextRandom() uint64 {
	r.random += splitMix
	r.hotDirty = true
	x := r.random
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// tasksKept bounds the clean task records a cached run keeps between batches.
const tasksKept = 64

// flushRun writes what changed of a run, and the difference of its derived rows.
func (b *Batch) flushRun(r *runState) {
	r.touched = false
	if r.removed {
		return
	}
	put := func(h tutti.Hash, raw []byte) {
		b.w.Set(append(runKey(r.ID, partPayload), h[:]...), raw)
	}
	for _, seq := range slices.Sorted(maps.Keys(r.tasks)) {
		if t := r.tasks[seq]; t.dirty {
			b.flushTask(r, t, put)
		}
	}
	b.flushFrames(r)
	b.flushHistory(r)
	if r.headDirty {
		b.w.Set(runKey(r.ID, partHead), encodeHead(&r.Run, &r.in, put))
	}
	if r.hotDirty {
		b.w.Set(runKey(r.ID, partHot), encodeHot(&r.Run, &r.hot, &r.out, put))
		b.fx.Moved = append(b.fx.Moved, r.ID)
	}
	b.flushDerived(r)
	r.headDirty, r.hotDirty, r.isNew = false, false, false
	if !r.Status.Open() && !r.sweeping {
		b.s.forget(r.ID)
		return
	}
	r.trim()
}

// trim drops what a cached run can read again, so that memory does not grow with a run.
func (r *runState) trim() {
	for seq, t := range r.tasks {
		if !t.Status.Open() && len(r.tasks) > tasksKept {
			delete(r.tasks, seq)
		}
	}
	if len(r.tasks) > 4*tasksKept {
		clear(r.tasks)
	}
	if len(r.spill) > 16*tasksKept {
		r.spill = nil
	}
	if len(r.frames) > 4*tasksKept {
		root, ok := r.frames[0]
		clear(r.frames)
		if ok {
			r.frames[0] = root
		}
	}
}

func (b *Batch) flushTask(r *runState, t *taskState, put func(tutti.Hash, []byte)) {
	b.w.Set(taskKey(r.ID, t.Seq), t.encode(put))
	t.dirty = false
	waits := r.Status == tutti.RunPaused && t.wake <= b.now // for the run to be resumed
	if at := t.wakeAt(); at != t.wake || t.fired && !waits {
		b.moveWake(r.ID, t.Seq, t.wake, at)
		t.wake = at
	}
	t.fired = false
	row := t.readyRow(&r.Run)
	if bytes.Equal(row, t.ready) {
		if row != nil && t.offered {
			b.fx.Ready = append(b.fx.Ready, readyOf(r, row))
		}
		t.offered = false
		return
	}
	t.offered = false
	if t.ready != nil {
		b.w.Delete(t.ready)
	}
	if row != nil {
		b.setReady(r, row)
	}
	t.ready = row
}

// setReady writes a ready row and tells of it.
func (b *Batch) setReady(r *runState, row []byte) {
	ready := readyOf(r, row)
	b.w.Set(row, binary.BigEndian.AppendUint32(nil, ready.Fair))
	b.fx.Ready = append(b.fx.Ready, ready)
}

func readyOf(r *runState, row []byte) Ready {
	ready, _ := decodeReady(row)
	ready.Fair = fairHash(r.CorrelationID)
	return ready
}

func fairHash(key string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return h.Sum32()
}

// moveWake moves a wake row and tells of its time; also when that is what it was, since the
// timer may have gone off.
func (b *Batch) moveWake(id tutti.RunID, seq tutti.Seq, from, to int64) {
	if from != to && from != 0 {
		b.w.Delete(wakeKey(from, id, seq))
	}
	if from != to && to != 0 {
		b.w.Set(wakeKey(to, id, seq), nil)
	}
	if to != 0 && to != Forever {
		b.fx.Timers = append(b.fx.Timers, Timer{DueMs: to, Run: id, Seq: seq})
	}
}

func (b *Batch) flushFrames(r *runState) {
	for _, id := range slices.Sorted(maps.Keys(r.frames)) {
		f := r.frames[id]
		switch {
		case f.closed:
			b.w.Delete(numberedKey(r.ID, partFrame, uint32(id)))
			delete(r.frames, id)
		case f.dirty && id == 0:
			r.root = b.encodeState(r, f)
			r.hotDirty = true
		case f.dirty:
			var e enc
			e.u(1, uint64(f.Parent))
			e.bytes(2, b.encodeState(r, f))
			b.w.Set(numberedKey(r.ID, partFrame, uint32(id)), e.b)
		}
		f.dirty = false
	}
}

// encodeState returns the stored form of a frame's state; one without state has none.
func (b *Batch) encodeState(r *runState, f *frameState) (raw []byte) {
	if f.State == nil {
		return nil
	}
	b.fail(protect(func() error {
		raw = r.prog.EncodeState(nil, f.State)
		return nil
	}))
	return raw
}

// flushDerived writes the difference of the rows that the run's record implies.
func (b *Batch) flushDerived(r *runState) {
	wakes := r.wakes()
	for i, seq := range []tutti.Seq{wakeRunTimeout, wakePosts} {
		if wakes[i] != r.wasWakes[i] || r.fired[i] {
			b.moveWake(r.ID, seq, r.wasWakes[i], wakes[i])
		}
	}
	r.wasWakes, r.fired = wakes, [2]bool{}
	row := r.indexRow()
	if bytes.Equal(row, r.wasIndex) && !r.isNew {
		return
	}
	if r.wasIndex != nil && !r.isNew && !bytes.Equal(row, r.wasIndex) {
		b.w.Delete(r.wasIndex)
	}
	b.w.Set(row, be64(nil, r.EndMs))
	r.wasIndex = row
	eachLabelRow(r, func(key []byte) { b.w.Set(key, []byte{byte(r.Status)}) })
}

// eachLabelRow visits the keys under which the run is found by correlation and labels.
func eachLabelRow(r *runState, fn func(key []byte)) {
	if r.CorrelationID != "" {
		fn(labelKey(tableCorr, r.Namespace, []string{r.CorrelationID}, r.StartMs, r.ID))
	}
	for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
		fn(labelKey(tableLabel, r.Namespace, []string{k, r.Labels[k]}, r.StartMs, r.ID))
	}
	if !r.Parent.IsZero() {
		names := []string{LabelParent, r.Parent.String()}
		fn(labelKey(tableLabel, r.Namespace, names, r.StartMs, r.ID))
	}
}

// LabelParent is the label under which child runs are found by their parent's identifier.
const LabelParent = "tutti.parent"
