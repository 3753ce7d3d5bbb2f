package client

import "sync"

type sessionCall struct {
	started func(string)
	ended   func(Ended)
}

// sessionTable knows the starts of a session that await a reply.
type sessionTable struct {
	mu    sync.Mutex
	next  uint64
	calls map[uint64]sessionCall
}

func (t *sessionTable) add(c sessionCall) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	t.calls[t.next] = c
	return t.next
}

func (t *sessionTable) get(id uint64) sessionCall {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls[id]
}

func (t *sessionTable) take(id uint64) sessionCall {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.calls[id]
	delete(t.calls, id)
	return c
}

func (t *sessionTable) drain() []sessionCall {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []sessionCall
	for _, c := range t.calls {
		all = append(all, c)
	}
	clear(t.calls)
	return all
}
