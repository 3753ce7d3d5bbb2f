package value

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Locate returns the line and column, counted from 1, at which the value that an RFC 6901 pointer
// names starts in a JSON text. Where the pointer leads nowhere it returns the place of the last
// value on the way, so that a missing member is reported at the object that lacks it. It returns
// 0, 0 for text without any value.
func Locate(src []byte, pointer string) (line, col int) {
	at := skipSpace(src, 0)
	if at >= len(src) {
		return 0, 0
	}
	for _, token := range pointerTokens(pointer) {
		next := Raw(src[at:]).child(token)
		if next < 0 {
			break
		}
		at += next
	}
	p := positionAt(src, at)
	return p.Line, p.Column
}

// child returns the offset of a member or element within r, -1 if there is none.
func (r Raw) child(token string) int {
	found := -1
	for key, at := range r.memberSpans() {
		if matches(key, token) {
			found = at.from
		}
	}
	i := 0
	for at := range r.elementSpans() {
		if strconv.Itoa(i) == token {
			return at.from
		}
		i++
	}
	return found
}

// LocateYAML is Locate for a YAML document. Aliases are followed to their anchors.
func LocateYAML(src []byte, pointer string) (line, col int) {
	n, err := loadYAML(src, DefaultLimits)
	if err != nil || n == nil {
		return 0, 0
	}
	for _, token := range pointerTokens(pointer) {
		next := yamlChild(n, token)
		if next == nil {
			break
		}
		n = next
	}
	return n.Line, n.Column
}

// yamlChild returns the node of a member or element, nil if there is none.
func yamlChild(n *yaml.Node, token string) *yaml.Node {
	n = followAlias(n)
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(n.Content) {
			return n.Content[i]
		}
	}
	if v := yamlMember(n, token); v != nil || n.Kind != yaml.MappingNode {
		return v
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if !isMerge(n.Content[i]) {
			continue
		}
		source := followAlias(n.Content[i+1])
		if v := yamlMember(source, token); v != nil {
			return v
		}
		for _, c := range source.Content {
			if v := yamlMember(followAlias(c), token); v != nil {
				return v
			}
		}
	}
	return nil
}

// yamlMember returns the node of a member that stands in the mapping itself.
func yamlMember(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if followAlias(n.Content[i]).Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// followAlias returns what an alias stands for. An anchor names a node that is no alias, so one
// step is enough.
func followAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

var pointerUnescape = strings.NewReplacer("~1", "/", "~0", "~")

// pointerTokens splits a JSON pointer into its unescaped tokens.
func pointerTokens(pointer string) []string {
	if pointer == "" {
		return nil
	}
	tokens := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for i, t := range tokens {
		tokens[i] = pointerUnescape.Replace(t)
	}
	return tokens
}

// JoinPointer appends one token to a JSON pointer.
func JoinPointer(pointer, token string) string {
	return pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(token)
}
