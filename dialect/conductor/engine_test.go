package conductor_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/engine/enginetest"
	"github.com/tutti-run/tutti/value"
)

// catalogue holds documents by kind and name.
type catalogue map[string]value.Raw

func (c catalogue) Document(kind, name string, version int) (value.Raw, int, bool) {
	body, ok := c[kind+"/"+name]
	return body, max(version, 1), ok
}

// corpus reads all definitions of the public Conductor corpora.
func corpus(t *testing.T) (catalogue, []string) {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "shared", "corpora", "conductor")
	if _, err := os.Stat(dir); err != nil {
		t.Skip("the corpora are not here: ", err)
	}
	docs := catalogue{}
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".json") {
			return err
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		list := []value.Raw{src}
		if value.Raw(src).Kind() == "array" {
			list = slices.Collect(value.Raw(src).Elements())
		}
		for _, doc := range list {
			raw, _ := doc.Field("name")
			name, named := raw.Text()
			kind := "taskdef"
			if _, ok := doc.Field("tasks"); ok {
				kind = "workflow"
				names = append(names, name)
			}
			if named {
				docs[kind+"/"+name] = doc
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return docs, slices.Compact(names)
}

// stubOutput is what the stub worker answers: enough to satisfy the conditions of loops.
const stubOutput = `{"result": "ok", "status": "COMPLETED", "done": true, "complete": true,
	"success": true, "finished": true, "isComplete": true, "approved": true, "score": 100,
	"response": {"statusCode": 200, "body": {}}}`

// TestCorpusRuns runs every definition of the corpora on the engine, with workers that answer
// at once. Each run must end, and every batch must be the same when it is formed again from
// the rows alone.
func TestCorpusRuns(t *testing.T) {
	docs, names := corpus(t)
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			h := enginetest.New(t, enginetest.Options{
				CrashEverywhere: true, Dialects: map[string]tutti.Dialect{"conductor": conductor.Dialect{}},
			})
			for _, other := range names {
				if src, err := (conductor.Dialect{}).Link(docs, other, 0); err == nil {
					h.DefineSource(src)
				}
			}
			id := h.Start(tutti.RunSpec{Definition: name, Input: value.Raw(`{"a": 1}`)})
			work(t, h, id)
			run := h.Run(id)
			t.Logf("%s %s", run.Status, run.Reason)
			if strings.Contains(run.Reason, "fault of the server") ||
				strings.Contains(run.Reason, "can never end") {
				t.Errorf("%s\n%s", run.Reason, h.Dump(id))
			}
		})
	}
}

// work completes whatever a run and its children wait for, until they have ended.
func work(t *testing.T, h *enginetest.Harness, id tutti.RunID) {
	t.Helper()
	for n := 0; h.Run(id).Status.Open(); n++ {
		if n > 300 {
			t.Fatalf("the run does not end\n%s", h.Dump(id))
		}
		open, err := h.ViewOf(id).Open(id)
		if err != nil {
			t.Fatal(err)
		}
		done := false
		for _, seq := range open {
			task := h.Task(id, seq)
			if task == nil || !task.Status.Open() || !h.Run(id).Status.Open() {
				continue
			}
			switch task.Kind {
			case tutti.Work, tutti.Wait:
				done = true
				h.MustDo(engine.Complete{Run: id, Seq: seq, Outcome: engine.Outcome{
					Status: tutti.Completed, Output: value.Raw(stubOutput),
				}})
			case tutti.Child:
				if !task.ChildRun.IsZero() && h.Run(task.ChildRun) != nil {
					done = true
					work(t, h, task.ChildRun)
				}
			}
		}
		if !done {
			t.Fatalf("nothing to do, but the run is open\n%s", h.Dump(id))
		}
	}
}
