package conductorapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// TestOpenAPI validates the document and checks that it names every route once.
func TestOpenAPI(t *testing.T) {
	s := newServer(t)
	doc, err := openapi3.NewLoader().LoadFromData([]byte(s.ok("GET", "/api-docs", "").body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if other := s.ok("GET", "/v3/api-docs", "").body; other != s.ok("GET", "/api-docs", "").body {
		t.Error("/v3/api-docs differs")
	}
	ids := map[string]bool{}
	operations := 0
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() {
			operations++
			if ids[op.OperationID] {
				t.Errorf("operation %s occurs twice", op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
	if n := len(routes()); n != operations {
		t.Errorf("the document has %d operations, the table %d", operations, n)
	}
}

// TestRoutes checks what must hold for every endpoint: a permission, a description, and an
// answer of the API itself.
func TestRoutes(t *testing.T) {
	s := newServer(t)
	seen := map[string]bool{}
	for _, rt := range routes() {
		name := rt.method + " " + rt.pattern
		if seen[name] || rt.perm == "" || rt.doc == "" {
			t.Errorf("%s: twice, or without permission or description", name)
		}
		seen[name] = true
		path := pathParameter.ReplaceAllString(rt.pattern, "x")
		path = strings.ReplaceAll(path, "*", "x")
		r := s.do(rt.method, path, "{}")
		if strings.Contains(r.body, "No static resource") || r.status == http.StatusMethodNotAllowed {
			t.Errorf("%s is not served: %d %s", name, r.status, r.body)
		}
		if strings.Contains(r.body, "internal error") {
			t.Errorf("%s: %s", name, r.body)
		}
	}
}
