package conductorgrpc

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// encode returns the JSON form of a message.
func encode(m proto.Message) ([]byte, error) {
	e := encoder{}
	e.message(m.ProtoReflect(), 0)
	return e.b, e.err
}

// encodeList returns the JSON form of several messages.
func encodeList[M proto.Message](list []M) ([]byte, error) {
	e := encoder{b: []byte{'['}}
	for i, m := range list {
		e.comma(i)
		e.message(m.ProtoReflect(), 1)
	}
	return append(e.b, ']'), e.err
}

// encoder writes messages and keeps the first fault.
type encoder struct {
	b   []byte
	err error
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = &tutti.Error{
			Kind: tutti.Invalid, Op: "read message", Code: "NoJSONForm",
			Err: fmt.Errorf(format, args...),
		}
	}
	e.b = append(e.b, "null"...)
}

func (e *encoder) comma(i int) {
	if i > 0 {
		e.b = append(e.b, ',')
	}
}

func (e *encoder) deep(depth int) bool {
	if depth <= value.DefaultLimits.Depth {
		return false
	}
	e.fail("the message is nested deeper than %d levels", value.DefaultLimits.Depth)
	return true
}

func (e *encoder) message(m protoreflect.Message, depth int) {
	if e.deep(depth) {
		return
	}
	d := m.Descriptor()
	switch name := d.FullName(); {
	case name == valueName:
		e.value(m.Interface().(*structpb.Value), depth)
		return
	case name == anyName:
		e.any(m.Interface().(*anypb.Any))
		return
	case wrappers[name]:
		fd := d.Fields().Get(0)
		e.field(fd, m.Get(fd), depth)
		return
	}
	e.b = append(e.b, '{')
	n := 0
	for i := range d.Fields().Len() {
		fd := d.Fields().Get(i)
		if !m.Has(fd) && !zeroCounts[fd.FullName()] {
			continue
		}
		e.comma(n)
		n++
		e.b = value.AppendString(e.b, jsonName(fd))
		e.b = append(e.b, ':')
		e.field(fd, m.Get(fd), depth+1)
	}
	e.b = append(e.b, '}')
}

func (e *encoder) field(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch {
	case fd.IsMap():
		e.fieldMap(fd.MapValue(), v.Map(), depth)
	case fd.IsList():
		list := v.List()
		e.b = append(e.b, '[')
		for i := range list.Len() {
			e.comma(i)
			e.single(fd, list.Get(i), depth+1)
		}
		e.b = append(e.b, ']')
	default:
		e.single(fd, v, depth)
	}
}

func (e *encoder) fieldMap(fd protoreflect.FieldDescriptor, m protoreflect.Map, depth int) {
	var names []string
	for k := range m.Range {
		names = append(names, k.String())
	}
	slices.Sort(names)
	e.b = append(e.b, '{')
	for i, name := range names {
		e.comma(i)
		e.b = append(value.AppendString(e.b, name), ':')
		e.single(fd, m.Get(protoreflect.ValueOfString(name).MapKey()), depth+1)
	}
	e.b = append(e.b, '}')
}

func (e *encoder) single(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth int) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		e.b = value.AppendString(e.b, v.String())
	case protoreflect.BoolKind:
		e.b = strconv.AppendBool(e.b, v.Bool())
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		e.b = strconv.AppendInt(e.b, v.Int(), 10)
	case protoreflect.EnumKind:
		text := enumText(fd.Enum(), v.Enum())
		if text == "" {
			e.fail("%s: %d is none of its values", jsonName(fd), v.Enum())
			return
		}
		e.b = value.AppendString(e.b, text)
	case protoreflect.MessageKind:
		e.message(v.Message(), depth)
	default:
		e.fail("%s: kind %s has no JSON form here", jsonName(fd), fd.Kind())
	}
}

// any writes an Any as the REST API does. Its content is not looked into.
func (e *encoder) any(a *anypb.Any) {
	e.b = append(e.b, `{"@type":`...)
	e.b = value.AppendString(e.b, a.GetTypeUrl())
	e.b = append(e.b, `,"@value":`...)
	e.b = value.AppendString(e.b, base64.StdEncoding.EncodeToString(a.GetValue()))
	e.b = append(e.b, '}')
}

func (e *encoder) value(v *structpb.Value, depth int) {
	if e.deep(depth) {
		return
	}
	switch k := v.GetKind().(type) {
	case *structpb.Value_StringValue:
		e.b = value.AppendString(e.b, k.StringValue)
	case *structpb.Value_BoolValue:
		e.b = strconv.AppendBool(e.b, k.BoolValue)
	case *structpb.Value_NumberValue:
		e.number(k.NumberValue)
	case *structpb.Value_ListValue:
		e.b = append(e.b, '[')
		for i, x := range k.ListValue.GetValues() {
			e.comma(i)
			e.value(x, depth+1)
		}
		e.b = append(e.b, ']')
	case *structpb.Value_StructValue:
		fields := k.StructValue.GetFields()
		e.b = append(e.b, '{')
		for i, name := range slices.Sorted(maps.Keys(fields)) {
			e.comma(i)
			e.b = append(value.AppendString(e.b, name), ':')
			e.value(fields[name], depth+1)
		}
		e.b = append(e.b, '}')
	default:
		e.b = append(e.b, "null"...)
	}
}

// number writes a double: a whole number as an integer, since a client that sends 5 as a
// double means 5.
func (e *encoder) number(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		e.fail("%v is no JSON number", f)
		return
	}
	format, digits := byte('e'), -1
	if abs := math.Abs(f); f == 0 || abs >= 1e-6 && abs < 1e21 {
		format = 'f'
		if f == math.Trunc(f) {
			digits = 0 // all of them: the shortest text may be that of another integer
		}
	}
	e.b = strconv.AppendFloat(e.b, f, format, digits, 64)
}
