package script

import (
	"errors"

	"github.com/dop251/goja"

	"github.com/tutti-run/tutti/value"
)

// guardJSON bounds JSON.parse and JSON.stringify, which recurse natively.
func (g *guard) guardJSON() {
	json, _ := g.rt.GlobalObject().Get("JSON").(*goja.Object)
	g.wrap(json, "parse", func(call *goja.FunctionCall) {
		var limit *value.LimitError
		limits := value.Limits{Bytes: maxString, Depth: maxNesting}
		if len(call.Arguments) == 0 {
			return
		}
		text := call.Arguments[0].ToString()
		call.Arguments[0] = text
		if err := value.Check([]byte(text.String()), limits); errors.As(err, &limit) {
			g.refuse("JSON.parse: %v", limit)
		}
	})
	native, ok := goja.AssertFunction(json.Get("stringify"))
	if !ok {
		return
	}
	g.replace(json, "stringify", func(call goja.FunctionCall) goja.Value {
		g.checkStopped()
		w := jsonWalk{guard: g}
		replacer, indent := call.Argument(1), call.Argument(2)
		if f, ok := goja.AssertFunction(replacer); ok {
			w.replacer = f
		} else if _, isList := replacer.(*goja.Object); isList {
			// A list picks names. Walk once to check, then let the list do its work.
			g.call(native, call.This, call.Argument(0), g.rt.ToValue(w.visit))
			return g.call(native, call.This, call.Arguments...)
		}
		return g.call(native, call.This, call.Argument(0), g.rt.ToValue(w.visit), indent)
	})
}

// A jsonWalk follows JSON.stringify as its replacer, which sees each value with its holder.
type jsonWalk struct {
	*guard
	replacer goja.Callable
	holders  []*goja.Object // the objects that are open, outermost first
	spent    int
}

func (w *jsonWalk) visit(call goja.FunctionCall) goja.Value {
	w.checkStopped()
	key, v := call.Argument(0), call.Argument(1)
	holder, _ := call.This.(*goja.Object)
	for len(w.holders) > 0 && w.holders[len(w.holders)-1] != holder {
		w.holders = w.holders[:len(w.holders)-1]
	}
	if w.replacer != nil {
		v = w.call(w.replacer, call.This, key, v)
	}
	w.spent += 1 + stringLength(key) + stringLength(v)
	if w.spent > maxString {
		w.refuse("JSON of more than %d characters", maxString)
	}
	if o, ok := v.(*goja.Object); ok {
		w.holders = append(w.holders, o)
		if len(w.holders) > maxNesting {
			w.refuse("JSON nested deeper than %d", maxNesting)
		}
		if o.ClassName() == "Array" {
			w.checkLength(o)
		}
	}
	return v
}
