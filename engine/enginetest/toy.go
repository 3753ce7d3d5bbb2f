package enginetest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Toy is a dialect for tests: a definition is a JSON list of steps that run one after the
// other. A run ends with the output {"done":n}, n being the steps that ended well.
type Toy struct{}

// Step is one step of a Toy definition. Exactly one of the fields of the first group is set.
type Step struct {
	Task  string `json:"task,omitempty"`  // queue: a worker's task
	Wait  *int64 `json:"wait,omitempty"`  // ms; 0 = until signalled
	Child string `json:"child,omitempty"` // definition: a run that is waited for
	Start string `json:"start,omitempty"` // definition: a run that is not waited for
	Fork  int    `json:"fork,omitempty"`  // branches, each doing Steps
	Loop  int    `json:"loop,omitempty"`  // times that Steps are done
	Local any    `json:"local,omitempty"` // output of a step done within the turn
	Draw  int    `json:"draw,omitempty"`  // a Local step with so many random numbers
	Note  string `json:"note,omitempty"`  // entry of the history
	Fail  string `json:"fail,omitempty"`  // reason: ends the run as failed
	Error string `json:"error,omitempty"` // an error of the program
	Panic string `json:"panic,omitempty"` // a panic of the program
	Stop  bool   `json:"stop,omitempty"`  // leaves the run with nothing to wait for
	Posts int    `json:"posts,omitempty"` // turns that the program asks for, one by one

	Name     string `json:"name,omitempty"` // by default the place in the definition
	Steps    []Step `json:"steps,omitempty"`
	Input    any    `json:"input,omitempty"`
	Big      int    `json:"big,omitempty"`     // bytes of padding in the input
	Retries  int    `json:"retries,omitempty"` // of a task, wait or child that failed
	Optional bool   `json:"optional,omitempty"`
	HoldOpen bool   `json:"holdOpen,omitempty"`
	Key      string `json:"key,omitempty"` // of a child: its idempotency key

	DelayMs      int64 `json:"delay,omitempty"`      // before the first attempt
	RetryDelayMs int64 `json:"retryDelay,omitempty"` // before further ones
	PollMs       int64 `json:"poll,omitempty"`       // the four deadlines
	ResponseMs   int64 `json:"response,omitempty"`
	TaskMs       int64 `json:"timeout,omitempty"`
	TotalMs      int64 `json:"total,omitempty"`

	Limit *Limit `json:"limit,omitempty"`
	Cache *Cache `json:"cache,omitempty"`
}

// Limit is a limit of a Toy task.
type Limit struct {
	Key         string `json:"key"`
	Concurrency int    `json:"concurrency,omitempty"`
	Rate        int    `json:"rate,omitempty"`
	WindowMs    int64  `json:"window,omitempty"`
}

// Cache lets the output of a Toy task be used again.
type Cache struct {
	Key string `json:"key"`
	TTL int64  `json:"ttl"` // milliseconds
}

// Name implements tutti.Dialect.
func (Toy) Name() string { return "toy" }

// Link implements tutti.Dialect.
func (Toy) Link(docs tutti.Documents, name string, version int) (*tutti.Source, error) {
	body, v, ok := docs.Document("toy", name, version)
	if !ok {
		return nil, tutti.E(tutti.NotFound, "link", "NoSuchDefinition", "no definition "+name)
	}
	return &tutti.Source{Dialect: "toy", Name: name, Version: v, Body: body}, nil
}

// Compile implements tutti.Dialect.
func (Toy) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	var steps []Step
	dec := json.NewDecoder(strings.NewReader(string(src.Body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&steps); err != nil {
		return nil, value.Diagnostics{{Message: err.Error()}}
	}
	p := &program{dialect: "toy"}
	p.add(steps, "s")
	return p, nil
}

// program is a compiled definition: every list of steps has a number, the outermost 0.
type program struct {
	dialect string
	lists   [][]node
}

type node struct {
	Step
	body int // number of the list of Steps
}

func (p *program) add(steps []Step, prefix string) int {
	n := len(p.lists)
	p.lists = append(p.lists, nil)
	for i, s := range steps {
		if s.Name == "" {
			s.Name = fmt.Sprintf("%s%d", prefix, i)
		}
		nd := node{Step: s}
		if len(s.Steps) > 0 {
			nd.body = p.add(s.Steps, s.Name+".")
		}
		p.lists[n] = append(p.lists[n], nd)
	}
	return n
}

// state is the state of a frame: where it stands in its list.
type state struct {
	list, pc int
	iter     int       // of a loop, from 1
	cur      tutti.Seq // attempt that the frame waits for
	left     int       // branches that have not ended, or turns still to be asked for
	opened   int       // branches opened
}

// EncodeState implements tutti.Program.
func (p *program) EncodeState(dst []byte, st any) []byte {
	if st == nil {
		return dst
	}
	s := st.(*state)
	for _, n := range []int{s.list, s.pc, s.iter, int(s.cur), s.left, s.opened} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return dst
}

// DecodeState implements tutti.Program.
func (p *program) DecodeState(b []byte) (any, error) {
	s := new(state)
	for _, to := range []*int{&s.list, &s.pc, &s.iter, nil, &s.left, &s.opened} {
		if len(b) == 0 {
			break
		}
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return nil, errors.New("toy: the state of a frame is corrupt")
		}
		b = b[size:]
		if to == nil {
			s.cur = tutti.Seq(n)
			continue
		}
		*to = int(n)
	}
	return s, nil
}
