package value

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Check reports whether b is one valid JSON text within the limits, without decoding it. The error
// is a *SyntaxError or a *LimitError.
func Check(b []byte, limits Limits) error {
	s := scanner{src: b, limits: limits.withDefaults()}
	return s.document(func() error { return s.skipValue(0) })
}

// A scanner reads one JSON text. It checks all that RFC 8259 asks for, and UTF-8.
type scanner struct {
	src    []byte
	pos    int
	limits Limits
}

// Classes of bytes within a string.
const (
	plainByte = iota
	specialByte
	multiByte
)

var stringClass = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c < ' ' || c == '"' || c == '\\':
			t[c] = specialByte
		case c >= utf8.RuneSelf:
			t[c] = multiByte
		}
	}
	return t
}()

// document runs read over the one value of the text, and checks that only space surrounds it.
func (s *scanner) document(read func() error) error {
	if len(s.src) > s.limits.Bytes {
		return &LimitError{Limit: "bytes", Max: s.limits.Bytes}
	}
	s.space()
	if err := read(); err != nil {
		return err
	}
	s.space()
	if s.pos < len(s.src) {
		return s.unexpected("the end of the document")
	}
	return nil
}

func (s *scanner) space() {
	for s.pos < len(s.src) {
		switch s.src[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, or 0 at the end, which no token starts with.
func (s *scanner) peek() byte {
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

func (s *scanner) errorAt(pos int, format string, args ...any) error {
	p := positionAt(s.src, pos)
	return &SyntaxError{
		Offset: pos, Line: p.Line, Column: p.Column, Message: fmt.Sprintf(format, args...),
	}
}

func (s *scanner) limitAt(pos int, limit string, most int) error {
	p := positionAt(s.src, pos)
	return &LimitError{Limit: limit, Max: most, Line: p.Line, Column: p.Column}
}

func (s *scanner) unexpected(want string) error {
	if s.pos >= len(s.src) {
		return s.errorAt(s.pos, "expected %s, found the end of the text", want)
	}
	end := s.pos + 1
	for end < len(s.src) && !bytes.ContainsRune([]byte(" \t\r\n,:{}[]\""), rune(s.src[end])) {
		end++
	}
	return s.errorAt(s.pos, "expected %s, found %s", want, quoteForError(string(s.src[s.pos:end])))
}

func (s *scanner) checkDepth(depth int) error {
	if depth >= s.limits.Depth {
		return s.limitAt(s.pos, "depth", s.limits.Depth)
	}
	return nil
}

// skipValue checks the value at pos and moves past it.
func (s *scanner) skipValue(depth int) error {
	switch c := s.peek(); c {
	case '{':
		return s.skipObject(depth)
	case '[':
		return s.skipArray(depth)
	case '"':
		_, err := s.string()
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

func (s *scanner) skipObject(depth int) error {
	var names Object
	return s.members(depth, func(start int, escaped bool) error {
		if s.limits.RejectDuplicates {
			if err := s.addName(&names, start, escaped); err != nil {
				return err
			}
		}
		if err := s.colon(); err != nil {
			return err
		}
		return s.skipValue(depth + 1)
	})
}

// addName notes the name that starts at start and ends at pos; a name noted before is an error.
func (s *scanner) addName(names *Object, start int, escaped bool) error {
	name := string(s.src[start+1 : s.pos-1])
	if escaped {
		name = unquote(name)
	}
	if _, found := names.Get(name); found {
		return s.errorAt(start, "the name %s occurs twice in one object", quoteForError(name))
	}
	names.Set(name, nil)
	return nil
}

// members walks an object. It calls each with every name scanned; each reads colon and value.
func (s *scanner) members(depth int, each func(start int, escaped bool) error) error {
	if err := s.checkDepth(depth); err != nil {
		return err
	}
	s.pos++
	s.space()
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.unexpected("a name in double quotes")
		}
		start := s.pos
		escaped, err := s.string()
		if err != nil {
			return err
		}
		if err := each(start, escaped); err != nil {
			return err
		}
		if more, err := s.next('}', "',' or '}'"); !more || err != nil {
			return err
		}
	}
}

func (s *scanner) skipArray(depth int) error {
	return s.elements(depth, func() error { return s.skipValue(depth + 1) })
}

// elements walks an array; each reads one element.
func (s *scanner) elements(depth int, each func() error) error {
	if err := s.checkDepth(depth); err != nil {
		return err
	}
	s.pos++
	s.space()
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		if more, err := s.next(']', "',' or ']'"); !more || err != nil {
			return err
		}
	}
}

// next moves past the comma or the closing bracket after a value; more is true after a comma.
func (s *scanner) next(closing byte, want string) (more bool, err error) {
	s.space()
	switch s.peek() {
	case ',':
		s.pos++
		s.space()
		return true, nil
	case closing:
		s.pos++
		return false, nil
	}
	return false, s.unexpected(want)
}

func (s *scanner) colon() error {
	s.space()
	if s.peek() != ':' {
		return s.unexpected("':' after the name")
	}
	s.pos++
	s.space()
	return nil
}

func (s *scanner) literal(text string) error {
	if end := s.pos + len(text); end <= len(s.src) && string(s.src[s.pos:end]) == text {
		s.pos = end
		return nil
	}
	return s.unexpected("a value")
}

func (s *scanner) number() error {
	end, ok := scanNumber(s.src, s.pos)
	switch {
	case end == s.pos:
		return s.unexpected("a value")
	case !ok:
		start := s.pos
		s.pos = end
		return s.errorAt(end, "malformed number %s", quoteForError(string(s.src[start:end])))
	case end-s.pos > s.limits.Number:
		return s.limitAt(s.pos, "number bytes", s.limits.Number)
	}
	s.pos = end
	return nil
}

// scanNumber returns the end of the number at i, and whether it is one. Where it is not, the end is
// where the number went wrong, which is i itself if nothing looks like a number.
func scanNumber[T ~string | ~[]byte](b T, i int) (end int, ok bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	if i = scanDigits(b, i); i == start || (b[start] == '0' && i > start+1) {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = scanDigits(b, start); i == start {
			return i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = scanDigits(b, start); i == start {
			return i, false
		}
	}
	return i, true
}

func scanDigits[T ~string | ~[]byte](b T, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

// string checks the string at pos and moves past it.
func (s *scanner) string() (escaped bool, err error) {
	start := s.pos
	i := start + 1
	var multi bool
	for {
		for i < len(s.src) && stringClass[s.src[i]] == plainByte {
			i++
		}
		if i >= len(s.src) {
			return false, s.errorAt(start, "string is not closed")
		}
		switch c := s.src[i]; {
		case c == '"':
			if text := s.src[start+1 : i]; multi && !utf8.Valid(text) {
				return false, s.errorAt(start, "string is not valid UTF-8")
			}
			s.pos = i + 1
			return escaped, nil
		case c == '\\':
			escaped = true
			n := escapeLen(s.src[i:])
			if n == 0 {
				return false, s.errorAt(i, "malformed escape in a string")
			}
			i += n
		case c < ' ':
			return false, s.errorAt(i, "control character %#U in a string must be escaped", rune(c))
		default:
			multi = true
			i++
		}
	}
}

// escapeLen returns the length of the escape that b starts with, 0 if it is malformed.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 && hex4(string(b[2:6])) >= 0 {
			return 6
		}
	}
	return 0
}
