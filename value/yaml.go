package value

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// ParseYAML decodes one YAML document by the core schema of YAML 1.2: yes, on and dates are
// strings, 0o17 and 0xf are integers. Merge keys (<<) and aliases are expanded within
// limits.Values. Names that are numbers, booleans or null become their text; a name that occurs
// twice is an error, whatever limits.RejectDuplicates says. The error is a *SyntaxError or a
// *LimitError.
func ParseYAML(b []byte, limits Limits) (any, error) {
	limits = limits.withDefaults()
	root, err := loadYAML(b, limits)
	if err != nil || root == nil {
		return nil, err
	}
	d := yamlDecoder{limits: limits, src: b}
	return d.value(root, 0)
}

// loadYAML returns the root node, nil for an empty document.
func loadYAML(b []byte, limits Limits) (*yaml.Node, error) {
	if len(b) > limits.Bytes {
		return nil, &LimitError{Limit: "bytes", Max: limits.Bytes}
	}
	loader, err := yaml.NewLoader(bytes.NewReader(b))
	if err != nil {
		return nil, yamlError(b, err)
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); err == io.EOF {
		return nil, nil
	} else if err != nil {
		return nil, yamlError(b, err)
	}
	if err := loader.Load(&second); err == nil {
		return nil, &SyntaxError{
			Offset: lineOffset(b, second.Line), Line: second.Line, Column: second.Column,
			Message: "expected one YAML document, found a second one",
		}
	} else if err != io.EOF {
		return nil, yamlError(b, err)
	}
	if doc.Kind != yaml.DocumentNode {
		return &doc, nil
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	return doc.Content[0], nil
}

func yamlError(src []byte, err error) error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line, column := 1, 1
	var load *yaml.LoadError
	if errors.As(err, &load) {
		message = load.Message
		line, column = max(load.Mark.Line, 1), max(load.Mark.Column, 1)
	}
	return &SyntaxError{
		Offset: lineOffset(src, line), Line: line, Column: column, Message: message,
	}
}

// lineOffset returns the offset at which a line, counted from 1, starts.
func lineOffset(src []byte, line int) int {
	offset := 0
	for ; line > 1; line-- {
		i := bytes.IndexByte(src[offset:], '\n')
		if i < 0 {
			break
		}
		offset += i + 1
	}
	return offset
}

type yamlDecoder struct {
	limits Limits
	src    []byte
	values int
}

func (d *yamlDecoder) errorAt(n *yaml.Node, format string, args ...any) error {
	return &SyntaxError{
		Offset: lineOffset(d.src, n.Line), Line: n.Line, Column: n.Column,
		Message: fmt.Sprintf(format, args...),
	}
}

func (d *yamlDecoder) limitAt(n *yaml.Node, limit string, most int) error {
	return &LimitError{Limit: limit, Max: most, Line: n.Line, Column: n.Column}
}

// value decodes a node. An alias that contains itself ends at the depth limit.
func (d *yamlDecoder) value(n *yaml.Node, depth int) (any, error) {
	if d.values++; d.values > d.limits.Values {
		return nil, d.limitAt(n, "values", d.limits.Values)
	}
	if depth > d.limits.Depth {
		return nil, d.limitAt(n, "depth", d.limits.Depth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		if err := d.checkTag(n, "!!seq"); err != nil {
			return nil, err
		}
		return d.sequence(n, depth)
	case yaml.MappingNode:
		if err := d.checkTag(n, "!!map"); err != nil {
			return nil, err
		}
		return d.mapping(n, depth)
	case yaml.ScalarNode:
		return d.scalar(n)
	}
	return nil, d.errorAt(n, "this kind of YAML node is not supported")
}

func (d *yamlDecoder) checkTag(n *yaml.Node, want string) error {
	if n.Style&yaml.TaggedStyle == 0 || n.ShortTag() == want {
		return nil
	}
	return d.errorAt(n, "the tag %s is not supported here; remove it", n.Tag)
}

func (d *yamlDecoder) sequence(n *yaml.Node, depth int) (any, error) {
	list := make([]any, len(n.Content))
	for i, c := range n.Content {
		var err error
		if list[i], err = d.value(c, depth+1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (d *yamlDecoder) mapping(n *yaml.Node, depth int) (any, error) {
	o := NewObject()
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if isMerge(key) {
			continue
		}
		name, err := d.name(key)
		if err != nil {
			return nil, err
		}
		if _, found := o.Get(name); found {
			return nil, d.errorAt(key, "the name %s occurs twice", quoteForError(name))
		}
		v, err := d.value(n.Content[i+1], depth+1)
		if err != nil {
			return nil, err
		}
		o.Set(name, v)
	}
	return o, d.merge(o, n, depth)
}

// merge adds what the merge keys of n bring; members that are there win.
func (d *yamlDecoder) merge(o *Object, n *yaml.Node, depth int) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !isMerge(n.Content[i]) {
			continue
		}
		v, err := d.value(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		sources, ok := v.([]any)
		if !ok {
			sources = []any{v}
		}
		for _, source := range sources {
			from, ok := source.(*Object)
			if !ok {
				return d.errorAt(n.Content[i+1], "a merge key takes mappings, not %s", Kind(source))
			}
			for name, v := range from.All() {
				if _, found := o.Get(name); !found {
					o.Set(name, v)
				}
			}
		}
	}
	return nil
}

func isMerge(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "<<" && n.Style == 0
}

func (d *yamlDecoder) name(n *yaml.Node) (string, error) {
	n = followAlias(n)
	if n.Kind != yaml.ScalarNode {
		return "", d.errorAt(n, "the name of a member must be a scalar")
	}
	return n.Value, nil
}

const quotedStyle = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle |
	yaml.LiteralStyle | yaml.FoldedStyle

func (d *yamlDecoder) scalar(n *yaml.Node) (any, error) {
	if n.Style&yaml.TaggedStyle == 0 {
		if n.Style&quotedStyle != 0 {
			return n.Value, nil
		}
		return d.number(n, resolveScalar(n.Value))
	}
	v := resolveScalar(n.Value)
	switch tag := n.ShortTag(); tag {
	case "!!str", "!", "!!binary", "!!timestamp":
		return n.Value, nil
	case "!!null", "!!bool", "!!int", "!!float":
		want := map[string]string{"!!null": "null", "!!bool": "boolean"}[tag]
		if want == "" {
			want = "number"
		}
		if Kind(v) == want {
			return d.number(n, v)
		}
		return nil, d.errorAt(n, "%s is no %s", quoteForError(n.Value), tag)
	default:
		return nil, d.errorAt(n, "the tag %s is not supported; remove it", n.Tag)
	}
}

func (d *yamlDecoder) number(n *yaml.Node, v any) (any, error) {
	if text, ok := v.(Number); ok && len(text) > d.limits.Number {
		return nil, d.limitAt(n, "number bytes", d.limits.Number)
	}
	return v, nil
}

// resolveScalar gives a plain scalar its value by the core schema. Infinities and NaN, which JSON
// lacks, stay strings.
func resolveScalar(s string) any {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return nil
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
		return false
	}
	if c := s[0]; c != '+' && c != '-' && c != '.' && (c < '0' || c > '9') {
		return s
	}
	if n, ok := resolveNumber(s); ok {
		return n
	}
	return s
}

func resolveNumber(s string) (Number, bool) {
	if n := Number(s); n.Valid() {
		return n, true
	}
	if len(s) > 2 && (s[:2] == "0o" || s[:2] == "0x") {
		base := map[byte]int{'o': 8, 'x': 16}[s[1]]
		u, err := strconv.ParseUint(s[2:], base, 64)
		return Number(strconv.FormatUint(u, 10)), err == nil
	}
	return normalizeNumber(s)
}

// normalizeNumber rewrites what YAML allows beyond JSON: a plus sign, leading zeros, and a point
// without digits on one side of it.
func normalizeNumber(s string) (Number, bool) {
	s, negative := strings.CutPrefix(s, "-")
	if !negative {
		s = strings.TrimPrefix(s, "+")
	}
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i:]
	}
	whole, fraction, point := strings.Cut(mantissa, ".")
	if whole == "" && fraction == "" {
		return "", false
	}
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	if point {
		if fraction == "" {
			fraction = "0"
		}
		whole += "." + fraction
	}
	if negative {
		whole = "-" + whole
	}
	n := Number(whole + exponent)
	return n, n.Valid()
}
