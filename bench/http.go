package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// overHTTP is W1 through Conductor's HTTP API at saturation, as its clients use it: a request
// for each start, batch polls, a request for each completion, on connections that are kept.
func overHTTP(ctx context.Context, t *target, res *Result) error {
	if t.http == "" {
		return fmt.Errorf("the server's HTTP address is not known")
	}
	if err := t.register(ctx, threeSteps()); err != nil {
		return err
	}
	if err := t.startWorkers(ctx, "http", t.http); err != nil {
		return err
	}
	disk := t.disk()
	h := &httpLoad{room: make(chan struct{}, t.o.InFlight), fail: make(chan error, 1)}
	whole := ctx
	ctx, stop := context.WithCancel(whole)
	defer stop()
	for _, p := range t.workers {
		go h.countEnds(p)
	}
	for range min(64, t.o.InFlight) {
		h.starters.Go(func() { h.start(ctx, t.http) })
	}
	if err := h.sleep(ctx, warmUp(t.o.Duration)); err != nil {
		return err
	}
	w := t.window()
	before := h.ended.Load()
	if err := h.sleep(ctx, t.o.Duration); err != nil {
		return err
	}
	w.close(res, int(h.ended.Load()-before))
	stop()
	h.starters.Wait()
	if err := h.drain(); err != nil {
		return t.stuck(whole, err.Error())
	}
	after, err := t.settledDisk(whole)
	if err != nil {
		return err
	}
	res.DiskBytesPerRun = max(after-disk, 0) / float64(h.ended.Load())
	return checkEnded(whole, t, int(h.ended.Load()))
}

// httpLoad keeps runs going by HTTP. A run ends with the acknowledged completion of its last
// step, which the workers count.
type httpLoad struct {
	room           chan struct{}
	starters       sync.WaitGroup
	started, ended atomic.Int64
	fail           chan error
}

func (h *httpLoad) report(err error) {
	select {
	case h.fail <- err:
	default:
	}
}

// start begins runs while there is room, until ctx is done.
func (h *httpLoad) start(ctx context.Context, addr string) {
	u := "http://" + addr + "/api/workflow/bench_three_steps"
	for {
		select {
		case <-ctx.Done():
			return
		case h.room <- struct{}{}:
		}
		body, err := json.Marshal(payload())
		if err == nil {
			_, err = call(context.WithoutCancel(ctx), "POST", u, body)
		}
		if err != nil {
			h.report(err)
			return
		}
		h.started.Add(1)
	}
}

// countEnds reads how many runs a worker has seen end.
func (h *httpLoad) countEnds(p *process) {
	seen := int64(0)
	for {
		l, err := p.line()
		if err != nil {
			return // stopped
		}
		n, err := strconv.ParseInt(strings.TrimPrefix(l, "ended "), 10, 64)
		if err != nil {
			h.report(fmt.Errorf("a worker says %q", l))
			return
		}
		for range n - seen {
			<-h.room
		}
		h.ended.Add(n - seen)
		seen = n
	}
}

func (h *httpLoad) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case err := <-h.fail:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain waits for the end of all runs.
func (h *httpLoad) drain() error {
	for end := time.Now().Add(patience); h.ended.Load() < h.started.Load(); {
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d runs have not ended",
				h.started.Load()-h.ended.Load(), h.started.Load())
		}
		time.Sleep(time.Millisecond)
	}
	if h.ended.Load() == 0 {
		return errNothing
	}
	return nil
}

// checkEnded sees that the server has as many completed runs as were counted.
func checkEnded(ctx context.Context, t *target, want int) error {
	body, err := call(ctx, "GET", "http://"+t.http+"/api/workflow/search?size=1&query="+
		url.QueryEscape(`workflowType = 'bench_three_steps' AND status = 'COMPLETED'`), nil)
	if err != nil {
		return err
	}
	var found struct{ TotalHits int }
	if err := json.Unmarshal(body, &found); err != nil {
		return err
	}
	if found.TotalHits < want {
		return fmt.Errorf("%d runs were counted and %d have completed", want, found.TotalHits)
	}
	return nil
}

var keepAlive = &http.Client{
	Transport: &http.Transport{
		MaxIdleConns: 0, MaxIdleConnsPerHost: 1024, IdleConnTimeout: time.Minute,
		DisableCompression: true, WriteBufferSize: 16 << 10, ReadBufferSize: 16 << 10,
	},
	Timeout: 2 * time.Minute,
}

// call makes a request and returns the body of its answer.
func call(ctx context.Context, method, u string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, u, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := keepAlive.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, u, resp.Status, answer)
	}
	return answer, err
}
