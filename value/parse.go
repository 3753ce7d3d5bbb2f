package value

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Parse decodes one JSON text. The result shares no memory with b. The error is a *SyntaxError or
// a *LimitError.
func Parse(b []byte, limits Limits) (any, error) {
	p := parser{scanner: scanner{src: b, limits: limits.withDefaults()}}
	var v any
	err := p.document(func() (err error) {
		if len(b) <= shareMax {
			p.text = string(b)
		}
		v, err = p.value(0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// shareMax is the longest text that the strings of a document share. It saves an allocation for
// each of them, and costs that one string kept alive keeps the text alive.
const shareMax = 64 << 10

type parser struct {
	scanner
	text string // src, if it is short enough to be shared
	// Values and members are collected here and copied once their number is known.
	values  []any
	members []member
}

func (p *parser) value(depth int) (any, error) {
	switch p.peek() {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		start := p.pos
		escaped, err := p.string()
		if err != nil {
			return nil, err
		}
		return p.unquoted(start, escaped), nil
	case 't':
		return true, p.literal("true")
	case 'f':
		return false, p.literal("false")
	case 'n':
		return nil, p.literal("null")
	}
	start := p.pos
	if err := p.number(); err != nil {
		return nil, err
	}
	return Number(p.slice(start, p.pos)), nil
}

func (p *parser) slice(from, to int) string {
	if p.text != "" {
		return p.text[from:to]
	}
	return string(p.src[from:to])
}

// unquoted returns the string between the quotes at start and before pos.
func (p *parser) unquoted(start int, escaped bool) string {
	s := p.slice(start+1, p.pos-1)
	if escaped {
		return unquote(s)
	}
	return s
}

func (p *parser) array(depth int) (any, error) {
	base := len(p.values)
	err := p.elements(depth, func() error {
		v, err := p.value(depth + 1)
		p.values = append(p.values, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	list := make([]any, len(p.values)-base)
	copy(list, p.values[base:])
	p.values = p.values[:base]
	return list, nil
}

func (p *parser) object(depth int) (any, error) {
	base := len(p.members)
	err := p.scanner.members(depth, func(start int, escaped bool) error {
		name := p.unquoted(start, escaped)
		if err := p.colon(); err != nil {
			return err
		}
		v, err := p.value(depth + 1)
		p.members = append(p.members, member{name, v})
		return err
	})
	if err != nil {
		return nil, err
	}
	found := p.members[base:]
	o := &Object{members: make([]member, 0, len(found))}
	for _, m := range found {
		o.Set(m.name, m.value)
	}
	p.members = p.members[:base]
	if p.limits.RejectDuplicates && o.Len() < len(found) {
		// Places are not kept with the names; reading the text once more finds them.
		return nil, Check(p.src, p.limits)
	}
	return o, nil
}

// unquote replaces the escapes of a string that was checked before. A lone surrogate becomes
// U+FFFD.
func unquote(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 || i+1 >= len(s) {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		c := s[i+1]
		s = s[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			var r rune
			r, s = unquoteUnicode(s)
			b.WriteRune(r)
			continue
		}
		b.WriteByte(c)
	}
}

// unquoteUnicode reads the digits after \u, and a second escape if it completes a surrogate pair.
func unquoteUnicode(s string) (rune, string) {
	r := hex4(s)
	if r < 0 {
		return utf8.RuneError, s
	}
	s = s[4:]
	if !utf16.IsSurrogate(r) {
		return r, s
	}
	if strings.HasPrefix(s, `\u`) {
		if pair := utf16.DecodeRune(r, hex4(s[2:])); pair != utf8.RuneError {
			return pair, s[6:]
		}
	}
	return utf8.RuneError, s
}

// hex4 returns the value of the four hexadecimal digits s starts with, -1 if there are none.
func hex4(s string) rune {
	if len(s) < 4 {
		return -1
	}
	var r rune
	for i := range 4 {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}
