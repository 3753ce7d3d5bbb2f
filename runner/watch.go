package runner

import (
	"sync"

	"github.com/tutti-run/tutti"
)

// watchers tells those who wait about runs that change or end.
type watchers struct {
	mu    sync.Mutex
	next  uint64
	runs  map[tutti.RunID]map[uint64]func(*tutti.Run)
	boxes func([]string)
	early []string
}

func newWatchers() *watchers {
	return &watchers{runs: map[tutti.RunID]map[uint64]func(*tutti.Run){}}
}

// Watch calls fn after every durable change of a run: with nil for a step, with the run
// when it has ended. fn must not block. The returned function ends the watch.
func (r *Runner) Watch(id tutti.RunID, fn func(ended *tutti.Run)) (stop func()) {
	w := r.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	n := w.next
	if w.runs[id] == nil {
		w.runs[id] = map[uint64]func(*tutti.Run){}
	}
	w.runs[id][n] = fn
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.runs[id], n)
		if len(w.runs[id]) == 0 {
			delete(w.runs, id)
		}
	}
}

// OnLetters sets who is told, with the names of the boxes, when letters have arrived. It is
// called once, before traffic; boxes known from earlier are told at once.
func (r *Runner) OnLetters(fn func(boxes []string)) {
	w := r.watch
	w.mu.Lock()
	w.boxes = fn
	early := w.early
	w.early = nil
	w.mu.Unlock()
	if len(early) > 0 {
		fn(early)
	}
}

func (w *watchers) letters(boxes []string) {
	if len(boxes) == 0 {
		return
	}
	w.mu.Lock()
	fn := w.boxes
	if fn == nil {
		w.early = append(w.early, boxes...)
	}
	w.mu.Unlock()
	if fn != nil {
		fn(boxes)
	}
}

func (w *watchers) of(id tutti.RunID) (fns []func(*tutti.Run)) {
	for _, fn := range w.runs[id] {
		fns = append(fns, fn)
	}
	return fns
}

func (w *watchers) moved(ids []tutti.RunID) {
	for _, id := range ids {
		w.mu.Lock()
		fns := w.of(id)
		w.mu.Unlock()
		for _, fn := range fns {
			fn(nil)
		}
	}
}

func (w *watchers) ended(runs []tutti.Run) {
	for i := range runs {
		w.mu.Lock()
		fns := w.of(runs[i].ID)
		w.mu.Unlock()
		for _, fn := range fns {
			fn(&runs[i])
		}
	}
}
