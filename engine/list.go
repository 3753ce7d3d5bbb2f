package engine

import (
	"encoding/binary"
	"slices"

	"github.com/tutti-run/tutti"
)

// RunQuery selects runs by what the index holds. Zero fields select all.
type RunQuery struct {
	Namespace   string
	Statuses    []tutti.RunStatus
	Definitions []string
	FromMs      int64 // start time, inclusive
	ToMs        int64 // start time, exclusive; 0 = no bound
	OldestFirst bool
}

// IndexEntry is what the index knows of a run.
type IndexEntry struct {
	ID         tutti.RunID
	Status     tutti.RunStatus
	Definition string
	StartMs    int64
	EndMs      int64
}

// ListRuns calls fn for the selected runs in order of start time, newest first unless the
// query says otherwise, until fn returns false. The cost depends on how many are visited
// and on the number of (status, definition) pairs selected.
func (v View) ListRuns(q RunQuery, fn func(IndexEntry) bool) error {
	streams, err := v.streams(q)
	if err != nil {
		return err
	}
	for {
		best := -1
		for i, s := range streams {
			if err := s.fill(v.rows); err != nil {
				return err
			}
			if len(s.buf) > 0 && (best < 0 || before(s.buf[0], streams[best].buf[0], q.OldestFirst)) {
				best = i
			}
		}
		if best < 0 || !fn(streams[best].buf[0]) {
			return nil
		}
		streams[best].buf = streams[best].buf[1:]
	}
}

func before(a, b IndexEntry, oldestFirst bool) bool {
	if a.StartMs != b.StartMs {
		return (a.StartMs < b.StartMs) == oldestFirst
	}
	return (string(a.ID[:]) < string(b.ID[:])) == oldestFirst
}

// stream reads the index rows of one status and definition in chunks.
type stream struct {
	st     tutti.RunStatus
	def    string
	lo, hi []byte
	rev    bool
	buf    []IndexEntry
	chunk  int
	done   bool
}

func (v View) streams(q RunQuery) (all []*stream, err error) {
	statuses := q.Statuses
	if len(statuses) == 0 {
		statuses = tutti.RunStatuses[:]
	}
	for _, st := range statuses {
		defs := q.Definitions
		if len(defs) == 0 {
			if defs, err = v.indexedDefinitions(q.Namespace, st); err != nil {
				return nil, err
			}
		}
		for _, def := range defs {
			pre := text(append(text([]byte{tableIndex}, q.Namespace), byte(st)), def)
			s := &stream{st: st, def: def, rev: !q.OldestFirst, hi: prefixEnd(pre), chunk: 16}
			s.lo = be64(slices.Clone(pre), q.FromMs)
			if q.ToMs > 0 {
				s.hi = be64(slices.Clone(pre), q.ToMs)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// indexedDefinitions lists the definitions that have runs in a status, one seek each.
func (v View) indexedDefinitions(ns string, st tutti.RunStatus) (defs []string, err error) {
	pre := append(text([]byte{tableIndex}, ns), byte(st))
	at, end := pre, prefixEnd(pre)
	for {
		found := ""
		ok := false
		err = v.rows.Scan(at, end, false, func(k, _ []byte) bool {
			parts, _ := splitText(k[len(pre):], 1)
			if len(parts) == 1 {
				found, ok = parts[0], true
			}
			return false
		})
		if err != nil || !ok {
			return defs, err
		}
		defs = append(defs, found)
		at = prefixEnd(text(slices.Clone(pre), found))
	}
}

// Definitions lists the definitions of a namespace that have runs in one of the statuses, in
// order.
func (v View) Definitions(ns string, statuses ...tutti.RunStatus) ([]string, error) {
	var all []string
	for _, st := range statuses {
		defs, err := v.indexedDefinitions(ns, st)
		if err != nil {
			return nil, err
		}
		all = append(all, defs...)
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Namespaces lists the namespaces that have runs, one seek each.
func (v View) Namespaces() (names []string, err error) {
	at, end := []byte{tableIndex}, []byte{tableIndex + 1}
	for {
		found := ""
		ok := false
		err = v.rows.Scan(at, end, false, func(k, _ []byte) bool {
			parts, _ := splitText(k[1:], 1)
			if len(parts) == 1 {
				found, ok = parts[0], true
			}
			return false
		})
		if err != nil || !ok {
			return names, err
		}
		names = append(names, found)
		at = prefixEnd(text([]byte{tableIndex}, found))
	}
}

func (s *stream) fill(rows Rows) error {
	if len(s.buf) > 0 || s.done {
		return nil
	}
	var last []byte
	err := rows.Scan(s.lo, s.hi, s.rev, func(k, val []byte) bool {
		e := IndexEntry{Status: s.st, Definition: s.def}
		e.StartMs, e.ID = tailRun(k)
		if len(val) == 8 {
			e.EndMs = int64(binary.BigEndian.Uint64(val))
		}
		s.buf = append(s.buf, e)
		last = append(last[:0], k...)
		return len(s.buf) < s.chunk
	})
	s.done = len(s.buf) < s.chunk
	s.chunk = min(s.chunk*2, 1024)
	if s.rev {
		s.hi = last
	} else {
		s.lo = append(last, 0)
	}
	return err
}

// ByCorrelation calls fn for the runs with a correlation identifier, newest first.
func (v View) ByCorrelation(ns, corr string, fn func(IndexEntry) bool) error {
	return v.byLabel(text(text([]byte{tableCorr}, ns), corr), fn)
}

// ByLabel calls fn for the runs with a label, newest first.
func (v View) ByLabel(ns, name, val string, fn func(IndexEntry) bool) error {
	return v.byLabel(text(text([]byte{tableLabel}, ns), name, val), fn)
}

func (v View) byLabel(pre []byte, fn func(IndexEntry) bool) error {
	return v.rows.Scan(pre, prefixEnd(pre), true, func(k, val []byte) bool {
		e := IndexEntry{}
		e.StartMs, e.ID = tailRun(k)
		if len(val) == 1 {
			e.Status = tutti.RunStatus(val[0])
		}
		return fn(e)
	})
}
