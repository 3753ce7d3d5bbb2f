package conductorapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// BenchmarkTask measures start, poll and report of a workflow of one task, without the network.
func BenchmarkTask(b *testing.B) {
	s := newServer(b)
	s.ok("POST", "/api/metadata/workflow", oneTask)
	h := s.api.Handler()
	do := func(method, path, body string) string {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(b.Context(), method, path, strings.NewReader(body))
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		return w.Body.String()
	}
	b.ReportAllocs()
	for b.Loop() {
		id := do("POST", "/api/workflow", `{"name":"one","input":{"a":1}}`)
		task := do("GET", "/api/tasks/poll/batch/work?count=1&timeout=1000", "")
		_, after, _ := strings.Cut(task, `"taskId":"`)
		do("POST", "/api/tasks", fmt.Sprintf(
			`{"workflowInstanceId":%q,"taskId":%q,"status":"COMPLETED"}`, id, after[:36]))
	}
}
