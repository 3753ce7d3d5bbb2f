package script

import "sync"

// A cache keeps the results of compile for the sources seen of late. It holds two generations of
// up to cacheSize each; when the young one is full the old one is dropped.
type cache[T any] struct {
	compile func(src string) (T, error)

	mu         sync.Mutex
	young, old map[string]T
}

const cacheSize = 512

// get returns the compiled source. Failures are not kept.
func (c *cache[T]) get(src string) (T, error) {
	if v, ok := c.find(src); ok {
		return v, nil
	}
	v, err := c.compile(src)
	if err == nil {
		c.put(src, v)
	}
	return v, err
}

func (c *cache[T]) find(src string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[src]; ok {
		return v, true
	}
	v, ok := c.old[src]
	if ok {
		c.putLocked(src, v)
	}
	return v, ok
}

func (c *cache[T]) put(src string, v T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(src, v)
}

func (c *cache[T]) putLocked(src string, v T) {
	if c.young == nil || len(c.young) >= cacheSize {
		c.young, c.old = make(map[string]T), c.young
	}
	c.young[src] = v
}
