package jsonpath

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tutti-run/tutti/value"
)

// A parser reads one expression. A path within a filter or an argument ends where its surroundings
// go on; the outermost one ends with the text.
type parser struct {
	src      string
	pos      int
	nesting  int
	usesRoot bool
}

func (p *parser) errorf(format string, args ...any) error {
	return p.errorAt(p.pos, format, args...)
}

func (p *parser) errorAt(pos int, format string, args ...any) error {
	text := p.src
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return &SyntaxError{
		Path: text, Column: utf8.RuneCountInString(p.src[:min(pos, len(p.src))]) + 1,
		Message: fmt.Sprintf(format, args...),
	}
}

func (p *parser) compile() (*Path, error) {
	if len(p.src) > maxLength {
		return nil, p.errorf("the expression is longer than %d bytes", maxLength)
	}
	p.space()
	if p.pos == len(p.src) {
		return nil, p.errorf("the expression is empty")
	}
	path := &Path{}
	var err error
	if c := p.peek(); c == '$' || c == '@' {
		p.pos++
	} else if path.steps, err = p.leadingName(); err != nil {
		return nil, err
	}
	more, err := p.steps()
	if err != nil {
		return nil, err
	}
	path.steps = append(path.steps, more...)
	p.space()
	if p.pos < len(p.src) {
		return nil, p.errorf("expected '.' or '[', found %q", p.rune())
	}
	path.usesRoot = p.usesRoot
	return path, nil
}

// leadingName reads the first step of a path without $. That of "..a" is read by steps.
func (p *parser) leadingName() ([]step, error) {
	if c := p.peek(); c == '[' || c == '.' {
		return nil, nil
	}
	s, err := p.afterDot()
	return []step{s}, err
}

func (p *parser) rune() string {
	r, _ := utf8.DecodeRuneInString(p.src[p.pos:])
	return string(r)
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte { return p.peekAt(0) }

func (p *parser) peekAt(n int) byte {
	if p.pos+n < len(p.src) {
		return p.src[p.pos+n]
	}
	return 0
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

func (p *parser) space() {
	for isSpace(p.peek()) {
		p.pos++
	}
}

// accept moves past text if it comes next.
func (p *parser) accept(text string) bool {
	if strings.HasPrefix(p.src[p.pos:], text) {
		p.pos += len(text)
		return true
	}
	return false
}

func (p *parser) expect(c byte, where string) error {
	p.space()
	if p.peek() != c {
		if p.pos >= len(p.src) {
			return p.errorf("expected %q %s, found the end", string(c), where)
		}
		return p.errorf("expected %q %s, found %q", string(c), where, p.rune())
	}
	p.pos++
	return nil
}

// nested runs read one level deeper.
func (p *parser) nested(read func() error) error {
	if p.nesting++; p.nesting > maxNesting {
		return p.errorf("filters and arguments are nested deeper than %d", maxNesting)
	}
	err := read()
	p.nesting--
	return err
}

// inner reads a path within a filter or an argument, at its $ or @.
func (p *parser) inner() (*Path, bool, error) {
	start, fromRoot := p.pos, p.peek() == '$'
	p.pos++
	p.usesRoot = p.usesRoot || fromRoot
	var path *Path
	err := p.nested(func() error {
		steps, err := p.steps()
		path = &Path{text: p.src[start:p.pos], steps: steps}
		return err
	})
	return path, fromRoot, err
}

func (p *parser) steps() ([]step, error) {
	var steps []step
	for {
		var s step
		var err error
		switch p.peek() {
		case '.':
			p.pos++
			if p.peek() == '.' {
				p.pos++
				steps = append(steps, scanStep{})
			}
			if s, err = p.afterDot(); err != nil {
				return nil, err
			}
		case '[':
			if s, err = p.bracket(); err != nil {
				return nil, err
			}
		default:
			return steps, nil
		}
		steps = append(steps, s)
	}
}

// afterDot reads what follows a dot: a name, a function, a wildcard or a bracket.
func (p *parser) afterDot() (step, error) {
	switch c := p.peek(); {
	case p.pos >= len(p.src) || c == '.':
		return nil, p.errorf("expected a name after '.'")
	case c == '[':
		return p.bracket()
	case c == '*':
		p.pos++
		return wildcardStep{}, nil
	}
	start := p.pos
	for p.pos < len(p.src) && !p.atNameEnd() {
		p.pos++
	}
	name := p.src[start:p.pos]
	switch {
	case p.peek() == '(':
		return p.call(start, name)
	case name == "":
		return nil, p.errorf("expected a name after '.', found %q", p.rune())
	case p.nesting == 0 && isSpace(p.peek()) && strings.TrimSpace(p.src[p.pos:]) != "":
		return nil, p.errorf("a name with a blank needs brackets: ['my name']")
	}
	return nameStep{names: []string{name}}, nil
}

func (p *parser) atNameEnd() bool {
	c := p.peek()
	if c == '.' || c == '[' || c == '(' || isSpace(c) {
		return true
	}
	if p.nesting == 0 {
		return false
	}
	switch c {
	case ')', ']', ',', '<', '>', '=', '~', '!':
		return true
	case '&', '|':
		return p.peekAt(1) == c
	}
	return false
}

func (p *parser) bracket() (step, error) {
	p.pos++
	p.space()
	switch c := p.peek(); {
	case c == '\'' || c == '"':
		return p.quotedNames(c)
	case c == '*':
		p.pos++
		return wildcardStep{}, p.expect(']', "after '*'")
	case c == '?':
		return p.filter()
	case c == '-' || c == ':' || '0' <= c && c <= '9':
		return p.indexes()
	case c == '(':
		return nil, p.errorf("script expressions [(…)] are not supported; use a negative index")
	}
	return nil, p.errorf("expected a quoted name, an index, '*' or '?' in brackets")
}

func (p *parser) quotedNames(quote byte) (step, error) {
	var s nameStep
	for {
		p.space()
		if p.peek() != quote {
			return nil, p.errorf("expected a name in %c quotes", quote)
		}
		name, err := p.quoted()
		if err != nil {
			return nil, err
		}
		s.names = append(s.names, name)
		if p.space(); p.peek() != ',' {
			return s, p.expect(']', "after the name")
		}
		p.pos++
	}
}

// quoted reads a string in the quotes that come next, with the escapes of JSON and any other
// escaped character for itself.
func (p *parser) quoted() (string, error) {
	quote, start := p.peek(), p.pos
	p.pos++
	from, escaped := p.pos, false
	for p.pos < len(p.src) && p.peek() != quote {
		if p.peek() == '\\' {
			escaped = true
			p.pos++
		}
		p.pos++
	}
	if p.pos >= len(p.src) {
		p.pos = len(p.src)
		return "", p.errorAt(start, "the quote is not closed")
	}
	text := p.src[from:p.pos]
	p.pos++
	if !escaped {
		return text, nil
	}
	s, ok := unescape(text)
	if !ok {
		return "", p.errorAt(start, "malformed \\u escape")
	}
	return s, nil
}

var escapes = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func unescape(s string) (string, bool) {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 >= len(s) {
			b.WriteString(s)
			return b.String(), true
		}
		b.WriteString(s[:i])
		c := s[i+1]
		s = s[i+2:]
		if c != 'u' {
			if plain, ok := escapes[c]; ok {
				c = plain
			}
			b.WriteByte(c)
			continue
		}
		// A surrogate pair is two escapes; the JSON decoder knows how to join them.
		n := 4
		if len(s) >= 10 && s[4:6] == `\u` && strings.ContainsAny(s[:1], "dD") {
			n = 10
		}
		if len(s) < n {
			return "", false
		}
		decoded, err := value.Parse([]byte(`"\u`+s[:n]+`"`), value.DefaultLimits)
		if err != nil {
			return "", false
		}
		text, _ := decoded.(string)
		b.WriteString(text)
		s = s[n:]
	}
}

// indexes reads [1], [1,-2], [1:], [:2] or [1:2].
func (p *parser) indexes() (step, error) {
	if p.peek() == ':' {
		return p.slice(0, false)
	}
	first, err := p.integer()
	if err != nil {
		return nil, err
	}
	if p.space(); p.peek() == ':' {
		return p.slice(first, true)
	}
	s := indexStep{indexes: []int{first}}
	for p.space(); p.peek() == ','; p.space() {
		p.pos++
		p.space()
		next, err := p.integer()
		if err != nil {
			return nil, err
		}
		s.indexes = append(s.indexes, next)
	}
	return s, p.expect(']', "after the index")
}

func (p *parser) slice(from int, hasFrom bool) (step, error) {
	p.pos++
	s := sliceStep{from: from, to: math.MaxInt}
	p.space()
	switch {
	case p.peek() == ':':
		return nil, p.errorf("a slice with a step is not supported")
	case p.peek() != ']':
		var err error
		if s.to, err = p.integer(); err != nil {
			return nil, err
		}
	case !hasFrom:
		return nil, p.errorf("a slice needs a start or an end; use [*] for all elements")
	}
	if p.space(); p.peek() == ':' {
		return nil, p.errorf("a slice with a step is not supported")
	}
	return s, p.expect(']', "after the slice")
}

func (p *parser) integer() (int, error) {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	for c := p.peek(); '0' <= c && c <= '9'; c = p.peek() {
		p.pos++
	}
	n, err := strconv.ParseInt(p.src[start:p.pos], 10, 32)
	if err != nil {
		return 0, p.errorAt(start, "expected an index of at most 32 bits")
	}
	return int(n), nil
}

// call reads the arguments of a function, at the opening parenthesis.
func (p *parser) call(start int, name string) (step, error) {
	f, ok := functions[name]
	if !ok {
		return nil, p.errorAt(start, "the function %s() does not exist", name)
	}
	p.pos++
	s := callStep{name: name, function: f}
	err := p.nested(func() error {
		for p.space(); p.peek() != ')'; p.space() {
			if len(s.args) > 0 {
				if err := p.expect(',', "between arguments"); err != nil {
					return err
				}
				p.space()
			}
			arg, err := p.argument()
			if err != nil {
				return err
			}
			s.args = append(s.args, arg)
		}
		p.pos++
		s.countChildren()
		return nil
	})
	return s, err
}

// argument reads a path or a literal. Paths start at the document, whether written with $ or @.
func (p *parser) argument() (argument, error) {
	if c := p.peek(); c == '$' || c == '@' {
		p.usesRoot = true
		path, _, err := p.inner()
		return argument{path: path}, err
	}
	v, err := p.literal()
	return argument{literal: v}, err
}

// literal reads a JSON value; strings may stand in single quotes.
func (p *parser) literal() (any, error) {
	p.space()
	switch c := p.peek(); {
	case c == '\'' || c == '"':
		return p.quoted()
	case c == '[':
		return p.listLiteral()
	case c == '{':
		return p.objectLiteral()
	case p.acceptWord("true"):
		return true, nil
	case p.acceptWord("false"):
		return false, nil
	case p.acceptWord("null"):
		return nil, nil
	}
	start := p.pos
	for strings.IndexByte("+-.0123456789eE", p.peek()) >= 0 && p.pos < len(p.src) {
		p.pos++
	}
	n := value.Number(p.src[start:p.pos])
	if !n.Valid() || len(n) > value.DefaultLimits.Number {
		return nil, p.errorAt(start, "expected a path, a string, a number, true, false or null")
	}
	return n, nil
}

// acceptWord moves past a word if it comes next and ends there.
func (p *parser) acceptWord(word string) bool {
	if c := p.peekAt(len(word)); c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
		return false
	}
	return p.accept(word)
}

func (p *parser) listLiteral() (any, error) {
	list := []any{}
	err := p.sequence(']', func() error {
		v, err := p.literal()
		list = append(list, v)
		return err
	})
	return list, err
}

func (p *parser) objectLiteral() (any, error) {
	o := value.NewObject()
	err := p.sequence('}', func() error {
		if c := p.peek(); c != '\'' && c != '"' {
			return p.errorf("expected a quoted name")
		}
		name, err := p.quoted()
		if err != nil {
			return err
		}
		if err := p.expect(':', "after the name"); err != nil {
			return err
		}
		v, err := p.literal()
		o.Set(name, v)
		return err
	})
	return o, err
}

// sequence reads what stands between brackets, separated by commas.
func (p *parser) sequence(closing byte, each func() error) error {
	p.pos++
	return p.nested(func() error {
		for n := 0; ; n++ {
			p.space()
			if p.peek() == closing {
				p.pos++
				return nil
			}
			if n > 0 {
				if err := p.expect(',', "between values"); err != nil {
					return err
				}
				p.space()
			}
			if err := each(); err != nil {
				return err
			}
		}
	})
}
