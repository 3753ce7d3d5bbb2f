package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tutti-run/tutti/client"
)

// WorkerCommand is the command of the program under test that calls Work.
const WorkerCommand = "bench-worker"

// target is the server under test and the processes that load it.
type target struct {
	o          *Options
	dir        string
	grpc, http string
	server     *process // nil when it is somebody else's
	workers    []*process
	client     *client.Client
}

// open starts the server, unless one is given, and connects to it.
func (t *target) open(ctx context.Context) error {
	t.grpc, t.http = t.o.GRPC, t.o.HTTP
	if t.grpc == "" {
		if err := t.startServer(ctx); err != nil {
			return err
		}
	}
	c, err := client.Dial(t.grpc, client.Options{})
	t.client = c
	return err
}

func (t *target) startServer(ctx context.Context) error {
	p, err := start(ctx, t.o.Command, "serve", "--listen", "127.0.0.1:0",
		"--grpc-listen", "127.0.0.1:0", "--data", t.dir, "--log-level", "warn")
	if err != nil {
		return err
	}
	t.server = p
	line, err := p.line()
	if err != nil {
		return fmt.Errorf("the server did not start: %w", err)
	}
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, "http="); ok {
			t.http = v
		}
		if v, ok := strings.CutPrefix(f, "grpc="); ok {
			t.grpc = v
		}
	}
	return nil
}

// restart stops the server and starts it again on the same data.
func (t *target) restart(ctx context.Context) (took time.Duration, err error) {
	if err := t.client.Close(); err != nil {
		return 0, err
	}
	if err := t.server.stop(); err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := t.startServer(ctx); err != nil {
		return 0, err
	}
	took = time.Since(begun)
	t.client, err = client.Dial(t.grpc, client.Options{})
	return took, err
}

// settledDisk is what the data takes at rest: after a restart, which writes out what was kept
// in memory and drops the log of it.
func (t *target) settledDisk(ctx context.Context) (float64, error) {
	if t.server == nil {
		return 0, nil
	}
	_, err := t.restart(ctx)
	return t.disk(), err
}

// startWorkers starts worker processes of a kind and waits until they run.
func (t *target) startWorkers(ctx context.Context, kind, addr string) error {
	for range t.o.Workers {
		p, err := start(ctx, t.o.Command, WorkerCommand, "--kind", kind, "--addr", addr,
			"--concurrency", strconv.Itoa(2*t.o.InFlight))
		if err != nil {
			return err
		}
		t.workers = append(t.workers, p)
		if _, err := p.line(); err != nil {
			return fmt.Errorf("a worker did not start: %w", err)
		}
	}
	return nil
}

// stuck explains why runs have not ended: the first of those that are open, and what the
// workers complained of.
func (t *target) stuck(ctx context.Context, what string) error {
	var complaints []string
	for r, err := range t.client.List(ctx, client.ListOptions{
		Statuses: []string{"RUNNING"}, PageSize: 1,
	}) {
		if err != nil {
			break
		}
		if why, err := t.client.Explain(ctx, r.ID); err == nil {
			complaints = append(complaints, why...)
		}
		break
	}
	for _, p := range t.workers {
		complaints = append(complaints, p.stderr.String())
	}
	return fmt.Errorf("%s: %s", what, strings.Join(complaints, "\n"))
}

func (t *target) close() {
	if t.client != nil {
		_ = t.client.Close()
	}
	for _, p := range t.workers {
		_ = p.stop()
	}
	if t.server != nil {
		_ = t.server.stop()
	}
	_ = os.RemoveAll(t.dir)
}

// cpu is the processor time that all processes have used.
func (t *target) cpu() time.Duration {
	var ru syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &ru) // cannot fail with this argument
	sum := time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	for _, p := range append(t.workers, t.server) {
		if p != nil {
			sum += p.cpu()
		}
	}
	return sum
}

// rss returns the memory of the server in bytes: now, and at its highest.
func (t *target) rss() (now, highest float64) {
	if t.server == nil {
		return 0, 0
	}
	return t.server.status("VmRSS"), t.server.status("VmHWM")
}

// disk is what the server's folder takes, in bytes.
func (t *target) disk() (sum float64) {
	if t.server == nil {
		return 0
	}
	_ = filepath.WalkDir(t.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += float64(st.Blocks) * 512
			}
		}
		return nil
	})
	return sum
}

// process is a child process whose first line says that it is ready.
type process struct {
	cmd    *exec.Cmd
	lines  chan string
	stderr lastLines
	once   sync.Once
	ended  error
}

func start(ctx context.Context, command []string, args ...string) (*process, error) {
	p := &process{}
	//nolint:gosec // the command is our own
	p.cmd = exec.CommandContext(ctx, command[0], append(command[1:], args...)...)
	p.cmd.Args[0] = os.Args[0]
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 15 * time.Second
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", args[0], err)
	}
	p.lines = make(chan string, 64)
	go p.read(out)
	return p, nil
}

// read passes lines on until the process closes its output.
func (p *process) read(out io.Reader) {
	defer close(p.lines)
	for sc := bufio.NewScanner(out); sc.Scan(); {
		p.lines <- sc.Text()
	}
}

// line returns the next line of the process.
func (p *process) line() (string, error) {
	if l, ok := <-p.lines; ok {
		return l, nil
	}
	return "", fmt.Errorf("the process has ended: %s", p.stderr.String())
}

// stop asks the process to end and waits for that.
func (p *process) stop() error {
	p.once.Do(func() {
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil &&
			!errors.Is(err, os.ErrProcessDone) {
			p.ended = err
			return
		}
		for range p.lines {
			continue // what it still says is of no interest
		}
		if err := p.cmd.Wait(); err != nil {
			p.ended = fmt.Errorf("%w: %s", err, p.stderr.String())
		}
	})
	return p.ended
}

// cpu is the processor time of the process, from field 14 and 15 of its stat file, which
// count in hundredths of a second.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// status reads a size from the status file of the process, in bytes.
func (p *process) status(name string) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, name+":"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kb * 1024
		}
	}
	return 0
}

// lastLines keeps the end of what is written to it.
type lastLines struct {
	mu  sync.Mutex
	buf []byte
}

// Write keeps the last 4 KiB.
func (l *lastLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	if n := len(l.buf); n > 4096 {
		l.buf = append(l.buf[:0], l.buf[n-4096:]...)
	}
	return len(b), nil
}

// String returns what is kept.
func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.buf))
}

// Machine says where a measurement was made.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int    `json:"memory_mb"`
	OS       string `json:"os"`
	Kernel   string `json:"kernel,omitempty"`
	Go       string `json:"go"`
	Time     string `json:"time"`
}

func describeMachine() Machine {
	m := Machine{
		Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Time: time.Now().UTC().Format(time.RFC3339), CPU: fileField("/proc/cpuinfo", "model name"),
	}
	kb, _ := strconv.Atoi(strings.TrimSuffix(fileField("/proc/meminfo", "MemTotal"), " kB"))
	m.MemoryMB = kb / 1024
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	return m
}

// fileField finds the first "name: value" in a file of the kernel; empty where there is none.
func fileField(path, name string) string {
	b, _ := os.ReadFile(path)
	for l := range strings.Lines(string(b)) {
		k, v, ok := strings.Cut(l, ":")
		if ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
