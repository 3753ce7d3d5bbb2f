package model

import (
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The bounds of schemas. A schema can make the validator do work that grows exponentially with
// the schema or the document, so that work is worked out before it is done.
const (
	maxSubschemas  = 5000    // within one schema
	maxPlanEntries = 1 << 20 // of the schemas that apply where another one does
	maxEvaluations = 4 << 20 // of subschemas in one check
	freeTreeSize   = 1000    // schemas that cannot expand further are not measured
)

type schema = jsonschema.Schema

// A plan tells how often each subschema is evaluated for a document.
type plan struct {
	// here lists, for a schema, those that are evaluated on the same value because it is, and
	// how often: counts are floats, since they may be astronomic.
	here    map[*schema]map[*schema]float64
	entries int
	risky   bool
}

// newPlan looks at all subschemas that root can reach.
func newPlan(root *schema) (*plan, error) {
	p := &plan{here: map[*schema]map[*schema]float64{}}
	w := treeWalk{size: map[*schema]float64{}, open: map[*schema]bool{}}
	size := w.measure(root)
	if w.err != nil {
		return nil, w.err
	}
	p.risky = w.recursive || size > freeTreeSize
	if !p.risky {
		return p, nil
	}
	for s := range w.size {
		if err := p.expand(s, map[*schema]bool{}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// A treeWalk finds out how large a schema is with all its references written out.
type treeWalk struct {
	size      map[*schema]float64
	open      map[*schema]bool
	recursive bool
	err       error
}

func (w *treeWalk) measure(s *schema) float64 {
	if w.open[s] {
		w.recursive = true
		return 0
	}
	if n, ok := w.size[s]; ok || w.err != nil {
		return n
	}
	switch {
	case len(w.size)+len(w.open) > maxSubschemas:
		w.err = fmt.Errorf("it has more than %d subschemas", maxSubschemas)
	case s.DynamicRef != nil || s.RecursiveRef != nil:
		w.err = errors.New("$dynamicRef and $recursiveRef are not supported; use $ref")
	}
	w.open[s] = true
	n := 1.0
	for _, sub := range inPlace(s) {
		n += w.measure(sub)
	}
	for _, sub := range below(s) {
		n += w.measure(sub)
	}
	delete(w.open, s)
	w.size[s] = n
	return n
}

// expand fills in here for s.
func (p *plan) expand(s *schema, open map[*schema]bool) error {
	if open[s] {
		return errors.New("a subschema refers to itself for the same value")
	}
	if p.here[s] != nil {
		return nil
	}
	open[s] = true
	all := map[*schema]float64{s: 1}
	for _, sub := range inPlace(s) {
		if err := p.expand(sub, open); err != nil {
			return err
		}
		for e, n := range p.here[sub] {
			all[e] += n
		}
	}
	delete(open, s)
	p.here[s] = all
	if p.entries += len(all); p.entries > maxPlanEntries {
		return errors.New("its subschemas refer to each other too often")
	}
	return nil
}

// inPlace returns the subschemas of s that are evaluated on the same value.
func inPlace(s *schema) []*schema {
	var list []*schema
	list = add(list, s.Ref, s.Not, s.If, s.Then, s.Else)
	list = add(list, s.AllOf...)
	list = add(list, s.AnyOf...)
	list = add(list, s.OneOf...)
	for _, sub := range s.DependentSchemas {
		list = add(list, sub)
	}
	for _, d := range s.Dependencies {
		list = addAny(list, d)
	}
	return list
}

// below returns the subschemas of s that are evaluated on parts of the value.
func below(s *schema) []*schema {
	list := add(nil, s.PropertyNames)
	for _, sub := range s.Properties {
		list = add(list, sub)
	}
	return ofElements(s, ofOthers(s, list))
}

// ofOthers adds the subschemas that apply to members by something else than their name. That
// they may not apply to all of them is not looked into.
func ofOthers(s *schema, list []*schema) []*schema {
	for _, sub := range s.PatternProperties {
		list = add(list, sub)
	}
	return add(addAny(list, s.AdditionalProperties), s.UnevaluatedProperties)
}

// ofElements adds the subschemas that apply to elements, as ofOthers does.
func ofElements(s *schema, list []*schema) []*schema {
	list = add(list, s.Contains, s.Items2020, s.UnevaluatedItems)
	list = add(list, s.PrefixItems...)
	return addAny(addAny(list, s.Items), s.AdditionalItems)
}

func add(list []*schema, more ...*schema) []*schema {
	for _, s := range more {
		if s != nil {
			list = append(list, s)
		}
	}
	return list
}

// addAny adds what keywords hold that take a schema or something else.
func addAny(list []*schema, v any) []*schema {
	switch v := v.(type) {
	case *schema:
		return add(list, v)
	case []*schema:
		return add(list, v...)
	}
	return list
}

// check returns an error if checking a document, which is in the form that plain makes, against
// root would take too much work.
func (p *plan) check(root *schema, doc any) error {
	if !p.risky {
		return nil
	}
	m := measurement{plan: p}
	m.value(doc, map[*schema]float64{root: 1})
	if m.total > maxEvaluations {
		return fmt.Errorf("checking it takes more than %d evaluations of subschemas",
			maxEvaluations)
	}
	return nil
}

// A measurement walks a document once and adds up the evaluations.
type measurement struct {
	*plan
	total float64
}

// value counts for a value that each of the given schemas is evaluated on so many times.
func (m *measurement) value(v any, given map[*schema]float64) {
	active := map[*schema]float64{}
	for s, n := range given {
		for e, k := range m.here[s] {
			active[e] += n * k
			m.total += n * k
		}
	}
	switch v := v.(type) {
	case map[string]any:
		m.members(v, active)
	case []any:
		next := map[*schema]float64{}
		for s, n := range active {
			for _, sub := range ofElements(s, nil) {
				next[sub] += n
			}
		}
		for _, e := range v {
			if m.total > maxEvaluations || len(next) == 0 {
				return
			}
			m.value(e, next)
		}
	}
}

func (m *measurement) members(o map[string]any, active map[*schema]float64) {
	others := map[*schema]float64{}
	for s, n := range active {
		for _, sub := range ofOthers(s, nil) {
			others[sub] += n
		}
		if s.PropertyNames != nil {
			m.total += n * float64(len(o)*len(m.here[s.PropertyNames]))
		}
	}
	for name, e := range o {
		if m.total > maxEvaluations {
			return
		}
		next := map[*schema]float64{}
		for s, n := range others {
			next[s] = n
		}
		for s, n := range active {
			if sub := s.Properties[name]; sub != nil {
				next[sub] += n
			}
		}
		if len(next) > 0 {
			m.value(e, next)
		}
	}
}
