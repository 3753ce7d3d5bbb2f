// Package query reads the search language of Conductor's REST API:
//
//	workflowType = order AND (status IN (FAILED, TIMED_OUT) OR startTime > 1700000000000)
//
// Conditions are `field op value` with the operators =, !=, <, <=, >, >=, IN (…),
// NOT IN (…), BETWEEN a AND b, STARTS_WITH, LIKE, IS NULL and IS NOT NULL, combined with AND,
// OR, NOT and parentheses. Values are bare words, numbers or quoted strings; * and ? in the
// value of = and != stand for any text and any character.
//
// It may import only the standard library and the root package. Its invariant: no input makes
// it panic, recurse without bound or make more than one pass over it.
package query

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti"
)

const (
	maxBytes = 64 << 10 // of a query
	maxDepth = 64       // parentheses within each other
)

// Op is the operator of a condition.
type Op uint8

// The operators.
const (
	Equal Op = iota
	Less
	LessOrEqual
	Greater
	GreaterOrEqual
	In
	Between
	StartsWith
	Like
	IsNull
)

var opNames = [...]string{
	"=", "<", "<=", ">", ">=", "IN", "BETWEEN", "STARTS_WITH", "LIKE", "IS NULL",
}

// Expr is a parsed query: a *Cond, And, Or or Not.
type Expr interface{ fmt.Stringer }

// And holds where all of its parts do; without parts everywhere.
type And []Expr

// Or holds where one of its parts does.
type Or []Expr

// Not holds where its part does not.
type Not struct{ Expr Expr }

// Cond compares a field with values.
type Cond struct {
	Field  string
	Op     Op
	Values []string
	Offset int // of the field in the query, in bytes
}

// Parse reads a query. An empty one, and "*", match everything. The error is of kind Invalid
// and says where.
func Parse(src string) (Expr, error) {
	if len(src) > maxBytes {
		return nil, fault(src, 0, fmt.Sprintf("it is longer than %d bytes", maxBytes))
	}
	p := &parser{src: src}
	p.next()
	if p.tok.kind == tokEnd || p.tok.text == "*" && strings.TrimSpace(src) == "*" {
		return And{}, nil
	}
	e, err := p.or(0)
	if err == nil && p.tok.kind != tokEnd {
		err = p.unexpected("AND, OR or the end")
	}
	if err != nil {
		return nil, err
	}
	return e, nil
}

func fault(src string, offset int, why string) error {
	const most = 200
	if len(src) > most {
		src = strings.ToValidUTF8(src[:most], "") + "…"
	}
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "search", Code: "MalformedQuery",
		Err: fmt.Errorf("Incorrectly formatted query string: %s: column %d: %s",
			src, offset+1, why),
		Hint: "a query is conditions such as workflowType = name, joined by AND, OR and parentheses",
	}
}

type parser struct {
	src string
	at  int
	tok token
}

func (p *parser) unexpected(want string) error {
	found := strconv.Quote(p.tok.text)
	if p.tok.kind == tokEnd {
		found = "the end"
	}
	return fault(p.src, p.tok.offset, fmt.Sprintf("want %s, found %s", want, found))
}

func (p *parser) or(depth int) (Expr, error) { return p.list("OR", depth) }

// list reads parts joined by a word: OR joins those that AND joins.
func (p *parser) list(word string, depth int) (Expr, error) {
	var parts []Expr
	for {
		e, err := p.part(word, depth)
		if err != nil {
			return nil, err
		}
		parts = append(parts, e)
		if !p.accept(word) {
			break
		}
	}
	switch {
	case len(parts) == 1:
		return parts[0], nil
	case word == "OR":
		return Or(parts), nil
	}
	return And(parts), nil
}

func (p *parser) part(word string, depth int) (Expr, error) {
	if word == "OR" {
		return p.list("AND", depth)
	}
	return p.unary(depth)
}

func (p *parser) unary(depth int) (Expr, error) {
	if depth > maxDepth {
		return nil, fault(p.src, p.tok.offset, "parentheses are nested too deep")
	}
	if p.tok.is("NOT") {
		p.next()
		e, err := p.unary(depth + 1)
		return Not{e}, err
	}
	if p.tok.kind != tokOpen {
		return p.condition()
	}
	p.next()
	e, err := p.or(depth + 1)
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokClose {
		return nil, p.unexpected("a closing parenthesis")
	}
	p.next()
	return e, nil
}

func (p *parser) condition() (Expr, error) {
	if p.tok.kind != tokWord || p.tok.quoted {
		return nil, p.unexpected("the name of a field")
	}
	c := &Cond{Field: p.tok.text, Offset: p.tok.offset}
	p.next()
	if p.tok.kind == tokOp {
		return p.comparison(c)
	}
	negated := p.accept("NOT")
	var err error
	switch {
	case p.accept("IN"):
		c.Op = In
		err = p.values(c)
	case p.accept("BETWEEN"):
		c.Op = Between
		err = p.bounds(c)
	case p.accept("STARTS_WITH"):
		c.Op = StartsWith
		err = p.value(c)
	case p.accept("LIKE"):
		c.Op = Like
		err = p.value(c)
	case !negated && p.accept("IS"):
		c.Op = IsNull
		negated = p.accept("NOT")
		if !p.accept("NULL") {
			err = p.unexpected("NULL")
		}
	default:
		err = p.unexpected("an operator")
	}
	if negated {
		return Not{c}, err
	}
	return c, err
}

func (p *parser) comparison(c *Cond) (Expr, error) {
	negated := p.tok.text == "!=" || p.tok.text == "<>"
	if at := slices.Index(opNames[:], p.tok.text); at >= 0 {
		c.Op = Op(at)
	}
	p.next()
	if err := p.value(c); err != nil {
		return nil, err
	}
	if negated {
		return Not{c}, nil
	}
	return c, nil
}

func (p *parser) value(c *Cond) error {
	if p.tok.kind != tokWord {
		return p.unexpected("a value")
	}
	c.Values = append(c.Values, p.tok.text)
	p.next()
	return nil
}

func (p *parser) bounds(c *Cond) error {
	if err := p.value(c); err != nil {
		return err
	}
	if !p.accept("AND") {
		return p.unexpected("AND")
	}
	return p.value(c)
}

// values reads a list in parentheses, or one value without them.
func (p *parser) values(c *Cond) error {
	if p.tok.kind != tokOpen {
		return p.value(c)
	}
	for p.next(); ; p.next() {
		if err := p.value(c); err != nil {
			return err
		}
		if p.tok.kind != tokComma {
			break
		}
	}
	if p.tok.kind != tokClose {
		return p.unexpected("a comma or a closing parenthesis")
	}
	p.next()
	return nil
}

// accept moves past a word of the language, however it is capitalised.
func (p *parser) accept(word string) bool {
	if !p.tok.is(word) {
		return false
	}
	p.next()
	return true
}

// String writes the condition as it can be parsed again.
func (c *Cond) String() string {
	quoted := make([]string, len(c.Values))
	for i, v := range c.Values {
		quoted[i] = quote(v)
	}
	switch c.Op {
	case IsNull:
		return c.Field + " IS NULL"
	case In:
		return c.Field + " IN (" + strings.Join(quoted, ", ") + ")"
	case Between:
		return c.Field + " BETWEEN " + strings.Join(quoted, " AND ")
	}
	return c.Field + " " + opNames[c.Op] + " " + quoted[0]
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// String writes the parts joined by AND.
func (a And) String() string { return join(a, " AND ") }

// String writes the parts joined by OR.
func (o Or) String() string { return join(o, " OR ") }

// String writes the part after NOT.
func (n Not) String() string { return "NOT (" + n.Expr.String() + ")" }

func join(parts []Expr, word string) string {
	text := make([]string, len(parts))
	for i, e := range parts {
		text[i] = e.String()
		if _, plain := e.(*Cond); !plain {
			text[i] = "(" + text[i] + ")"
		}
	}
	return strings.Join(text, word)
}
