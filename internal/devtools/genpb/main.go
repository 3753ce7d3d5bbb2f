// Command genpb regenerates the Go code under api/pb from its protobuf sources. Run it from
// api/pb, as go generate does. It needs protoc with the well-known types on the PATH, and the two
// plugins in the versions below, on the PATH or in the Go binary folder. It imports the standard
// library only. Invariant: equal sources give equal files, whatever protoc's version is.
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

const goModule = "github.com/tutti-run/tutti/api/pb"

// A plugin is a code generator that protoc runs, pinned to one version.
type plugin struct{ name, module, version string }

var plugins = []plugin{
	{"protoc-gen-go", "google.golang.org/protobuf/cmd/protoc-gen-go", "v1.36.12"},
	{"protoc-gen-go-grpc", "google.golang.org/grpc/cmd/protoc-gen-go-grpc", "v1.6.2"},
}

// A root is a folder that import paths of sources start at, with the folders compiled from it.
type root struct {
	path string
	dirs []string
}

// Conductor's sources are their own root, so that server reflection shows the file names that
// its other servers show.
var roots = []root{
	{".", []string{"tutti"}},
	{"conductor", []string{"grpc", "model"}},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "genpb:", err)
		os.Exit(1)
	}
}

func run() error {
	if err := extendPath(); err != nil {
		return err
	}
	for _, p := range plugins {
		if err := p.check(); err != nil {
			return err
		}
	}
	for _, r := range roots {
		if err := r.compile(); err != nil {
			return err
		}
	}
	return walk(".", ".pb.go", dropProtocVersion)
}

// extendPath lets plugins be found where go install puts them.
func extendPath() error {
	out, err := exec.Command("go", "env", "GOBIN", "GOPATH").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	gobin, gopath, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if gobin == "" {
		gobin = filepath.Join(filepath.SplitList(gopath + string(filepath.ListSeparator))[0], "bin")
	}
	return os.Setenv("PATH", os.Getenv("PATH")+string(filepath.ListSeparator)+gobin)
}

// check refuses a plugin that is absent or of another version.
func (p plugin) check() error {
	install := fmt.Sprintf("go install %s@%s", p.module, p.version)
	out, err := exec.Command(p.name, "--version").Output()
	if err != nil {
		return fmt.Errorf("%s: %w (run: %s)", p.name, err, install)
	}
	fields := strings.Fields(string(out))
	if len(fields) != 2 || strings.TrimPrefix(fields[1], "v") != p.version[1:] {
		return fmt.Errorf("%s is %q, want %s (run: %s)", p.name, fields, p.version, install)
	}
	return nil
}

// compile runs protoc once for all sources of the root.
func (r root) compile() error {
	args := []string{
		"--proto_path=" + r.path,
		"--go_out=.", "--go_opt=module=" + goModule,
		"--go-grpc_out=.", "--go-grpc_opt=module=" + goModule,
	}
	for _, dir := range r.dirs {
		err := walk(filepath.Join(r.path, dir), ".proto", func(path string) error {
			args = append(args, path)
			return nil
		})
		if err != nil {
			return err
		}
	}
	cmd := exec.Command("protoc", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("protoc: %w (Debian package protobuf-compiler)", err)
	}
	return nil
}

// walk calls do, in lexical order, for every file below dir whose name ends in suffix.
func walk(dir, suffix string, do func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, suffix) {
			return err
		}
		return do(path)
	})
}

var protocVersion = regexp.MustCompile(`(?m)^//[ \t-]*protoc +\(?v?[0-9].*\n`)

// dropProtocVersion removes the header line that differs from machine to machine.
func dropProtocVersion(path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out := protocVersion.ReplaceAll(src, nil)
	if bytes.Equal(src, out) {
		return nil
	}
	return os.WriteFile(path, out, 0o644)
}
