package adminapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
)

const (
	// historyPage is how many entries are read in one go; no snapshot is held while they
	// are written.
	historyPage = 1000
	// writeTime is how long a client may take to read what is written in one go.
	writeTime = 30 * time.Second
	// aliveEvery is how often an idle stream of events shows that it lives.
	aliveEvery = 15 * time.Second
)

// page is a part of a run's history.
type page struct {
	run    *tutti.Run
	events []HistoryEvent
}

func (c *call) page(id tutti.RunID, after int) (p page, err error) {
	err = c.svc.WithRun(c.ctx, c.ns, id, func(v *api.RunView) error {
		p.run = v.Run
		return v.History(after, func(ev engine.HistoryEvent) bool {
			p.events = append(p.events, showHistory(v, ev))
			return len(p.events) < historyPage
		})
	})
	return p, err
}

// begin sets the head of a stream, which begins with the first write.
func (c *call) begin(contentType string) {
	c.streaming = true
	c.w.Header().Set("Content-Type", contentType)
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.Header().Set("X-Accel-Buffering", "no")
}

// write sends a part of a stream at once.
func (c *call) write(b []byte) error {
	rc := http.NewResponseController(c.w)
	if err := rc.SetWriteDeadline(time.Now().Add(writeTime)); ignore(err) != nil {
		return err
	}
	if _, err := c.w.Write(b); err != nil {
		return err
	}
	return ignore(rc.Flush())
}

// ignore lets writers be that cannot do what is asked of them.
func ignore(err error) error {
	if errors.Is(err, http.ErrNotSupported) || errors.Is(err, os.ErrNoDeadline) {
		return nil
	}
	return err
}

// history streams what has happened so far.
func history(c *call) (any, error) {
	id, after, err := c.from()
	if err != nil {
		return nil, err
	}
	for {
		p, err := c.page(id, after)
		if err != nil {
			return nil, err
		}
		if !c.streaming {
			c.begin("application/x-ndjson")
		}
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		for _, ev := range p.events {
			if err := enc.Encode(ev); err != nil {
				return nil, err
			}
			after = ev.Number
		}
		if err := c.write(buf.Bytes()); err != nil {
			return nil, err
		}
		if len(p.events) < historyPage {
			return nil, nil
		}
	}
}

// from reads the run and the event after which a stream begins.
func (c *call) from() (tutti.RunID, int, error) {
	q := &query{c: c}
	last, err := number("Last-Event-ID", c.r.Header.Get("Last-Event-ID"), 0)
	q.keep(err)
	after := q.num("after", last)
	id, err := c.run()
	return id, int(after), cmp.Or(q.err, err)
}

// events streams what happens to a run until it has ended or the client goes away. Each entry
// of the history is an event named "history", with its number as identifier, so that a
// client that lost the connection goes on where it was; "run" shows the run after changes,
// and "end" after its end.
func events(c *call) (any, error) {
	id, after, err := c.from()
	if err != nil {
		return nil, err
	}
	for {
		p, err := c.page(id, after)
		if err != nil {
			return nil, err
		}
		if !c.streaming {
			c.begin("text/event-stream")
		}
		var buf bytes.Buffer
		for _, ev := range p.events {
			after = ev.Number
			writeEvent(&buf, "history", after, ev)
		}
		over := !p.run.Status.Open() && len(p.events) < historyPage
		name := "run"
		if over {
			name = "end"
		}
		writeEvent(&buf, name, 0, showRun(p.run, over))
		if err := c.write(buf.Bytes()); err != nil || over {
			return nil, err
		}
		if len(p.events) == historyPage {
			continue
		}
		if err := c.untilNewer(id, after); err != nil {
			return nil, err
		}
	}
}

func writeEvent(buf *bytes.Buffer, name string, id int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return // the types have no values that cannot be written
	}
	fmt.Fprintf(buf, "event: %s\n", name)
	if id > 0 {
		fmt.Fprintf(buf, "id: %d\n", id)
	}
	fmt.Fprintf(buf, "data: %s\n\n", data)
}

// untilNewer waits for history after an event, and shows meanwhile that the stream lives.
func (c *call) untilNewer(id tutti.RunID, after int) error {
	for {
		met, err := c.svc.WaitUntil(c.ctx, c.ns, id, aliveEvery, func(v *api.RunView) (bool, error) {
			newer := !v.Run.Status.Open()
			err := v.History(after, func(engine.HistoryEvent) bool {
				newer = true
				return false
			})
			return newer, err
		})
		if met || err != nil {
			return err
		}
		if err := c.write([]byte(": alive\n\n")); err != nil {
			return err
		}
	}
}
