package engine

import "github.com/tutti-run/tutti"

// LimitName names a limit of a namespace.
type LimitName struct {
	Namespace string
	Key       string
	Runs      bool // it bounds open runs, not leased tasks
}

func (n LimitName) key() string {
	if n.Runs {
		return limitKey(n.Namespace, limitRuns, n.Key)
	}
	return limitKey(n.Namespace, limitTasks, n.Key)
}

// Shard is the shard, below shards, that owns the limit.
func (n LimitName) Shard(shards int) int { return KeyShard(n.key(), shards) }

// LimitHolders calls fn for those who hold a permit of a limit, in no particular order,
// until it returns false. A seq of 0 stands for the run itself. The view must be of the
// shard that owns the limit.
func (v View) LimitHolders(n LimitName, fn func(run tutti.RunID, seq tutti.Seq) bool) error {
	lo := limitRow(n.key(), 'h')
	return v.rows.Scan(lo, prefixEnd(lo), false, func(k, _ []byte) bool {
		h := holderOf(k[len(k)-20:])
		return fn(h.run, h.seq)
	})
}
