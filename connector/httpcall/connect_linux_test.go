package httpcall_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector/httpcall"
)

// TestConnectTimeout calls a listener that accepts nothing: once its short backlog is full,
// Linux leaves further connections unanswered.
func TestConnectTimeout(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	input := fmt.Sprintf(`{"uri":"http://127.0.0.1:%d/","method":"GET",
		"connectionTimeOut":60,"readTimeOut":10}`, addr.(*syscall.SockaddrInet4).Port)
	var reasons []string
	for range 5 {
		o := perform(t, httpcall.Config{}, input)
		if o.Status == tutti.Failed && strings.Contains(o.Reason, "Connect timed out") {
			return
		}
		reasons = append(reasons, o.Reason)
	}
	t.Errorf("no call timed out connecting: %q", reasons)
}
