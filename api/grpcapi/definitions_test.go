package grpcapi_test

import (
	"fmt"
	"testing"

	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/internal/toyserver"
)

func TestDefinitionsWithoutApplier(t *testing.T) {
	s := toyserver.New(t, longLease)
	c := tuttipb.NewDefinitionsClient(s.Dial())
	ctx := t.Context()
	for want, r := range map[string]*tuttipb.ApplyRequest{
		"UnknownDialect": {Dialect: "none", Source: []byte("{}")},
		"UnknownSource":  {Filename: "x.asl.json", Source: []byte("{}")},
	} {
		if _, err := c.Apply(ctx, r); codeOf(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
		v := &tuttipb.ValidateRequest{Dialect: r.Dialect, Filename: r.Filename, Source: r.Source}
		if _, err := c.Validate(ctx, v); codeOf(err) != want {
			t.Errorf("want %s: %v", want, err)
		}
	}
	ref := &tuttipb.DefinitionRef{Dialect: "toy", Name: "none"}
	if _, err := c.Get(ctx, &tuttipb.GetDefinitionRequest{Ref: ref}); codeOf(err) != "DocumentNotFound" {
		t.Errorf("get: %v", err)
	}
	if _, err := c.Get(ctx, &tuttipb.GetDefinitionRequest{}); err == nil {
		t.Error("a definition without a name was found")
	}
	for _, r := range []*tuttipb.DeleteDefinitionRequest{{}, {Ref: ref}} {
		if _, err := c.Delete(ctx, r); codeOf(err) != "VersionExpected" {
			t.Errorf("delete without a version: %v", err)
		}
	}
	if _, err := c.List(ctx, &tuttipb.ListDefinitionsRequest{}); err != nil {
		t.Errorf("list: %v", err)
	}
}

// TestSessionRefuses checks what a session of starts ends with.
func TestSessionRefuses(t *testing.T) {
	s := toyserver.New(t, longLease)
	stream, err := tuttipb.NewRunsClient(s.Dial()).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&tuttipb.SessionRequest{Id: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); codeOf(err) != "NoStart" {
		t.Errorf("a request without a start: %v", fmt.Sprint(err))
	}
}
