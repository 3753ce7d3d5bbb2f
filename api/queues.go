package api

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/runner"
)

// QueueInfo are figures of a queue.
type QueueInfo struct {
	Name     string // without its namespace
	Depth    int    // tasks that wait for a worker
	AtLeast  bool   // there may be more than Depth
	OldestMs int64  // when the oldest of them became ready; 0 = none waits
	Waiting  int    // workers that wait
	LastPoll int64  // when a worker last asked (Unix ms); 0 = not since the server started
}

// PollInfo says when a worker last asked for tasks of a queue.
type PollInfo struct {
	Queue  string
	Worker string
	AtMs   int64
}

func splitQueue(key string) (namespace, queue string) {
	namespace, queue, _ = strings.Cut(key, "/")
	return namespace, queue
}

// Queues returns the figures of all queues of a namespace that were used since the server
// started or have tasks waiting, by name.
func (s *Service) Queues(ctx context.Context, ns string) ([]QueueInfo, error) {
	if err := s.authorize(ctx, ReadQueues, ns); err != nil {
		return nil, err
	}
	var out []QueueInfo
	for _, q := range s.run.Queues() {
		if of, name := splitQueue(q.Name); of == ns {
			out = append(out, queueInfo(name, q))
		}
	}
	return out, nil
}

// Queue returns the figures of one queue, with its depth counted up to MaxDepth.
func (s *Service) Queue(ctx context.Context, ns, queue string) (QueueInfo, error) {
	if err := s.authorize(ctx, ReadQueues, ns); err != nil {
		return QueueInfo{}, err
	}
	key := engine.QueueKey(ns, queue)
	st, _ := s.run.Queue(key)
	info := queueInfo(queue, st)
	if !st.More {
		return info, nil
	}
	info.Depth, info.AtLeast = 0, false
	err := s.readAll(ctx, func(views []engine.View) error {
		for _, v := range views {
			err := v.ReadyTasks(key, func(t engine.Ready) bool {
				info.Depth++
				if info.OldestMs == 0 || t.ReadyMs < info.OldestMs {
					info.OldestMs = t.ReadyMs
				}
				return info.Depth < MaxDepth
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	info.AtLeast = info.Depth >= MaxDepth
	return info, err
}

func queueInfo(name string, st runner.QueueStats) QueueInfo {
	return QueueInfo{
		Name: name, Depth: st.Ready, AtLeast: st.More, OldestMs: st.OldestMs,
		Waiting: st.Waiting, LastPoll: st.LastPoll,
	}
}

// Requeue makes the dispatcher look in the store for tasks of a queue. It changes nothing
// unless the server lost sight of one.
func (s *Service) Requeue(ctx context.Context, ns, queue string) error {
	if err := s.authorize(ctx, Administer, ns); err != nil {
		return err
	}
	s.run.Recheck(engine.QueueKey(ns, queue))
	return nil
}

// PollData returns who asked for tasks of a queue since the server started, newest first;
// an empty name stands for all queues of the namespace.
func (s *Service) PollData(ctx context.Context, ns, queue string) ([]PollInfo, error) {
	if err := s.authorize(ctx, ReadQueues, ns); err != nil {
		return nil, err
	}
	queues := s.run.Queues()
	if queue != "" {
		st, _ := s.run.Queue(engine.QueueKey(ns, queue))
		queues = []runner.QueueStats{st}
	}
	var out []PollInfo
	for _, q := range queues {
		of, name := splitQueue(q.Name)
		if of != ns {
			continue
		}
		for w, at := range q.Workers {
			out = append(out, PollInfo{Queue: name, Worker: w, AtMs: at})
		}
	}
	slices.SortFunc(out, func(a, b PollInfo) int {
		return cmp.Or(cmp.Compare(b.AtMs, a.AtMs), cmp.Compare(a.Queue, b.Queue),
			cmp.Compare(a.Worker, b.Worker))
	})
	return out, nil
}

// MaxDepth is up to where the tasks of one queue are counted.
const MaxDepth = 100_000
