package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tutti-run/tutti/client"
)

var update = flag.Bool("update", false, "write what commands print into the scripts")

// TestMain lets the test binary be the command as well.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tutti": main})
}

// TestScripts runs the scripts of testdata/script. Besides the usual commands they have
//
//	server [up FILE…] [FLAG…]  start a server and set TUTTI_SERVER and HTTP
//	shutdown                   end it with SIGTERM; it must exit with 0 in time
//	work QUEUE…                answer each task of the queues with its input; "bad" inputs fail
//	http STATUS METHOD PATH [BODY] [HEADER:VALUE…]   make a request; the answer is stdout
//	capture NAME               set a variable to the trimmed stdout of the last command
//	exits CODE COMMAND…        run a command that must exit with a code
//	await TEXT COMMAND…        repeat a command until its output has a text
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "HOME="+e.WorkDir)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": cmdServer, "shutdown": cmdStop, "work": cmdWork, "http": cmdHTTP,
			"capture": cmdCapture, "await": cmdAwait, "exits": cmdExits,
		},
	})
}

// servers holds the server of each running script, by name; scripts run in parallel.
var (
	servers   = map[string]*exec.Cmd{}
	serversMu sync.Mutex
)

func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || args[0] != "up" {
		args = append([]string{"serve"}, args...)
	}
	args = append(args, []string{
		"--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--data",
		ts.MkAbs("data"),
	}...)
	cmd := exec.Command(binary(ts), args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"TUTTI_SECRET_TOKEN=" + ts.Getenv("TUTTI_SECRET_TOKEN")}
	log := &bytes.Buffer{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		ts.Fatalf("the server did not start: %s", log)
	}
	var httpAddr, grpcAddr string
	if _, err := fmt.Sscanf(line, "tutti ready http=%s grpc=%s\n", &httpAddr, &grpcAddr); err != nil {
		ts.Fatalf("the server said %q", line)
	}
	ts.Setenv("HTTP", "http://"+httpAddr)
	ts.Setenv("TUTTI_SERVER", grpcAddr)
	serversMu.Lock()
	servers[ts.Name()] = cmd
	serversMu.Unlock()
	ts.Defer(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if log.Len() > 0 {
			ts.Logf("the server logged:\n%s", log)
		}
	})
}

// binary is the path of the command, as scripts run it.
func binary(ts *testscript.TestScript) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, "tutti")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	ts.Fatalf("there is no tutti in PATH")
	return ""
}

func cmdStop(ts *testscript.TestScript, neg bool, args []string) {
	serversMu.Lock()
	cmd := servers[ts.Name()]
	serversMu.Unlock()
	begun := time.Now()
	ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	ts.Check(cmd.Wait())
	if took := time.Since(begun); took > 8*time.Second {
		ts.Fatalf("the server took %v to stop", took)
	}
}

func cmdWork(ts *testscript.TestScript, neg bool, queues []string) {
	c, err := client.Dial(ts.Getenv("TUTTI_SERVER"), client.Options{})
	ts.Check(err)
	w := c.Worker(client.WorkerOptions{ID: "script", DrainTimeout: time.Second})
	for _, q := range queues {
		w.HandleRaw(q, func(_ context.Context, t *client.Task) (json.RawMessage, error) {
			if bytes.Contains(t.Input, []byte("bad")) {
				return nil, client.Fatal(fmt.Errorf("the input is bad"))
			}
			return t.Input, nil
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.Run(ctx) // what it could say shows as a run that does not go on
	}()
	ts.Defer(func() {
		cancel()
		<-done
		_ = c.Close()
	})
}

func cmdHTTP(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var body io.Reader
	headers := args[3:]
	if len(headers) > 0 && (headers[0] == "" || strings.ContainsAny(headers[0][:1], `{["@0123456789`)) {
		text := headers[0]
		if name, ok := strings.CutPrefix(text, "@"); ok {
			text = ts.ReadFile(name)
		}
		body, headers = strings.NewReader(text), headers[1:]
	}
	req, err := http.NewRequest(args[1], ts.Getenv("HTTP")+args[2], body)
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ":")
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, _ = ts.Stdout().Write(answer)
	if (resp.StatusCode == want) == neg {
		ts.Fatalf("%s %s: %s: %s", args[1], args[2], resp.Status, answer)
	}
}

func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	want := args[0]
	for end := time.Now().Add(20 * time.Second); ; {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && strings.Contains(out, want) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s did not come: %v\n%s%s", want, err, out, ts.ReadFile("stderr"))
		}
		time.Sleep(20 * time.Millisecond) // another process has to do something
	}
}
