package storetest

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/tutti-run/tutti/store"
)

// depth is how many batches a shard of the benchmark keeps in flight, as the engine does: the
// next is computed while one commits.
const depth = 2

// Bench measures durable commits over shards and batch sizes, and reads of recent records. The
// function opens a data space with the given number of shards.
func Bench(b *testing.B, open func(b *testing.B, shards int) store.Store) {
	for _, shards := range []int{1, 4, 8} {
		for _, size := range []int{1, 64, 512} {
			b.Run(fmt.Sprintf("Commit/shards=%d/records=%d", shards, size), func(b *testing.B) {
				benchCommit(b, open(b, shards), size)
			})
		}
	}
	b.Run("Get", func(b *testing.B) { benchGet(b, open(b, 1)) })
}

func benchCommit(b *testing.B, st store.Store, size int) {
	rounds := b.N/st.Shards() + 1
	var writers sync.WaitGroup
	b.ResetTimer()
	for s := range st.Shards() {
		sh, err := st.Claim(b.Context(), store.ShardID(s))
		if err != nil {
			b.Fatal(err)
		}
		writers.Go(func() { commitMany(b, sh, rounds, size) })
	}
	writers.Wait()
	b.StopTimer()
	batches := float64(rounds * st.Shards())
	b.ReportMetric(batches/b.Elapsed().Seconds(), "batches/s")
	b.ReportMetric(batches*float64(size)/b.Elapsed().Seconds(), "records/s")
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
}

func commitMany(b *testing.B, sh store.Shard, rounds, size int) {
	var batch store.Batch
	var flying []store.Ticket
	value := make([]byte, 100)
	for i := range rounds {
		batch.Reset()
		for j := range size {
			batch.Set(benchKey(i*size+j), value)
		}
		flying = append(flying, sh.Commit(&batch))
		if len(flying) < depth && i < rounds-1 {
			continue
		}
		if err := flying[0].Wait(); err != nil {
			b.Error(err)
			return
		}
		flying = flying[1:]
	}
}

func benchKey(i int) []byte { return binary.BigEndian.AppendUint64([]byte("run/"), uint64(i)) }

func benchGet(b *testing.B, st store.Store) {
	const records = 10_000
	sh, err := st.Claim(b.Context(), 0)
	if err != nil {
		b.Fatal(err)
	}
	commitMany(b, sh, 10, records/10)
	b.ResetTimer()
	b.ReportAllocs()
	for i := range b.N {
		if _, ok, err := sh.Get(benchKey(i * 7919 % records)); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
	b.StopTimer()
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
}
