package script

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"

	"github.com/tutti-run/tutti/value"
)

// JS is a compiled JavaScript program. Any number of goroutines may run it.
type JS struct {
	program *goja.Program
	names   names
}

var jsCache = cache[*JS]{compile: compileJS}

// CompileJS compiles a program of up to 64 KiB, ECMAScript 2015 and most of what came later. The
// value of a run is that of its last expression. Programs seen of late are kept. The error is a
// *ScriptError or wraps ErrLimit.
func CompileJS(src string) (*JS, error) { return jsCache.get(src) }

func compileJS(src string) (js *JS, err error) {
	defer recoverTo(&err)
	if err := checkSource(src); err != nil {
		return nil, err
	}
	// A source map would be read from the file that the script names.
	tree, err := parser.ParseFile(nil, "", src, 0, parser.WithDisableSourceMaps)
	if err != nil {
		return nil, syntaxError(err)
	}
	if usesBigInt(src, tree) {
		return nil, &ScriptError{Message: "SyntaxError: BigInt literals are not supported"}
	}
	program, err := goja.CompileAST(tree, false)
	if err != nil {
		return nil, syntaxError(err)
	}
	return &JS{program: program, names: namesIn(src)}, nil
}

func syntaxError(err error) error {
	var list parser.ErrorList
	if errors.As(err, &list) && len(list) > 0 {
		return &ScriptError{
			Message: "SyntaxError: " + list[0].Message,
			Line:    list[0].Position.Line, Column: list[0].Position.Column,
		}
	}
	var compiler *goja.CompilerSyntaxError
	if errors.As(err, &compiler) && compiler.File != nil {
		at := compiler.File.Position(compiler.Offset)
		return &ScriptError{
			Message: "SyntaxError: " + compiler.Message, Line: at.Line, Column: at.Column,
		}
	}
	return &ScriptError{Message: err.Error()}
}

// Options are what a run is given.
type Options struct {
	// Bindings are the global variables: decoded values, or a Lazy. A script changes its own copy.
	Bindings map[string]any
	// Now is the time that Date shows, throughout the run. The zero Time stands for 1970.
	Now time.Time
	// Rand returns the numbers of Math.random, in [0, 1). Nil stands for a fixed sequence.
	Rand   func() float64
	Limits Limits
}

// Run evaluates the program and returns the decoded form of its value. Numbers without fraction
// are integers, undefined and functions are null, NaN and the infinities are strings as in
// Jackson, a Date is its ISO text, and any other object has its own enumerable members.
// The error is a *ScriptError, or wraps ErrTimeout or ErrLimit.
func (js *JS) Run(opts Options) (result any, err error) {
	defer recoverTo(&err)
	limits := opts.Limits.withDefaults()
	rt := newRuntime(opts, limits)
	g := &guard{rt: rt, names: js.names}
	w := newWatch(limits, g.interrupt)
	defer w.close()
	g.install()
	b := binder{rt}
	for name, v := range opts.Bindings {
		b.bind(rt.GlobalObject(), name, v)
	}
	v, err := rt.RunProgram(js.program)
	if err != nil {
		return nil, runError(err)
	}
	r := reader{rt: rt, limits: limits, guard: g}
	// Reading may call getters of the script, which throw as if they were called by it.
	if ex := rt.Try(func() { result = r.read(v, 0) }); ex != nil {
		return nil, runError(ex)
	}
	return result, r.err
}

func newRuntime(opts Options, limits Limits) *goja.Runtime {
	rt := goja.New()
	rt.SetMaxCallStackSize(limits.CallDepth)
	now := opts.Now
	if now.IsZero() {
		now = time.Unix(0, 0)
	}
	rt.SetTimeSource(func() time.Time { return now })
	random := opts.Rand
	if random == nil {
		random = rand.New(rand.NewPCG(1, 2)).Float64
	}
	rt.SetRandSource(random)
	return rt
}

// recoverTo turns a panic of the interpreter into an error. An interrupt while a result is read
// arrives as one; any other no script should be able to cause.
func recoverTo(err *error) {
	switch p := recover().(type) {
	case nil:
	case *goja.InterruptedError:
		*err = runError(p)
	default:
		*err = &ScriptError{Message: fmt.Sprintf("the interpreter failed: %v", p)}
	}
}

func runError(err error) error {
	var interrupted *goja.InterruptedError
	if errors.As(err, &interrupted) {
		if cause, ok := interrupted.Value().(error); ok {
			return cause
		}
	}
	var overflow *goja.StackOverflowError
	if errors.As(err, &overflow) {
		return limitError("calls are nested too deep")
	}
	if errors.Is(err, ErrLimit) || errors.Is(err, ErrTimeout) {
		return errors.Unwrap(err)
	}
	var thrown *goja.Exception
	if !errors.As(err, &thrown) {
		return &ScriptError{Message: err.Error()}
	}
	e := &ScriptError{Message: thrownText(thrown.Value())}
	for _, frame := range thrown.Stack() {
		if at := frame.Position(); at.Line > 0 {
			e.Line, e.Column = at.Line, at.Column
			break
		}
	}
	return e
}

// thrownText describes what a script threw without calling any of its functions.
func thrownText(v goja.Value) string {
	o, ok := v.(*goja.Object)
	if !ok {
		if v == nil {
			return "undefined"
		}
		return clip(v.String())
	}
	if o.ClassName() == "Error" {
		name, message := dataText(o, "name"), dataText(o, "message")
		switch {
		case name == "":
			return clip(message)
		case message == "":
			return clip(name)
		}
		return clip(name + ": " + message)
	}
	return "a script threw an object of class " + o.ClassName()
}

func dataText(o *goja.Object, name string) (s string) {
	if v, ok := o.Get(name).(goja.String); ok {
		return v.String()
	}
	return ""
}

// clip keeps an error message short.
func clip(s string) string {
	const most = 2000
	if len(s) <= most {
		return s
	}
	return string([]rune(s[:most])) + "…"
}

// A Lazy is a large object of which a script reads only what it touches. Get returns a decoded
// value or another Lazy.
type Lazy interface {
	Get(key string) (any, bool)
	Keys() []string
}

// A binder turns decoded values into JavaScript values.
type binder struct{ rt *goja.Runtime }

func (b binder) bind(o *goja.Object, name string, v any) {
	// Set would run the setter of __proto__, and fails on nothing else.
	_ = o.DefineDataProperty(name, b.value(v), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE)
}

func (b binder) value(v any) goja.Value {
	switch v := v.(type) {
	case nil:
		return goja.Null()
	case value.Number:
		return b.number(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = b.value(e)
		}
		return b.rt.NewArray(list...)
	case *value.Object:
		o := b.rt.NewObject()
		for name, e := range v.All() {
			if name == "__proto__" {
				b.bind(o, name, e)
				continue
			}
			_ = o.Set(name, b.value(e))
		}
		return o
	case Lazy:
		return b.rt.NewDynamicObject(&lazyObject{binder: b, source: v})
	case bool, string:
		return b.rt.ToValue(v)
	}
	return goja.Undefined()
}

func (b binder) number(n value.Number) goja.Value {
	if n.IsInt() {
		if i, ok := n.Int64(); ok {
			return b.rt.ToValue(i)
		}
	}
	f, _ := n.Float64()
	return b.rt.ToValue(f)
}

// A lazyObject shows a Lazy to a script and keeps what the script changes to itself.
type lazyObject struct {
	binder
	source Lazy
	// known holds what was read or written, nil for what was deleted.
	known map[string]goja.Value
	added []string // names that the source lacks, in the order they were written
	keys  map[string]bool
}

func (l *lazyObject) Get(key string) goja.Value {
	if v, ok := l.known[key]; ok {
		return v
	}
	v, ok := l.source.Get(key)
	if !ok {
		return nil
	}
	bound := l.value(v)
	l.remember(key, bound)
	return bound
}

func (l *lazyObject) remember(key string, v goja.Value) {
	if l.known == nil {
		l.known = make(map[string]goja.Value)
	}
	l.known[key] = v
}

func (l *lazyObject) Set(key string, v goja.Value) bool {
	if l.keys == nil {
		l.keys = make(map[string]bool)
		for _, k := range l.source.Keys() {
			l.keys[k] = true
		}
	}
	if !l.keys[key] {
		l.keys[key] = true
		l.added = append(l.added, key)
	}
	l.remember(key, v)
	return true
}

// Has reads the value, since it is as good as certain to be wanted next.
func (l *lazyObject) Has(key string) bool {
	return l.Get(key) != nil
}

func (l *lazyObject) Delete(key string) bool {
	l.remember(key, nil)
	return true
}

func (l *lazyObject) Keys() []string {
	var keys []string
	for _, names := range [][]string{l.source.Keys(), l.added} {
		for _, k := range names {
			if v, ok := l.known[k]; !ok || v != nil {
				keys = append(keys, k)
			}
		}
	}
	return keys
}
