package script

import (
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
	names  names // of the program; what it cannot name needs no guard
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
	if g.names.has("constructor") || g.names.has("Function") {
		g.forbidCode()
	}
	array := g.prototype("Array")
	for _, name := range arrayMethods {
		g.wrap(array, name, g.fixThis)
	}
	for _, name := range arrayChanges {
		g.wrap(array, name, g.checkArray)
	}
	// Arrays are joined and walked without being asked to by name.
	g.define(array, "join", g.join)
	g.iterator(array)
	g.replace(array, "flat", g.flat)
	g.wrap(array, "concat", g.checkConcat)
	g.wrap(array, "toLocaleString", g.refuseNested)
	if g.names.has("get") || g.names.has("size") {
		g.listMethods(array)
	}
	text := g.prototype("String")
	g.iterator(text)
	for _, name := range stringMethods {
		g.wrap(text, name, g.checkString)
	}
	g.wrap(text, "repeat", g.checkRepeat)
	g.wrap(text, "padStart", g.checkPad)
	g.wrap(text, "padEnd", g.checkPad)
	g.wrap(text, "replace", g.checkReplace)
	g.wrap(text, "replaceAll", g.checkReplace)
	if g.names.has("Symbol") {
		g.wrapSymbol(g.prototype("RegExp"), goja.SymReplace, g.checkPatternReplace)
	}
	g.wrap(g.prototype("Function"), "apply", g.checkArgument(1))
	g.wrap(g.global("Array"), "from", g.checkFrom)
	if g.names.has("Reflect") {
		g.wrap(g.global("Reflect"), "apply", g.checkArgument(2))
		g.wrap(g.global("Reflect"), "construct", g.checkArgument(1))
	}
	if g.names.has("Object") {
		for _, name := range objectFunctions {
			g.wrap(g.global("Object"), name, g.checkCharacters)
		}
	}
	if g.names.has("JSON") {
		g.guardJSON()
	}
	for _, name := range removedGlobals {
		if g.names.has(name) {
			_ = g.rt.GlobalObject().Delete(name)
		}
	}
}

// listMethods adds what lists of a Java server have there and scripts written for it use:
// get(index) and size().
func (g *guard) listMethods(array *goja.Object) {
	g.define(array, "get", func(call goja.FunctionCall) goja.Value {
		list := call.This.ToObject(g.rt)
		i := call.Argument(0).ToInteger()
		if n := list.Get("length").ToInteger(); i < 0 || i >= n {
			panic(g.rt.NewTypeError("index %d is not in a list of %d", i, n))
		}
		return list.Get(strconv.FormatInt(i, 10))
	})
	g.define(array, "size", func(call goja.FunctionCall) goja.Value {
		return call.This.ToObject(g.rt).Get("length")
	})
}

// What is removed can hold or compute huge things in one step, or make code from text.
var removedGlobals = []string{
	"eval", "Function", "Proxy", "BigInt", "BigInt64Array", "BigUint64Array", "ArrayBuffer",
	"SharedArrayBuffer",
	"DataView", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array",
	"Int32Array", "Uint32Array", "Float32Array", "Float64Array",
}

// arrayMethods read an array, arrayChanges change it.
var (
	arrayMethods = []string{
		"entries", "every", "filter", "find", "findIndex", "findLast", "findLastIndex", "flatMap",
		"forEach", "includes", "indexOf", "keys", "lastIndexOf", "map", "reduce", "reduceRight",
		"slice", "some", "toReversed", "toSorted", "toSpliced", "values", "with",
	}
	arrayChanges = []string{
		"copyWithin", "fill", "pop", "push", "reverse", "shift", "sort", "splice", "unshift",
	}
)

var stringMethods = []string{
	"concat", "includes", "indexOf", "lastIndexOf", "match", "matchAll", "search", "split",
}

// objectFunctions list the characters of a string as if they were members.
var objectFunctions = []string{
	"assign", "entries", "getOwnPropertyDescriptors", "getOwnPropertyNames", "keys", "values",
}

func (g *guard) global(name string) *goja.Object {
	o, _ := g.rt.GlobalObject().Get(name).(*goja.Object)
	return o
}

func (g *guard) prototype(class string) *goja.Object {
	proto, _ := g.global(class).Get("prototype").(*goja.Object)
	return proto
}

// replace puts another function in the place of a native one that the program can name.
func (g *guard) replace(o *goja.Object, name string, f func(goja.FunctionCall) goja.Value) {
	if g.names.has(name) {
		g.define(o, name, f)
	}
}

func (g *guard) define(o *goja.Object, name string, f func(goja.FunctionCall) goja.Value) {
	_ = o.DefineDataProperty(name, g.rt.ToValue(f), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// wrap puts a check before a native function.
func (g *guard) wrap(o *goja.Object, name string, check func(*goja.FunctionCall)) {
	if g.names.has(name) {
		g.wrapAlways(o, name, check)
	}
}

func (g *guard) wrapAlways(o *goja.Object, name string, check func(*goja.FunctionCall)) {
	native, ok := goja.AssertFunction(o.Get(name))
	if !ok {
		return
	}
	g.define(o, name, func(call goja.FunctionCall) goja.Value {
		g.checkStopped()
		check(&call)
		return g.call(native, call.This, call.Arguments...)
	})
}

func (g *guard) wrapSymbol(o *goja.Object, s *goja.Symbol, check func(*goja.FunctionCall)) {
	native, ok := goja.AssertFunction(o.GetSymbol(s))
	if !ok {
		return
	}
	guarded := g.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		g.checkStopped()
		check(&call)
		return g.call(native, call.This, call.Arguments...)
	})
	_ = o.DefineDataPropertySymbol(s, guarded, goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
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

// iterator guards the iteration of arrays and strings, which spreading and destructuring do in one
// step.
func (g *guard) iterator(proto *goja.Object) {
	native, ok := goja.AssertFunction(proto.GetSymbol(goja.SymIterator))
	if !ok {
		return
	}
	guarded := g.rt.ToValue(func(call goja.FunctionCall) goja.Value {
		g.fixThis(&call)
		return g.call(native, call.This)
	})
	// The array may grow while it is iterated.
	if steps, ok := g.call(native, proto).(*goja.Object); ok {
		g.wrapAlways(steps.Prototype(), "next", func(*goja.FunctionCall) {})
	}
	_ = proto.DefineDataPropertySymbol(goja.SymIterator, guarded,
		goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_FALSE)
}

// checkCharacters refuses a string of more characters than an array may have elements.
func (g *guard) checkCharacters(call *goja.FunctionCall) {
	for _, arg := range call.Arguments {
		if stringLength(arg) > maxElements {
			g.refuse("a string of more than %d characters", maxElements)
		}
	}
}

// fixThis checks the length of the array that a method is called on.
func (g *guard) fixThis(call *goja.FunctionCall) { call.This = g.fixed(call.This) }

// checkArray is for methods that change what they are called on, which must be an array.
func (g *guard) checkArray(call *goja.FunctionCall) {
	if o, ok := call.This.(*goja.Object); !ok || o.ClassName() != "Array" {
		panic(g.rt.NewTypeError("this method works on arrays only"))
	}
	g.checkLength(call.This)
}

// checkArgument checks the length of one argument.
func (g *guard) checkArgument(i int) func(*goja.FunctionCall) {
	return func(call *goja.FunctionCall) {
		if i < len(call.Arguments) {
			call.Arguments[i] = g.fixed(call.Arguments[i])
		}
	}
}

// checkFrom leaves what can be iterated to its iterator, which is guarded by itself.
func (g *guard) checkFrom(call *goja.FunctionCall) {
	if o, ok := call.Argument(0).(*goja.Object); ok && o.GetSymbol(goja.SymIterator) == nil {
		call.Arguments[0] = g.fixed(o)
	}
}

// fixed checks the length of a list. What only looks like an array could show another length when
// it is asked again, so it is copied into one.
func (g *guard) fixed(v goja.Value) goja.Value {
	o, ok := v.(*goja.Object)
	n := g.checkLength(v)
	if !ok || o.ClassName() == "Array" {
		return v
	}
	list := make([]any, n)
	for i := range list {
		list[i] = o.Get(strconv.Itoa(i))
	}
	return g.rt.NewArray(list...)
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
		return int64(stringLength(v))
	}
	length := o.Get("length")
	if length == nil {
		return 0
	}
	return length.ToInteger()
}

func (g *guard) checkConcat(call *goja.FunctionCall) {
	g.checkArray(call)
	total := g.length(call.This)
	for _, arg := range call.Arguments {
		o, ok := arg.(*goja.Object)
		if ok && o.ClassName() != "Array" && o.GetSymbol(goja.SymIsConcatSpreadable) != nil {
			panic(g.rt.NewTypeError("only arrays can be spread by concat"))
		}
		if ok && o.ClassName() != "Array" {
			continue
		}
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
func (g *guard) refuseNested(call *goja.FunctionCall) {
	this := call.This.ToObject(g.rt)
	for i := range g.checkLength(this) {
		o, ok := this.Get(strconv.FormatInt(i, 10)).(*goja.Object)
		if ok && o.ClassName() == "Array" {
			panic(g.rt.NewTypeError("toLocaleString of nested arrays is not supported"))
		}
	}
}
