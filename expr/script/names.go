package script

import "regexp"

// names are the words that occur in a program, in whatever place. A native function without an
// operator that calls it can be reached only by its name, so a guard is needed only if the name is
// among them, or if the program may make up names as it runs.
type names struct {
	computed bool
	words    map[string]bool
}

// has reports whether the program can come by a name.
func (n names) has(name string) bool { return n.computed || n.words[name] }

var (
	word = regexp.MustCompile(`[A-Za-z_$][A-Za-z0-9_$]*`)
	// member finds what may be a computed member: a bracket after anything that can end an operand.
	member = regexp.MustCompile(`[A-Za-z0-9_$)\]}'"` + "`" + `./\x80-\x{10ffff}][\s\v]*\[`)
	// constant matches a bracket that holds a short index or a plain string.
	constant = regexp.MustCompile(`^\[\s*([0-9]{1,6}|'[^'\\\n]*'|"[^"\\\n]*")\s*\]`)
	// pattern finds computed names in destructuring, escapes, which may spell a name, and comments,
	// which may stand between an operand and its bracket.
	pattern = regexp.MustCompile(`\][\s\v\x80-\x{10ffff}]*:|\\|/\*|//|<!--|-->`)
)

// computing are the words by which a program can come by a property without spelling its name.
var computing = []string{
	"Reflect", "with", "getOwnPropertyDescriptor", "getOwnPropertyDescriptors", "__lookupGetter__",
	"__lookupSetter__", "getOwnPropertyNames",
}

func namesIn(src string) names {
	n := names{words: make(map[string]bool)}
	for _, w := range word.FindAllString(src, -1) {
		n.words[w] = true
	}
	n.computed = pattern.MatchString(src)
	for _, w := range computing {
		n.computed = n.computed || n.words[w]
	}
	for _, at := range member.FindAllStringIndex(src, -1) {
		n.computed = n.computed || !constant.MatchString(src[at[1]-1:])
	}
	return n
}
