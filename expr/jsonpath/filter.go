package jsonpath

import (
	"regexp"
	"strings"
)

// filter reads [?(…)], at the question mark.
func (p *parser) filter() (step, error) {
	p.pos++
	p.space()
	if p.peek() != '(' {
		return nil, p.errorf("expected '(' after '?'")
	}
	var s filterStep
	err := p.nested(func() (err error) {
		s.condition, err = p.or()
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, p.expect(']', "after the filter")
}

func (p *parser) or() (condition, error) {
	left, err := p.and()
	for err == nil && p.acceptAfterSpace("||") {
		var right condition
		right, err = p.and()
		left = orCondition{left, right}
	}
	return left, err
}

func (p *parser) and() (condition, error) {
	left, err := p.operand()
	for err == nil && p.acceptAfterSpace("&&") {
		var right condition
		right, err = p.operand()
		left = andCondition{left, right}
	}
	return left, err
}

func (p *parser) acceptAfterSpace(text string) bool {
	p.space()
	return p.accept(text)
}

// operand reads a condition in parentheses, a negation or a comparison.
func (p *parser) operand() (c condition, err error) {
	p.space()
	switch {
	case p.peek() == '(':
		p.pos++
		err = p.nested(func() error {
			c, err = p.or()
			return err
		})
		if err != nil {
			return nil, err
		}
		return c, p.expect(')', "to close the condition")
	case p.peek() == '!':
		return p.negation()
	}
	return p.comparison()
}

func (p *parser) negation() (c condition, err error) {
	start := p.pos
	p.pos++
	p.space()
	grouped := p.peek() == '('
	err = p.nested(func() error {
		c, err = p.operand()
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, ok := c.(compareCondition); ok && !grouped {
		return nil, p.errorAt(start, "to negate a comparison put it in parentheses: !(…)")
	}
	return notCondition{c}, nil
}

func (p *parser) comparison() (condition, error) {
	start := p.pos
	left, err := p.term()
	if err != nil {
		return nil, err
	}
	op, ok := p.operator()
	if !ok {
		if left.path == nil {
			return nil, p.errorf("expected an operator")
		}
		return existsCondition{left}, nil
	}
	right, err := p.term()
	if err != nil {
		return nil, err
	}
	if op.name == "=~" && (left.pattern == nil) == (right.pattern == nil) {
		return nil, p.errorAt(start, "=~ takes a pattern between slashes on one side")
	}
	return compareCondition{left: left, op: op, right: right}, nil
}

// operator reads an operator; words are known in any case of letters.
func (p *parser) operator() (operator, bool) {
	p.space()
	end := p.pos
	for end < len(p.src) && strings.IndexByte("<>=~!", p.src[end]) >= 0 {
		end++
	}
	if end == p.pos {
		for end < len(p.src) && 'a' <= p.src[end]|0x20 && p.src[end]|0x20 <= 'z' {
			end++
		}
	}
	name := strings.ToLower(p.src[p.pos:end])
	test, ok := operators[name]
	if !ok {
		return operator{}, false
	}
	p.pos = end
	return operator{name, test}, true
}

// term reads one side of a comparison.
func (p *parser) term() (term, error) {
	p.space()
	switch p.peek() {
	case '$', '@':
		path, fromRoot, err := p.inner()
		return term{path: path, fromRoot: fromRoot}, err
	case '/':
		re, err := p.pattern()
		return term{pattern: re}, err
	}
	v, err := p.literal()
	return term{literal: v}, err
}

// pattern reads /…/ and its flags. As in Jayway it must match the whole of its input.
func (p *parser) pattern() (*regexp.Regexp, error) {
	start := p.pos
	p.pos++
	for p.pos < len(p.src) && p.peek() != '/' {
		if p.peek() == '\\' {
			p.pos++
		}
		p.pos++
	}
	if p.pos >= len(p.src) {
		p.pos = len(p.src)
		return nil, p.errorAt(start, "the pattern is not closed by '/'")
	}
	text := strings.ReplaceAll(p.src[start+1:p.pos], `\/`, "/")
	p.pos++
	flags := ""
	for c := p.peek(); 'a' <= c|0x20 && c|0x20 <= 'z'; c = p.peek() {
		switch c {
		case 'i', 'm', 's':
			flags += string(c)
		case 'u', 'U', 'd':
			// Patterns are always Unicode, and a line always ends with \n.
		default:
			return nil, p.errorf("the pattern flag %q is not supported", p.rune())
		}
		p.pos++
	}
	if flags != "" {
		text = "(?" + flags + ":" + text + ")"
	}
	re, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		return nil, p.errorAt(start, "the pattern is not valid RE2: %v", err)
	}
	return re, nil
}
