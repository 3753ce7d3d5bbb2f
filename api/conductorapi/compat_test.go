package conductorapi

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The document of what is compatible names every endpoint and every field of definitions.
func TestCompatibilityIsWrittenDown(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	for _, rt := range routes() {
		pattern := strings.Replace(rt.pattern, "/*", "/{event}", 1)
		if want := "`" + rt.method + " " + pattern + "`"; !strings.Contains(doc, want) {
			t.Errorf("endpoint %s is missing", want)
		}
	}
	var components map[string]struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal([]byte(schemas), &components); err != nil {
		t.Fatal(err)
	}
	for section, title := range map[string]string{
		"WorkflowDef": "## Workflow definition", "WorkflowTask": "## Steps of a workflow",
		"TaskDef": "## Task definition", "StartWorkflowRequest": "## Requests",
		"TaskResult": "## Requests", "SkipTaskRequest": "## Requests",
	} {
		_, part, found := strings.Cut(doc, title)
		if !found {
			t.Errorf("section %q is missing", title)
			continue
		}
		part, _, _ = strings.Cut(part, "\n## ")
		if len(components[section].Properties) == 0 {
			t.Errorf("no schema of %s", section)
		}
		for name := range components[section].Properties {
			if !strings.Contains(part, "`"+name+"`") {
				t.Errorf("%s.%s is missing under %q", section, name, title)
			}
		}
	}
}
