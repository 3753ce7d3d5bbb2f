package api

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// Applier stores the definitions of one dialect from source text. It is implemented where
// the dialect's own API is, and given to the server by dialect name.
type Applier interface {
	// Recognizes reports whether a source looks like one of the dialect's.
	Recognizes(filename string, source []byte) bool
	// Apply checks a source and, unless dryRun is set or a finding is an error, stores its
	// definitions, all of them or none.
	Apply(ctx context.Context, ns, filename string, source []byte, dryRun bool) (Applied, error)
}

// Applied tells what a source holds.
type Applied struct {
	Diagnostics value.Diagnostics
	Refs        []DocumentRef
}

// Appliers choose the applier of a source.
type Appliers map[string]Applier

// Apply stores the definitions of a source, or only checks them when dryRun is set. An
// empty dialect is found by file name and content.
func (a Appliers) Apply(
	ctx context.Context, ns, dialect, filename string, source []byte, dryRun bool,
) (Applied, error) {
	if len(source) > MaxPayloadBytes {
		return Applied{}, tutti.E(tutti.Exhausted, "apply", "SourceTooLarge", fmt.Sprintf(
			"the source has %d bytes, over the bound of %d", len(source), MaxPayloadBytes))
	}
	if ap, ok := a[dialect]; ok {
		return ap.Apply(ctx, ns, filename, source, dryRun)
	}
	if dialect != "" {
		return Applied{}, tutti.E(tutti.Unsupported, "apply", "UnknownDialect",
			fmt.Sprintf("this server has no dialect %q", dialect))
	}
	for _, ap := range a {
		if ap.Recognizes(filename, source) {
			return ap.Apply(ctx, ns, filename, source, dryRun)
		}
	}
	return Applied{}, notRecognized(filename)
}

func notRecognized(filename string) error {
	e := &tutti.Error{
		Kind: tutti.Invalid, Op: "apply " + filename, Code: "UnknownSource",
		Err:  fmt.Errorf("the file is no definition of a dialect that this server has"),
		Hint: "name the dialect, or see docs for the file kinds",
	}
	switch {
	case strings.Contains(path.Base(filename), ".asl."):
		e.Kind, e.Err = tutti.Unsupported, fmt.Errorf("Amazon States Language is not there yet")
	case strings.HasSuffix(filename, ".workflows.yaml"):
		e.Kind, e.Err = tutti.Unsupported, fmt.Errorf("Google Workflows is not there yet")
	}
	return e
}
