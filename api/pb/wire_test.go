package pb_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "github.com/tutti-run/tutti/api/pb/conductor/eventspb"
	_ "github.com/tutti-run/tutti/api/pb/conductor/metadatapb"
	_ "github.com/tutti-run/tutti/api/pb/conductor/taskspb"
	_ "github.com/tutti-run/tutti/api/pb/conductor/workflowspb"
	_ "github.com/tutti-run/tutti/api/pb/tutti/v1"
)

// TestWire holds every name and number on the wire to a file edited by hand: clients in the
// field depend on them, so nothing regenerates it.
func TestWire(t *testing.T) {
	for _, tt := range []struct{ golden, prefix string }{
		{"testdata/conductor.txt", "conductor."},
		{"testdata/tutti.txt", "tutti.v1"},
	} {
		t.Run(tt.golden, func(t *testing.T) {
			want, err := os.ReadFile(tt.golden)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, fd := range files(tt.prefix) {
				got = append(got, describe(fd)...)
			}
			lines := strings.Split(strings.TrimSuffix(string(want), "\n"), "\n")
			if diff := cmp.Diff(lines, got); diff != "" {
				t.Errorf("descriptors differ from %s (-want +got):\n%s", tt.golden, diff)
			}
		})
	}
}

// TestSources proves that the committed Go code is what the sources say.
func TestSources(t *testing.T) {
	protoc, err := exec.LookPath("protoc")
	if err != nil {
		t.Skip("protoc is not installed (Debian package protobuf-compiler)")
	}
	for _, tt := range []struct{ root, prefix string }{
		{"conductor", "conductor."},
		{".", "tutti.v1"},
	} {
		t.Run(tt.prefix, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "set")
			args := []string{"--proto_path=" + tt.root, "--descriptor_set_out=" + out}
			for _, fd := range files(tt.prefix) {
				args = append(args, fd.Path())
			}
			msg, err := exec.CommandContext(t.Context(), protoc, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("protoc: %v\n%s", err, msg)
			}
			raw, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var set descriptorpb.FileDescriptorSet
			if err := proto.Unmarshal(raw, &set); err != nil {
				t.Fatal(err)
			}
			for _, want := range set.GetFile() {
				fd, err := protoregistry.GlobalFiles.FindFileByPath(want.GetName())
				if err != nil {
					t.Fatal(err)
				}
				got := protodesc.ToFileDescriptorProto(fd)
				if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
					t.Errorf("%s: run go generate (-source +Go):\n%s", want.GetName(), diff)
				}
			}
		})
	}
}

// files returns the registered files of the proto packages with the prefix, sorted by path.
func files(prefix string) []protoreflect.FileDescriptor {
	var fds []protoreflect.FileDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(fd.Package()), prefix) {
			fds = append(fds, fd)
		}
		return true
	})
	slices.SortFunc(fds, func(a, b protoreflect.FileDescriptor) int {
		return strings.Compare(a.Path(), b.Path())
	})
	return fds
}

// describe lists what a file puts on the wire, one line each, sorted.
func describe(fd protoreflect.FileDescriptor) []string {
	var lines []string
	for i := range fd.Services().Len() {
		methods := fd.Services().Get(i).Methods()
		for j := range methods.Len() {
			lines = append(lines, "rpc "+method(methods.Get(j)))
		}
	}
	lines = append(lines, enums(fd.Enums())...)
	lines = append(lines, messages(fd.Messages())...)
	slices.Sort(lines)
	return append([]string{"file " + fd.Path()}, lines...)
}

func method(m protoreflect.MethodDescriptor) string {
	stream := map[bool]string{true: "stream "}
	return fmt.Sprintf("/%s/%s %s%s → %s%s", m.Parent().FullName(), m.Name(),
		stream[m.IsStreamingClient()], m.Input().FullName(),
		stream[m.IsStreamingServer()], m.Output().FullName())
}

func enums(list protoreflect.EnumDescriptors) []string {
	var lines []string
	for i := range list.Len() {
		values := list.Get(i).Values()
		for j := range values.Len() {
			v := values.Get(j)
			lines = append(lines,
				fmt.Sprintf("%s %02d %s", list.Get(i).FullName(), v.Number(), v.Name()))
		}
	}
	return lines
}

func messages(list protoreflect.MessageDescriptors) []string {
	var lines []string
	for i := range list.Len() {
		m := list.Get(i)
		if m.IsMapEntry() {
			continue
		}
		if m.Fields().Len() == 0 {
			lines = append(lines, string(m.FullName())+" empty")
		}
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			lines = append(lines,
				fmt.Sprintf("%s %02d %s %s", m.FullName(), f.Number(), fieldType(f), f.Name()))
		}
		lines = append(lines, enums(m.Enums())...)
		lines = append(lines, messages(m.Messages())...)
	}
	return lines
}

func fieldType(f protoreflect.FieldDescriptor) string {
	switch {
	case f.IsMap():
		return fmt.Sprintf("map<%s,%s>", fieldType(f.MapKey()), fieldType(f.MapValue()))
	case f.IsList():
		return "repeated " + scalar(f)
	case f.ContainingOneof() != nil:
		return "oneof " + scalar(f)
	}
	return scalar(f)
}

func scalar(f protoreflect.FieldDescriptor) string {
	switch {
	case f.Message() != nil:
		return string(f.Message().FullName())
	case f.Enum() != nil:
		return string(f.Enum().FullName())
	}
	return f.Kind().String()
}
