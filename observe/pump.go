package observe

import (
	"sync"
	"sync/atomic"

	"github.com/tutti-run/tutti/engine"
)

// pumpDepth is how many batches of notifications may wait to be worked on.
const pumpDepth = 1024

// pump hands batches of notifications to a goroutine of its own.
type pump struct {
	in      chan []engine.Notification
	mu      sync.RWMutex
	closed  bool
	dropped atomic.Uint64
	done    chan struct{}
}

func newPump(work func([]engine.Notification)) *pump {
	p := &pump{in: make(chan []engine.Notification, pumpDepth), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		for notes := range p.in {
			work(notes)
		}
	}()
	return p
}

// put hands over a batch, or drops it when too many wait. It does not block.
func (p *pump) put(notes []engine.Notification) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return
	}
	select {
	case p.in <- notes:
	default:
		p.dropped.Add(uint64(len(notes)))
	}
}

// close waits until everything that was handed over is worked on.
func (p *pump) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.in)
	}
	p.mu.Unlock()
	<-p.done
}
