package api_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func TestLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := inMemory(t, api.Options{})
		var arrived []string
		s.OnLetters(ns, func(box string) { arrived = append(arrived, box) })
		for i := range 3 {
			body := value.Raw(fmt.Sprint(i))
			n := must[uint64](t)(s.PutLetter(t.Context(), ns, "b/x", fmt.Sprint("id", i), body))
			if n != uint64(i+1) {
				t.Errorf("letter %d has number %d", i, n)
			}
		}
		must[uint64](t)(s.PutLetter(t.Context(), "elsewhere", "b/x", "id", value.Raw("9")))
		if err := s.DropLetter(t.Context(), ns, "b/x", 2); err != nil {
			t.Fatal(err)
		}
		if err := s.DropLetter(t.Context(), ns, "b/x", 7); err != nil {
			t.Errorf("dropping what is not there: %v", err)
		}
		var ids []string
		for _, l := range must[[]engine.Letter](t)(s.Letters(t.Context(), ns, "b/x", 0)) {
			ids = append(ids, l.ID+"="+string(l.Body)+" in "+l.Box)
		}
		if want := []string{"id0=0 in b/x", "id2=2 in b/x"}; !slices.Equal(ids, want) {
			t.Errorf("letters %v, want %v", ids, want)
		}
		if rest := must[[]engine.Letter](t)(s.Letters(t.Context(), ns, "b/x", 3)); len(rest) != 1 {
			t.Errorf("%d letters from number 3 on, want 1", len(rest))
		}
		synctest.Wait()
		if want := []string{"b/x", "b/x", "b/x"}; !slices.Equal(arrived, want) {
			t.Errorf("told of %v, want %v", arrived, want)
		}
		_, err := s.PutLetter(t.Context(), ns, "b", "id", value.Raw("{"))
		if tutti.KindOf(err) != tutti.Invalid {
			t.Errorf("a malformed letter is answered with %v", err)
		}
	})
}

// TestDocumentsAreThere checks that whoever is answered finds the change, and that those who
// asked for it are told.
func TestDocumentsAreThere(t *testing.T) {
	s := inMemory(t, api.Options{})
	told := make(chan struct{}, 1000)
	s.OnDocuments("note", func() { told <- struct{}{} })
	for i := range 100 {
		doc := engine.Document{
			Namespace: ns, Dialect: "toy", Kind: "note", Name: fmt.Sprint("n", i),
			Body: value.Raw("{}"),
		}
		must[engine.Document](t)(s.PutDocument(t.Context(), doc, engine.PutNew))
		_, err := s.Document(t.Context(), api.DocumentRef{
			Namespace: ns, Dialect: doc.Dialect, Kind: "note", Name: doc.Name,
		})
		if err != nil {
			t.Fatalf("document %d is not there after the answer: %v", i, err)
		}
	}
	if len(told) != 100 {
		t.Errorf("told %d times of 100 changes", len(told))
	}
}
