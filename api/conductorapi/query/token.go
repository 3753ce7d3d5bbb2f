package query

import "strings"

type tokenKind uint8

const (
	tokEnd tokenKind = iota
	tokWord
	tokOp
	tokOpen
	tokClose
	tokComma
)

type token struct {
	kind   tokenKind
	text   string
	quoted bool
	offset int
}

// is reports whether the token is a word of the language.
func (t token) is(word string) bool {
	return t.kind == tokWord && !t.quoted && strings.EqualFold(t.text, word)
}

// next reads the next token.
func (p *parser) next() {
	for p.at < len(p.src) && isSpace(p.src[p.at]) {
		p.at++
	}
	p.tok = token{offset: p.at}
	if p.at == len(p.src) {
		return
	}
	switch c := p.src[p.at]; c {
	case '(':
		p.take(tokOpen, 1)
	case ')':
		p.take(tokClose, 1)
	case ',':
		p.take(tokComma, 1)
	case '=', '<', '>', '!':
		p.operator()
	case '"', '\'':
		p.quoted(c)
	default:
		p.word()
	}
}

func (p *parser) take(kind tokenKind, n int) {
	p.tok.kind, p.tok.text = kind, p.src[p.at:p.at+n]
	p.at += n
}

func (p *parser) operator() {
	for _, op := range []string{"!=", "<>", "<=", ">=", "==", "=", "<", ">"} {
		if strings.HasPrefix(p.src[p.at:], op) {
			p.take(tokOp, len(op))
			if op == "==" {
				p.tok.text = "="
			}
			return
		}
	}
	p.take(tokWord, 1) // a lone exclamation mark
}

// quoted reads up to the closing quote, or to the end when there is none. A backslash takes
// the special meaning from the quote and from itself.
func (p *parser) quoted(quote byte) {
	var b strings.Builder
	i := p.at + 1
	for ; i < len(p.src) && p.src[i] != quote; i++ {
		if p.src[i] == '\\' && i+1 < len(p.src) && (p.src[i+1] == quote || p.src[i+1] == '\\') {
			i++
		}
		b.WriteByte(p.src[i])
	}
	p.tok.kind, p.tok.quoted, p.tok.text = tokWord, true, b.String()
	p.at = min(i+1, len(p.src))
}

func (p *parser) word() {
	end := p.at
	for end < len(p.src) && !isSpace(p.src[end]) && strings.IndexByte("(),=<>!", p.src[end]) < 0 {
		end++
	}
	p.take(tokWord, end-p.at)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }
