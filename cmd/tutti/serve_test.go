package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecrets sees that a secret reaches the service that it is for and nothing else.
func TestSecrets(t *testing.T) {
	const secret = "s3cr3t-value"
	got := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok": true}`)
	}))
	t.Cleanup(service.Close)
	web, grpc := testServer(t, "TUTTI_SECRET_TOKEN="+secret)
	def := filepath.Join(t.TempDir(), "secretive.json")
	err := os.WriteFile(def, fmt.Appendf(nil, `{
		"name": "secretive", "version": 1, "schemaVersion": 2, "tasks": [{
			"name": "call", "taskReferenceName": "call", "type": "HTTP",
			"inputParameters": {"http_request": {"method": "GET", "uri": %q,
				"headers": {"Authorization": "Bearer ${workflow.secrets.TOKEN}"}}}}],
		"outputParameters": {"call": "${call.input}"}}`, service.URL), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if out, errs, code := command(t, "apply", "--server", grpc, def); code != exitOK {
		t.Fatalf("%s%s", out, errs)
	}
	out, errs, code := command(t, "run", "secretive", "--server", grpc, "--wait", "-o", "json")
	if code != exitOK {
		t.Fatalf("%s%s", out, errs)
	}
	if h := <-got; h != "Bearer "+secret {
		t.Errorf("the service got %q", h)
	}
	_, id, _ := strings.Cut(out, `"id": "`)
	id, _, _ = strings.Cut(id, `"`)
	history, _, _ := command(t, "history", id, "--server", grpc, "-o", "json")
	for _, seen := range []string{
		out, history, page(t, "http://"+web+"/api/workflow/"+id+"?includeTasks=true"),
		page(t, "http://"+web+"/admin/v1/runs/"+id+"/tasks"),
		page(t, "http://"+web+"/api/secrets"), page(t, "http://"+web+"/metrics"),
	} {
		if strings.Contains(seen, secret) {
			t.Errorf("the secret shows in %s", seen)
		}
	}
}

// page reads a page over HTTP.
func page(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v %s", url, resp.Status, err, b)
	}
	return string(b)
}
