package script

import (
	"runtime"
	"runtime/metrics"
	"sync"
	"time"
)

// A watch stops a run that takes too long or too much memory. Go cannot tell which goroutine holds
// what, so memory is that of the process: its live heap may not grow by more than the limit while
// the script runs.
type watch struct {
	stop   func(error) // called at most once
	limits Limits

	mu       sync.Mutex
	ended    bool
	deadline *time.Timer
	sampler  *time.Timer
	start    int64 // bytes of heap objects when the run began
	wait     int   // samples to let pass before memory is looked at again
}

const (
	sampleEvery = 5 * time.Millisecond
	// A collection costs more than a sample; after one let this many samples pass.
	samplesAfterGC = 10
)

func newWatch(limits Limits, stop func(error)) *watch {
	w := &watch{stop: stop, limits: limits, start: -1}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = time.AfterFunc(limits.Time, func() { w.end(ErrTimeout) })
	w.sampler = time.AfterFunc(sampleEvery, w.sample)
	return w
}

// close ends the watch. A call of stop that is under way has returned when close does.
func (w *watch) close() { w.end(nil) }

func (w *watch) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.ended = true
	w.deadline.Stop()
	w.sampler.Stop()
	if err != nil {
		w.stop(err)
	}
}

// sample looks at the heap. The first sample is the start: most scripts end before it.
func (w *watch) sample() {
	over := w.overLimit()
	if over {
		w.end(limitError("more than %d bytes of memory", w.limits.Memory))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.sampler.Reset(sampleEvery)
	}
}

// overLimit counts garbage only when it must: growth is first taken with garbage, and if that is
// over the limit, again after a collection.
func (w *watch) overLimit() bool {
	if w.wait > 0 {
		w.wait--
		return false
	}
	objects := heapObjects()
	if w.start < 0 {
		w.start = objects
	}
	growth := objects - w.start
	if growth <= w.limits.Memory {
		return false
	}
	if growth > 8*w.limits.Memory {
		return true
	}
	runtime.GC()
	w.wait = samplesAfterGC
	return heapObjects()-w.start > w.limits.Memory
}

func heapObjects() int64 {
	sample := [1]metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample[:])
	return int64(sample[0].Value.Uint64())
}
