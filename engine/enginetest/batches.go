package enginetest

import "github.com/tutti-run/tutti/engine"

// Batches applies commands to one shard with as little around them as possible, for
// measurements. Messages, timers and workers are left out.
type Batches struct {
	h     *Harness
	s     *shard
	Ready []engine.Ready // what became ready and was not taken out
}

// NewBatches returns the bare shard with what is ready on it.
func (h *Harness) NewBatches(shard int) *Batches {
	b := &Batches{h: h, s: h.shards[shard]}
	for _, list := range h.ready {
		b.Ready = append(b.Ready, list...)
	}
	return b
}

// Do applies one command in a batch of its own.
func (b *Batches) Do(cmd engine.Command) *engine.Effects {
	batch := b.s.eng.Begin(b.s.rows, direct{b.s.rows}, b.h.now)
	_, err := batch.Do(cmd)
	b.h.check(err)
	fx, err := batch.Finish()
	b.h.check(err)
	b.Ready = append(b.Ready, fx.Ready...)
	return fx
}

// direct writes to the rows at once.
type direct struct{ r *Rows }

func (d direct) Set(key, val []byte) { d.r.Set(key, val) }
func (d direct) Delete(key []byte)   { d.r.Delete(key) }

func (d direct) Append(key, suffix []byte) {
	old, _ := d.r.m.Get(string(key))
	d.r.m.Set(string(key), append(old, suffix...))
}

func (d direct) DeleteRange(lo, hi []byte) {
	for _, k := range d.r.Keys(string(lo)) {
		if string(k) < string(hi) {
			d.r.Delete(k)
		}
	}
}
