package runner

import (
	"errors"
	"fmt"
	"sync"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// request is a command on its way to a shard. reply may be nil.
type request struct {
	cmd   engine.Command
	reply func(any, error)
}

func (q request) answer(v any, err error) {
	if q.reply != nil {
		q.reply(v, err)
	}
}

// mailbox holds the commands that wait for a shard. Taking all at once is what makes
// batches: the busier the store, the larger they grow.
type mailbox struct {
	mu     sync.Mutex
	items  []request
	spare  []request
	max    int
	closed bool
	wake   chan struct{}
}

func newMailbox(bound int) *mailbox { return &mailbox{max: bound, wake: make(chan struct{}, 1)} }

var errClosed = errors.New("the server is stopping")

// put adds a caller's command. It is refused when the mailbox is full.
func (m *mailbox) put(q request) error { return m.add(q, m.max) }

// force adds what the runner itself must not lose, such as messages between shards, whose
// number is bounded by what the shards produce.
func (m *mailbox) force(q request) error { return m.add(q, 1<<62) }

func (m *mailbox) add(q request, bound int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return unavailable("submit", errClosed)
	case len(m.items) >= bound:
		return &tutti.Error{
			Kind: tutti.Exhausted, Op: "submit", Code: "TooManyPending",
			Err:  fmt.Errorf("%d commands wait at this shard, which is the bound", bound),
			Hint: "slow down and try again",
		}
	}
	m.items = append(m.items, q)
	if len(m.items) == 1 {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// take removes up to n commands.
func (m *mailbox) take(n int) []request {
	m.mu.Lock()
	defer m.mu.Unlock()
	got := m.items
	if len(got) <= n {
		m.items = m.spare[:0]
		m.spare = nil
		return got
	}
	got = append([]request(nil), got[:n]...)
	m.items = append(m.items[:0], m.items[n:]...)
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return got
}

// recycle returns a slice that take gave out.
func (m *mailbox) recycle(s []request) {
	clear(s)
	m.mu.Lock()
	m.spare = s[:0]
	m.mu.Unlock()
}

func (m *mailbox) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}

// close refuses everything that waits and all that comes.
func (m *mailbox) close() {
	m.mu.Lock()
	m.closed = true
	items := m.items
	m.items = nil
	m.mu.Unlock()
	for _, q := range items {
		q.answer(nil, unavailable("submit", errClosed))
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}
