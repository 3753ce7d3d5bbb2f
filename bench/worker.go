package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tutti-run/tutti/client"
)

// Work is the body of a worker process: it serves the steps of all workloads, by the native
// stream (kind "stream") or by Conductor's HTTP API (kind "http"), until ctx is done. It
// prints a line when it is ready; over HTTP further lines tell how many runs it saw end.
func Work(ctx context.Context, out io.Writer, kind, addr string, concurrency int) error {
	switch kind {
	case "stream":
		return workStream(ctx, out, addr, concurrency)
	case "http":
		return workHTTP(ctx, out, addr)
	}
	return fmt.Errorf("no kind of worker is called %q", kind)
}

func workStream(ctx context.Context, out io.Writer, addr string, concurrency int) error {
	c, err := client.Dial(addr, client.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	w := c.Worker(client.WorkerOptions{
		Concurrency: concurrency, DrainTimeout: time.Second,
	})
	for _, q := range stepQueues {
		w.HandleRaw(q, func(_ context.Context, t *client.Task) (json.RawMessage, error) {
			return t.Input, nil
		})
	}
	_, _ = fmt.Fprintln(out, "ready")
	return w.Run(ctx)
}

// pollers is how many polls a worker has open for each queue, and pollBatch how many tasks
// each may bring.
const (
	pollers   = 2
	pollBatch = 100
	reporters = 64
)

// workHTTP polls batches and reports every task by itself.
func workHTTP(ctx context.Context, out io.Writer, addr string) error {
	base := "http://" + addr + "/api/tasks"
	var ended atomic.Int64
	tasks := make(chan polled, pollers*pollBatch)
	var polls, reports sync.WaitGroup
	for _, q := range stepQueues {
		for range pollers {
			polls.Go(func() { pollLoop(ctx, base, q, tasks) })
		}
	}
	for range reporters {
		reports.Go(func() {
			for t := range tasks {
				if complete(base, t) && t.TaskType == stepQueues[2] {
					ended.Add(1)
				}
			}
		})
	}
	_, _ = fmt.Fprintln(out, "ready")
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for last := int64(0); ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		if n := ended.Load(); n != last {
			last = n
			_, _ = fmt.Fprintln(out, "ended", n)
		}
	}
	polls.Wait()
	close(tasks)
	reports.Wait()
	return nil
}

// polled is what a worker needs of a task.
type polled struct {
	TaskID             string          `json:"taskId"`
	TaskType           string          `json:"taskType"`
	WorkflowInstanceID string          `json:"workflowInstanceId"`
	InputData          json.RawMessage `json:"inputData"`
}

func pollLoop(ctx context.Context, base, queue string, tasks chan<- polled) {
	u := fmt.Sprintf("%s/poll/batch/%s?workerid=bench&count=%d&timeout=1000",
		base, queue, pollBatch)
	for ctx.Err() == nil {
		body, err := call(ctx, "GET", u, nil)
		var batch []polled
		if err == nil && len(body) > 0 {
			err = json.Unmarshal(body, &batch)
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		for _, t := range batch {
			tasks <- t
		}
	}
}

// complete reports a task as done and says whether the server took it.
func complete(base string, t polled) bool {
	body, err := json.Marshal(object{
		"taskId": t.TaskID, "workflowInstanceId": t.WorkflowInstanceID,
		"status": "COMPLETED", "outputData": t.InputData, "workerId": "bench",
	})
	if err != nil {
		return false
	}
	if _, err = call(context.Background(), "POST", base, body); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "report lost:", err)
	}
	return err == nil
}
