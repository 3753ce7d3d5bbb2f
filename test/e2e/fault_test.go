//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tutti-run/tutti/client"
)

// TestDrain stops the server under load: it exits with 0, and nothing acknowledged is lost.
func TestDrain(t *testing.T) {
	s := newServer(t, "--log-level", "warn")
	s.start()
	c := s.dial()
	apply(t, c, chain)
	world := &outside{effects: map[string]int{}}
	w := c.Worker(client.WorkerOptions{Concurrency: 100, DrainTimeout: time.Second})
	client.Handle(w, "e2e_step", world.step)
	background(t, func(ctx context.Context) { _ = w.Run(ctx) })
	l := &starter{c: c, acked: map[string]int{}}
	stopStarting := l.run(t, 4)
	for range 3 {
		time.Sleep(time.Second) // the load is what happens meanwhile
		begun := time.Now()
		if err := s.stop(15 * time.Second); err != nil {
			t.Fatalf("the server exited with %v", err)
		}
		t.Logf("drained in %v", time.Since(begun))
		s.start()
	}
	stopStarting()
	l.check(t, s)
	world.check(t, len(l.acked))
}

// TestSecondSignal sees that a second signal ends a server at once that waits for a request.
func TestSecondSignal(t *testing.T) {
	s := newServer(t, "--drain-timeout", "1m")
	s.start()
	conn, err := net.Dial("tcp", s.http)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// A request whose body never comes keeps the drain waiting.
	_, err = io.WriteString(conn, "POST /api/metadata/workflow HTTP/1.1\r\nHost: localhost\r\n"+
		"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	if err != nil {
		t.Fatal(err)
	}
	await(t, 5*time.Second, func() error {
		if _, body := s.get("/metrics"); !strings.Contains(body, "tutti_healthy") {
			return fmt.Errorf("no figures: %s", body)
		}
		return nil
	})
	_ = s.cmd.Process.Signal(unix.SIGTERM)
	await(t, 5*time.Second, func() error {
		if !strings.Contains(s.log.String(), "stopping") {
			return fmt.Errorf("the signal was not heard")
		}
		return nil
	})
	_ = s.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-s.exited:
		s.cmd = nil
	case <-time.After(5 * time.Second):
		t.Fatal("the second signal did not end the server")
	}
}

// TestDataInUse sees that a folder has one server, also right after kill -9.
func TestDataInUse(t *testing.T) {
	s := newServer(t)
	s.start()
	out, err := exec.Command(binary, "serve", "--listen", "127.0.0.1:0", "--grpc-listen",
		"127.0.0.1:0", "--data", s.dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another server has it open") {
		t.Fatalf("a second server on the folder: %v\n%s", err, out)
	}
	s.kill()
	s.start()
}

// TestNewerData sees that data of a newer version is left alone.
func TestNewerData(t *testing.T) {
	s := newServer(t)
	s.start()
	if err := s.stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	// Pebble names its own format in the marker file; a version of the far future is refused.
	markers, err := filepath.Glob(filepath.Join(s.dir, "marker.format-version.*"))
	if err != nil || len(markers) != 1 {
		t.Skipf("the folder shows no version to change: %v %v", markers, err)
	}
	base, _, _ := strings.Cut(filepath.Base(markers[0]), ".format-version.")
	newer := filepath.Join(s.dir, base+".format-version.000099.999")
	if err := os.Rename(markers[0], newer); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(binary, "serve", "--listen", "127.0.0.1:0", "--grpc-listen",
		"127.0.0.1:0", "--data", s.dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "open the data folder") {
		t.Fatalf("a server on newer data: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// TestDiskFull fills the disk under a server: it refuses what it cannot keep, says so, loses
// nothing, and goes on when there is room again.
func TestDiskFull(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=512m"); err != nil {
		t.Skipf("needs the right to mount a small disk: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	s := newServer(t, "--log-level", "warn")
	s.dir = filepath.Join(disk, "data")
	s.start()
	c := s.dial()
	apply(t, c, `{"name": "waits", "version": 1, "schemaVersion": 2, "tasks": [
		{"name": "gate", "taskReferenceName": "gate", "type": "HUMAN"}]}`)
	before := startMany(t, c, "waits", 100)

	filler := filepath.Join(disk, "filler")
	fill(t, filler)
	var refusal error
	await(t, 20*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, refusal = c.Start(ctx, client.StartOptions{Definition: "waits"})
		if refusal == nil {
			return fmt.Errorf("the server still takes runs")
		}
		return nil
	})
	t.Logf("a start on a full disk: %v", refusal)
	if !strings.Contains(refusal.Error(), "disk") {
		t.Errorf("the refusal does not speak of the disk: %v", refusal)
	}
	if status, body := s.get("/healthz"); status != 200 {
		t.Errorf("healthz: %d %s", status, body)
	}
	if status, body := s.get("/readyz"); status != 503 || !strings.Contains(body, "disk") {
		t.Errorf("readyz on a full disk: %d %s", status, body)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	await(t, 30*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Start(ctx, client.StartOptions{Definition: "waits"})
		return err
	})
	await(t, 30*time.Second, func() error {
		if status, body := s.get("/readyz"); status != 200 {
			return fmt.Errorf("readyz with room again: %d %s", status, body)
		}
		return nil
	})
	for _, id := range before {
		if r, err := c.Get(t.Context(), id); err != nil || r.Status != "RUNNING" {
			t.Fatalf("run %s after the disk was full: %+v %v", id, r, err)
		}
	}
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(block)
	}
}

// TestBadInput throws nonsense at both ports. The server goes on.
func TestBadInput(t *testing.T) {
	s := newServer(t, "--log-level", "error")
	s.start()
	c := s.dial()
	apply(t, c, `{"name": "waits", "version": 1, "schemaVersion": 2, "tasks": [
		{"name": "gate", "taskReferenceName": "gate", "type": "HUMAN"}]}`)
	noise := make([]byte, 64<<10)
	_, _ = rand.Read(noise)
	for _, addr := range []string{s.http, s.grpc} {
		for _, junk := range [][]byte{
			noise, []byte("GET / HTTP/1.1\r\n"), []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
			append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), noise...),
			[]byte("POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
			[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n" +
				strings.Repeat("X-A: "+strings.Repeat("b", 1000)+"\r\n", 1000) + "\r\n"),
		} {
			throw(t, addr, junk)
		}
	}
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	long := `{"a":"` + strings.Repeat("x", 60<<20) + `"}`
	for _, body := range []string{
		"", "null", "[]", `"`, "{", `{"name": "\xff\xfe"}`, `{"name": 5, "tasks": {}}`, deep, long,
		`{"name": "x", "tasks": [{"name": "y", "taskReferenceName": "y", "type": "INLINE",
		  "inputParameters": {"evaluatorType": "javascript", "expression": "while(true){}"}}]}`,
	} {
		for _, path := range []string{
			"/api/metadata/workflow", "/api/workflow", "/api/workflow/waits", "/api/tasks",
			"/api/metadata/taskdefs", "/api/event", "/admin/v1/runs", "/admin/v1/definitions",
		} {
			post(t, s, path, body)
		}
	}
	if status, body := s.get("/readyz"); status != 200 {
		t.Fatalf("readyz: %d %s", status, body)
	}
	if _, err := c.Start(t.Context(), client.StartOptions{Definition: "waits"}); err != nil {
		t.Fatal(err)
	}
	if log := s.log.String(); strings.Contains(log, "panic") {
		t.Errorf("a handler panicked:\n%s", log)
	}
}

// throw writes bytes to an address and reads what comes, for a moment.
func throw(t *testing.T, addr string, b []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
	_, _ = conn.Write(b)
	_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
}

// post sends a body, whatever the answer; only a status of 5xx other than Conductor's own
// answer to malformed JSON is wrong.
func post(t *testing.T, s *server, path, body string) {
	t.Helper()
	resp, err := http.Post("http://"+s.http+path, "application/json", strings.NewReader(body))
	if err != nil {
		if len(body) > 40<<20 {
			return // cut off in the middle of too large a body
		}
		t.Fatalf("POST %s: %v", path, err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 500 && !bytes.Contains(answer, []byte("JSON")) {
		t.Errorf("POST %s %.40q: %s: %.300s", path, body, resp.Status, answer)
	}
}
