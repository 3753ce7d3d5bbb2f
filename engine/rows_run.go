package engine

import (
	"encoding/binary"

	"github.com/tutti-run/tutti"
)

// openInline is how many open tasks the hot row lists; further ones have rows of their own,
// so that the hot row stays small however wide a run is.
const openInline = 48

// hot is the part of a run that changes with its turns and is not in tutti.Run.
type hot struct {
	root      []byte // encoded state of the root frame
	nextFrame tutti.FrameID
	random    uint64 // state of the run's random source
	events    uint32 // history entries so far
	inline    []tutti.Seq
	spilled   int // open tasks in rows of their own
	posts     []post
	outOfTime bool     // the run's timeout has fired
	permit    bool     // holds a permit of its RunLimit
	sweeping  bool     // ended; open tasks are still being cancelled
	begun     bool     // has had its first turn
	asks      uint64   // questions for permits asked so far
	ask       uint64   // number of the newest question for the run's own permit
	watchers  []holder // attempts of other runs that wait for this one
}

// post is a message of a program to itself.
type post struct {
	frame   tutti.FrameID
	payload []byte
}

func encodeHead(r *tutti.Run, in *payload, put func(tutti.Hash, []byte)) []byte {
	var e enc
	e.str(1, r.Namespace)
	e.str(2, r.Dialect)
	e.str(3, r.Definition)
	e.u(4, uint64(r.Version))
	e.bytes(5, r.SourceHash[:])
	in.encode(&e, 6, put)
	e.str(8, r.CorrelationID)
	e.u(9, uint64(r.Priority))
	e.str(10, r.CreatedBy)
	e.str(11, r.Event)
	e.strs(12, r.Labels)
	e.strs(13, r.Routing)
	e.bytes(14, r.Ext)
	e.str(15, r.IdempotencyKey)
	if r.Limit != nil {
		e.msg(16, func(l *enc) {
			l.str(1, r.Limit.Key)
			l.u(2, uint64(r.Limit.Concurrency))
			l.flag(3, r.Limit.Reject)
		})
	}
	if !r.Parent.IsZero() {
		e.bytes(17, r.Parent[:])
		e.u(18, uint64(r.ParentTask))
	}
	e.i(19, r.StartMs)
	e.i(20, r.TimeoutMs)
	e.str(21, r.RerunOf)
	return e.b
}

func decodeHead(r *tutti.Run, in *payload, b []byte) error {
	*in = newPayload(nil)
	return decode(b, func(f field) error {
		switch f.num {
		case 1:
			r.Namespace = f.s()
		case 2:
			r.Dialect = f.s()
		case 3:
			r.Definition = f.s()
		case 4:
			r.Version = int(f.v)
		case 5:
			copy(r.SourceHash[:], f.b)
		case 6:
			in.decodeInline(f)
		case 7:
			in.decodeHash(f)
		case 8:
			r.CorrelationID = f.s()
		case 9:
			r.Priority = int(f.v)
		case 10:
			r.CreatedBy = f.s()
		case 11:
			r.Event = f.s()
		case 12:
			return addPair(&r.Labels, f)
		case 13:
			return addPair(&r.Routing, f)
		case 14:
			r.Ext = f.own()
		case 15:
			r.IdempotencyKey = f.s()
		case 16:
			r.Limit = new(tutti.RunLimit)
			return decodeRunLimit(r.Limit, f.b)
		case 17:
			copy(r.Parent[:], f.b)
		case 18:
			r.ParentTask = tutti.Seq(f.v)
		case 19:
			r.StartMs = f.i()
		case 20:
			r.TimeoutMs = f.i()
		case 21:
			r.RerunOf = f.s()
		}
		return nil
	})
}

func addPair(m *map[string]string, f field) error {
	if *m == nil {
		*m = map[string]string{}
	}
	return f.pair(*m)
}

func decodeRunLimit(l *tutti.RunLimit, b []byte) error {
	return decode(b, func(f field) error {
		switch f.num {
		case 1:
			l.Key = f.s()
		case 2:
			l.Concurrency = int(f.v)
		case 3:
			l.Reject = f.flag()
		}
		return nil
	})
}

func encodeHot(r *tutti.Run, h *hot, out *payload, put func(tutti.Hash, []byte)) []byte {
	var e enc
	e.u(1, uint64(r.Status))
	e.str(2, r.Reason)
	out.encode(&e, 3, put)
	e.i(5, r.UpdateMs)
	e.i(6, r.EndMs)
	e.i(7, r.RetriedMs)
	e.u(8, uint64(r.FailedTask))
	e.flag(9, r.HeldByLimit)
	e.u(10, uint64(r.LastSeq))
	e.bytes(11, h.root)
	e.u(12, uint64(h.nextFrame))
	e.u(13, h.random)
	e.u(14, uint64(h.events))
	e.bytes(15, packSeqs(h.inline))
	e.u(16, uint64(h.spilled))
	for _, p := range h.posts {
		e.msg(17, func(m *enc) {
			m.u(1, uint64(p.frame))
			m.bytes(2, p.payload)
		})
	}
	e.flag(18, h.outOfTime)
	e.flag(19, h.permit)
	e.flag(20, h.sweeping)
	e.flag(21, h.begun)
	e.u(22, h.asks)
	e.u(23, h.ask)
	for _, w := range h.watchers {
		e.bytes(24, w.key())
	}
	return e.b
}

func decodeHot(r *tutti.Run, h *hot, out *payload, b []byte) error {
	*out = newPayload(nil)
	err := decode(b, func(f field) error {
		switch f.num {
		case 1:
			r.Status = tutti.RunStatus(f.v)
		case 2:
			r.Reason = f.s()
		case 3:
			out.decodeInline(f)
		case 4:
			out.decodeHash(f)
		case 5:
			r.UpdateMs = f.i()
		case 6:
			r.EndMs = f.i()
		case 7:
			r.RetriedMs = f.i()
		case 8:
			r.FailedTask = tutti.Seq(f.v)
		case 9:
			r.HeldByLimit = f.flag()
		case 10:
			r.LastSeq = tutti.Seq(f.v)
		case 11:
			h.root = f.own()
		case 12:
			h.nextFrame = tutti.FrameID(f.v)
		case 13:
			h.random = f.v
		case 14:
			h.events = uint32(f.v)
		case 15:
			h.inline = unpackSeqs(f.b)
		case 16:
			h.spilled = int(f.v)
		case 17:
			p, err := decodePost(f.b)
			h.posts = append(h.posts, p)
			return err
		case 18:
			h.outOfTime = f.flag()
		case 19:
			h.permit = f.flag()
		case 20:
			h.sweeping = f.flag()
		case 21:
			h.begun = f.flag()
		case 22:
			h.asks = f.v
		case 23:
			h.ask = f.v
		case 24:
			if len(f.b) != 20 {
				return errCorrupt
			}
			h.watchers = append(h.watchers, holderOf(f.b))
		}
		return nil
	})
	r.OpenTasks = len(h.inline) + h.spilled
	r.Output = out.raw
	if err == nil && r.Status > tutti.RunTerminated {
		err = errCorrupt
	}
	return err
}

func decodePost(b []byte) (p post, err error) {
	err = decode(b, func(f field) error {
		switch f.num {
		case 1:
			p.frame = tutti.FrameID(f.v)
		case 2:
			p.payload = f.own()
		}
		return nil
	})
	return p, err
}

// packSeqs writes ascending task numbers as varints of their differences.
func packSeqs(seqs []tutti.Seq) []byte {
	b := make([]byte, 0, len(seqs)+4)
	last := tutti.Seq(0)
	for _, s := range seqs {
		b = binary.AppendUvarint(b, uint64(s-last))
		last = s
	}
	return b
}

func unpackSeqs(b []byte) []tutti.Seq {
	var seqs []tutti.Seq
	last := uint64(0)
	for len(b) > 0 {
		d, n := binary.Uvarint(b)
		if n <= 0 {
			return seqs
		}
		last += d
		seqs, b = append(seqs, tutti.Seq(last)), b[n:]
	}
	return seqs
}

func encodeSpec(s *tutti.RunSpec) []byte {
	var e enc
	e.str(1, s.Namespace)
	e.str(2, s.Dialect)
	e.str(3, s.Definition)
	e.u(4, uint64(s.Version))
	if s.Source != nil {
		src := encodeSource(s.Source)
		e.msg(5, func(m *enc) { m.b = src })
	}
	e.bytes(6, s.Input)
	e.str(7, s.CorrelationID)
	e.u(8, uint64(clampPriority(s.Priority)))
	e.str(9, s.CreatedBy)
	e.str(10, s.Event)
	e.strs(11, s.Labels)
	e.strs(12, s.Routing)
	e.bytes(13, s.Ext)
	e.str(14, s.IdempotencyKey)
	e.u(15, uint64(s.OnDuplicate))
	if s.Limit != nil {
		e.msg(16, func(l *enc) {
			l.str(1, s.Limit.Key)
			l.u(2, uint64(s.Limit.Concurrency))
			l.flag(3, s.Limit.Reject)
		})
	}
	e.i(17, s.TimeoutMs)
	return e.b
}

func decodeSpec(b []byte) (*tutti.RunSpec, error) {
	s := new(tutti.RunSpec)
	err := decode(b, func(f field) (err error) {
		switch f.num {
		case 1:
			s.Namespace = f.s()
		case 2:
			s.Dialect = f.s()
		case 3:
			s.Definition = f.s()
		case 4:
			s.Version = int(f.v)
		case 5:
			s.Source, err = decodeSource(f.b)
		case 6:
			s.Input = f.own()
		case 7:
			s.CorrelationID = f.s()
		case 8:
			s.Priority = int(f.v)
		case 9:
			s.CreatedBy = f.s()
		case 10:
			s.Event = f.s()
		case 11:
			return addPair(&s.Labels, f)
		case 12:
			return addPair(&s.Routing, f)
		case 13:
			s.Ext = f.own()
		case 14:
			s.IdempotencyKey = f.s()
		case 15:
			s.OnDuplicate = tutti.DuplicatePolicy(f.v)
		case 16:
			s.Limit = new(tutti.RunLimit)
			return decodeRunLimit(s.Limit, f.b)
		case 17:
			s.TimeoutMs = f.i()
		}
		return err
	})
	return s, err
}
