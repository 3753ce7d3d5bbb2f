package engine

import (
	"encoding/binary"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// View reads the records of a shard from a snapshot, for everybody but the shard itself.
// Its methods return NotFound errors for what does not exist.
type View struct{ rows Rows }

// NewView returns a view of rows.
func NewView(rows Rows) View { return View{rows: rows} }

// Run returns a run with its payloads.
func (v View) Run(id tutti.RunID) (*tutti.Run, error) {
	r, _, err := v.run(id)
	return r, err
}

func (v View) run(id tutti.RunID) (*tutti.Run, *hot, error) {
	head, ok, err := v.rows.Get(runKey(id, partHead))
	if err != nil {
		return nil, nil, err
	}
	hotRow, ok2, err := v.rows.Get(runKey(id, partHot))
	if err != nil {
		return nil, nil, err
	}
	if !ok || !ok2 {
		return nil, nil, errNoRun(id)
	}
	r, h := &tutti.Run{ID: id}, new(hot)
	var in, out payload
	if err := decodeHead(r, &in, head); err != nil {
		return nil, nil, err
	}
	if err := decodeHot(r, h, &out, hotRow); err != nil {
		return nil, nil, err
	}
	if r.Input, err = v.load(id, &in); err != nil {
		return nil, nil, err
	}
	r.Output, err = v.load(id, &out)
	return r, h, err
}

func (v View) load(id tutti.RunID, p *payload) (value.Raw, error) {
	if p.loaded {
		return p.raw, nil
	}
	raw, ok, err := v.rows.Get(append(runKey(id, partPayload), p.hash[:]...))
	if err == nil && !ok {
		err = errCorrupt
	}
	return raw, err
}

// Task returns an attempt with its payloads.
func (v View) Task(id tutti.RunID, seq tutti.Seq) (*tutti.Task, error) {
	t, err := v.taskState(id, seq)
	if err != nil {
		return nil, err
	}
	return &t.Task, nil
}

func (v View) taskState(id tutti.RunID, seq tutti.Seq) (*taskState, error) {
	raw, ok, err := v.rows.Get(taskKey(id, seq))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errNoTask(id, seq)
	}
	return v.decodeTask(id, seq, raw)
}

func (v View) decodeTask(id tutti.RunID, seq tutti.Seq, raw []byte) (*taskState, error) {
	t, err := decodeTask(seq, raw)
	if err != nil {
		return nil, err
	}
	if t.Input, err = v.load(id, &t.in); err != nil {
		return nil, err
	}
	t.Output, err = v.load(id, &t.out)
	return t, err
}

// Tasks calls fn for the run's attempts in order, from a number on, until it returns false.
func (v View) Tasks(id tutti.RunID, from tutti.Seq, fn func(*tutti.Task) bool) error {
	return v.tasks(id, from, false, fn)
}

// TasksBack calls fn for the run's attempts in reverse order until it returns false.
func (v View) TasksBack(id tutti.RunID, fn func(*tutti.Task) bool) error {
	return v.tasks(id, 0, true, fn)
}

func (v View) tasks(
	id tutti.RunID, from tutti.Seq, reverse bool, fn func(*tutti.Task) bool,
) error {
	var inner error
	lo := taskKey(id, from)
	hi := prefixEnd(runKey(id, partTask))
	err := v.rows.Scan(lo, hi, reverse, func(k, raw []byte) bool {
		seq := tutti.Seq(binary.BigEndian.Uint32(k[len(k)-4:]))
		t, err := v.decodeTask(id, seq, raw)
		inner = err
		return err == nil && fn(&t.Task)
	})
	if err == nil {
		err = inner
	}
	return err
}

// Open lists the run's open set: attempts that have not ended, or of whose end a paused run
// has not heard.
func (v View) Open(id tutti.RunID) ([]tutti.Seq, error) {
	_, h, err := v.run(id)
	if err != nil {
		return nil, err
	}
	seqs := h.inline
	if h.spilled > 0 {
		lo := runKey(id, partOpen)
		err = v.rows.Scan(lo, prefixEnd(lo), false, func(k, _ []byte) bool {
			seqs = append(seqs, tutti.Seq(binary.BigEndian.Uint32(k[len(k)-4:])))
			return true
		})
	}
	sortSeqs(seqs)
	return seqs, err
}

// Cell returns one of the run's named values.
func (v View) Cell(id tutti.RunID, key string) ([]byte, bool, error) {
	return v.rows.Get(cellKey(id, key))
}

// Source returns the definition that a run is pinned to.
func (v View) Source(h tutti.Hash) (*tutti.Source, error) {
	raw, ok, err := v.rows.Get(sourceKey(h))
	if err == nil && !ok {
		err = errCorrupt
	}
	if err != nil {
		return nil, err
	}
	return decodeSource(raw)
}

// RootState returns the encoded state of the run's root frame, for the program to decode.
func (v View) RootState(id tutti.RunID) ([]byte, error) {
	_, h, err := v.run(id)
	if err != nil {
		return nil, err
	}
	return h.root, nil
}

// FrameState returns the encoded state of one of the run's frames, nil when it is closed.
func (v View) FrameState(id tutti.RunID, frame tutti.FrameID) (state []byte, err error) {
	if frame == 0 {
		return v.RootState(id)
	}
	raw, ok, err := v.rows.Get(numberedKey(id, partFrame, uint32(frame)))
	if err != nil || !ok {
		return nil, err
	}
	err = decode(raw, func(f field) error {
		if f.num == 2 {
			state = f.own()
		}
		return nil
	})
	return state, err
}

// History calls fn for the run's history entries after a number, in order, until it
// returns false.
func (v View) History(id tutti.RunID, after int, fn func(HistoryEvent) bool) error {
	var inner error
	lo := numberedKey(id, partHistory, uint32(after/segmentEvents))
	hi := prefixEnd(runKey(id, partHistory))
	err := v.rows.Scan(lo, hi, false, func(k, raw []byte) bool {
		evs, err := decodeHistory(id.StartMs(), binary.BigEndian.Uint32(k[len(k)-4:]), raw)
		if err != nil {
			inner = err
			return false
		}
		for _, ev := range evs {
			if ev.Number > after && !fn(ev) {
				return false
			}
		}
		return true
	})
	if err == nil {
		err = inner
	}
	return err
}

// LogLine is a line that a worker logged for an attempt.
type LogLine struct {
	TimeMs int64
	Text   string
}

// Logs returns the log lines of an attempt.
func (v View) Logs(id tutti.RunID, seq tutti.Seq) (lines []LogLine, err error) {
	raw, ok, err := v.rows.Get(numberedKey(id, partLog, uint32(seq)))
	if err != nil || !ok {
		return nil, err
	}
	err = decode(raw, func(f field) error {
		l := LogLine{}
		err := decode(f.b, func(g field) error {
			switch g.num {
			case 1:
				l.TimeMs = g.i()
			case 2:
				l.Text = g.s()
			}
			return nil
		})
		lines = append(lines, l)
		return err
	})
	return lines, err
}

// Documents calls fn for every document of the catalogue.
func (v View) Documents(fn func(Document) bool) error {
	var inner error
	lo := []byte{tableDoc}
	err := v.rows.Scan(lo, prefixEnd(lo), false, func(k, raw []byte) bool {
		d, err := decodeDocument(k, raw)
		inner = err
		return err == nil && fn(d)
	})
	if err == nil {
		err = inner
	}
	return err
}

// Letters calls fn for the letters of a box in order, from a number on.
func (v View) Letters(box string, from uint64, fn func(Letter) bool) error {
	var inner error
	pre := append(text([]byte{tableMail}, box), 'b')
	lo := be64(append([]byte(nil), pre...), int64(from))
	err := v.rows.Scan(lo, prefixEnd(pre), false, func(k, raw []byte) bool {
		l, err := decodeLetter(k, raw)
		inner = err
		return err == nil && fn(l)
	})
	if err == nil {
		err = inner
	}
	return err
}

// Boxes lists the mail boxes that exist.
func (v View) Boxes() (boxes []string, err error) {
	at := []byte{tableMail}
	end := prefixEnd(at)
	for {
		var box string
		found := false
		err = v.rows.Scan(at, end, false, func(k, _ []byte) bool {
			parts, _ := splitText(k[1:], 1)
			if len(parts) == 1 {
				box, found = parts[0], true
			}
			return false
		})
		if err != nil || !found {
			return boxes, err
		}
		boxes = append(boxes, box)
		at = prefixEnd(text([]byte{tableMail}, box))
	}
}

// Wakes calls fn for the stored wake-ups due before a time, in order.
func (v View) Wakes(fromMs, beforeMs int64, fn func(Timer) bool) error {
	lo, hi := be64([]byte{tableWake}, fromMs), be64([]byte{tableWake}, beforeMs)
	return v.rows.Scan(lo, hi, false, func(k, _ []byte) bool {
		due, id, seq, ok := decodeWake(k)
		return !ok || fn(Timer{DueMs: due, Run: id, Seq: seq})
	})
}

// ReadyTasks calls fn for the tasks of a queue that wait for a worker, in the order in
// which they are to be handed out. An empty queue stands for all.
func (v View) ReadyTasks(queue string, fn func(Ready) bool) error {
	lo := []byte{tableReady}
	if queue != "" {
		lo = text(lo, queue)
	}
	return v.rows.Scan(lo, prefixEnd(lo), false, func(k, raw []byte) bool {
		r, ok := decodeReady(k)
		if len(raw) == 4 {
			r.Fair = binary.BigEndian.Uint32(raw)
		}
		return !ok || fn(r)
	})
}

// ReadyQueues lists the queues that have tasks waiting.
func (v View) ReadyQueues() (queues []string, err error) {
	at := []byte{tableReady}
	end := prefixEnd(at)
	for {
		var queue string
		err = v.rows.Scan(at, end, false, func(k, _ []byte) bool {
			if r, ok := decodeReady(k); ok {
				queue = r.Queue
			}
			return false
		})
		if err != nil || queue == "" {
			return queues, err
		}
		queues = append(queues, queue)
		at = prefixEnd(text([]byte{tableReady}, queue))
	}
}

// Outbox calls fn for the stored messages to other shards that are not known to be applied.
func (v View) Outbox(fn func(Send) bool) error {
	lo := []byte{tableOutbox}
	return v.rows.Scan(lo, prefixEnd(lo), false, func(k, raw []byte) bool {
		return fn(Send{
			To:     int(binary.BigEndian.Uint16(k[1:])),
			Number: binary.BigEndian.Uint64(k[3:]),
			Body:   append([]byte(nil), raw...),
		})
	})
}

// ByIdempotencyKey returns the run that a key stands for.
func (v View) ByIdempotencyKey(ns, def, key string) (id tutti.RunID, ok bool, err error) {
	raw, ok, err := v.rows.Get(startKeyKey(ns, def, key))
	copy(id[:], raw)
	return id, ok, err
}
