package script

import (
	"math"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/dop251/goja"
)

// A guard keeps native functions within bounds. The interpreter looks at its interrupt flag
// between instructions only, so a single call that takes long, makes much or recurses deep has to
// be refused beforehand. Everything a script can do otherwise is a sequence of small steps, which
// the watch ends.
type guard struct {
	rt     *goja.Runtime
	cause  atomic.Pointer[error]
	budget int // array elements that joining and flattening may still visit
	depth  int // native calls within each other that follow nested arrays
}

// interrupt stops the script at its next instruction. Any goroutine may call it.
func (g *guard) interrupt(err error) {
	g.cause.Store(&err)
	g.rt.Interrupt(err)
}

// stopped returns what the script was interrupted with.
func (g *guard) stopped() error {
	if p := g.cause.Load(); p != nil {
		return *p
	}
	return nil
}

// refuse ends the script. What is thrown unwinds native callers; a catch block of the script does
// not get to run.
func (g *guard) refuse(format string, args ...any) {
	err := limitError(format, args...)
	g.interrupt(err)
	panic(g.rt.NewGoError(err))
}

func (g *guard) checkStopped() {
	if err := g.stopped(); err != nil {
		panic(g.rt.NewGoError(err))
	}
}

// install changes the globals of a fresh runtime.
func (g *guard) install() {
	global := g.rt.GlobalObject()
	g.forbidCode()
	array := g.prototype("Array")
	for _, name := range arrayMethods {
		g.wrap(array, name, g.checkThisLength)
	}
	g.replace(array, "join", g.join)
	g.replace(array, "flat", g.flat)
	g.wrap(array, "concat", g.checkConcat)
	g.wrap(array, "toLocaleString", g.refuseNested)
	g.iterator(array)
	text := g.prototype("String")
	for _, name := range stringMethods {
		g.wrap(text, name, g.checkString)
	}
	g.wrap(text, "repeat", g.checkRepeat)
	g.wrap(text, "padStart", g.checkPad)
	g.wrap(text, "padEnd", g.checkPad)
	g.wrap(text, "replace", g.checkReplace)
	g.wrap(text, "replaceAll", g.checkReplace)
	g.wrap(g.prototype("Function"), "apply", g.checkArgument(1))
	reflection, _ := global.Get("Reflect").(*goja.Object)
	g.wrap(reflection, "apply", g.checkArgument(2))
	g.wrap(reflection, "construct", g.checkArgument(1))
	constructor, _ := global.Get("Array").(*goja.Object)
	g.wrap(constructor, "from", g.checkArgument(0))
	g.guardJSON()
	for _, name := range removedGlobals {
		_ = global.Delete(name)
	}
}

// What is removed can hold or compute huge things in one step, or make code from text.
var removedGlobals = []string{
	"eval", "Function", "Proxy", "BigInt", "BigInt64Array", "BigUint64Array", "ArrayBuffer",
	"SharedArrayBuffer",
	"DataView", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array",
	"Int32Array", "Uint32Array", "Float32Array", "Float64Array",
}

var arrayMethods = []string{
	"copyWithin", "entries", "every", "fill", "filter", "find", "findIndex", "findLast",
	"findLastIndex", "flatMap", "forEach", "includes", "indexOf", "keys", "lastIndexOf", "map",
	"pop", "push", "reduce", "reduceRight", "reverse", "shift", "slice", "some", "sort", "splice",
	"toReversed", "toSorted", "toSpliced", "unshift", "with",
}

var stringMethods = []string{
	"concat", "includes", "indexOf", "lastIndexOf", "match", "matchAll", "search", "split",
}

func (g *guard) prototype(class string) *goja.Object {
	constructor, _ := g.rt.GlobalObject().Get(class).(*goja.Object)
	proto, _ := constructor.Get("prototype").(*goja.Object)
	return proto
}

func (g *guard) replace(o *goja.Object, name string, f func(goja.FunctionCall) goja.Value) {
	_ = o.DefineDataProperty(name, g.rt.ToValue(f), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// wrap puts a check before a native function.
func (g *guard) wrap(o *goja.Object, name string, check func(goja.FunctionCall)) {
	native, ok := goja.AssertFunction(o.Get(name))
	if !ok {
		return
	}
	g.replace(o, name, func(call goja.FunctionCall) goja.Value {
		g.checkStopped()
		check(call)
		return g.call(native, call.This, call.Arguments...)
	})
}

// call calls a function and passes on what it throws.
func (g *guard) call(f goja.Callable, this goja.Value, args ...goja.Value) goja.Value {
	v, err := f(this, args...)
	if err != nil {
		panic(err)
	}
	return v
}

// forbidCode makes every constructor of functions throw.
func (g *guard) forbidCode() {
	forbidden := g.rt.ToValue(func(goja.FunctionCall) goja.Value {
		panic(g.rt.NewTypeError("code cannot be made from text here"))
	})
	samples, err := g.rt.RunProgram(functionKinds)
	if err != nil {
		return
	}
	list, _ := samples.(*goja.Object)
	for _, i := range []string{"0", "1", "2"} {
		sample, _ := list.Get(i).(*goja.Object)
		_ = sample.Prototype().DefineDataProperty(
			"constructor", forbidden, goja.FLAG_FALSE, goja.FLAG_FALSE, goja.FLAG_FALSE)
	}
}

// functionKinds gives one function of each kind that has a constructor of its own.
var functionKinds = goja.MustCompile("", "[function(){}, function*(){}, async function(){}]", true)

// iterator guards the iteration of arrays, which spreading and destructuring do in one step.
func (g *guard) iterator(array *goja.Object) {
	values, ok := goja.AssertFunction(array.Get("values"))
	if !ok {
		return
	}
	guarded := g.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		g.checkThisLength(call)
		return g.call(values, call.This)
	})
	_ = array.DefineDataProperty("values", guarded,
		goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	_ = array.DefineDataPropertySymbol(goja.SymIterator, guarded,
		goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

func (g *guard) checkThisLength(call goja.FunctionCall) { g.checkLength(call.This) }

// checkArgument checks the length of one argument.
func (g *guard) checkArgument(i int) func(goja.FunctionCall) {
	return func(call goja.FunctionCall) { g.checkLength(call.Argument(i)) }
}

// checkLength refuses an array, or what looks like one, that is too long to be walked in one step.
func (g *guard) checkLength(v goja.Value) int64 {
	n := g.length(v)
	if n > maxElements {
		g.refuse("an array of more than %d elements", maxElements)
	}
	return n
}

func (g *guard) length(v goja.Value) int64 {
	o, ok := v.(*goja.Object)
	if !ok {
		return 0
	}
	length := o.Get("length")
	if length == nil {
		return 0
	}
	return length.ToInteger()
}

func (g *guard) checkConcat(call goja.FunctionCall) {
	total := g.checkLength(call.This)
	for _, arg := range call.Arguments {
		if total += g.checkLength(arg); total > maxElements {
			g.refuse("an array of more than %d elements", maxElements)
		}
	}
}

// enter counts native calls within each other; leave by the function it returns.
func (g *guard) enter() func() {
	g.checkStopped()
	if g.depth == 0 {
		g.budget = maxElements
	}
	if g.depth++; g.depth > maxNesting {
		g.depth = 0
		g.refuse("arrays nested deeper than %d", maxNesting)
	}
	return func() { g.depth-- }
}

func (g *guard) visit() {
	if g.budget--; g.budget < 0 {
		g.refuse("more than %d elements of nested arrays", maxElements)
	}
}

// join is Array.prototype.join with bounds on elements, length and nesting. Arrays become strings
// through it, so a small one that holds itself many times over could become a huge string.
func (g *guard) join(call goja.FunctionCall) goja.Value {
	defer g.enter()()
	this := call.This.ToObject(g.rt)
	n := g.checkLength(this)
	separator := ","
	if s := call.Argument(0); !goja.IsUndefined(s) {
		separator = s.String()
	}
	var b strings.Builder
	for i := range n {
		g.visit()
		if i > 0 {
			b.WriteString(separator)
		}
		v := this.Get(strconv.FormatInt(i, 10))
		if v != nil && !goja.IsUndefined(v) && !goja.IsNull(v) && !v.SameAs(this) {
			b.WriteString(v.String())
		}
		if b.Len() > maxString {
			g.refuse("a string of more than %d characters", maxString)
		}
	}
	return g.rt.ToValue(b.String())
}

// flat is Array.prototype.flat with bounds on elements and nesting.
func (g *guard) flat(call goja.FunctionCall) goja.Value {
	levels := 1.0
	if d := call.Argument(0); !goja.IsUndefined(d) {
		levels = d.ToFloat()
	}
	var out []any
	g.flatten(call.This.ToObject(g.rt), levels, &out)
	return g.rt.NewArray(out...)
}

func (g *guard) flatten(o *goja.Object, levels float64, out *[]any) {
	defer g.enter()()
	for i := range g.checkLength(o) {
		g.visit()
		v := o.Get(strconv.FormatInt(i, 10))
		nested, ok := v.(*goja.Object)
		switch {
		case v == nil:
		case ok && nested.ClassName() == "Array" && levels >= 1:
			g.flatten(nested, levels-1, out)
		default:
			*out = append(*out, v)
		}
	}
}

// refuseNested lets toLocaleString work on arrays that hold no others.
func (g *guard) refuseNested(call goja.FunctionCall) {
	this := call.This.ToObject(g.rt)
	for i := range g.checkLength(this) {
		if o, ok := this.Get(strconv.FormatInt(i, 10)).(*goja.Object); ok && o.ClassName() == "Array" {
			panic(g.rt.NewTypeError("toLocaleString of nested arrays is not supported"))
		}
	}
}

func stringLength(v goja.Value) int {
	if s, ok := v.(goja.String); ok {
		return s.Length()
	}
	return 0
}

// checkString refuses a search whose work, in the worst case the product of the lengths, is large.
func (g *guard) checkString(call goja.FunctionCall) {
	length, needle := stringLength(call.This), stringLength(call.Argument(0))
	if length > maxString {
		g.refuse("a string of more than %d characters", maxString)
	}
	if needle > maxPattern && length > maxPattern {
		g.refuse("a search for more than %d characters", maxPattern)
	}
}

func (g *guard) checkProduct(length int, times float64) {
	if float64(max(length, 1))*times > maxString {
		g.refuse("a string of more than %d characters", maxString)
	}
}

func (g *guard) checkRepeat(call goja.FunctionCall) {
	if n := call.Argument(0).ToFloat(); n > 0 && !math.IsInf(n, 1) {
		g.checkProduct(len(call.This.String()), n)
	}
}

func (g *guard) checkPad(call goja.FunctionCall) {
	g.checkProduct(1, call.Argument(0).ToFloat())
}

// checkReplace bounds what a replacement by a string may come to. $ in it stands for parts of the
// input that may be as long as all of it.
func (g *guard) checkReplace(call goja.FunctionCall) {
	g.checkString(call)
	replacement, ok := call.Argument(1).(goja.String)
	if !ok {
		return
	}
	length := stringLength(call.This)
	each := replacement.Length()
	if text := replacement.String(); strings.Contains(text, "$") {
		each += strings.Count(text, "$") * length
	}
	if pattern, ok := call.Argument(0).(goja.String); ok {
		occurrences := 1
		if pattern.Length() > 0 {
			occurrences += strings.Count(call.This.String(), pattern.String())
		} else {
			occurrences += length
		}
		g.checkProduct(each, float64(occurrences))
		return
	}
	// How often an expression matches is not known beforehand: take it for one in eight characters,
	// so that a string is at most eight times too long.
	g.checkProduct(each, float64(length+1)/8)
}
