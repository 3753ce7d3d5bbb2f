package engine

import (
	"github.com/tutti-run/tutti"
)

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
