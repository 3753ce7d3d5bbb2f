package pebblestore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tutti-run/tutti/store"
)

var errNoSpace = syscall.ENOSPC

// childEnv names the data folder for the process that is there to be killed.
const childEnv = "TUTTI_TEST_COMMIT_UNTIL_KILLED"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, commitUntilKilled(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// commitUntilKilled commits on every shard and prints "shard number" for what is durable.
func commitUntilKilled(dir string) error {
	st, err := Open(dir, Options{MemTableBytes: 256 << 10})
	if err != nil {
		return err
	}
	errs := make(chan error, st.Shards())
	var out sync.Mutex
	for s := range st.Shards() {
		sh, err := st.Claim(context.Background(), store.ShardID(s))
		if err != nil {
			return err
		}
		go func() {
			errs <- commitForever(sh, func(n int) {
				out.Lock()
				defer out.Unlock()
				fmt.Printf("%d %d\n", s, n)
			})
		}()
	}
	return <-errs
}

// commitForever writes numbered pairs from where the shard ends, two batches in flight.
func commitForever(sh store.Shard, durable func(n int)) error {
	n, err := pairs(sh)
	if err != nil {
		return err
	}
	var before store.Ticket
	for ; ; n++ {
		var b store.Batch
		b.Set(fmt.Appendf(nil, "%09da", n), make([]byte, n%2000))
		b.Set(fmt.Appendf(nil, "%09db", n), nil)
		ticket := sh.Commit(&b)
		if before != nil {
			if err := before.Wait(); err != nil {
				return err
			}
			durable(n - 1)
		}
		before = ticket
	}
}

// pairs counts the pairs in a shard and checks that none is missing or half there.
func pairs(sh store.Shard) (int, error) {
	i := 0
	for kv, err := range sh.Scan(nil, nil, store.ScanOptions{}) {
		if err != nil {
			return 0, err
		}
		if want := fmt.Sprintf("%09d%c", i/2, "ab"[i%2]); string(kv.Key) != want {
			return 0, fmt.Errorf("record %d is %q, want %q", i, kv.Key, want)
		}
		i++
	}
	if i%2 != 0 {
		return 0, errors.New("half a batch is there")
	}
	return i / 2, nil
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	total := 0
	for round := range 4 {
		acked := runAndKill(t, dir, 500*(round+1))
		st := open(t, dir, Options{})
		for s, last := range acked {
			n, err := pairs(claim(t, st, s))
			if err != nil {
				t.Fatalf("round %d, shard %d: %v", round, s, err)
			}
			if n <= last {
				t.Errorf("round %d, shard %d: %d batches are there, number %d was acknowledged",
					round, s, n, last)
			}
			total += n
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d batches checked", total)
}

// runAndKill starts a writer, kills it after a number of answers and returns the last
// acknowledged batch of each shard.
func runAndKill(t *testing.T, dir string, answers int) map[store.ShardID]int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var trouble strings.Builder
	cmd.Stderr = &trouble
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acked := map[store.ShardID]int{}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		var s store.ShardID
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "%d %d", &s, &n); err != nil {
			break // the last line may be cut
		}
		acked[s] = n
		if i == answers {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Fatalf("the writer was not killed: %v\n%s", err, &trouble)
	}
	return acked
}
