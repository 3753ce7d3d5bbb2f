package observe

import (
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tutti-run/tutti/runner"
	"github.com/tutti-run/tutti/store"
)

// maxQueues bounds the queues that have series of their own; further ones are added up.
const maxQueues = 1000

// Sources are what figures are asked of when metrics are read. Nil fields are left out.
type Sources struct {
	Runner *runner.Runner
	Store  store.Inspector
	// IndexLag is by how much the index of free text is behind.
	IndexLag func() time.Duration
	// Audit are the figures of the auditor.
	Audit func() (runs, problems, repairs uint64)
	// Dropped counts notifications that were dropped because their reader was too slow.
	Dropped func() uint64
}

// collector asks the sources when metrics are read.
type collector struct{ src Sources }

// NewCollector returns a collector that asks sources when metrics are read.
func NewCollector(src Sources) prometheus.Collector { return collector{src} }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tutti_"+name, help, labels, nil)
}

var (
	queueDepth = desc("queue_depth", "Tasks that wait in a queue, as far as they are in memory.",
		"namespace", "queue")
	queueAge = desc("queue_oldest_seconds", "Age of the oldest task that waits.",
		"namespace", "queue")
	queueWorkers = desc("queue_workers_waiting", "Workers that wait at a queue.", "namespace", "queue")
	pending      = desc("pending_commands", "Commands that wait at a shard.", "shard")
	healthy      = desc("healthy", "1 when the server can serve.")
	indexLag     = desc("text_index_lag_seconds", "By how much the index of free text is behind.")
	auditRuns    = desc("audited_runs_total", "Open runs that the auditor has looked at.")
	auditFound   = desc("audit_problems_total", "Open runs found with nothing to wake them.")
	auditFixed   = desc("audit_repairs_total", "Open runs that the auditor repaired.")
	dropped      = desc("dropped_notifications_total", "Events that were not traced or logged.")
)

// storeFigure is one of the figures of a store.
type storeFigure struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	get  func(store.Stats) uint64
}

func figure(
	kind prometheus.ValueType, name, help string, get func(store.Stats) uint64,
) storeFigure {
	return storeFigure{desc("store_"+name, help), kind, get}
}

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

var storeFigures = []storeFigure{
	figure(counter, "commits_total", "Batches applied.",
		func(s store.Stats) uint64 { return s.Commits }),
	figure(counter, "operations_total", "Operations in batches.",
		func(s store.Stats) uint64 { return s.Ops }),
	figure(counter, "bytes_total", "Bytes of keys and values in batches.",
		func(s store.Stats) uint64 { return s.Bytes }),
	figure(counter, "refused_total", "Batches that failed.",
		func(s store.Stats) uint64 { return s.Refused }),
	figure(counter, "flushes_total", "Flushes of memory to disk.",
		func(s store.Stats) uint64 { return s.Flushes }),
	figure(counter, "compactions_total", "Compactions.",
		func(s store.Stats) uint64 { return s.Compactions }),
	figure(counter, "write_stalls_total", "Times that commits had to wait for background work.",
		func(s store.Stats) uint64 { return s.WriteStalls }),
	figure(gauge, "wal_bytes", "Size of the write-ahead log.",
		func(s store.Stats) uint64 { return s.WALBytes }),
	figure(gauge, "memtable_bytes", "Data in memory that is not flushed.",
		func(s store.Stats) uint64 { return s.MemTableBytes }),
	figure(gauge, "cache_bytes", "Block cache in use.",
		func(s store.Stats) uint64 { return s.CacheBytes }),
	figure(gauge, "disk_bytes", "Disk space in use.",
		func(s store.Stats) uint64 { return s.DiskBytes }),
	figure(gauge, "disk_free_bytes", "Disk space that is left.",
		func(s store.Stats) uint64 { return s.DiskFreeBytes }),
	figure(gauge, "compaction_debt_bytes", "Work ahead of compactions.",
		func(s store.Stats) uint64 { return s.CompactionDebtBytes }),
}

// Describe implements prometheus.Collector: the series depend on the sources.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		queueDepth, queueAge, queueWorkers, pending, healthy, indexLag, auditRuns, auditFound,
		auditFixed, dropped,
	} {
		ch <- d
	}
	for _, f := range storeFigures {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	emit := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	if r := c.src.Runner; r != nil {
		collectQueues(r, emit)
		for shard, n := range r.Stats().Pending {
			emit(pending, gauge, float64(n), strconv.Itoa(shard))
		}
		up := 1.0
		if r.Healthy() != nil {
			up = 0
		}
		emit(healthy, gauge, up)
	}
	if c.src.Store != nil {
		st := c.src.Store.Stats()
		for _, f := range storeFigures {
			emit(f.desc, f.kind, float64(f.get(st)))
		}
	}
	if c.src.IndexLag != nil {
		emit(indexLag, gauge, c.src.IndexLag().Seconds())
	}
	if c.src.Audit != nil {
		runs, problems, repairs := c.src.Audit()
		emit(auditRuns, counter, float64(runs))
		emit(auditFound, counter, float64(problems))
		emit(auditFixed, counter, float64(repairs))
	}
	if c.src.Dropped != nil {
		emit(dropped, counter, float64(c.src.Dropped()))
	}
}

func collectQueues(
	r *runner.Runner, emit func(*prometheus.Desc, prometheus.ValueType, float64, ...string),
) {
	now := time.Now().UnixMilli()
	rest := runner.QueueStats{}
	queues := r.Queues()
	for i, q := range queues {
		if i >= maxQueues {
			rest.Ready += q.Ready
			rest.Waiting += q.Waiting
			if q.OldestMs > 0 && (rest.OldestMs == 0 || q.OldestMs < rest.OldestMs) {
				rest.OldestMs = q.OldestMs
			}
			continue
		}
		ns, name, _ := strings.Cut(q.Name, "/")
		emitQueue(ns, name, &q, now, emit)
	}
	if len(queues) > maxQueues {
		emitQueue("", "other", &rest, now, emit)
	}
}

func emitQueue(
	ns, name string, q *runner.QueueStats, nowMs int64,
	emit func(*prometheus.Desc, prometheus.ValueType, float64, ...string),
) {
	age := 0.0
	if q.OldestMs > 0 {
		age = seconds(nowMs - q.OldestMs)
	}
	emit(queueDepth, gauge, float64(q.Ready), ns, name)
	emit(queueAge, gauge, age, ns, name)
	emit(queueWorkers, gauge, float64(q.Waiting), ns, name)
}
