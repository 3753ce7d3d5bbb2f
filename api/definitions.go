package api

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// DocumentRef names a document of the catalogue. Version 0 stands for the newest when
// reading, and for documents without versions when deleting.
type DocumentRef struct {
	Namespace, Dialect, Kind, Name string
	Version                        int
}

// PutDocument writes a definition, or what belongs to one, into the catalogue. What the kind
// and body mean is the dialect's; the caller has checked them. It returns the document as
// stored, with its times.
func (s *Service) PutDocument(
	ctx context.Context, doc engine.Document, mode engine.PutMode,
) (engine.Document, error) {
	if err := s.authorize(ctx, WriteDefinitions, doc.Namespace); err != nil {
		return doc, err
	}
	if err := s.checkDocument(&doc); err != nil {
		return doc, err
	}
	res, err := s.run.Submit(ctx, engine.DocumentShard, engine.PutDocument{Doc: doc, Mode: mode})
	if err != nil {
		return doc, err
	}
	return res.(engine.Document), nil
}

func (s *Service) checkDocument(doc *engine.Document) error {
	if _, err := s.dialect("put document", doc.Dialect); err != nil {
		return err
	}
	if err := checkName("kind", doc.Kind); err != nil {
		return err
	}
	if err := checkName("name", doc.Name); err != nil {
		return err
	}
	if doc.Version < 0 {
		return tutti.E(tutti.Invalid, "put "+doc.Kind, "InvalidVersion",
			fmt.Sprintf("version %d is negative", doc.Version))
	}
	return checkPayload("put "+doc.Kind, doc.Body)
}

// DeleteDocument removes a document. Runs that are pinned to it go on.
func (s *Service) DeleteDocument(ctx context.Context, ref DocumentRef) error {
	if err := s.authorize(ctx, WriteDefinitions, ref.Namespace); err != nil {
		return err
	}
	_, err := s.run.Submit(ctx, engine.DocumentShard, engine.DeleteDocument{Doc: ref.document()})
	return err
}

func (r DocumentRef) document() engine.Document {
	return engine.Document{
		Namespace: r.Namespace, Dialect: r.Dialect, Kind: r.Kind, Name: r.Name,
		Version: r.Version,
	}
}

// Document returns a document, or a NotFound error.
func (s *Service) Document(ctx context.Context, ref DocumentRef) (engine.Document, error) {
	if err := s.authorize(ctx, ReadDefinitions, ref.Namespace); err != nil {
		return engine.Document{}, err
	}
	doc, ok := s.run.Catalog().Get(ref.Namespace, ref.Dialect, ref.Kind, ref.Name, ref.Version)
	if !ok {
		what := fmt.Sprintf("there is no %s %s", ref.Kind, ref.Name)
		if ref.Version > 0 {
			what += fmt.Sprintf(" version %d", ref.Version)
		}
		return doc, tutti.E(tutti.NotFound, "get "+ref.Kind, "DocumentNotFound", what)
	}
	return doc, nil
}

// Documents returns all documents of a kind in order of name and version.
func (s *Service) Documents(
	ctx context.Context, ns, dialect, kind string,
) ([]engine.Document, error) {
	if err := s.authorize(ctx, ReadDefinitions, ns); err != nil {
		return nil, err
	}
	return s.run.Catalog().List(ns, dialect, kind), nil
}

// Catalog returns the documents of one namespace and dialect for a dialect's own code to
// read.
func (s *Service) Catalog(ctx context.Context, ns, dialect string) (tutti.Documents, error) {
	if err := s.authorize(ctx, ReadDefinitions, ns); err != nil {
		return nil, err
	}
	return s.run.Catalog().Documents(ns, dialect), nil
}

// Link returns the source that a run of a definition would be pinned to now.
func (s *Service) Link(
	ctx context.Context, ns, dialect, name string, version int,
) (*tutti.Source, error) {
	if err := s.authorize(ctx, ReadDefinitions, ns); err != nil {
		return nil, err
	}
	return s.run.Catalog().Link(ns, dialect, name, version)
}

// Compile checks a source. The diagnostics tell what is wrong with it; a source with errors
// cannot be started.
func (s *Service) Compile(
	ctx context.Context, ns string, src *tutti.Source,
) (value.Diagnostics, error) {
	if err := s.authorize(ctx, ReadDefinitions, ns); err != nil {
		return nil, err
	}
	d, err := s.dialect("compile", src.Dialect)
	if err != nil {
		return nil, err
	}
	_, diags := d.Compile(src)
	return diags, nil
}

// Dialects lists the names of the dialects that the server has, in order.
func (s *Service) Dialects() []string {
	return slices.Sorted(maps.Keys(s.dialects))
}
