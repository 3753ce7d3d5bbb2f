package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tutti-run/tutti/expr/jsonpath"
	"github.com/tutti-run/tutti/value"
)

// The bounds of expressions. Passing one is an error that wraps ErrExpressionLimit.
const (
	maxReferenceDepth = 32       // ${…} within each other
	maxResolvedBytes  = 64 << 20 // rough size of what one template resolves to
)

// ErrExpressionLimit is wrapped by errors about expressions that are nested too deep or yield
// too much.
var ErrExpressionLimit = errors.New("expression passes a limit")

// The names that the first component of a path in an expression may have besides task
// references, and that start expressions which are not paths.
const (
	RootWorkflow  = "workflow"
	secretsPrefix = "workflow.secrets."
	envPrefix     = "workflow.env."
	secretStart   = "${" + secretsPrefix
)

// SystemTaskID is the system parameter that holds the identifier of the task whose input is
// being resolved.
const SystemTaskID = "CPEWF_TASK_ID"

// systemParameters are the names that stand for themselves rather than for a path. The official
// server reads any other variable of its process too; this one never shows its environment.
var systemParameters = []string{SystemTaskID, "NETFLIX_ENV", "NETFLIX_STACK"}

// WorkflowFields are the members of the root "workflow".
var WorkflowFields = []string{
	"input", "output", "status", "workflowId", "parentWorkflowId", "parentWorkflowTaskId",
	"workflowType", "version", "correlationId", "reasonForIncompletion", "schemaVersion",
	"variables",
}

// TaskFields are the members of a root that is a task reference.
var TaskFields = []string{
	"input", "output", "taskType", "status", "referenceTaskName", "retryCount", "correlationId",
	"pollCount", "taskDefName", "scheduledTime", "startTime", "endTime", "workflowInstanceId",
	"taskId", "reasonForIncompletion", "callbackAfterSeconds", "workerId", "iteration",
}

// A Scope gives expressions their values. Only what is looked up need be decoded.
type Scope interface {
	// Lookup returns one of WorkflowFields of the root "workflow", or one of TaskFields of a
	// task reference. It is not ok when there is no such task. Callers do not change the value.
	Lookup(root, field string) (v any, ok bool)
	// Roots names "workflow" and all tasks there are, in the order they were scheduled. It is
	// asked only for paths that look at the whole document, such as $..x.
	Roots() []string
	// Env returns a variable of the environment configured for workflows.
	Env(name string) (string, bool)
	// System returns a system parameter. One that is not known stays as it is written.
	System(name string) (string, bool)
}

// A MemberScope is a Scope that can give one member of a field's value without making the whole
// of it.
type MemberScope interface {
	Scope
	// LookupMember returns a member of what Lookup returns for root and field. It is not ok when
	// there is no such member; handled is false when Lookup is to be asked instead.
	LookupMember(root, field, member string) (v any, ok, handled bool)
}

// A NamedScope is a Scope in which some names stand for values of their own, before "workflow"
// and tasks are looked at.
type NamedScope interface {
	Scope
	Named(name string) (v any, ok bool)
}

// A Template is a value in which strings may hold expressions, compiled once for any number of
// resolutions. It is immutable and safe for concurrent use.
type Template struct {
	root   any // a constant, or one of the node types below
	refs   []string
	wide   bool
	broken []string
	err    error
}

// The nodes of a template. Whatever is none of them is a constant and is shared with results.
type (
	objectNode struct {
		names  []string
		values []any
	}
	listNode []any
	// A textNode is a string with references; bare says that it is one reference and nothing
	// else, so that the value keeps its kind.
	textNode struct {
		parts []part
		bare  bool
	}
)

// A part of a text is a literal, or a reference when ref is set.
type part struct {
	literal string
	ref     *reference
}

// A reference is one ${…}: fixed, or with references inside that have to be resolved first.
type reference struct {
	target target
	inner  *textNode
}

// A target is what the text within ${…} means.
type target struct {
	kind targetKind
	text string         // the text itself; for env the name
	path *jsonpath.Path // of the whole document, of the root, of the field or of the variable
	root string
	name string // field of the root
}

type targetKind uint8

const (
	blankTarget    targetKind = iota // nothing but space: the empty string
	brokenTarget                     // no path: null
	secretTarget                     // stays as it is written, for Handoff
	envTarget                        // a variable; path, if set, leads into it as JSON
	systemTarget                     // a system parameter
	documentTarget                   // path starts at the whole document
	rootTarget                       // path starts at one root
	fieldTarget                      // path starts at one field of a root
)

// CompileTemplate compiles a decoded value, which must not be changed afterwards. It does not
// fail: as in the official server, an expression that is no path resolves to null.
func CompileTemplate(v any) *Template {
	c := compiler{refs: map[string]bool{}}
	t := &Template{root: c.compile(v), err: c.err, wide: c.wide, broken: c.broken}
	t.refs = slices.Sorted(maps.Keys(c.refs))
	return t
}

// Refs returns the task references that the template names, sorted. More may be meant if Wide.
func (t *Template) Refs() []string { return t.refs }

// Wide reports whether the template may read tasks that Refs does not name, because a path looks
// at the whole document or is put together at run time.
func (t *Template) Wide() bool { return t.wide }

// Broken returns the texts within ${…} that are no paths and so resolve to null.
func (t *Template) Broken() []string { return t.broken }

// Constant reports whether the template holds no expression.
func (t *Template) Constant() bool { return t.err == nil && !isNode(t.root) }

// Resolve returns the value with all expressions replaced. It shares with the compiled value and
// with the scope's values, so it must not be changed. The error wraps ErrExpressionLimit or
// jsonpath.ErrLimit; whatever is merely missing is null.
func (t *Template) Resolve(s Scope) (any, error) { return t.resolve(scopeReader{s}) }

// ResolveDocument is Resolve over one decoded document in place of a run: all paths start at it.
// Secrets and the environment are not known.
func (t *Template) ResolveDocument(doc any) (any, error) {
	return t.resolve(documentReader{doc})
}

func (t *Template) resolve(r reader) (any, error) {
	if t.err != nil {
		return nil, t.err
	}
	return (&resolver{reader: r, left: maxResolvedBytes}).value(t.root)
}

func isNode(v any) bool {
	switch v.(type) {
	case *objectNode, listNode, *textNode:
		return true
	}
	return false
}

// A compiler turns values into nodes and notes what they refer to.
type compiler struct {
	refs   map[string]bool
	wide   bool
	broken []string
	err    error
}

func (c *compiler) compile(v any) any {
	switch v := v.(type) {
	case string:
		if t := c.text(v, 0); t != nil {
			return t
		}
	case []any:
		return c.list(v)
	case *value.Object:
		return c.object(v)
	}
	return v
}

func (c *compiler) list(list []any) any {
	nodes := make(listNode, len(list))
	dynamic := false
	for i, e := range list {
		nodes[i] = c.compile(e)
		dynamic = dynamic || isNode(nodes[i])
	}
	if !dynamic {
		return list
	}
	return nodes
}

func (c *compiler) object(o *value.Object) any {
	n := &objectNode{}
	dynamic := false
	for k, e := range o.All() {
		node := c.compile(e)
		n.names, n.values = append(n.names, k), append(n.values, node)
		dynamic = dynamic || isNode(node)
	}
	if !dynamic {
		return o
	}
	return n
}

// text compiles a string; nil if it stands for itself.
func (c *compiler) text(s string, depth int) *textNode {
	if !strings.Contains(s, "${") {
		return nil
	}
	if depth > maxReferenceDepth {
		c.err = fmt.Errorf("%w: references nested deeper than %d levels",
			ErrExpressionLimit, maxReferenceDepth)
		return nil
	}
	t := &textNode{}
	closing := matchBraces(s)
	from := 0
	for i := 0; i+1 < len(s); i++ {
		if s[i] != '$' || s[i+1] != '{' || (i > 0 && s[i-1] == '$') || closing[i+1] == 0 {
			continue
		}
		t.addLiteral(s[from:i])
		end := closing[i+1]
		t.parts = append(t.parts, part{ref: c.reference(s[i+2:end], depth)})
		from, i = end+1, end
	}
	t.bare = from == len(s) && len(t.parts) == 1 && depth == 0
	t.addLiteral(s[from:])
	return t
}

// addLiteral adds text between references, in which $${ stands for ${.
func (t *textNode) addLiteral(s string) {
	if s != "" {
		s = strings.ReplaceAll(s, "$${", "${")
		t.parts = append(t.parts, part{literal: s})
	}
}

// matchBraces returns for each opening brace the position of the one that closes it, or 0.
func matchBraces(s string) []int {
	closing := make([]int, len(s))
	var open []int
	for i := range len(s) {
		switch s[i] {
		case '{':
			open = append(open, i)
		case '}':
			if n := len(open); n > 0 {
				closing[open[n-1]] = i
				open = open[:n-1]
			}
		}
	}
	return closing
}

func (c *compiler) reference(s string, depth int) *reference {
	if inner := c.text(s, depth+1); inner != nil {
		c.wide = true
		return &reference{inner: inner}
	}
	t := newTarget(s)
	switch t.kind {
	case brokenTarget:
		c.broken = append(c.broken, s)
	case documentTarget:
		c.wide = true
	case rootTarget, fieldTarget:
		if t.root != RootWorkflow {
			c.refs[t.root] = true
		}
	}
	return &reference{target: t}
}

// newTarget tells what the text within ${…} means.
func newTarget(s string) target {
	switch name, isEnv := strings.CutPrefix(s, envPrefix); {
	case strings.TrimSpace(s) == "":
		return target{kind: blankTarget}
	case strings.HasPrefix(s, secretsPrefix):
		return target{kind: secretTarget, text: s}
	case isEnv:
		return newEnvTarget(name)
	case slices.Contains(systemParameters, s):
		return target{kind: systemTarget, text: s}
	}
	path, err := jsonpath.Compile(s)
	if err != nil {
		return target{kind: brokenTarget}
	}
	root, rest, ok := path.Head()
	if !ok {
		return target{kind: documentTarget, path: path}
	}
	if field, rest, ok := rest.Head(); ok {
		return target{kind: fieldTarget, path: rest, root: root, name: field}
	}
	return target{kind: rootTarget, path: rest, root: root}
}

func newEnvTarget(s string) target {
	name, rest, deep := strings.Cut(s, ".")
	t := target{kind: envTarget, text: name}
	if deep {
		path, err := jsonpath.Compile(rest)
		if err != nil {
			return target{kind: brokenTarget}
		}
		t.path = path
	}
	return t
}

// A resolver carries out one resolution.
type resolver struct {
	reader reader
	left   int // bytes that the result may still grow by
}

func (r *resolver) value(v any) (any, error) {
	switch v := v.(type) {
	case *objectNode:
		o := value.NewObject()
		for i, name := range v.names {
			e, err := r.value(v.values[i])
			if err != nil {
				return nil, err
			}
			o.Set(name, e)
		}
		return o, nil
	case listNode:
		list := make([]any, len(v))
		for i, e := range v {
			var err error
			if list[i], err = r.value(e); err != nil {
				return nil, err
			}
		}
		return list, nil
	case *textNode:
		if v.bare {
			return r.reference(v.parts[0].ref)
		}
		return r.text(v)
	}
	return v, nil
}

func (r *resolver) text(t *textNode) (string, error) {
	var b []byte
	for _, p := range t.parts {
		if p.ref == nil {
			b = append(b, p.literal...)
			continue
		}
		v, err := r.reference(p.ref)
		if err != nil {
			return "", err
		}
		b = appendJava(b, v)
	}
	return string(b), nil
}

// reference returns the value of one reference and charges for its size.
func (r *resolver) reference(ref *reference) (any, error) {
	t := ref.target
	if ref.inner != nil {
		s, err := r.text(ref.inner)
		if err != nil {
			return nil, err
		}
		t = newTarget(s)
	}
	v, err := r.reader.read(t)
	if err != nil {
		return nil, err
	}
	if r.left = charge(v, r.left); r.left < 0 {
		return nil, fmt.Errorf("%w: the result is larger than %d bytes",
			ErrExpressionLimit, maxResolvedBytes)
	}
	return v, nil
}

// charge subtracts the rough size of v and stops as soon as nothing is left.
func charge(v any, left int) int {
	const overhead = 4
	left -= overhead
	switch v := v.(type) {
	case string:
		return left - len(v)
	case []any:
		for i := 0; i < len(v) && left >= 0; i++ {
			left = charge(v[i], left)
		}
	case *value.Object:
		for name, e := range v.All() {
			if left < 0 {
				break
			}
			left = charge(e, left-len(name))
		}
	}
	return left
}

// A reader finds the value of a target.
type reader interface {
	read(t target) (any, error)
}

// A documentReader reads paths from one document.
type documentReader struct{ doc any }

func (r documentReader) read(t target) (any, error) {
	switch t.kind {
	case blankTarget:
		return "", nil
	case fieldTarget:
		root, _ := member(r.doc, t.root)
		return follow(t.path, root, t.name)
	case rootTarget:
		return follow(t.path, r.doc, t.root)
	case documentTarget:
		return t.path.Lookup(r.doc)
	case secretTarget, systemTarget:
		return "${" + t.text + "}", nil
	}
	return nil, nil
}

// A scopeReader reads from a run.
type scopeReader struct{ Scope }

func (r scopeReader) read(t target) (any, error) {
	if v, done, err := r.named(t); done {
		return v, err
	}
	switch t.kind {
	case fieldTarget:
		return r.field(t)
	case rootTarget:
		doc := r.root(t.root)
		if doc.Len() == 0 {
			return nothing(t.path), nil
		}
		return t.path.Lookup(doc)
	case documentTarget:
		return t.path.Lookup(r.document())
	case envTarget:
		return r.env(t)
	case systemTarget:
		if v, ok := r.System(t.text); ok {
			return v, nil
		}
	}
	return documentReader{}.read(t)
}

// named evaluates a path that starts at a name of the scope's own.
func (r scopeReader) named(t target) (v any, done bool, err error) {
	s, can := r.Scope.(NamedScope)
	if !can || t.kind != rootTarget && t.kind != fieldTarget {
		return nil, false, nil
	}
	v, ok := s.Named(t.root)
	if !ok {
		return nil, false, nil
	}
	if t.kind == fieldTarget {
		v, err = follow(t.path, v, t.name)
		return v, true, err
	}
	v, err = t.path.Lookup(v)
	return v, true, err
}

// field evaluates a path in one field of a root; in one member of it, where the scope can.
func (r scopeReader) field(t target) (any, error) {
	if v, done, err := r.memberOfField(t); done {
		return v, err
	}
	v, ok := r.Lookup(t.root, t.name)
	if !ok {
		return nothing(t.path), nil
	}
	return t.path.Lookup(v)
}

func (r scopeReader) memberOfField(t target) (v any, done bool, err error) {
	s, can := r.Scope.(MemberScope)
	if !can {
		return nil, false, nil
	}
	name, rest, single := t.path.Head()
	if !single {
		return nil, false, nil
	}
	v, ok, done := s.LookupMember(t.root, t.name, name)
	switch {
	case !done:
		return nil, false, nil
	case !ok:
		return nothing(rest), true, nil
	}
	v, err = rest.Lookup(v)
	return v, true, err
}

func (r scopeReader) env(t target) (any, error) {
	s, ok := r.Env(t.text)
	if !ok {
		return nil, nil
	}
	if t.path == nil {
		return s, nil
	}
	return lookupText(t.path, s)
}

// root builds the object of one root.
func (r scopeReader) root(name string) *value.Object {
	fields := TaskFields
	if name == RootWorkflow {
		fields = WorkflowFields
	}
	o := value.NewObject()
	for _, f := range fields {
		if v, ok := r.Lookup(name, f); ok {
			o.Set(f, v)
		}
	}
	return o
}

// document builds the whole document.
func (r scopeReader) document() *value.Object {
	doc := value.NewObject()
	for _, name := range r.Roots() {
		doc.Set(name, r.root(name))
	}
	return doc
}

func member(v any, name string) (any, bool) {
	o, ok := v.(*value.Object)
	if !ok {
		return nil, false
	}
	return o.Get(name)
}

// follow evaluates the rest of a path on a member of parent.
func follow(rest *jsonpath.Path, parent any, name string) (any, error) {
	v, ok := member(parent, name)
	if !ok {
		return nothing(rest), nil
	}
	return rest.Lookup(v)
}

// nothing is what a path yields when its start is missing.
func nothing(p *jsonpath.Path) any {
	if p.Definite() {
		return nil
	}
	return []any{}
}

// lookupText evaluates a path in a string that holds JSON; null if it does not.
func lookupText(p *jsonpath.Path, text string) (any, error) {
	doc, err := value.Parse([]byte(text), value.DefaultLimits)
	if err != nil {
		return nil, nil // text that is no JSON has no members
	}
	return p.Lookup(doc)
}
