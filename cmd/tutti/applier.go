package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

// conductorFiles stores Conductor definitions from files: a workflow, a task definition, a
// list of either, or an object with the lists "workflows" and "taskDefs".
type conductorFiles struct{ svc *api.Service }

// Recognizes reports whether a file has the shape of a Conductor definition. One that cannot
// be read but speaks of tasks is taken for a definition with a slip in it.
func (conductorFiles) Recognizes(filename string, source []byte) bool {
	src, err := readSource(filename, source)
	if err != nil {
		return bytes.Contains(source, []byte("tasks"))
	}
	return len(src.parts()) > 0
}

// definitionFile is a file in JSON or YAML.
type definitionFile struct {
	name string
	text []byte
	yaml bool
	doc  any
}

func readSource(filename string, text []byte) (*definitionFile, error) {
	s := &definitionFile{name: filename, text: text}
	ext := strings.ToLower(filepath.Ext(filename))
	s.yaml = ext == ".yaml" || ext == ".yml"
	var err error
	if s.yaml {
		s.doc, err = value.ParseYAML(text, value.Limits{})
	} else {
		s.doc, err = value.Parse(text, value.Limits{})
	}
	return s, err
}

// diagnostic returns a finding with its place in the file.
func (s *definitionFile) diagnostic(pointer string, f model.Finding) value.Diagnostic {
	d := value.Diagnostic{
		File: s.name, Severity: f.Severity, Code: f.Code, Message: f.Message, Hint: f.Hint,
	}
	if s.yaml {
		d.Line, d.Column = value.LocateYAML(s.text, pointer+f.Pointer)
	} else {
		d.Line, d.Column = value.Locate(s.text, pointer+f.Pointer)
	}
	return d
}

// part is one definition in a file.
type part struct {
	pointer string
	kind    string // model.KindWorkflow or model.KindTaskDef
	doc     value.Raw
}

// parts returns the definitions of a file; none when it holds anything else.
func (s *definitionFile) parts() []part {
	o, ok := s.doc.(*value.Object)
	if !ok {
		return listParts("", s.doc, "")
	}
	if kind := kindOf(o); kind != "" {
		return []part{{"", kind, value.Marshal(o)}}
	}
	var all []part
	for _, list := range [][2]string{
		{"taskDefs", model.KindTaskDef}, {"workflows", model.KindWorkflow},
	} {
		if v, ok := o.Get(list[0]); ok {
			all = append(all, listParts("/"+list[0], v, list[1])...)
		}
	}
	return all
}

// listParts returns the definitions of a list; none when one of them is none.
func listParts(pointer string, v any, kind string) (all []part) {
	list, _ := v.([]any)
	for i, e := range list {
		o, ok := e.(*value.Object)
		k := kind
		if ok && k == "" {
			k = kindOf(o)
		}
		if k == "" || !ok {
			return nil
		}
		all = append(all, part{pointer + "/" + strconv.Itoa(i), k, value.Marshal(o)})
	}
	return all
}

// taskDefMembers are members that task definitions have and other objects with a name have not.
var taskDefMembers = []string{
	"retryCount", "retryLogic", "responseTimeoutSeconds", "timeoutPolicy", "pollTimeoutSeconds",
	"concurrentExecLimit", "rateLimitPerFrequency",
}

// kindOf tells a definition by its members; it is empty for what is none.
func kindOf(o *value.Object) string {
	if v, _ := o.Get("name"); value.Kind(v) != "string" {
		return ""
	}
	if v, _ := o.Get("tasks"); value.Kind(v) == "array" {
		return model.KindWorkflow
	}
	for _, name := range taskDefMembers {
		if _, ok := o.Get(name); ok {
			return model.KindTaskDef
		}
	}
	return ""
}

// Apply checks all definitions of a file and stores them if none is wrong.
func (c conductorFiles) Apply(
	ctx context.Context, ns, filename string, text []byte, dryRun bool,
) (out api.Applied, err error) {
	src, err := readSource(filename, text)
	if err != nil {
		out.Diagnostics = value.Diagnostics{value.Diagnose(filename, err)}
		return out, nil
	}
	docs, err := c.svc.Catalog(ctx, ns, conductor.DialectName)
	if err != nil {
		return out, err
	}
	var stored []engine.Document
	for _, p := range src.parts() {
		doc, findings := checkPart(p, docs)
		for _, f := range findings {
			out.Diagnostics = append(out.Diagnostics, src.diagnostic(p.pointer, f))
		}
		doc.Namespace, doc.Dialect, doc.Kind = ns, conductor.DialectName, p.kind
		stored = append(stored, doc)
		out.Refs = append(out.Refs, api.DocumentRef{
			Namespace: ns, Dialect: doc.Dialect, Kind: doc.Kind, Name: doc.Name,
			Version: doc.Version,
		})
	}
	if len(stored) == 0 {
		return out, tutti.E(tutti.Invalid, "apply "+filename, "UnknownSource",
			"the file holds no workflow or task definition")
	}
	if dryRun || out.Diagnostics.HasErrors() {
		return out, nil
	}
	for _, d := range stored {
		if _, err := c.svc.PutDocument(ctx, d, engine.PutAny); err != nil {
			return out, fmt.Errorf("store %s: %w", d.Name, err)
		}
	}
	return out, nil
}

// checkPart decodes and checks a definition.
func checkPart(p part, docs tutti.Documents) (engine.Document, []model.Finding) {
	var rules conductor.Rules
	if p.kind == model.KindTaskDef {
		d, err := model.DecodeTaskDef(p.doc)
		if err != nil {
			return engine.Document{}, malformed(err)
		}
		return engine.Document{Name: d.Name, Body: d.Encode()}, rules.TaskDef(d).Findings
	}
	d, err := model.DecodeWorkflowDef(p.doc)
	if err != nil {
		return engine.Document{}, malformed(err)
	}
	return engine.Document{
		Name: d.Name, Version: d.Version, Body: d.Encode(),
	}, rules.Workflow(d, docs).Findings
}

func malformed(err error) []model.Finding {
	var e *tutti.Error
	f := model.Finding{Severity: value.Error, Code: "malformed", Message: err.Error()}
	if errors.As(err, &e) {
		f.Message, f.Hint = e.Message(), e.Hint
	}
	return []model.Finding{f}
}
