package script

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tutti-run/tutti/value"
)

func decode(t testing.TB, text string) any {
	t.Helper()
	v, err := value.Parse([]byte(text), value.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func runJS(t testing.TB, src, input string, limits Limits) (string, error) {
	t.Helper()
	js, err := CompileJS(src)
	if err != nil {
		return "", err
	}
	v, err := js.Run(Options{
		Bindings: map[string]any{"$": decode(t, input)},
		Now:      time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC),
		Rand:     func() float64 { return 0.25 },
		Limits:   limits,
	})
	if err != nil {
		return "", err
	}
	return string(value.Marshal(v)), nil
}

const input = `{"a":5,"b":5.5,"s":"text","list":[3,1,2],"o":{"z":1,"a":{"k":null}},"t":true,` +
	`"big":9007199254740993,"__proto__":7,"u":"é😀"}`

func TestJS(t *testing.T) {
	for _, tt := range []struct{ src, want string }{
		{`1 + 1`, `2`},
		{`10 / 4`, `2.5`},
		{`10 / 5`, `2`},
		{`1e300`, `1e+300`},
		{`-0`, `0`},
		{`0/0`, `"NaN"`},
		{`1/0`, `"Infinity"`},
		{`undefined`, `null`},
		{`null`, `null`},
		{`'a' + 1`, `"a1"`},
		{`(function(){ return $.a + $.b; })()`, `10.5`},
		{`function e(){ if ($.t) { return {x: $.list} } } e();`, `{"x":[3,1,2]}`},
		{`({z: 1, a: 2, m: undefined, f: function(){}})`, `{"z":1,"a":2,"m":null,"f":null}`},
		{`[1, , undefined, [function(){}]]`, `[1,null,null,[null]]`},
		{`$`, `{"a":5,"b":5.5,"s":"text","list":[3,1,2],"o":{"z":1,"a":{"k":null}},"t":true,` +
			`"big":9007199254740992,"__proto__":7,"u":"é😀"}`},
		{`$.list.sort().map(x => x * 2).join('-')`, `"2-4-6"`},
		{`[...$.list, ...new Set([1, 1])]`, `[3,1,2,1]`},
		{`const {a, o: {z}} = $; a + z`, `6`},
		{`Object.keys($.o)`, `["z","a"]`},
		{`JSON.stringify($.o)`, `"{\"z\":1,\"a\":{\"k\":null}}"`},
		{
			`JSON.stringify({a: [1, {b: 2}], c: 3}, null, 1)`,
			`"{\n \"a\": [\n  1,\n  {\n   \"b\": 2\n  }\n ],\n \"c\": 3\n}"`,
		},
		{`JSON.stringify({a: 1, b: {a: 2, c: 3}}, ['b', 'a'])`, `"{\"b\":{\"a\":2},\"a\":1}"`},
		{`JSON.stringify({a: 1, b: 2}, (k, v) => k === 'a' ? undefined : v)`, `"{\"b\":2}"`},
		{`JSON.parse('{"x": [1, 2]}').x[1]`, `2`},
		{`new Date().toISOString()`, `"2026-03-04T05:06:07.008Z"`},
		{`new Date(0)`, `"1970-01-01T00:00:00.000Z"`},
		{`Math.random()`, `0.25`},
		{`[[1, [2, [3]]]].flat(Infinity)`, `[1,2,3]`},
		{`[[1, [2]], 3].flat()`, `[1,[2],3]`},
		{`String([1, [2, null, 3]])`, `"1,2,,3"`},
		{`'ab'.repeat(3) + 'x'.padStart(3, '-')`, `"ababab--x"`},
		{`'a.b.c'.replace(/\./g, '$&$&').replaceAll('a', 'z')`, `"z..b..c"`},
		{`Math.max.apply(null, $.list)`, `3`},
		{`Array.from({length: 3}, (_, i) => i)`, `[0,1,2]`},
		{`new Array(3).fill(0)`, `[0,0,0]`},
		{`let r = []; for (const [k, v] of Object.entries($.o)) r.push(k); r`, `["z","a"]`},
		{`new String('x')`, `"x"`},
		{`'x'.repeat({valueOf: () => 2})`, `"xx"`},
		{`Array.prototype.map.call('ab', c => c + c)`, `["aa","bb"]`},
		{`(function() { return Array.prototype.slice.call(arguments, 1) })(1, 2)`, `[2]`},
		{
			`Array.prototype.map.call({length: 1, 0: 'x', get length() { return 2 }}, c => c)`,
			`["x",null]`,
		},
		{`Array.from(new Map([[1, 2]]))`, `[[1,2]]`},
		{`/(.)b/[Symbol.replace]('ab', '$1$1')`, `"aa"`},
		{`[1].concat([2], 3, {a: 1})`, `[1,2,3,{"a":1}]`},
		{`$.u.length`, `3`},
		{`Symbol('x')`, `null`},
		{`try { null.x } catch (e) { e.message.length > 0 }`, `true`},
		{"`a${$.a}`", `"a5"`},
		{
			`typeof console + typeof print + typeof load + typeof require + typeof process`,
			`"undefinedundefinedundefinedundefinedundefined"`,
		},
	} {
		got, err := runJS(t, tt.src, input, Limits{})
		if err != nil || got != tt.want {
			t.Errorf("%s\n got %s %v\nwant %s", tt.src, got, err, tt.want)
		}
	}
}

func TestJSErrors(t *testing.T) {
	for _, tt := range []struct {
		src          string
		line, column int
		want         string
	}{
		{"1 +\n  * 2", 2, 3, "SyntaxError: Unexpected token *"},
		{"return 1", 1, 1, "SyntaxError: Illegal return statement"},
		{"let a; let a", 1, 12, "SyntaxError: Identifier 'a' has already been declared"},
		{"\n nope()", 2, 6, "ReferenceError: nope is not defined"},
		{"var x = {};\nx.y.z", 2, 5, "TypeError: Cannot read property 'z' of undefined"},
		{"throw new Error('boom')", 1, 7, "Error: boom"},
		{"throw 'text'", 1, 1, "text"},
		{"throw {a: 1}", 1, 1, "a script threw an object of class Object"},
		{"10n", 0, 0, "SyntaxError: BigInt literals are not supported"},
		{"(function f() { f() })()", 0, 0, "calls are nested too deep"},
	} {
		_, err := runJS(t, tt.src, `{}`, Limits{})
		var script *ScriptError
		if errors.As(err, &script) {
			if script.Line != tt.line || script.Column != tt.column {
				t.Errorf("%q: %v, want line %d, column %d", tt.src, err, tt.line, tt.column)
			}
		} else if tt.line != 0 {
			t.Errorf("%q: %T, want a ScriptError", tt.src, err)
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %s", tt.src, err, tt.want)
		}
	}
}

// Each of these reaches for the host or for code made from text. None may succeed.
func TestJSEscapes(t *testing.T) {
	for _, src := range []string{
		`java.lang.Runtime.getRuntime().exec('id')`,
		`Java.type('java.lang.Runtime').getRuntime().exec('id')`,
		"Java.type(`java.lang.Runtime`).getRuntime().exec(`id`)",
		"`${Java.type('java.lang.ProcessBuilder')}`",
		`this.engine.factory.scriptEngine.eval('1')`,
		`Packages.java.lang.System.exit(1)`,
		`Polyglot.eval('js', '1')`,
		`load('/etc/passwd')`,
		`require('fs').readFileSync('/etc/passwd')`,
		`process.exit(1)`,
		`print('x')`,
		`console.log('x')`,
		`quit()`,
		`readFully('/etc/passwd')`,
		`eval('1')`,
		`(0, eval)('1')`,
		`new Function('return 1')()`,
		`constructor.constructor('return process')()`,
		`this.constructor.constructor('return process')()`,
		`(function(){}).constructor('return 1')()`,
		"(function(){}).constructor`return 1```",
		`(() => 1).constructor('return 1')()`,
		`(function*(){}).constructor('yield 1')().next()`,
		`(async function(){}).constructor('return 1')()`,
		`(async () => 1).constructor('return 1')()`,
		`$.constructor.constructor('return this')()`,
		`[].map.constructor('return 1')()`,
		`Object.getPrototypeOf(function*(){}).constructor('yield 1')()`,
		`class A { static m() {} }; A.m.constructor('return 1')()`,
		`Reflect.construct((function(){}).constructor, ['return 1'])()`,
		`setTimeout('1', 1)`,
		`new Proxy({}, {})`,
		`new Uint8Array(10)`,
		`BigInt(1)`,
		`import('fs')`,
		`import fs from 'fs'`,
	} {
		got, err := runJS(t, src, `{}`, Limits{})
		var script *ScriptError
		if !errors.As(err, &script) {
			t.Errorf("%s gives %s, %v", src, got, err)
		}
	}
}

func TestNamesIn(t *testing.T) {
	for src, computed := range map[string]bool{
		`(function(){ return $.a['b'][0] + [1, 2].length; })()`: false,
		`f([a, b], [c])`: false, `$["a b"] . c`: false, `x = [[1], [2]]`: false,
		`a[b]`: true, `a [b]`: true, `f()[b]`: true, `a?.[b]`: true, `'x'[b]`: true, `a[b][0]`: true,
		`a[0][b]`: true, `const {[k]: v} = x`: true, `a/**/[b]`: true, "a//\n[b]": true,
		`\u0061`: true, `a['\\x61']`: true, `Reflect.get`: true, `é[b]`: true, "`x`[b]": true,
		`a["b" + c]`: true, `a['b', c]`: true,
	} {
		if got := namesIn(src); got.computed != computed {
			t.Errorf("%s: computed is %v", src, got.computed)
		}
	}
}

func TestJSIgnoresSourceMaps(t *testing.T) {
	got, err := runJS(t, "1\n//# sourceMappingURL=/nonexistent/file.map", `{}`, Limits{})
	if got != "1" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestJSRunsAreApart(t *testing.T) {
	js, err := CompileJS(`$.a.push(1); globalThis.n = (globalThis.n || 0) + 1; [n, $.a.length]`)
	if err != nil {
		t.Fatal(err)
	}
	in := decode(t, `{"a":[0]}`)
	for range 2 {
		v, err := js.Run(Options{Bindings: map[string]any{"$": in}})
		if got := string(value.Marshal(v)); got != `[1,2]` || err != nil {
			t.Errorf("got %s, %v", got, err)
		}
	}
	if got := string(value.Marshal(in)); got != `{"a":[0]}` {
		t.Errorf("the input is now %s", got)
	}
}

func TestJSLimits(t *testing.T) {
	limits := Limits{Time: 10 * time.Second, Memory: 64 << 20}
	for _, src := range []string{
		`'x'.repeat(1e9)`, `'x'.repeat(1e15)`, `'x'.padStart(1e9)`, `'é'.padEnd(2e9, 'ab')`,
		`'x'.repeat(1e6).replaceAll('x', 'y'.repeat(1e6))`,
		"'x'.repeat(1e6).replace(/x/g, '$`')",
		`new Array(4294967295).fill(0)`, `Array(1e9).join('xx')`, `String(new Array(4e9))`,
		`var a = []; a.length = 4294967295; a.indexOf(1)`, `[...new Array(4e9)]`,
		`var a = []; a[4294967290] = 1; Math.max(...a)`, `var [...b] = new Array(4e9); b`,
		`Array.prototype.forEach.call({length: 2**53 - 1}, x => x)`,
		`Array.from({length: 1e10})`, `Math.max.apply(null, {length: 1e9})`,
		`Reflect.apply(Math.max, null, {length: 1e9})`, `[...new Array(4e9).keys()]`,
		`var a = ['x']; for (var i = 0; i < 60; i++) a = [a, a]; String(a)`,
		`var a = ['x']; for (var i = 0; i < 60; i++) a = [a, a]; JSON.stringify(a)`,
		`var a = ['x']; for (var i = 0; i < 60; i++) a = [a, a]; a.flat(Infinity)`,
		`var a = ['x']; for (var i = 0; i < 60; i++) a = [a, a]; a`,
		`var a = []; for (var i = 0; i < 1e5; i++) a = [a]; String(a)`,
		`var a = []; for (var i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a)`,
		`var a = []; for (var i = 0; i < 1e5; i++) a = [a]; a`,
		`function f() { return {get a() { return f() }} }; JSON.stringify(f())`,
		`function f() { return {get a() { return f() }} }; f()`,
		`JSON.parse('['.repeat(1e6))`, `var o = {}; o.o = o; o`,
		`var s = 'x'; for (;;) s += s`, `var a = []; for (;;) a.push(new Array(100).fill(1))`,
		`(function f() { f() })()`, `[1].forEach(function f() { [1].forEach(f) })`,
		`try { 'x'.repeat(1e9) } catch (e) { 'caught' }`,
		`var n = 0, o = {[Symbol.iterator]: 1, get length() { return n++ ? 1e15 : 0 }};` +
			`[].map.call(o, x => x); [].map.call({length: 1e15}, x => x)`,
		`new Array(4e9)`, `[...'x'.repeat(4e6)]`, `Object.keys('x'.repeat(4e6))`,
		`Array.from('x'.repeat(4e6))`, `new Set('x'.repeat(4e6))`,
		`var m = 're' + 'peat'; 'x'[m](1e9)`, `var {['re' + 'peat']: f} = ''; f.call('x', 1e9)`,
		`'x'.\u0072epeat(1e9)`, `'x'/**/['re' + 'peat'](1e9)`, `'x'?.['re' + 'peat'](1e9)`,
		`with ('x') { repeat(1e9) }`, `Reflect.get(String.prototype, 're' + 'peat').call('x', 1e9)`,
		"/x/g[Symbol.replace]('x'.repeat(1e6), '$`')",
		`var n = 0; 'x'.repeat({valueOf: () => n++ ? 1e9 : 1}) + 'x'.repeat(1e9)`,
		`var a = [], it = a.values(); a.push(1); it.next(); a.length = 4e9; a.map(x => x)`,
	} {
		got, err := runJS(t, src, `{}`, limits)
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s gives %.50s, %v, want ErrLimit", src, got, err)
		}
	}
	if _, err := CompileJS(strings.Repeat(" ", maxSource+1)); !errors.Is(err, ErrLimit) {
		t.Errorf("long source: %v", err)
	}
	if _, err := CompileJS(strings.Repeat("(", maxSource)); err == nil {
		t.Error("deep source compiles")
	}
}

func TestJSTimeout(t *testing.T) {
	for _, src := range []string{
		`for (;;) {}`, `while (true) { try { for (;;) {} } catch (e) {} finally { continue } }`,
		`Promise.resolve().then(function f() { return Promise.resolve().then(f) })`,
		`({get a() { for (;;) {} }})`,
		`var a = [], it = a.values(); a.length = 4e9; [...it]`,
		`/^(a+)+(?=b)$/.test('a'.repeat(40)); for (;;) {}`,
	} {
		got, err := runJS(t, src, `{}`, Limits{Time: 30 * time.Millisecond})
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("%s gives %s, %v, want ErrTimeout", src, got, err)
		}
	}
}

type lazyMap struct {
	reads  []string
	values map[string]any
	keys   []string
}

func (l *lazyMap) Get(key string) (any, bool) {
	l.reads = append(l.reads, key)
	v, ok := l.values[key]
	return v, ok
}

func (l *lazyMap) Keys() []string { return l.keys }

func TestJSLazy(t *testing.T) {
	inner := &lazyMap{keys: []string{"n"}, values: map[string]any{"n": value.Int(7)}}
	for _, tt := range []struct{ src, want, reads string }{
		{`$.a + 1`, `2`, "a"},
		{`$.a + $.a`, `2`, "a"},
		{`$.inner.n`, `7`, "inner"},
		{`$.missing === undefined`, `true`, "missing"},
		{`Object.keys($)`, `["z","a","inner"]`, ""},
		{`$.new = 1; delete $.a; $.z = 2; $`, `{"z":2,"inner":{"n":7},"new":1}`, "new z inner"},
		{`JSON.stringify($)`, `"{\"z\":\"big\",\"a\":1,\"inner\":{\"n\":7}}"`, "toJSON z a inner"},
	} {
		l := &lazyMap{keys: []string{"z", "a", "inner"}, values: map[string]any{
			"z": "big", "a": value.Int(1), "inner": inner,
		}}
		js, err := CompileJS(tt.src)
		if err != nil {
			t.Fatal(err)
		}
		v, err := js.Run(Options{Bindings: map[string]any{"$": l}})
		if got := string(value.Marshal(v)); got != tt.want || err != nil {
			t.Errorf("%s: %s, %v, want %s", tt.src, got, err, tt.want)
		}
		if got := strings.Join(l.reads, " "); got != tt.reads {
			t.Errorf("%s reads %s, want %s", tt.src, got, tt.reads)
		}
	}
}

func FuzzJS(f *testing.F) {
	f.Add(`(function(){ return $.list.map(x => x + 1).join() + JSON.stringify($.o) })()`)
	f.Add("const {a, ...r} = $; [...r.list, `${a}`, /x(?=y)/.test($.s)]")
	f.Add(`for (var k in $) { if (k > 'b') throw new Error(k) }`)
	f.Fuzz(func(t *testing.T, src string) {
		if _, err := runJS(t, src, input, Limits{Time: 200 * time.Millisecond}); err != nil {
			var script *ScriptError
			if !errors.As(err, &script) && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrTimeout) {
				t.Fatalf("%T: %v", err, err)
			}
		}
	})
}

func BenchmarkJSInline(b *testing.B) {
	js, err := CompileJS(`function e() { if ($.value > 10) { return {route: 'big', n: $.value * 2} }` +
		` return {route: 'small'} } e();`)
	if err != nil {
		b.Fatal(err)
	}
	in := decode(b, `{"value":12,"name":"order","items":[1,2,3]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := js.Run(Options{Bindings: map[string]any{"$": in}}); err != nil {
			b.Fatal(err)
		}
	}
}
