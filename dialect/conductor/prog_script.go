package conductor

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/expr/script"
	"github.com/tutti-run/tutti/value"
)

// The evaluators that expressions may name.
const (
	evaluatorValueParam = "value-param"
	evaluatorJavaScript = "javascript"
	evaluatorGraalJS    = "graaljs"
)

// evaluate runs an expression of a SWITCH or INLINE task over its input. A fault is the
// expression's, an error says that there is no such evaluator.
func (x *exec) evaluate(kind, expression string, in *value.Object) (v any, fault, err error) {
	switch kind {
	case evaluatorValueParam:
		v, _ = in.Get(expression)
		return v, nil, nil
	case evaluatorJavaScript, evaluatorGraalJS:
		v, fault = x.script(expression, in)
		return v, fault, nil
	}
	return nil, nil, fmt.Errorf("No evaluator registered for type: %s", kind)
}

// errScriptTime is the official server's text for a script that takes too long.
var errScriptTime = errors.New("Script not evaluated within 4 seconds, interrupted.")

// script runs JavaScript with $ bound to input: an object or a script.Lazy.
func (x *exec) script(code string, input any) (any, error) {
	js, err := script.CompileJS(code)
	if err != nil {
		return nil, wordFault(code, err)
	}
	v, err := js.Run(script.Options{
		Bindings: map[string]any{"$": input},
		Now:      time.UnixMilli(x.t.Now()),
		Rand:     func() float64 { return float64(x.t.Random()>>11) / (1 << 53) },
	})
	if err != nil {
		return nil, wordFault(code, err)
	}
	return v, nil
}

// wordFault words the failure of a script.
func wordFault(code string, err error) error {
	const shown = 200
	if errors.Is(err, script.ErrTimeout) {
		return errScriptTime
	}
	if len(code) > shown {
		code = code[:shown] + "…"
	}
	var e *script.ScriptError
	if errors.As(err, &e) && e.Line > 0 {
		return fmt.Errorf("Error evaluating the script `%s` at line %d: %s", code, e.Line, e.Message)
	}
	return fmt.Errorf("Error evaluating the script `%s`: %w", code, err)
}

// scriptStatus is how an INLINE task ends whose script failed: only running out of time may
// go better at another attempt.
func scriptStatus(fault error) tutti.TaskStatus {
	if errors.Is(fault, errScriptTime) {
		return tutti.Failed
	}
	return tutti.Fatal
}

// condition evaluates the condition of a loop. Its $ holds the loop's input parameters, the
// loop's output and the newest outputs of the tasks in it; only what the script touches is
// read.
func (x *exec) condition(
	code string, s site, loop *tutti.Task, in *value.Object,
) (bool, error) {
	v, err := x.script(code, loopView{x: x, s: s, loop: loop, in: in})
	if err != nil {
		return false, err
	}
	switch v := v.(type) {
	case bool:
		return v, nil
	case value.Number:
		return v.Compare("0") > 0, nil
	}
	return false, nil
}

// loopView is what the condition of a loop sees as $.
type loopView struct {
	x    *exec
	s    site
	loop *tutti.Task
	in   *value.Object
}

func (l loopView) Get(key string) (any, bool) {
	if key == l.s.node.task.TaskReferenceName {
		return l.x.p.view(l.x.t, l.loop), true
	}
	if at, ok := l.s.body.refs[key]; ok && at > l.s.node.index && at < l.s.node.end {
		if t := l.x.t.Task(l.x.newest(l.s.body, at)); t != nil {
			return l.x.p.view(l.x.t, t), true
		}
	}
	return l.in.Get(key)
}

func (l loopView) Keys() []string {
	keys := append(l.in.Keys(), l.s.node.task.TaskReferenceName)
	for at := l.s.node.index + 1; at < l.s.node.end; at++ {
		keys = append(keys, l.s.body.nodes[at].task.TaskReferenceName)
	}
	return keys
}

// view returns the output of a task as a decoded value or, where it is put together from
// others, as a script.Lazy.
func (p *program) view(r RunReader, t *tutti.Task) any {
	if assembled(t) {
		return outputView{p, r, t}
	}
	return decoded(p.taskOutput(r, t))
}

// assembled reports whether a task's output is put together from those of others.
func assembled(t *tutti.Task) bool {
	return t.Kind == tutti.Scope && (t.Type == TypeDoWhile || t.Type == TypeJoin)
}

// outputView shows the output of a JOIN or DO_WHILE piecemeal.
type outputView struct {
	p *program
	r RunReader
	t *tutti.Task
}

func (o outputView) Get(key string) (any, bool) {
	if o.t.Type == TypeJoin {
		t := o.p.joinedTask(o.r, o.t, key)
		if t == nil {
			return nil, false
		}
		return o.p.view(o.r, t), true
	}
	if n, err := strconv.Atoi(key); err == nil {
		raw := o.p.iterationOutput(o.r, o.t.Seq, n)
		return decoded(raw), raw != nil
	}
	raw, ok := o.t.Output.Field(key)
	return decoded(raw), ok
}

func (o outputView) Keys() []string {
	var keys []string
	if o.t.Type == TypeJoin {
		for _, seq := range o.p.covered(o.r, o.t) {
			if t := o.r.Task(seq); t != nil {
				keys = append(keys, t.Name)
			}
		}
		return keys
	}
	for name := range o.t.Output.Members() {
		keys = append(keys, name)
	}
	for n := 1; n <= Iteration(o.t); n++ {
		keys = append(keys, strconv.Itoa(n))
	}
	return keys
}

// joinedTask returns the task of a name that a JOIN covers, or nil. It looks at no others.
func (p *program) joinedTask(r RunReader, join *tutti.Task, name string) *tutti.Task {
	b, ended := r.Cell(joinedCell(join.Seq))
	t := p.byName(r, name)
	if t != nil && t.Name == name && (!ended || containsSeq(b, t.Seq)) {
		return t
	}
	for _, seq := range p.covered(r, join) {
		if t := r.Task(seq); t != nil && t.Name == name {
			return t
		}
	}
	return nil
}

func containsSeq(b []byte, seq tutti.Seq) bool {
	for _, s := range decodeSeqs(b) {
		if s == seq {
			return true
		}
	}
	return false
}

// jq runs a jq program over a decoded value and returns all it emits.
func (x *exec) jq(expression string, in any) ([]any, error) {
	q, err := script.CompileJQ(expression)
	if err != nil {
		return nil, err
	}
	results, err := q.Run(in, script.JQOptions{Now: time.UnixMilli(x.t.Now())})
	if err == nil && results == nil {
		results = []any{}
	}
	return results, err
}
