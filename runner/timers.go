package runner

import (
	"container/heap"
	"time"

	"github.com/tutti-run/tutti/engine"
)

const (
	// timerWindow is how far ahead wake-ups are kept in memory; later ones are rows only.
	timerWindow = 60 * time.Second
	// timerChunk bounds how many are loaded at once.
	timerChunk = 50_000
	// timersDue bounds the wake-ups of one batch.
	timersDue = 1024
)

// timerQueue holds the wake-ups of a shard that come within the window. It belongs to the
// shard's loop.
type timerQueue struct {
	heap    timerHeap
	horizon int64 // everything due before is in the heap
}

type timerHeap []engine.Timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].DueMs < h[j].DueMs }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)        { *h = append(*h, x.(engine.Timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}

// add takes up a new wake-up if it is near.
func (q *timerQueue) add(t engine.Timer) {
	if t.DueMs < q.horizon {
		heap.Push(&q.heap, t)
	}
}

// refill loads the wake-ups of the next window from the store.
func (q *timerQueue) refill(view engine.View, now int64) error {
	until := now + timerWindow.Milliseconds()
	if q.horizon >= until {
		return nil
	}
	n := 0
	from := q.horizon
	err := view.Wakes(from, until, func(t engine.Timer) bool {
		if n >= timerChunk && t.DueMs > q.horizon {
			until = t.DueMs
			return false
		}
		n++
		q.horizon = t.DueMs
		heap.Push(&q.heap, t)
		return true
	})
	q.horizon = until
	return err
}

// wait is how long the loop may sleep.
func (q *timerQueue) wait(now time.Time) time.Duration {
	next := q.horizon - timerWindow.Milliseconds()/2
	if len(q.heap) > 0 {
		next = min(next, q.heap[0].DueMs)
	}
	return max(time.UnixMilli(next).Sub(now), 0)
}

// due removes and returns the wake-ups whose time has come.
func (q *timerQueue) due(view engine.View, now int64) ([]engine.Timer, error) {
	if now >= q.horizon-timerWindow.Milliseconds()/2 {
		if err := q.refill(view, now); err != nil {
			return nil, err
		}
	}
	var due []engine.Timer
	for len(q.heap) > 0 && q.heap[0].DueMs <= now && len(due) < timersDue {
		due = append(due, heap.Pop(&q.heap).(engine.Timer))
	}
	return due, nil
}
