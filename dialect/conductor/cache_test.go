package conductor_test

import (
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

// A key is made of the task's input parameters or of ordinary expressions.
func TestCacheConfig(t *testing.T) {
	for name, c := range map[string]struct{ queue, task string }{
		"input parameter": {"t", `"type": "SIMPLE", "cacheConfig": {
			"key": "${op}-${deep.x}", "ttlInSecond": 60}`},
		"expression": {"t", `"type": "SIMPLE", "cacheConfig": {
			"key": "${workflow.input.op}-${workflow.input.n}", "ttlInSecond": 60}`},
		"connector": {conductor.QueueHTTP, `"type": "HTTP", "cacheConfig": {
			"key": "${op}-${deep.x}", "ttlInSecond": 60}`},
	} {
		t.Run(name, func(t *testing.T) {
			h := enginetest.New(t, enginetest.Options{
				Shards: 3, Dialects: map[string]tutti.Dialect{"conductor": conductor.Dialect{}},
			})
			docs := catalogue{"workflow/w": value.Raw(`{"name": "w", "tasks": [{"name": "t",
				"taskReferenceName": "t", "inputParameters": {"op": "${workflow.input.op}",
				"deep": {"x": "${workflow.input.n}"}}, ` + c.task + `}]}`)}
			src, err := conductor.Dialect{}.Link(docs, "w", 1)
			if err != nil {
				t.Fatal(err)
			}
			h.DefineSource(src)
			start := func(input string) tutti.RunID {
				return h.Start(tutti.RunSpec{Definition: "w", Input: value.Raw(input)})
			}
			start(`{"op": "add", "n": 1}`)
			out := h.Poll(c.queue, "worker")
			if out == nil || out.Task.Cache == nil || out.Task.Cache.Key != "add-1" {
				t.Fatalf("handed out: %+v", out)
			}
			h.Complete(out, `{"sum": 3}`)
			hit := start(`{"op": "add", "n": 1, "more": true}`)
			if got := h.Task(hit, 1); got.Status != tutti.Completed ||
				string(got.Output) != `{"sum": 3}` || h.Run(hit).Status != tutti.RunCompleted {
				t.Errorf("the same key is not met\n%s", h.Dump(hit))
			}
			if miss := h.Task(start(`{"op": "add", "n": 2}`), 1); miss.Status.Successful() {
				t.Error("another key is met")
			}
			h.Advance(60_000)
			if late := h.Task(start(`{"op": "add", "n": 1}`), 1); late.Status.Successful() {
				t.Error("the output is kept beyond its time")
			}
		})
	}
}
