package conductorapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
)

// TestScripts runs the files in testdata. A command
//
//	http [only=(member,member)]
//	METHOD path
//	body
//
// makes a request and shows status, content type and body. Workflows are called W1, W2 … in the
// order in which they are met, and their tasks W1.1, W1.2 …; the same names stand for them in
// requests, in braces. "wait run=W1 status=COMPLETED" waits for a workflow.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		s := &script{server: newServer(t, func(o *Options) {
			o.Environment = map[string]string{"REGION": "eu"}
			o.SecretNames = func() []string { return []string{"b", "a"} }
			o.Secret = func(name string) (string, bool) { return "secret of " + name, name == "a" }
		})}
		datadriven.RunTest(t, path, s.command)
	})
}

type script struct {
	*server
	runs []tutti.RunID
}

func (s *script) command(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "http":
		return s.http(t, d)
	case "wait":
		var name, status string
		d.ScanArgs(t, "run", &name)
		d.ScanArgs(t, "status", &status)
		return s.wait(t, name, status)
	}
	d.Fatalf(t, "unknown command %s", d.Cmd)
	return ""
}

var inBraces = regexp.MustCompile(`\{W(\d+)(?:\.(\d+))?\}`)

// expand replaces names in braces by identifiers.
func (s *script) expand(t *testing.T, text string) string {
	return inBraces.ReplaceAllStringFunc(text, func(name string) string {
		var run, seq int
		_, _ = fmt.Sscanf(strings.Trim(name, "{}"), "W%d.%d", &run, &seq)
		if run < 1 || run > len(s.runs) {
			t.Fatalf("%s is not known yet", name)
		}
		if seq == 0 {
			return s.runs[run-1].String()
		}
		return s.runs[run-1].TaskID(tutti.Seq(seq))
	})
}

var (
	uuids    = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	millis   = regexp.MustCompile(`\b1[789]\d{11}\b`)
	instants = regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	durances = regexp.MustCompile(`"(queueWaitTime|executionTime)":\d+`)
)

// normal replaces what differs from run to run.
func (s *script) normal(text string) string {
	text = uuids.ReplaceAllStringFunc(text, func(id string) string {
		run, seq, err := tutti.ParseTaskID(id)
		if err != nil {
			return id
		}
		at := slices.Index(s.runs, run)
		if at < 0 {
			s.runs = append(s.runs, run)
			at = len(s.runs) - 1
		}
		if seq == 0 {
			return fmt.Sprintf("W%d", at+1)
		}
		return fmt.Sprintf("W%d.%d", at+1, seq)
	})
	text = millis.ReplaceAllString(text, "0")
	text = instants.ReplaceAllString(text, "TIME")
	text = durances.ReplaceAllString(text, `"$1":0`)
	if host, err := os.Hostname(); err == nil {
		text = strings.ReplaceAll(text, fmt.Sprintf(`"instance":%q`, host), `"instance":"HOST"`)
	}
	return text
}

func (s *script) http(t *testing.T, d *datadriven.TestData) string {
	head, body, _ := strings.Cut(s.expand(t, d.Input), "\n")
	method, path, _ := strings.Cut(head, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%d %s\n", res.StatusCode, res.Header.Get("Content-Type"))
	for _, name := range []string{"Warning", "Allow"} {
		if v := res.Header.Get(name); v != "" {
			out += name + ": " + v + "\n"
		}
	}
	text := s.normal(string(b))
	var only []string
	for _, arg := range d.CmdArgs {
		if arg.Key == "only" {
			only = arg.Vals
		}
	}
	return out + show(t, text, only)
}

// show writes a body: whole, or of an object the members that were asked for.
func show(t *testing.T, text string, only []string) string {
	if only == nil || !strings.HasPrefix(text, "{") {
		if text == "" {
			return ""
		}
		return text + "\n"
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	var b strings.Builder
	for _, name := range only {
		v, ok := members[name]
		if !ok {
			v = json.RawMessage("(none)")
		}
		fmt.Fprintf(&b, "%s: %s\n", name, v)
	}
	return b.String()
}

// wait waits for a workflow to reach a status.
func (s *script) wait(t *testing.T, name, status string) string {
	id, err := tutti.ParseRunID(s.expand(t, "{"+name+"}"))
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	met, err := s.svc.WaitUntil(t.Context(), namespace, id, 10*time.Second,
		func(v *api.RunView) (bool, error) {
			got = v.Run.Status.String()
			return got == status, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	if !met {
		return "timed out as " + got
	}
	return "ok"
}
