package script

import (
	"testing"

	"github.com/tutti-run/tutti/value"
)

func TestListMethods(t *testing.T) {
	list := value.NewObject()
	list.Set("list", []any{"a", value.Int(2)})
	for src, want := range map[string]any{
		"$.list.get(1)":  value.Int(2),
		"$.list.size()":  value.Int(2),
		"[7, 8].get(0)":  value.Int(7),
		"$.list.get(2)":  nil,
		"$.list.get(-1)": nil,
	} {
		js, err := CompileJS(src)
		if err != nil {
			t.Fatal(err)
		}
		got, err := js.Run(Options{Bindings: map[string]any{"$": list}})
		if want == nil {
			if err == nil {
				t.Errorf("%s gave %v, want an error", src, got)
			}
			continue
		}
		if err != nil || !value.Equal(got, want) {
			t.Errorf("%s gave %v, %v; want %v", src, got, err, want)
		}
	}
}
