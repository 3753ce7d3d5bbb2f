package engine

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
)

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
		return
	}
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
	fair := fairHash(r.CorrelationID)
	b.w.Set(row, binary.BigEndian.AppendUint32(nil, fair))
	ready, _ := decodeReady(row)
	ready.Fair = fair
	b.fx.Ready = append(b.fx.Ready, ready)
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
			r.root = r.prog.EncodeState(nil, f.State)
			r.hotDirty = true
		case f.dirty:
			var e enc
			e.u(1, uint64(f.Parent))
			e.bytes(2, r.prog.EncodeState(nil, f.State))
			b.w.Set(numberedKey(r.ID, partFrame, uint32(id)), e.b)
		}
		f.dirty = false
	}
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
