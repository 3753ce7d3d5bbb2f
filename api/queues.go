package api

import (
	"context"
	"strings"
)

// QueueInfo are figures of a queue.
type QueueInfo struct {
	Name     string // without its namespace
	Depth    int    // tasks that wait for a worker
	AtLeast  bool   // Depth was counted up to MaxDepth; there may be more
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
			out = append(out, QueueInfo{
				Name: name, Depth: q.Ready, AtLeast: q.More, OldestMs: q.OldestMs,
				Waiting: q.Waiting, LastPoll: q.LastPoll,
			})
		}
	}
	return out, nil
}

// PollData returns who asked for tasks of a queue since the server started, newest first;
// an empty name stands for all queues of the namespace.
func (s *Service) PollData(ctx context.Context, ns, queue string) ([]PollInfo, error) {
	if err := s.authorize(ctx, ReadQueues, ns); err != nil {
		return nil, err
	}
	var out []PollInfo
	for _, q := range s.run.Queues() {
		of, name := splitQueue(q.Name)
		if of != ns || queue != "" && name != queue {
			continue
		}
		for w, at := range q.Workers {
			out = append(out, PollInfo{Queue: name, Worker: w, AtMs: at})
		}
	}
	return out, nil
}

// MaxDepth is up to where the tasks of one queue are counted.
const MaxDepth = 100_000
