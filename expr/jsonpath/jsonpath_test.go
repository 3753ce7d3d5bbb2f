package jsonpath

import (
	"errors"
	"strings"
	"testing"

	"github.com/tutti-run/tutti/value"
)

// The document of the JSONPath article, which Jayway documents its behaviour with.
const store = `{
  "store": {
    "book": [
      {"category":"reference","author":"Nigel Rees","title":"Sayings of the Century","price":8.95},
      {"category":"fiction","author":"Evelyn Waugh","title":"Sword of Honour","price":12.99},
      {"category":"fiction","author":"Herman Melville","title":"Moby Dick",
       "isbn":"0-553-21311-3","price":8.99},
      {"category":"fiction","author":"J. R. R. Tolkien","title":"The Lord of the Rings",
       "isbn":"0-395-19395-8","price":22.99}
    ],
    "bicycle": {"color":"red","price":19.95}
  },
  "expensive": 10
}`

const mixed = `{
  "a-b": 1, "ä": {"ö": 2}, "with space": 3, "it's": 4, "a.b": 5, "null": null, "n": 5.0,
  "list": [1, 2, 3, 4, 5], "words": ["x", "y"], "empty": [], "no": {}, "text": "héllo",
  "deep": [[1, [2]], {"k": 1}, "s", null],
  "rows": [
    {"id": 1, "tag": ["a", "b"], "s": "one", "ok": true, "v": null},
    {"id": "2", "tag": [], "s": "TWO", "ok": false},
    {"id": 3.0, "tag": ["c"], "s": "", "w": {"x": 1}}
  ],
  "order": {"z": 1, "a": 2, "m": 3}
}`

func parse(t testing.TB, text string) any {
	t.Helper()
	v, err := value.Parse([]byte(text), value.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

type evalCase struct{ path, want string }

func runCases(t *testing.T, document string, cases []evalCase) {
	t.Helper()
	root := parse(t, document)
	before := string(value.Marshal(root))
	for _, tt := range cases {
		p, err := Compile(tt.path)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		got := ""
		v, err := p.Eval(root)
		switch {
		case errors.Is(err, ErrNotFound):
			got = "not found"
		case err != nil:
			got = err.Error()
		default:
			got = string(value.Marshal(v))
		}
		if got != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.path, got, tt.want)
		}
	}
	if after := string(value.Marshal(root)); after != before {
		t.Errorf("the document changed to %s", after)
	}
}

func TestStore(t *testing.T) {
	runCases(t, store, []evalCase{
		{`$.store.book[0].title`, `"Sayings of the Century"`},
		{`$['store']['book'][0]['title']`, `"Sayings of the Century"`},
		{`store.book[1].price`, `12.99`},
		{
			`$.store.book[*].author`,
			`["Nigel Rees","Evelyn Waugh","Herman Melville","J. R. R. Tolkien"]`,
		},
		{`$..author`, `["Nigel Rees","Evelyn Waugh","Herman Melville","J. R. R. Tolkien"]`},
		{`$.store..price`, `[8.95,12.99,8.99,22.99,19.95]`},
		{`$.store.bicycle.*`, `["red",19.95]`},
		{`$..book[2].title`, `["Moby Dick"]`},
		{`$..book[-2].title`, `["Moby Dick"]`},
		{`$..book[0,1].price`, `[8.95,12.99]`},
		{`$..book[:2].price`, `[8.95,12.99]`},
		{`$..book[1:2].price`, `[12.99]`},
		{`$..book[-2:].price`, `[8.99,22.99]`},
		{`$..book[2:].price`, `[8.99,22.99]`},
		{`$..book[?(@.isbn)].price`, `[8.99,22.99]`},
		{`$.store.book[?(@.price < 10)].price`, `[8.95,8.99]`},
		{`$..book[?(@.price <= $['expensive'])].price`, `[8.95,8.99]`},
		{`$..book[?(@.author =~ /.*REES/i)].price`, `[8.95]`},
		{`$..book.length()`, `4`},
		{`$..price.sum()`, `73.87`},
		{`$..price.max()`, `22.99`},
		{`$.store.book.length()`, `4`},
		{`$.store.length()`, `2`},
		{`$.length($.store.book)`, `4`},
		{`$.sum($..price)`, `73.87`},
		{`$.store.keys()`, `["book","bicycle"]`},
		{`$.store.book[0].keys()`, `["category","author","title","price"]`},
		{`$.concat($.store.book[0].category, "-", $.store.bicycle.color)`, `"reference-red"`},
		{
			`$.store.book[?(@.category == 'fiction' && @.price < 10 || @.price > 20)].price`,
			`[8.99,22.99]`,
		},
		{`$.store.book[?(@.category in ['reference','x'])].price`, `[8.95]`},
		{`$..[?(@.color)].price`, `[19.95]`},
		{`$..book[?(!@.isbn)].price`, `[8.95,12.99]`},
		{
			`$.store.book[*]['title','price']`,
			`[{"title":"Sayings of the Century","price":8.95},` +
				`{"title":"Sword of Honour","price":12.99},{"title":"Moby Dick","price":8.99},` +
				`{"title":"The Lord of the Rings","price":22.99}]`,
		},
	})
}

func TestNamesAndIndexes(t *testing.T) {
	runCases(t, mixed, []evalCase{
		{`$`, string(value.Marshal(parse(t, mixed)))},
		{`a-b`, `1`},
		{` $.a-b `, `1`},
		{`$.ä.ö`, `2`},
		{`$['with space']`, `3`},
		{`$["with space"]`, `3`},
		{`$['it\'s']`, `4`},
		{`$["it's"]`, `4`},
		{`$['a.b']`, `5`},
		{`$['\u00e4']['\u00f6']`, `2`},
		{`$.['a-b']`, `1`},
		{`['a-b']`, `1`},
		{`$.null`, `null`},
		{`$.n`, `5.0`},
		{`$.missing`, `not found`},
		{`$.missing.x`, `not found`},
		{`$.missing[*]`, `not found`},
		{`$.null.x`, `not found`},
		{`$.text.x`, `not found`},
		{`$.list.x`, `not found`},
		{`$.text[0]`, `not found`},
		{`$.list[9]`, `not found`},
		{`$.list[-9]`, `not found`},
		{`$.list[-1]`, `5`},
		{`$.list[ 0 , -1 ]`, `[1,5]`},
		{`$.list[0,9]`, `[1]`},
		{`$.list[1:-1]`, `[2,3,4]`},
		{`$.list[-3:-1]`, `[3,4]`},
		{`$.list[3:1]`, `[]`},
		{`$.list[-99:99]`, `[1,2,3,4,5]`},
		{`$.list[*]`, `[1,2,3,4,5]`},
		{`$.list[ * ]`, `[1,2,3,4,5]`},
		{`$.empty[*]`, `[]`},
		{`$.text.*`, `[]`},
		{`$.text.*.x`, `not found`},
		{`$.order.*`, `[1,2,3]`},
		{`$.order['m','z','q']`, `{"m":3,"z":1}`},
		{`$['order','no'].z`, `[1]`},
		{`$.rows[*].s`, `["one","TWO",""]`},
		{`$.rows[*].v`, `[null]`},
		{`$.rows[*].w.x`, `[1]`},
		{`$.rows[*].tag[0]`, `["a","c"]`},
		{`$..k`, `[1]`},
		{`$.deep..*`, `[[1,[2]],{"k":1},"s",null,1,[2],2,1]`},
		{`$.deep..[0]`, `[[1,[2]],1,2]`},
		{`$..nothing`, `[]`},
		{`..ö`, `[2]`},
	})
}

func TestFilters(t *testing.T) {
	runCases(t, mixed, []evalCase{
		{`$.rows[?(@.id == 1)].s`, `["one"]`},
		{`$.rows[?(@.id == '1')].s`, `["one"]`},
		{`$.rows[?(@.id == 2)].s`, `["TWO"]`},
		{`$.rows[?(@.id === 2)].s`, `[]`},
		{`$.rows[?(@.id === '2')].s`, `["TWO"]`},
		{`$.rows[?(@.id !== '2')].s`, `["one",""]`},
		{`$.rows[?(@.id == 3)].s`, `[""]`},
		{`$.rows[?(@.id != 1)].s`, `["TWO",""]`},
		{`$.rows[?(@.v)].s`, `["one"]`},
		{`$.rows[?(@.v == null)].s`, `["one"]`},
		{`$.rows[?(@.v != null)].s`, `["TWO",""]`},
		{`$.rows[?(!(@.id == 1))].s`, `["TWO",""]`},
		{`$.rows[?(!(@.v) && @.ok)].s`, `["TWO"]`},
		{`$.rows[?(@.ok == true)].s`, `["one"]`},
		{`$.rows[?(@.ok==false||@.id>2)].s`, `["TWO",""]`},
		{`$.rows[?(@.s =~ /two/i)].id`, `["2"]`},
		{`$.rows[?(@.s =~ /tw/i)].id`, `[]`},
		{`$.rows[?(/o.e/ =~ @.s)].id`, `[1]`},
		{`$.rows[?(@.tag =~ /[bc]/)].id`, `[1,3.0]`},
		{`$.rows[?(@.s in ['one', "TWO"])].id`, `[1,"2"]`},
		{`$.rows[?(@.s nin ['one'])].id`, `["2",3.0]`},
		{`$.rows[?(@.s in $.words)].id`, `[]`},
		{`$.rows[?('a' in @.tag)].id`, `[1]`},
		{`$.rows[?(@.tag contains 'a')].id`, `[1]`},
		{`$.rows[?(@.s contains 'W')].id`, `["2"]`},
		{`$.rows[?(@.tag size 2)].id`, `[1]`},
		{`$.rows[?(@.s SIZE 3)].id`, `[1,"2"]`},
		{`$.rows[?(@.tag empty true)].id`, `["2"]`},
		{`$.rows[?(@.s empty false)].id`, `[1,"2"]`},
		{`$.rows[?(@.tag subsetof ['a','b','c'])].id`, `[1,"2",3.0]`},
		{`$.rows[?(@.tag anyof ['b','c'])].id`, `[1,3.0]`},
		{`$.rows[?(@.tag noneof ['b'])].id`, `["2",3.0]`},
		{`$.rows[?(@.tag all ['a','b'])].id`, `[1]`},
		{`$.rows[?(@.w == {'x': 1.0})].id`, `[3.0]`},
		{`$.rows[?(@.tag == ["c"])].id`, `[3.0]`},
		{`$.rows[?(@['s'] == 'one' && (@.id < 2))].id`, `[1]`},
		{`$.rows[?(@.tag.length() == 2)].id`, `[1]`},
		{`$.rows[?(@.tag[?(@ == 'c')][0])].id`, `[1,"2",3.0]`},
		{`$.list[?(@ > 3)]`, `[4,5]`},
		{`$.list[?(@ >= $.rows[0].id && @ <= 2)]`, `[1,2]`},
		{`$.list[?(@ < 'x')]`, `[1,2,3,4,5]`},
		{`$.rows[ ?( @.id == 1 ) ].s`, `["one"]`},
		{`$.rows[?(@.id == 1)][?(@.s == 'one')].s`, `["one"]`},
		{`$.order[?(@.z == 1)].a`, `[2]`},
		{`$.rows[?(@.ok) && (@.id == 1)].s`, `["one"]`},
		{`$..[?(@.k)]`, `[{"k":1}]`},
		{`$.text[?(@.x)]`, `not found`},
	})
}

func TestFunctions(t *testing.T) {
	runCases(t, mixed, []evalCase{
		{`$.list.length()`, `5`},
		{`$.list.size()`, `5`},
		{`$.text.length()`, `null`},
		{`$.order.length()`, `3`},
		{`$.list.sum()`, `15.0`},
		{`$.list.avg()`, `3.0`},
		{`$.list.min()`, `1.0`},
		{`$.list.max()`, `5.0`},
		{`$.list.stddev()`, `1.4142135623730951`},
		{`$.list.sum(10, 20)`, `45.0`},
		{`$.sum($.list, $.rows[0].id)`, `16.0`},
		{`$.sum($.list.avg(), {"a":1}, 2)`, `5.0`},
		{`$.list.first()`, `1`},
		{`$.list.last()`, `5`},
		{`$.rows[0].tag.last()`, `"b"`},
		{`$.rows[2].tag.last()`, `"c"`},
		{`$.list.index(1)`, `2`},
		{`$.list.index(-2)`, `4`},
		{`$.list.index(7)`, `not found`},
		{`$.list.append(6, "x")`, `[1,2,3,4,5,6,"x"]`},
		{`$.list.append(6).length()`, `6`},
		{`$.words.concat()`, `"xy"`},
		{`$.words.concat("z", 1, true)`, `"xyz1true"`},
		{`$.order.keys()`, `["z","a","m"]`},
		{`$.order.keys().length()`, `3`},
		{`$.list.keys()`, `null`},
		{`$.list.append(1, 2).distinct()`, `[1,2,3,4,5]`},
		{`$.rows[*].tag.length()`, `[2,0,1]`},
		{`$.empty.sum()`, `$.empty.sum(): sum(): found no numbers`},
		{`$.text.first()`, `$.text.first(): first(): wants an array, found string`},
		{
			`$.list.index('x')`,
			`$.list.index('x'): index(): wants a whole number as its argument`,
		},
	})
}

func TestDefinite(t *testing.T) {
	for path, want := range map[string]bool{
		`$`: true, `$.a.b[0]['c']`: true, `$['a','b']`: true, `$.a[-1].length()`: true,
		`$.a[*]`: false, `$..a`: false, `$.a[0,1]`: false, `$.a[1:]`: false, `$['a','b'].c`: false,
		`$.a[?(@.b)]`: false, `$..a.length()`: true, `$.*`: false, `$.a[*].length()`: false,
	} {
		p, err := Compile(path)
		if err != nil || p.Definite() != want {
			t.Errorf("%s: definite %v, want %v (%v)", path, !want, want, err)
		}
	}
}

func TestLookup(t *testing.T) {
	root := parse(t, mixed)
	for path, want := range map[string]string{
		`$.missing.x`: `null`, `$.missing[*].x`: `[]`, `$.empty.sum()`: `null`, `$.list[0]`: `1`,
	} {
		p, _ := Compile(path)
		v, err := p.Lookup(root)
		if got := string(value.Marshal(v)); got != want || err != nil {
			t.Errorf("%s: %s, %v, want %s", path, got, err, want)
		}
	}
}

func TestHead(t *testing.T) {
	root := parse(t, mixed)
	for path, name := range map[string]string{
		`$.rows[0].s`: "rows", `rows`: "rows", `['rows'][?(@.id == 1)].s`: "rows",
		`$.rows..tag`: "rows", `$.rows.length()`: "rows", `$['with space']`: "with space",
		`$`: "", `$..a`: "", `$.*`: "", `$['a','b']`: "", `$[0]`: "", `$.length()`: "",
		`$.rows[?(@.id == $.n)]`: "", `$.rows.append($.n)`: "",
	} {
		p, err := Compile(path)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, ok := p.Head()
		if head != name || ok != (name != "") {
			t.Errorf("%s: Head() = %q, %v", path, head, ok)
		}
		if !ok {
			continue
		}
		whole, err := p.Eval(root)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := root.(*value.Object).Get(head)
		split, err := rest.Eval(first)
		if err != nil || !value.Equal(whole, split) || rest.Definite() != p.Definite() {
			t.Errorf("%s: %v by parts, %v as a whole, %v", path, split, whole, err)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	for _, tt := range []struct {
		path   string
		column int
		want   string
	}{
		{``, 1, "empty"},
		{`  `, 3, "empty"},
		{`$.`, 3, "expected a name after '.'"},
		{`$.a.`, 5, "expected a name after '.'"},
		{`$..`, 4, "expected a name after '.'"},
		{`$...a`, 4, "expected a name after '.'"},
		{`$a`, 2, "expected '.' or '['"},
		{`$.a b`, 4, "['my name']"},
		{`$.ä[`, 5, "expected a quoted name, an index"},
		{`$.a[0`, 6, "expected \"]\" after the index, found the end"},
		{`$.a[]`, 5, "expected a quoted name"},
		{`$.a['x`, 5, "the quote is not closed"},
		{`$.a['x',]`, 9, "expected a name in ' quotes"},
		{`$.a['x'b]`, 8, "expected \"]\" after the name"},
		{`$['\u12']`, 3, "malformed \\u escape"},
		{`$.a[0]b`, 7, "expected '.' or '['"},
		{`$.a[1:2:3]`, 8, "step is not supported"},
		{`$.a[:]`, 6, "needs a start or an end"},
		{`$.a[99999999999]`, 5, "32 bits"},
		{`$.a[(@.length-1)]`, 5, "script expressions"},
		{`$.a[?@.b]`, 6, "expected '(' after '?'"},
		{`$.a[?(@.b]`, 10, "expected \")\""},
		{`$.a[?(@.b ==)]`, 13, "expected a path, a string"},
		{`$.a[?(@.b ~~ 1)]`, 11, "expected \")\""},
		{`$.a[?(1)]`, 8, "expected an operator"},
		{`$.a[?(@.b =~ 'x')]`, 7, "pattern between slashes"},
		{`$.a[?(@.b =~ /(/)]`, 14, "not valid RE2"},
		{`$.a[?(@.b =~ /x)]`, 14, "not closed by '/'"},
		{`$.a[?(@.b =~ /x/q)]`, 17, "flag \"q\" is not supported"},
		{`$.a[?(!@.b == 1)]`, 7, "put it in parentheses"},
		{`$.a.nope()`, 5, "function nope() does not exist"},
		{`$.sum(`, 7, "expected"},
		{`$.sum(1 2)`, 9, "expected \",\" between arguments"},
		{`$[?(` + strings.Repeat("(", 100) + `@.a`, 36, "nested deeper"},
		{strings.Repeat("a", maxLength+1), 1, "longer than"},
	} {
		_, err := Compile(tt.path)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%.40s: %v, want a syntax error", tt.path, err)
			continue
		}
		if syntax.Column != tt.column || !strings.Contains(syntax.Message, tt.want) {
			t.Errorf("%.40s: %v, want column %d: %s", tt.path, err, tt.column, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	list := make([]any, 6000)
	for i := range list {
		list[i] = value.Int(int64(i))
	}
	nested := []any{}
	for range maxDepth + 1 {
		nested = []any{nested}
	}
	for path, root := range map[string]any{
		`$[?($ subsetof $)]`: list,
		`$..x`:               nested,
		`$.*.*.*.*.*`:        []any{repeat(repeat(repeat(repeat("x", 80), 80), 80), 80)},
	} {
		p, err := Compile(path)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := p.Lookup(root); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %T, %v, want ErrLimit", path, v, err)
		}
	}
}

func repeat(v any, n int) any {
	list := make([]any, n)
	for i := range list {
		list[i] = v
	}
	return list
}

func FuzzCompileEval(f *testing.F) {
	for _, s := range []string{
		`$..book[?(@.price <= $['expensive'] && !@.x || @.a =~ /x/i)]['a','b'].length()`,
		`$.concat($.a, "x", {"a":[1]})[1:-2,3]..*`, `a['\ud83d\ude00']`,
	} {
		f.Add(s, store)
		f.Add(s, mixed)
	}
	f.Fuzz(func(t *testing.T, path, document string) {
		p, err := Compile(path)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		root, err := value.Parse([]byte(document), value.DefaultLimits)
		if err != nil {
			return
		}
		v, err := p.Eval(root)
		if err == nil && !p.Definite() {
			if _, ok := v.([]any); !ok {
				t.Fatalf("%s gives %T", path, v)
			}
		}
		if name, rest, ok := p.Head(); ok && err == nil {
			first, _ := root.(*value.Object).Get(name)
			if again, err := rest.Eval(first); err != nil || !value.Equal(v, again) {
				t.Fatalf("%s: by parts %v, %v", path, again, err)
			}
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(`$.store.book[?(@.price < 10)].title`); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvalDefinite(b *testing.B) {
	root := parse(b, store)
	p, _ := Compile(`store.book[1].price`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Eval(root); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEvalFilter(b *testing.B) {
	root := parse(b, store)
	p, _ := Compile(`$.store.book[?(@.price < 10)].title`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Eval(root); err != nil {
			b.Fatal(err)
		}
	}
}
