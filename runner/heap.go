package runner

import (
	"container/heap"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// readyItem is a ready task with its place in fair order.
type readyItem struct {
	engine.Ready
	turn uint64 // virtual time: how many tasks of its fairness key come before it
}

// readyHeap orders tasks by priority, then by turn, so that the fairness keys of one
// priority take turns, then by time.
type readyHeap []readyItem

func (h readyHeap) Len() int { return len(h) }

func (h readyHeap) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	switch {
	case a.Priority != b.Priority:
		return a.Priority > b.Priority
	case a.turn != b.turn:
		return a.turn < b.turn
	case a.ReadyMs != b.ReadyMs:
		return a.ReadyMs < b.ReadyMs
	}
	return string(a.Run[:]) < string(b.Run[:])
}

func (h readyHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *readyHeap) Push(x any)   { *h = append(*h, x.(readyItem)) }
func (h *readyHeap) Pop() any {
	old := *h
	it := old[len(old)-1]
	*h = old[:len(old)-1]
	return it
}

// noKey is the fairness hash of tasks without a correlation identifier. They are not one
// tenant, so each is served in its own turn, in order of time.
const noKey = 0x811c9dc5

// push adds a task to the window, or notes that the store has more.
func (q *queue) push(t engine.Ready) {
	if len(q.ready) >= queueWindow {
		q.spill = true
		return
	}
	turn := q.clock
	if t.Fair != noKey {
		turn = max(q.clock, q.lastOf[t.Fair])
		if len(q.lastOf) > queueWindow {
			clear(q.lastOf)
		}
		q.lastOf[t.Fair] = turn + 1
	}
	heap.Push(&q.ready, readyItem{Ready: t, turn: turn})
}

// pop removes the task that is next.
func (q *queue) pop() engine.Ready {
	it := heap.Pop(&q.ready).(readyItem)
	q.clock = max(q.clock, it.turn)
	if len(q.ready) == 0 {
		clear(q.lastOf)
	}
	return it.Ready
}

// merge adds tasks read from the store that are not in the window already.
func (q *queue) merge(found []engine.Ready) {
	type id struct {
		run tutti.RunID
		seq tutti.Seq
	}
	have := make(map[id]bool, len(q.ready))
	for _, it := range q.ready {
		have[id{it.Run, it.Seq}] = true
	}
	for _, t := range found {
		if !have[id{t.Run, t.Seq}] {
			q.push(t)
		}
	}
}
