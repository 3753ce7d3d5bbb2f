package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tutti-run/tutti/client"
	"github.com/tutti-run/tutti/examples/orders"
)

// testServer runs `tutti serve` inside the test, as its users would start it, in the given
// environment.
func testServer(t *testing.T, env ...string) (httpAddr, grpcAddr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, in := io.Pipe()
	log := &bytes.Buffer{}
	code := make(chan int, 1)
	go func() {
		m := Main{Stdin: strings.NewReader(""), Stdout: in, Stderr: log, Env: env}
		code <- m.Run(ctx, []string{
			"serve", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0",
			"--data", filepath.Join(t.TempDir(), "data"),
		})
		_ = in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		_, err = fmt.Sscanf(line, "tutti ready http=%s grpc=%s\n", &httpAddr, &grpcAddr)
	}
	t.Cleanup(func() {
		cancel()
		if c := <-code; c != exitOK {
			t.Errorf("the server exited with %d:\n%s", c, log)
		}
	})
	if err != nil {
		t.Fatalf("the server said %q: %v", line, err)
	}
	return httpAddr, grpcAddr
}

// command runs a command inside the test.
func command(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	m := Main{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs}
	code = m.Run(t.Context(), args)
	return out.String(), errs.String(), code
}

// TestWorkerExample builds and runs examples/worker-go as its README says.
func TestWorkerExample(t *testing.T) {
	_, grpc := testServer(t)
	worker := filepath.Join(t.TempDir(), "worker")
	build := exec.Command("go", "build", "-o", worker, "../../examples/worker-go")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(worker)
	cmd.Env = append(os.Environ(), "TUTTI_SERVER="+grpc)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out, errs, code := command(t, "apply", "--server", grpc, "../../examples/worker-go/greeting.json")
	if code != exitOK {
		t.Fatalf("%s%s", out, errs)
	}
	out, errs, code = command(t, "run", "greeting", "--server", grpc, "--wait", "--timeout", "20s",
		"--input", `{"name": "Ada"}`)
	if code != exitOK || out != `{"text":"Hello, Ada!"}`+"\n" {
		t.Errorf("exit code %d, %q, %s", code, out, errs)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the worker exited with %v", err)
	}
}

// TestOrdersExample runs the order of the README of examples/orders, and one that fails.
func TestOrdersExample(t *testing.T) {
	http, grpc := testServer(t)
	services, err := orders.StartServices("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0",
		func(string, string) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(services.Close)
	c, err := client.Dial(grpc, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := orders.Apply(t.Context(), c, services.URLs); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- orders.RunStreamWorker(ctx, c) }()
	go func() {
		done <- orders.RunPollingWorker(ctx, "http://"+http+"/api", func(string, string) {})
	}()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		_ = c.Close()
	})
	out, errs, code := command(t, "run", "order", "--server", grpc, "--wait", "--timeout", "20s",
		"--input", "@../../examples/orders/sample.input")
	if code != exitOK || !strings.Contains(out, `"tracking":"TR-`) {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	declined, err := c.Start(t.Context(), client.StartOptions{
		Definition: orders.Workflow, Input: orders.Sample(4), CorrelationID: "declined",
	})
	if err != nil {
		t.Fatal(err)
	}
	waitCtx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	r, err := c.Wait(waitCtx, declined)
	if err != nil || r.Status != "FAILED" ||
		!bytes.Contains(r.Output, []byte("conductor.failure_workflow")) {
		t.Errorf("an order with a declined card: %+v %v", r, err)
	}
}
