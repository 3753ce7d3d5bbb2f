//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tutti-run/tutti/client"
)

// binary is the program under test, built by TestMain.
var binary string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tutti-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "tutti")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/tutti")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// server is a process that can be killed and started again at the same addresses.
type server struct {
	t          *testing.T
	dir        string
	http, grpc string
	flags      []string
	cmd        *exec.Cmd
	log        *logTail
	exited     chan error
}

// newServer reserves addresses and a folder; start starts it.
func newServer(t *testing.T, flags ...string) *server {
	s := &server{
		t: t, dir: filepath.Join(t.TempDir(), "data"), http: freeAddr(t), grpc: freeAddr(t),
		flags: flags, log: &logTail{},
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the server logged at last:\n%s", s.log)
		}
	})
	return s
}

// freeAddr returns an address that nobody listens on.
func freeAddr(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts the process and returns how long it took until it served.
func (s *server) start() time.Duration {
	s.t.Helper()
	begun := time.Now()
	s.cmd = exec.Command(binary, append([]string{
		"serve", "--listen", s.http, "--grpc-listen", s.grpc, "--data", s.dir,
	}, s.flags...)...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	took := time.Since(begun)
	s.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan error) {
		_, _ = io.Copy(io.Discard, out)
		exited <- cmd.Wait()
	}(s.cmd, s.exited)
	if err != nil || !strings.HasPrefix(line, "tutti ready ") {
		s.t.Fatalf("the server did not start: %q %v\n%s", line, err, s.log)
	}
	return took
}

// kill ends the process without warning.
func (s *server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		<-s.exited
		s.cmd = nil
	}
}

// stop ends the process by SIGTERM and returns how it exited.
func (s *server) stop(within time.Duration) error {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.exited:
		s.cmd = nil
		return err
	case <-time.After(within):
		s.t.Fatalf("the server has not stopped within %v", within)
		return nil
	}
}

func (s *server) dial() *client.Client {
	s.t.Helper()
	c, err := client.Dial(s.grpc, client.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// get requests a path over HTTP.
func (s *server) get(path string) (status int, body string) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.http + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// apply stores definitions.
func apply(t *testing.T, c *client.Client, sources ...string) {
	t.Helper()
	for _, src := range sources {
		if err := c.Apply(t.Context(), "definitions.json", []byte(src)); err != nil {
			t.Fatal(err)
		}
	}
}

// await repeats a check until it is nil.
func await(t *testing.T, within time.Duration, check func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); ; <-tick.C {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("after %v: %v", within, err)
		}
	}
}

// background runs fn until the test ends.
func background(t *testing.T, fn func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// logTail keeps the end of a log.
type logTail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logTail) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buf.Len() > 1<<20 {
		l.buf.Next(l.buf.Len() / 2)
	}
	return l.buf.Write(b)
}

func (l *logTail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buf.Bytes()
	return string(b[max(0, len(b)-8000):])
}
