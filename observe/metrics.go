package observe

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
)

// maxLabels bounds the definitions, and the types of tasks, that have series of their own;
// all further ones share the label "other".
const maxLabels = 500

// maxLeases bounds the leases that are counted.
const maxLeases = 1_000_000

// Metrics are the counters of a server, in a registry of their own. Its methods are safe for
// concurrent use.
type Metrics struct {
	reg *prometheus.Registry

	started, ended          *prometheus.CounterVec
	scheduled, handed, done *prometheus.CounterVec
	returned, doubted       *prometheus.CounterVec
	timeouts                *prometheus.CounterVec
	runSeconds, waitSeconds *prometheus.HistogramVec
	workSeconds             *prometheus.HistogramVec
	batchCommands           *prometheus.HistogramVec
	batchRows               *prometheus.CounterVec
	commitSeconds           *prometheus.HistogramVec

	mu     sync.Mutex
	runs   map[string]*runSeries
	tasks  map[string]*taskSeries
	leases map[leaseKey]struct{}
	shards []*shardSeries
}

// runSeries are the series of one definition, looked up once.
type runSeries struct {
	started prometheus.Counter
	ended   [len(tutti.RunStatuses)]prometheus.Counter
	seconds prometheus.Observer
}

// taskSeries are the series of one type of task.
type taskSeries struct {
	scheduled, handed, returned, doubted, timeouts prometheus.Counter
	done                                           [tutti.Skipped + 1]prometheus.Counter
	wait, work                                     prometheus.Observer
}

type shardSeries struct {
	commands, seconds prometheus.Observer
	rows              prometheus.Counter
}

type leaseKey struct {
	run tutti.RunID
	seq tutti.Seq
}

var (
	secondsBuckets = prometheus.ExponentialBuckets(0.001, 4, 12) // 1 ms to 70 min
	commitBuckets  = prometheus.ExponentialBuckets(0.000_25, 2, 14)
	batchBuckets   = prometheus.ExponentialBuckets(1, 2, 10)
)

// NewMetrics returns counters that are all zero, with those of the Go runtime and the process.
func NewMetrics() *Metrics {
	m := &Metrics{
		reg:  prometheus.NewRegistry(),
		runs: map[string]*runSeries{}, tasks: map[string]*taskSeries{},
		leases: map[leaseKey]struct{}{},
	}
	m.reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.started = m.counter("runs_started_total", "Runs that began.", "definition")
	m.ended = m.counter("runs_ended_total", "Runs that ended.", "definition", "status")
	m.runSeconds = m.histogram("run_seconds", "From start to end of a run.",
		secondsBuckets, "definition")
	m.scheduled = m.counter("tasks_scheduled_total", "Task attempts that were created.", "type")
	m.handed = m.counter("tasks_handed_out_total", "Task attempts given to workers.", "type")
	m.done = m.counter("tasks_ended_total", "Task attempts that ended.", "type", "status")
	m.returned = m.counter("tasks_returned_total", "Leases that ended without an outcome.", "type")
	m.doubted = m.counter("tasks_in_doubt_total",
		"Attempts whose worker vanished after it may have acted.", "type")
	m.timeouts = m.counter("task_timeouts_total", "Deadlines of tasks that passed.", "type")
	m.waitSeconds = m.histogram("task_wait_seconds",
		"From when a task may be handed out until it is.", secondsBuckets, "type")
	m.workSeconds = m.histogram("task_seconds", "From hand-out to end of an attempt.",
		secondsBuckets, "type")
	m.batchCommands = m.histogram("batch_commands", "Commands that became durable together.",
		batchBuckets, "shard")
	m.batchRows = m.counter("rows_written_total", "Rows written to the store.", "shard")
	m.commitSeconds = m.histogram("commit_seconds", "From forming a batch until it is durable.",
		commitBuckets, "shard")
	m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tutti_leases",
		Help: "Tasks that workers hold, of those handed out since the server started.",
	}, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		return float64(len(m.leases))
	}))
	return m
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tutti_" + name, Help: help}, labels)
	m.reg.MustRegister(c)
	return c
}

func (m *Metrics) histogram(
	name, help string, buckets []float64, labels ...string,
) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tutti_" + name, Help: help, Buckets: buckets,
	}, labels)
	m.reg.MustRegister(h)
	return h
}

// Register adds further collectors.
func (m *Metrics) Register(cs ...prometheus.Collector) error {
	for _, c := range cs {
		if err := m.reg.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// Handler serves the metrics in the formats of Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4, Timeout: 30 * time.Second,
	})
}

// OnBatch counts a durable batch of a shard. It fits runner.Options.OnBatch.
func (m *Metrics) OnBatch(shard, commands, rows int, took time.Duration) {
	m.mu.Lock()
	for len(m.shards) <= shard {
		name := strconv.Itoa(len(m.shards))
		m.shards = append(m.shards, &shardSeries{
			commands: m.batchCommands.WithLabelValues(name),
			seconds:  m.commitSeconds.WithLabelValues(name),
			rows:     m.batchRows.WithLabelValues(name),
		})
	}
	s := m.shards[shard]
	m.mu.Unlock()
	s.commands.Observe(float64(commands))
	s.rows.Add(float64(rows))
	s.seconds.Observe(took.Seconds())
}

// Observe counts transitions. It fits runner.Options.Observe.
func (m *Metrics) Observe(notes []engine.Notification) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range notes {
		n := &notes[i]
		switch n.Kind {
		case engine.HistoryRunStarted:
			m.run(n.Run.Definition).started.Inc()
		case engine.HistoryRunEnded:
			s := m.run(n.Run.Definition)
			s.ended[n.Status].Inc()
			s.seconds.Observe(seconds(n.AtMs - n.Run.StartMs))
		default:
			if n.Type != "" {
				m.observeTask(m.task(n.Type), n)
			}
		}
	}
}

func (m *Metrics) observeTask(s *taskSeries, n *engine.Notification) {
	key := leaseKey{n.Run.ID, n.Seq}
	switch n.Kind {
	case engine.HistoryTaskScheduled:
		s.scheduled.Inc()
	case engine.HistoryTaskHandedOut:
		s.handed.Inc()
		s.wait.Observe(seconds(n.WaitMs))
		if len(m.leases) < maxLeases {
			m.leases[key] = struct{}{}
		}
	case engine.HistoryTaskReturned:
		s.returned.Inc()
		delete(m.leases, key)
	case engine.HistoryTaskInDoubt:
		s.doubted.Inc()
	case engine.HistoryTaskTimeout:
		s.timeouts.Inc()
	case engine.HistoryTaskDone:
		s.done[n.Status].Inc()
		s.work.Observe(seconds(n.WaitMs))
		delete(m.leases, key)
	}
}

func seconds(ms int64) float64 { return float64(max(ms, 0)) / 1000 }

// run returns the series of a definition. Called with mu held.
func (m *Metrics) run(def string) *runSeries {
	if s, ok := m.runs[def]; ok {
		return s
	}
	label := def
	if len(m.runs) >= maxLabels {
		label = "other"
	}
	s := &runSeries{
		started: m.started.WithLabelValues(label), seconds: m.runSeconds.WithLabelValues(label),
	}
	for _, st := range tutti.RunStatuses {
		if !st.Open() {
			s.ended[st] = m.ended.WithLabelValues(label, st.String())
		}
	}
	if label == def {
		m.runs[def] = s
	}
	return s
}

// task returns the series of a type of task. Called with mu held.
func (m *Metrics) task(typ string) *taskSeries {
	if s, ok := m.tasks[typ]; ok {
		return s
	}
	label := typ
	if len(m.tasks) >= maxLabels {
		label = "other"
	}
	s := &taskSeries{
		scheduled: m.scheduled.WithLabelValues(label), handed: m.handed.WithLabelValues(label),
		returned: m.returned.WithLabelValues(label), doubted: m.doubted.WithLabelValues(label),
		timeouts: m.timeouts.WithLabelValues(label), wait: m.waitSeconds.WithLabelValues(label),
		work: m.workSeconds.WithLabelValues(label),
	}
	for st := range s.done {
		if status := tutti.TaskStatus(st); !status.Open() {
			s.done[st] = m.done.WithLabelValues(label, status.String())
		}
	}
	if label == typ {
		m.tasks[typ] = s
	}
	return s
}
