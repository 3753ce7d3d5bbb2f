package runner

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// counters are the runner's own figures.
type counters struct {
	batches, rows, commands atomic.Uint64
	commitNanos             atomic.Uint64
}

// committed counts a durable batch.
func (s *shard) committed(f *inflight) {
	took := time.Since(f.began)
	c := &s.r.stats
	c.batches.Add(1)
	c.rows.Add(uint64(f.size))
	c.commands.Add(uint64(len(f.replies)))
	c.commitNanos.Add(uint64(took))
	if s.r.opts.OnBatch != nil {
		s.r.opts.OnBatch(s.id, len(f.replies), f.size, took)
	}
}

// Stats are figures of a runner since it was opened.
type Stats struct {
	Batches, Rows, Commands uint64
	CommitTime              time.Duration // sum over batches, from forming to durable
	Pending                 []int         // commands that wait, by shard
}

// Stats returns the current figures.
func (r *Runner) Stats() Stats {
	st := Stats{
		Batches: r.stats.batches.Load(), Rows: r.stats.rows.Load(),
		Commands:   r.stats.commands.Load(),
		CommitTime: time.Duration(r.stats.commitNanos.Load()),
	}
	for _, s := range r.shards {
		st.Pending = append(st.Pending, s.box.len())
	}
	return st
}

// QueueStats are figures of one queue.
type QueueStats struct {
	Name     string // with its namespace, as engine.QueueKey builds it
	Ready    int    // tasks in the window
	More     bool   // the store holds further ones
	OldestMs int64  // ready time of the oldest in the window, 0 when empty
	Waiting  int    // workers that wait
	LastPoll int64  // when a worker last asked (Unix ms)
	Workers  map[string]int64
}

// Queues returns the figures of all queues that were ever used since the start, by name.
func (r *Runner) Queues() []QueueStats {
	d := r.queues
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]QueueStats, 0, len(d.queues))
	for _, q := range d.queues {
		all = append(all, q.stats())
	}
	slices.SortFunc(all, func(a, b QueueStats) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Queue returns the figures of one queue; ok is false when it was not used since the start.
func (r *Runner) Queue(name string) (st QueueStats, ok bool) {
	d := r.queues
	d.mu.Lock()
	defer d.mu.Unlock()
	q, ok := d.queues[name]
	if !ok {
		return QueueStats{Name: name}, false
	}
	return q.stats(), true
}

// stats is called with the dispatcher's mu held.
func (q *queue) stats() QueueStats {
	st := QueueStats{
		Name: q.name, Ready: len(q.ready), More: q.spill || q.loading, Waiting: len(q.waiting),
		LastPoll: q.newest, Workers: maps.Clone(q.seen),
	}
	for _, it := range q.ready {
		if st.OldestMs == 0 || it.ReadyMs < st.OldestMs {
			st.OldestMs = it.ReadyMs
		}
	}
	return st
}
