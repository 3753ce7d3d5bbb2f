package runner

import "slices"

// Widen lets a consumer take tasks of one more queue, with the credit that it has.
func (r *Runner) Widen(c *Consumer, queueName string) {
	d := r.queues
	d.mu.Lock()
	q := d.queue(queueName)
	var offers []offer
	if !c.closed && !slices.Contains(c.queues, q) {
		c.queues = append(c.queues, q)
		if c.credit > 0 {
			q.await(c)
			offers = d.match(q)
		}
	}
	d.mu.Unlock()
	d.send(offers)
}

// Recheck makes the dispatcher look in the store for tasks of a queue that it does not know
// of. Normally there are none.
func (r *Runner) Recheck(queueName string) {
	d := r.queues
	d.mu.Lock()
	q := d.queue(queueName)
	q.spill = true
	offers := d.match(q)
	d.mu.Unlock()
	d.send(offers)
}
