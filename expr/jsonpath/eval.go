package jsonpath

import (
	"fmt"

	"github.com/tutti-run/tutti/value"
)

// A step is one part of a path.
type step interface {
	// definite reports whether the step leads to at most one value; last, whether it ends the path.
	definite(last bool) bool
	// apply finds what the step leads to from v and carries on with the next step of w from there.
	apply(w *walk, at int, v any) error
}

type (
	nameStep     struct{ names []string }
	indexStep    struct{ indexes []int }
	sliceStep    struct{ from, to int }
	wildcardStep struct{}
	scanStep     struct{}
	filterStep   struct{ condition condition }
	callStep     struct {
		name     string
		function function
		args     []argument
	}
)

func (s nameStep) definite(last bool) bool { return last || len(s.names) == 1 }
func (s indexStep) definite(bool) bool     { return len(s.indexes) == 1 }
func (sliceStep) definite(bool) bool       { return false }
func (wildcardStep) definite(bool) bool    { return false }
func (scanStep) definite(bool) bool        { return false }
func (filterStep) definite(bool) bool      { return false }
func (callStep) definite(bool) bool        { return true }

// An evaluation is one call of Eval, with the paths in filters and arguments it comes to.
type evaluation struct {
	root any
	work *int
}

// spend counts work and ends an evaluation that does too much of it.
func (e *evaluation) spend(n int) error {
	if *e.work += n; *e.work > maxWork {
		return fmt.Errorf("%w: it visits too many values", ErrLimit)
	}
	return nil
}

// A walk evaluates one path.
type walk struct {
	*evaluation
	path  *Path
	count int
	last  any   // the latest result
	list  []any // all results, unless the path is definite
	// definite is whether the whole path is; upstream, how many leading steps are.
	definite bool
	upstream int
}

func (e *evaluation) eval(p *Path, from any) (any, error) {
	w := walk{evaluation: e, path: p}
	for w.upstream < len(p.steps) && p.steps[w.upstream].definite(w.upstream == len(p.steps)-1) {
		w.upstream++
	}
	w.definite = w.upstream == len(p.steps)
	if err := w.run(0, from); err != nil {
		return nil, err
	}
	switch {
	case !w.definite && w.list == nil:
		return []any{}, nil
	case !w.definite:
		return w.list, nil
	case w.count == 0:
		return nil, w.notFound(len(p.steps)-1, "")
	}
	return w.last, nil
}

// run carries on at a step, or notes v as a result after the last.
func (w *walk) run(at int, v any) error {
	if err := w.spend(1); err != nil {
		return err
	}
	if at < len(w.path.steps) {
		return w.path.steps[at].apply(w, at, v)
	}
	return w.result(v)
}

func (w *walk) result(v any) error {
	if w.count++; w.count > maxResults {
		return fmt.Errorf("%w: it finds more than %d values", ErrLimit, maxResults)
	}
	if w.last = v; !w.definite {
		w.list = append(w.list, v)
	}
	return nil
}

// miss is what a step that leads nowhere returns: an error while the path is definite up to the
// step, else nothing, so that other branches go on.
func (w *walk) miss(at int, why string) error {
	if at <= w.upstream {
		return w.notFound(at, why)
	}
	return nil
}

func (w *walk) notFound(at int, why string) error {
	if why == "" {
		return fmt.Errorf("%w: %s", ErrNotFound, w.path.text)
	}
	return fmt.Errorf("%w: %s: %s in step %d", ErrNotFound, w.path.text, why, at+1)
}

func (s nameStep) apply(w *walk, at int, v any) error {
	o, ok := v.(*value.Object)
	if !ok {
		return w.miss(at, "found "+value.Kind(v)+" where an object is wanted")
	}
	last := at == len(w.path.steps)-1
	if last && len(s.names) > 1 {
		return w.result(s.pick(o))
	}
	for _, name := range s.names {
		member, found := o.Get(name)
		if !found {
			if !last && at < w.upstream {
				return w.notFound(at, "missing name")
			}
			continue
		}
		if err := w.run(at+1, member); err != nil {
			return err
		}
	}
	return nil
}

// pick makes an object of those of the names that o has.
func (s nameStep) pick(o *value.Object) *value.Object {
	picked := value.NewObject()
	for _, name := range s.names {
		if v, found := o.Get(name); found {
			picked.Set(name, v)
		}
	}
	return picked
}

func (s nameStep) hasAll(o *value.Object) bool {
	for _, name := range s.names {
		if _, found := o.Get(name); !found {
			return false
		}
	}
	return true
}

func (s indexStep) apply(w *walk, at int, v any) error {
	list, ok := v.([]any)
	if !ok {
		return w.miss(at, "found "+value.Kind(v)+" where an array is wanted")
	}
	for _, i := range s.indexes {
		if i < 0 {
			i += len(list)
		}
		if i < 0 || i >= len(list) {
			continue
		}
		if err := w.run(at+1, list[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s sliceStep) apply(w *walk, at int, v any) error {
	list, ok := v.([]any)
	if !ok {
		return w.miss(at, "found "+value.Kind(v)+" where an array is wanted")
	}
	from, to := clip(s.from, len(list)), clip(s.to, len(list))
	return w.each(at, list[min(from, to):to])
}

// clip turns an end of a slice into an index of a list of n elements.
func clip(i, n int) int {
	if i < 0 {
		i += n
	}
	return min(max(i, 0), n)
}

// each carries on with every element.
func (w *walk) each(at int, list []any) error {
	for _, v := range list {
		if err := w.run(at+1, v); err != nil {
			return err
		}
	}
	return nil
}

func (wildcardStep) apply(w *walk, at int, v any) error {
	switch v := v.(type) {
	case []any:
		return w.each(at, v)
	case *value.Object:
		for _, member := range v.All() {
			if err := w.run(at+1, member); err != nil {
				return err
			}
		}
		return nil
	}
	if at == len(w.path.steps)-1 {
		return nil
	}
	return w.miss(at, "found "+value.Kind(v)+" where an object or array is wanted")
}

// apply keeps an object that meets the condition, or those elements of an array that do.
func (s filterStep) apply(w *walk, at int, v any) error {
	switch v := v.(type) {
	case *value.Object:
		ok, err := s.condition.holds(w.evaluation, v)
		if !ok || err != nil {
			return err
		}
		return w.run(at+1, v)
	case []any:
		for _, element := range v {
			if err := w.spend(1); err != nil {
				return err
			}
			ok, err := s.condition.holds(w.evaluation, element)
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			if err := w.run(at+1, element); err != nil {
				return err
			}
		}
		return nil
	}
	return w.miss(at, "found "+value.Kind(v)+" where an object or array is wanted")
}

// apply carries on at the value and at all below it, parents first.
func (s scanStep) apply(w *walk, at int, v any) error {
	if at+1 >= len(w.path.steps) {
		return nil
	}
	return s.scan(w, at+1, v, 0)
}

func (s scanStep) scan(w *walk, at int, v any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: the document is nested deeper than %d", ErrLimit, maxDepth)
	}
	if err := w.spend(1); err != nil {
		return err
	}
	ok, err := scanned(w, at, v)
	if err != nil {
		return err
	}
	if ok {
		if err := w.run(at, v); err != nil {
			return err
		}
	}
	switch v := v.(type) {
	case *value.Object:
		for _, member := range v.All() {
			if err := s.scan(w, at, member, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for _, element := range v {
			if err := s.scan(w, at, element, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// scanned reports whether the step after .. is to be applied to v. A filter is applied to objects
// only where they stand, which keeps it from finding the elements of arrays twice.
func scanned(w *walk, at int, v any) (bool, error) {
	_, isArray := v.([]any)
	o, isObject := v.(*value.Object)
	switch s := w.path.steps[at].(type) {
	case nameStep:
		if !isObject {
			return false, nil
		}
		return !s.definite(at == len(w.path.steps)-1) || s.hasAll(o), nil
	case indexStep, sliceStep:
		return isArray, nil
	case wildcardStep:
		return isArray || isObject, nil
	case filterStep:
		if isObject {
			return true, nil
		}
		if !isArray {
			return false, nil
		}
		return s.condition.holds(w.evaluation, v)
	}
	return false, nil
}
