package script

import (
	"math"
	"strings"

	"github.com/dop251/goja"
)

func stringLength(v goja.Value) int {
	if s, ok := v.(goja.String); ok {
		return s.Length()
	}
	return 0
}

// fixText makes a string of the value a method is called on, once and for all.
func (g *guard) fixText(call *goja.FunctionCall) int {
	if o, ok := call.This.(*goja.Object); ok {
		call.This = o.ToString()
	}
	n := stringLength(call.This)
	if n > maxString {
		g.refuse("a string of more than %d characters", maxString)
	}
	return n
}

// fixNumber makes a number of an argument, once and for all.
func (g *guard) fixNumber(call *goja.FunctionCall, i int) float64 {
	if i >= len(call.Arguments) {
		return 0
	}
	n := call.Arguments[i].ToFloat()
	call.Arguments[i] = g.rt.ToValue(n)
	return n
}

// checkString refuses a search whose work, in the worst case the product of the lengths, is large.
func (g *guard) checkString(call *goja.FunctionCall) {
	length := g.fixText(call)
	if o, ok := call.Argument(0).(*goja.Object); ok && o.ClassName() != "RegExp" {
		call.Arguments[0] = o.ToString()
	}
	if length > maxPattern && stringLength(call.Argument(0)) > maxPattern {
		g.refuse("a search for more than %d characters", maxPattern)
	}
}

func (g *guard) checkProduct(length int, times float64) {
	if float64(max(length, 1))*times > maxString {
		g.refuse("a string of more than %d characters", maxString)
	}
}

func (g *guard) checkRepeat(call *goja.FunctionCall) {
	length := g.fixText(call)
	if n := g.fixNumber(call, 0); n > 0 && !math.IsInf(n, 1) {
		g.checkProduct(length, n)
	}
}

func (g *guard) checkPad(call *goja.FunctionCall) {
	g.fixText(call)
	g.checkProduct(1, g.fixNumber(call, 0))
}

// checkReplace bounds what a replacement by a string may come to. $ in it stands for parts of the
// input that may be as long as all of it.
func (g *guard) checkReplace(call *goja.FunctionCall) {
	g.checkString(call)
	length := stringLength(call.This)
	each, ok := g.replacement(call, length)
	if !ok {
		return
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

// replacement returns how long a replacement may become; it is not ok for a function, which the
// script cannot run without being interrupted.
func (g *guard) replacement(call *goja.FunctionCall, length int) (each int, ok bool) {
	if len(call.Arguments) < 2 {
		return len("undefined"), true
	}
	if _, isFunction := goja.AssertFunction(call.Arguments[1]); isFunction {
		return 0, false
	}
	text := call.Arguments[1].ToString()
	call.Arguments[1] = text
	return stringLength(text) + strings.Count(text.String(), "$")*length, true
}

// checkPatternReplace is checkReplace for the method of the regular expression.
func (g *guard) checkPatternReplace(call *goja.FunctionCall) {
	inner := goja.FunctionCall{This: call.Argument(0), Arguments: append(
		[]goja.Value{call.This}, call.Arguments[min(1, len(call.Arguments)):]...)}
	g.checkReplace(&inner)
	call.Arguments = append([]goja.Value{inner.This}, inner.Arguments[1:]...)
}
