package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// secretPrefix starts the names of environment variables that hold secrets.
const secretPrefix = "TUTTI_SECRET_"

// secrets are values that workflows refer to by name. They are handed to connectors and
// workers, never stored.
type secrets map[string]string

// loadSecrets reads the file, if there is one, and the environment, which comes first.
func loadSecrets(m Main, path string) (secrets, error) {
	all := secrets{}
	if path != "" {
		if err := all.read(path); err != nil {
			return nil, &tutti.Error{
				Kind: tutti.Invalid, Op: "read secrets", Pos: path, Err: err,
				Hint: "the file maps names to texts, and only its owner may read it (chmod 600)",
			}
		}
	}
	for _, kv := range m.Env {
		name, val, _ := strings.Cut(kv, "=")
		if n, ok := strings.CutPrefix(name, secretPrefix); ok && n != "" {
			all[n] = val
		}
	}
	return all, nil
}

func (s secrets) read(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	if info.Mode().Perm()&^fs.FileMode(0o700) != 0 {
		return fmt.Errorf("others can read it: its mode is %#o", info.Mode().Perm())
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	v, err := value.ParseYAML(src, value.Limits{Bytes: 1 << 20})
	if err != nil {
		return err
	}
	o, ok := v.(*value.Object)
	if !ok {
		return fmt.Errorf("it holds %s in place of a mapping", value.Kind(v))
	}
	for name, val := range o.All() {
		text, ok := val.(string)
		if !ok {
			return fmt.Errorf("%s is %s in place of a text", name, value.Kind(val))
		}
		s[name] = text
	}
	return nil
}

// get answers the value of a secret. Every namespace has the same ones.
func (s secrets) get(name string) (string, bool) {
	v, ok := s[name]
	return v, ok
}

func (s secrets) names() []string {
	names := make([]string, 0, len(s))
	for n := range s {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
