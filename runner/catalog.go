package runner

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// Catalog is a copy in memory of all documents: definitions and what belongs to them. It
// changes after a change is durable and before the change is acknowledged.
type Catalog struct {
	mu       sync.RWMutex
	dialects map[string]tutti.Dialect
	docs     map[docID]*versions
	linked   map[linkID]*tutti.Source // dropped whenever a document changes
	revision uint64                   // grows with every change
	changed  []func(kind string)
}

type docID struct{ namespace, dialect, kind, name string }

type linkID struct {
	namespace, dialect, name string
	version                  int
}

// versions are the documents of one name, in order of version.
type versions []engine.Document

func newCatalog(dialects []tutti.Dialect) *Catalog {
	c := &Catalog{
		dialects: map[string]tutti.Dialect{}, docs: map[docID]*versions{},
		linked: map[linkID]*tutti.Source{},
	}
	for _, d := range dialects {
		c.dialects[d.Name()] = d
	}
	return c
}

func (c *Catalog) load(view engine.View) error {
	var all []engine.DocChange
	err := view.Documents(func(d engine.Document) bool {
		all = append(all, engine.DocChange{Document: d})
		return true
	})
	c.mu.Lock()
	clear(c.docs)
	c.mu.Unlock()
	c.apply(all)
	return err
}

// OnChange makes fn be called after documents of a kind have changed. It must not block.
func (c *Catalog) OnChange(fn func(kind string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = append(c.changed, fn)
}

func (c *Catalog) apply(changes []engine.DocChange) {
	c.change(changes)
	c.mu.RLock()
	tell := c.changed
	c.mu.RUnlock()
	for _, ch := range changes {
		for _, fn := range tell {
			fn(ch.Kind)
		}
	}
}

func (c *Catalog) change(changes []engine.DocChange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.linked)
	c.revision++
	for _, ch := range changes {
		id := docID{ch.Namespace, ch.Dialect, ch.Kind, ch.Name}
		vs := c.docs[id]
		if vs == nil {
			vs = new(versions)
			c.docs[id] = vs
		}
		at, found := slices.BinarySearchFunc(*vs, ch.Version, byVersion)
		next := slices.Clone(*vs)
		switch {
		case ch.Deleted && found:
			next = slices.Delete(next, at, at+1)
		case found:
			next[at] = ch.Document
		case !ch.Deleted:
			next = slices.Insert(next, at, ch.Document)
		}
		*vs = next
		if len(next) == 0 {
			delete(c.docs, id)
		}
	}
}

func byVersion(d engine.Document, v int) int { return cmp.Compare(d.Version, v) }

// Get returns a document; version 0 stands for the newest.
func (c *Catalog) Get(
	namespace, dialect, kind, name string, version int,
) (engine.Document, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	vs := c.docs[docID{namespace, dialect, kind, name}]
	if vs == nil {
		return engine.Document{}, false
	}
	if version == 0 {
		return (*vs)[len(*vs)-1], true
	}
	at, ok := slices.BinarySearchFunc(*vs, version, byVersion)
	if !ok {
		return engine.Document{}, false
	}
	return (*vs)[at], true
}

// List returns all documents of a kind in order of name and version.
func (c *Catalog) List(namespace, dialect, kind string) []engine.Document {
	c.mu.RLock()
	var all []engine.Document
	for id, vs := range c.docs {
		if id.namespace == namespace && id.dialect == dialect && id.kind == kind {
			all = append(all, *vs...)
		}
	}
	c.mu.RUnlock()
	slices.SortFunc(all, func(a, b engine.Document) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return all
}

// Link returns the source that a run of a definition is pinned to now.
func (c *Catalog) Link(namespace, dialect, name string, version int) (*tutti.Source, error) {
	key := linkID{namespace, dialect, name, version}
	c.mu.RLock()
	src, ok := c.linked[key]
	revision := c.revision
	c.mu.RUnlock()
	if ok {
		return src, nil
	}
	d, ok := c.dialects[dialect]
	if !ok {
		return nil, tutti.E(tutti.Unsupported, "link", "UnknownDialect",
			fmt.Sprintf("this server has no dialect %q", dialect))
	}
	src, err := d.Link(c.Documents(namespace, dialect), name, version)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if revision == c.revision {
		c.linked[key] = src
	}
	c.mu.Unlock()
	return src, nil
}

func (c *Catalog) resolve(
	namespace, dialect, name string, version int,
) (*tutti.Source, error) {
	return c.Link(namespace, dialect, name, version)
}

// Documents shows the documents of one namespace and dialect to the dialect.
func (c *Catalog) Documents(namespace, dialect string) tutti.Documents {
	return documents{c, namespace, dialect}
}

type documents struct {
	c                  *Catalog
	namespace, dialect string
}

func (d documents) Document(kind, name string, version int) (value.Raw, int, bool) {
	doc, ok := d.c.Get(d.namespace, d.dialect, kind, name, version)
	return doc.Body, doc.Version, ok
}
