package grpcapi

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

type definitions struct {
	tuttipb.UnimplementedDefinitionsServer
	svc      *api.Service
	appliers api.Appliers
}

func (s *definitions) Apply(
	ctx context.Context, r *tuttipb.ApplyRequest,
) (*tuttipb.ApplyReply, error) {
	got, err := s.appliers.Apply(
		ctx, namespace(r.Namespace), r.Dialect, r.Filename, r.Source, false)
	if err != nil {
		return nil, asStatus(err)
	}
	return &tuttipb.ApplyReply{
		Diagnostics: diagnosticMessages(got.Diagnostics), Refs: refMessages(got.Refs),
	}, nil
}

func (s *definitions) Validate(
	ctx context.Context, r *tuttipb.ValidateRequest,
) (*tuttipb.ValidateReply, error) {
	got, err := s.appliers.Apply(
		ctx, namespace(r.Namespace), r.Dialect, r.Filename, r.Source, true)
	if err != nil {
		return nil, asStatus(err)
	}
	return &tuttipb.ValidateReply{
		Diagnostics: diagnosticMessages(got.Diagnostics), Refs: refMessages(got.Refs),
	}, nil
}

var severities = map[value.Severity]tuttipb.Diagnostic_Severity{
	value.Error:   tuttipb.Diagnostic_ERROR,
	value.Warning: tuttipb.Diagnostic_WARNING,
}

func diagnosticMessages(ds value.Diagnostics) (out []*tuttipb.Diagnostic) {
	for _, d := range ds {
		sev, ok := severities[d.Severity]
		if !ok {
			sev = tuttipb.Diagnostic_INFO
		}
		out = append(out, &tuttipb.Diagnostic{
			Severity: sev, Code: d.Code, Message: d.Message, Hint: d.Hint,
			Filename: d.File, Line: uint32(d.Line), Column: uint32(d.Column),
		})
	}
	return out
}

func refMessages(refs []api.DocumentRef) (out []*tuttipb.DefinitionRef) {
	for _, r := range refs {
		out = append(out, &tuttipb.DefinitionRef{
			Dialect: r.Dialect, Name: r.Name, Version: int32(r.Version),
		})
	}
	return out
}

func documentRef(ns string, r *tuttipb.DefinitionRef) api.DocumentRef {
	return api.DocumentRef{
		Namespace: namespace(ns), Dialect: r.GetDialect(), Kind: tutti.DefinitionKind,
		Name: r.GetName(), Version: int(r.GetVersion()),
	}
}

func definitionMessage(d *engine.Document, source bool) *tuttipb.Definition {
	m := &tuttipb.Definition{
		Ref: &tuttipb.DefinitionRef{
			Dialect: d.Dialect, Name: d.Name, Version: int32(d.Version),
		},
		CreateMs: d.CreateMs, UpdateMs: d.UpdateMs,
	}
	if source {
		m.Source = d.Body
	}
	return m
}

func (s *definitions) Get(
	ctx context.Context, r *tuttipb.GetDefinitionRequest,
) (*tuttipb.Definition, error) {
	doc, err := s.svc.Document(ctx, documentRef(r.Namespace, r.Ref))
	if err != nil {
		return nil, asStatus(err)
	}
	return definitionMessage(&doc, true), nil
}

func (s *definitions) Delete(
	ctx context.Context, r *tuttipb.DeleteDefinitionRequest,
) (*tuttipb.DeleteDefinitionReply, error) {
	if r.GetRef().GetVersion() == 0 {
		return nil, invalid("delete definition", "VersionExpected",
			"name the version to delete; 0 is no version")
	}
	err := s.svc.DeleteDocument(ctx, documentRef(r.Namespace, r.Ref))
	return &tuttipb.DeleteDefinitionReply{}, asStatus(err)
}

// definitionsPage is the size of a page when the request leaves it to the server.
const definitionsPage = 500

func (s *definitions) List(
	ctx context.Context, r *tuttipb.ListDefinitionsRequest,
) (*tuttipb.ListDefinitionsReply, error) {
	docs, err := s.selected(ctx, r)
	if err != nil {
		return nil, asStatus(err)
	}
	size := int(r.PageSize)
	if size <= 0 {
		size = definitionsPage
	}
	rep := &tuttipb.ListDefinitionsReply{}
	for i := range docs {
		key := docs[i].Dialect + "/" + docs[i].Name + "/" + versionText(docs[i].Version)
		if key <= r.Cursor {
			continue
		}
		if len(rep.Definitions) == size {
			last := rep.Definitions[size-1].Ref
			rep.NextCursor = last.Dialect + "/" + last.Name + "/" + versionText(int(last.Version))
			break
		}
		rep.Definitions = append(rep.Definitions, definitionMessage(&docs[i], false))
	}
	return rep, nil
}

// versionText formats a version so that texts order as versions do.
func versionText(v int) string {
	const digits = "0000000000"
	s := ""
	for ; v > 0; v /= 10 {
		s = string(rune('0'+v%10)) + s
	}
	return digits[:len(digits)-len(s)] + s
}

// selected lists the definitions that a request asks for, in order.
func (s *definitions) selected(
	ctx context.Context, r *tuttipb.ListDefinitionsRequest,
) (docs []engine.Document, err error) {
	for _, dialect := range s.svc.Dialects() {
		if r.Dialect != "" && r.Dialect != dialect {
			continue
		}
		all, err := s.svc.Documents(ctx, namespace(r.Namespace), dialect, tutti.DefinitionKind)
		if err != nil {
			return nil, err
		}
		for i, d := range all {
			newest := i+1 == len(all) || all[i+1].Name != d.Name
			if strings.HasPrefix(d.Name, r.NamePrefix) && (newest || r.AllVersions) {
				docs = append(docs, d)
			}
		}
	}
	slices.SortStableFunc(docs, func(a, b engine.Document) int {
		return cmp.Or(cmp.Compare(a.Dialect, b.Dialect), cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Version, b.Version))
	})
	return docs, nil
}
