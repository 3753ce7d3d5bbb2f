package orders

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/tutti-run/tutti/client"
)

// RunStreamWorker checks and packs orders until ctx ends. It uses the native stream: tasks
// are pushed to it, and typed functions handle them.
func RunStreamWorker(ctx context.Context, c *client.Client) error {
	w := c.Worker(client.WorkerOptions{ID: "warehouse", DrainTimeout: 5 * time.Second})
	client.Handle(w, "check_order", check)
	client.Handle(w, "pack_order", pack)
	return w.Run(ctx)
}

type checked struct {
	Total int `json:"total"`
}

func check(_ context.Context, o Order) (checked, error) {
	if len(o.Items) == 0 {
		return checked{}, client.Fatal(errors.New("the order is empty"))
	}
	total := 0
	for _, it := range o.Items {
		total += it.Count * it.Price
	}
	return checked{total}, nil
}

type packed struct {
	Parcels int `json:"parcels"`
}

func pack(_ context.Context, o Order) (packed, error) {
	return packed{Parcels: 1 + len(o.Items)/3}, nil
}

// RunPollingWorker tells customers about their orders until ctx ends. It uses Conductor's
// HTTP API, as the unchanged Conductor clients do; api is the server's address, such as
// http://127.0.0.1:8080/api.
func RunPollingWorker(ctx context.Context, api string, say Say) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	for ctx.Err() == nil {
		var batch []struct {
			TaskID             string `json:"taskId"`
			WorkflowInstanceID string `json:"workflowInstanceId"`
			InputData          struct {
				OrderID, Customer, Message string
			} `json:"inputData"`
		}
		err := callJSON(ctx, "GET",
			api+"/tasks/poll/batch/notify_customer?workerid=mailer&count=10&timeout=2000", nil, &batch)
		if err != nil {
			pause(ctx, time.Second) // the server is away; ask again
			continue
		}
		for _, t := range batch {
			tasks.Go(func() {
				say(t.InputData.OrderID, t.InputData.Customer+" is told: "+t.InputData.Message)
				// Should the report get lost, the task's response timeout hands it out again.
				_ = callJSON(context.WithoutCancel(ctx), "POST", api+"/tasks", map[string]any{
					"taskId": t.TaskID, "workflowInstanceId": t.WorkflowInstanceID,
					"status": "COMPLETED", "workerId": "mailer",
					"outputData": map[string]any{"sent": true},
				}, nil)
			})
		}
	}
	return nil
}

var web = &http.Client{Timeout: 30 * time.Second}

// callJSON makes a request; out, when not nil, gets the answer.
func callJSON(ctx context.Context, method, url string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := web.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, answer)
	case out == nil || len(answer) == 0:
		return nil
	}
	return json.Unmarshal(answer, out)
}
