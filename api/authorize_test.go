package api_test

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
)

// denier refuses everything and remembers what it was asked.
type denier struct{ asked []api.Permission }

var errDenied = tutti.E(tutti.Denied, "authorize", "Denied", "no")

func (d *denier) Authorize(_ context.Context, p api.Permission, _ string) error {
	d.asked = append(d.asked, p)
	return errDenied
}

// open says which methods need no permission, and why.
var unguarded = map[string]string{
	"Healthy":         "load balancers ask it",
	"Dialects":        "the names of what is compiled in",
	"Bulk":            "calls other methods",
	"RunAuditor":      "the server itself",
	"RunRetention":    "the server itself",
	"RunTextIndex":    "the server itself",
	"ConnectorSource": "the server itself",
	"OnDocuments":     "the server itself",
	"OnLetters":       "the server itself",
}

// TestChokePoint calls every method of the Service with zero arguments: each must ask the
// Authorizer and pass its refusal on.
func TestChokePoint(t *testing.T) {
	auth := &denier{}
	s := inMemory(t, api.Options{Authorizer: auth})
	v := reflect.ValueOf(s.Service)
	for i := range v.NumMethod() {
		name := v.Type().Method(i).Name
		if unguarded[name] != "" {
			continue
		}
		auth.asked = nil
		var got error
		m := v.Method(i)
		args := make([]reflect.Value, m.Type().NumIn())
		for n := range args {
			args[n] = argument(t.Context(), m.Type().In(n), &got)
		}
		for _, out := range m.Call(args) {
			if err, ok := out.Interface().(error); ok {
				got = err
			}
		}
		if len(auth.asked) == 0 {
			t.Errorf("%s does not ask for a permission", name)
		}
		if !errors.Is(got, errDenied) && name != "ReturnAsync" {
			t.Errorf("%s answers %v, want the refusal", name, got)
		}
	}
}

// argument is a value for a parameter: the namespace for strings, and functions that keep
// the error that they are called with.
func argument(ctx context.Context, typ reflect.Type, got *error) reflect.Value {
	switch {
	case typ == reflect.TypeFor[context.Context]():
		return reflect.ValueOf(ctx)
	case typ.Kind() == reflect.String:
		v := reflect.New(typ).Elem()
		v.SetString(ns)
		return v
	case typ.Kind() == reflect.Func:
		return reflect.MakeFunc(typ, func(in []reflect.Value) (out []reflect.Value) {
			for _, a := range in {
				if err, ok := a.Interface().(error); ok {
					*got = err
				}
			}
			for i := range typ.NumOut() {
				out = append(out, reflect.Zero(typ.Out(i)))
			}
			return out
		})
	case typ.Kind() == reflect.Struct:
		v := reflect.New(typ).Elem()
		setNamespace(v)
		return v
	}
	return reflect.Zero(typ)
}

func setNamespace(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case v.Type().Field(i).Name == "Namespace":
			f.SetString(ns)
		case f.Type() == reflect.TypeFor[engine.RunQuery](), f.Type() == reflect.TypeFor[api.Query]():
			setNamespace(f)
		}
	}
}
