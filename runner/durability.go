package runner

import (
	"context"
	"sync"
)

// durability tells readers how far a shard's batches have reached the disk.
type durability struct {
	mu      sync.Mutex
	reached uint64
	err     error
	waiting chan struct{} // closed when reached or err changes; nil when nobody waits
}

func (d *durability) reset(n uint64) {
	d.mu.Lock()
	d.reached, d.err = n, nil
	d.signal()
	d.mu.Unlock()
}

func (d *durability) reach(n uint64) {
	d.mu.Lock()
	d.reached = n
	d.signal()
	d.mu.Unlock()
}

func (d *durability) fail(err error) {
	d.mu.Lock()
	d.err = err
	d.signal()
	d.mu.Unlock()
}

func (d *durability) signal() {
	if d.waiting != nil {
		close(d.waiting)
		d.waiting = nil
	}
}

// wait returns once batch n is durable.
func (d *durability) wait(ctx context.Context, n uint64) error {
	for {
		d.mu.Lock()
		reached, err := d.reached, d.err
		if reached >= n {
			d.mu.Unlock()
			return nil
		}
		if err != nil {
			d.mu.Unlock()
			return storeError("read", err)
		}
		if d.waiting == nil {
			d.waiting = make(chan struct{})
		}
		ch := d.waiting
		d.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
