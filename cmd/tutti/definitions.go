package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/grpc/status"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/value"
)

// sourceFile is a file that may hold definitions.
type sourceFile struct {
	name  string
	text  []byte
	named bool // given by name, not found in a folder
}

// maxSources bounds the files that one command takes.
const maxSources = 10_000

// findSources returns the files that paths name: themselves, and what folders hold.
func findSources(paths []string) (files []sourceFile, err error) {
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && path != root && skipFolder(d.Name()):
				return filepath.SkipDir
			case d.IsDir() || (path != root && !sourceName(d.Name())):
				return nil
			case len(files) == maxSources:
				return fmt.Errorf("there are more than %d files", maxSources)
			}
			text, err := os.ReadFile(path)
			files = append(files, sourceFile{path, text, path == root})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read definitions: %w", err)
		}
	}
	if len(files) == 0 {
		return nil, usagef("no .json, .yaml or .yml file in %s", strings.Join(paths, ", "))
	}
	return files, nil
}

func skipFolder(name string) bool {
	return strings.HasPrefix(name, ".") || name == "node_modules"
}

func sourceName(name string) bool {
	return slices.Contains([]string{".json", ".yaml", ".yml"}, strings.ToLower(filepath.Ext(name)))
}

// applied is what came of one file.
type applied struct {
	File        string            `json:"file"`
	Definitions []definitionRef   `json:"definitions,omitempty"`
	Diagnostics value.Diagnostics `json:"diagnostics,omitempty"`
	Skipped     bool              `json:"skipped,omitempty"` // holds no definition
}

type definitionRef struct {
	Dialect string `json:"dialect"`
	Name    string `json:"name"`
	Version int    `json:"version,omitempty"`
}

func (r definitionRef) String() string {
	if r.Version == 0 {
		return r.Dialect + " " + r.Name
	}
	return fmt.Sprintf("%s %s version %d", r.Dialect, r.Name, r.Version)
}

// applier stores, or only checks, the definitions of a file.
type applier func(ctx context.Context, f sourceFile) (applied, error)

// applyAll applies files in order and reports on each. It goes on after a file that is
// refused; the error says how many were. What a file was warned of is looked at again by
// recheck in the end, since later files may define what it refers to.
func applyAll(s *session, files []sourceFile, verb string, apply, recheck applier) error {
	results, bad := make([]applied, len(files)), 0
	for i, f := range files {
		a, err := applyOne(s.ctx, f, apply)
		if err != nil {
			return err
		}
		if a.Diagnostics.HasErrors() {
			bad++
		}
		results[i] = a
	}
	for i, f := range files {
		a := &results[i]
		if len(files) > 1 && len(a.Diagnostics) > 0 && !a.Diagnostics.HasErrors() {
			again, err := recheck(s.ctx, f)
			if err != nil {
				return err
			}
			a.Diagnostics = again.Diagnostics
		}
		if s.format != formatJSON {
			a.print(s, f.text, verb)
		}
	}
	if s.format == formatJSON {
		if err := s.json(map[string]any{"files": results}); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d files were refused", bad, len(files))
	}
	return nil
}

// applyOne applies a file. An error is about the server; what is wrong with the file is in
// the result.
func applyOne(ctx context.Context, f sourceFile, apply applier) (applied, error) {
	a, err := apply(ctx, f)
	switch {
	case err != nil && unknownSource(err) && !f.named:
		return applied{File: f.name, Skipped: true}, nil
	case err != nil && isRefusal(err):
		return applied{File: f.name, Diagnostics: value.Diagnostics{{
			File: f.name, Message: strings.ReplaceAll(message(err), "\nhint:", "; hint:"),
		}}}, nil
	}
	return a, err
}

// isRefusal reports whether an error is about the file rather than about the server.
func isRefusal(err error) bool {
	var e *tutti.Error
	if errors.As(err, &e) {
		return true
	}
	st, ok := status.FromError(err)
	return ok && len(st.Details()) > 0
}

func unknownSource(err error) bool {
	var e *tutti.Error
	if errors.As(err, &e) {
		return e.Code == "UnknownSource"
	}
	st, _ := status.FromError(err)
	for _, d := range st.Details() {
		if info, ok := d.(*tuttipb.ErrorInfo); ok {
			return info.Code == "UnknownSource"
		}
	}
	return false
}

func (a *applied) print(s *session, text []byte, verb string) {
	if a.Skipped {
		s.printf("%s: skipped, it holds no definition\n", a.File)
		return
	}
	for _, d := range a.Diagnostics {
		d.File = cmp.Or(d.File, a.File)
		s.printf("%s\n%s", d, indent(d.Excerpt(text)))
		if d.Hint != "" {
			s.printf("    hint: %s\n", d.Hint)
		}
	}
	if a.Diagnostics.HasErrors() {
		return
	}
	for _, r := range a.Definitions {
		s.printf("%s: %s %s\n", a.File, verb, r)
	}
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}

type applyCmd struct {
	remote
	Paths   []string `arg:"" name:"path" help:"Files, or folders whose .json and .yaml files are taken."`
	Dialect string   `placeholder:"NAME" help:"Dialect of the files; found by name and content by default."`
}

// Run stores definitions on the server.
func (c *applyCmd) Run(s *session) error {
	files, err := findSources(c.Paths)
	if err != nil {
		return err
	}
	return c.call(func(p *peer) error {
		return p.applyAll(s, &c.remote, files, c.Dialect)
	})
}

// applyAll applies files on the server.
func (p *peer) applyAll(s *session, r *remote, files []sourceFile, dialect string) error {
	apply := func(ctx context.Context, f sourceFile) (applied, error) {
		rep, err := p.definitions.Apply(ctx, &tuttipb.ApplyRequest{
			Namespace: r.Namespace, Source: f.text, Filename: f.name, Dialect: dialect,
		})
		return appliedOf(f, rep, err)
	}
	recheck := func(ctx context.Context, f sourceFile) (applied, error) {
		rep, err := p.definitions.Validate(ctx, &tuttipb.ValidateRequest{
			Namespace: r.Namespace, Source: f.text, Filename: f.name, Dialect: dialect,
		})
		return appliedOf(f, rep, err)
	}
	return applyAll(s, files, "applied", apply, recheck)
}

// findings is what the server answers about a source.
type findings interface {
	GetDiagnostics() []*tuttipb.Diagnostic
	GetRefs() []*tuttipb.DefinitionRef
}

func appliedOf(f sourceFile, rep findings, err error) (applied, error) {
	if err != nil {
		return applied{}, err
	}
	a := applied{File: f.name}
	for _, d := range rep.GetDiagnostics() {
		a.Diagnostics = append(a.Diagnostics, diagnosticOf(d))
	}
	for _, ref := range rep.GetRefs() {
		a.Definitions = append(a.Definitions,
			definitionRef{ref.Dialect, ref.Name, int(ref.Version)})
	}
	return a, nil
}

var severities = map[tuttipb.Diagnostic_Severity]value.Severity{
	tuttipb.Diagnostic_ERROR:   value.Error,
	tuttipb.Diagnostic_WARNING: value.Warning,
	tuttipb.Diagnostic_INFO:    value.Info,
}

func diagnosticOf(d *tuttipb.Diagnostic) value.Diagnostic {
	return value.Diagnostic{
		File: d.Filename, Line: int(d.Line), Column: int(d.Column),
		Severity: severities[d.Severity], Code: d.Code, Message: d.Message, Hint: d.Hint,
	}
}

type validateCmd struct {
	Paths   []string `arg:"" name:"path" help:"Files, or folders whose .json and .yaml files are taken."`
	Dialect string   `placeholder:"NAME" help:"Dialect of the files; found by name and content by default."`
}

// Help describes the command.
func (validateCmd) Help() string {
	return "Checks definitions as apply would, without a server and without storing anything. " +
		"The files may refer to each other."
}

// Run checks definitions against an empty server in memory.
func (c *validateCmd) Run(s *session) error {
	files, err := findSources(c.Paths)
	if err != nil {
		return err
	}
	srv, err := scratchServer(s.ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer srv.close()
	check := func(ctx context.Context, f sourceFile) (applied, error) {
		got, err := srv.appliers.Apply(ctx, api.DefaultNamespace, c.Dialect, f.name, f.text, false)
		if err != nil {
			return applied{}, err
		}
		a := applied{File: f.name, Diagnostics: got.Diagnostics}
		for _, ref := range got.Refs {
			a.Definitions = append(a.Definitions,
				definitionRef{ref.Dialect, ref.Name, ref.Version})
		}
		return a, nil
	}
	return applyAll(s, files, "valid:", check, check)
}
