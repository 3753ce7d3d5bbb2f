package conductorgrpc

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// limits bound the answers that are put into messages. A workflow with its tasks may be larger
// than any payload in it, and nest a payload a few levels deeper.
var limits = value.Limits{Bytes: 1 << 30, Depth: value.DefaultLimits.Depth + 100}

// decode reads the JSON form of a message into it. Members that the message does not know are
// left out.
func decode(raw []byte, into proto.Message) error {
	v, err := value.Parse(raw, limits)
	if err != nil {
		return unfit(err)
	}
	return decodeValue(v, into)
}

func decodeValue(v any, into proto.Message) error {
	if err := setMessage(into.ProtoReflect(), v); err != nil {
		return unfit(err)
	}
	return nil
}

func unfit(err error) error {
	return &tutti.Error{
		Kind: tutti.Internal, Op: "write message", Code: "NoMessageForm", Err: err,
	}
}

func setMessage(m protoreflect.Message, v any) error {
	d := m.Descriptor()
	switch name := d.FullName(); {
	case name == valueName:
		proto.Merge(m.Interface(), toValue(v))
		return nil
	case name == anyName:
		return setAny(m.Interface().(*anypb.Any), v)
	case wrappers[name]:
		return setField(m, d.Fields().Get(0), v)
	}
	o, ok := v.(*value.Object)
	if !ok {
		return wrongKind("an object", v)
	}
	fields := fieldsOf(d)
	for name, member := range o.All() {
		fd := fields[name]
		if fd == nil || member == nil && !isValue(fd) {
			continue
		}
		if err := setField(m, fd, member); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func isValue(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.MessageKind && fd.Message().FullName() == valueName
}

func wrongKind(want string, v any) error {
	return fmt.Errorf("want %s, found %s", want, value.Kind(v))
}

func setField(m protoreflect.Message, fd protoreflect.FieldDescriptor, v any) error {
	switch {
	case fd.IsMap():
		return setMap(m.Mutable(fd).Map(), fd.MapValue(), v)
	case fd.IsList():
		return setList(m.Mutable(fd).List(), fd, v)
	case fd.Kind() == protoreflect.MessageKind:
		return setMessage(m.Mutable(fd).Message(), v)
	}
	x, err := scalar(fd, v)
	if err == nil {
		m.Set(fd, x)
	}
	return err
}

func setMap(m protoreflect.Map, fd protoreflect.FieldDescriptor, v any) error {
	o, ok := v.(*value.Object)
	if !ok {
		return wrongKind("an object", v)
	}
	for name, member := range o.All() {
		x := m.NewValue()
		var err error
		if fd.Kind() == protoreflect.MessageKind {
			err = setMessage(x.Message(), member)
		} else {
			x, err = scalar(fd, member)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		m.Set(protoreflect.ValueOfString(name).MapKey(), x)
	}
	return nil
}

func setList(l protoreflect.List, fd protoreflect.FieldDescriptor, v any) error {
	list, ok := v.([]any)
	if !ok {
		return wrongKind("an array", v)
	}
	for i, member := range list {
		x := l.NewElement()
		var err error
		if fd.Kind() == protoreflect.MessageKind {
			err = setMessage(x.Message(), member)
		} else {
			x, err = scalar(fd, member)
		}
		if err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		l.Append(x)
	}
	return nil
}

// scalar reads a text, number, flag or name. A text may be written as a number or flag, and
// the other way round; null is the zero value.
func scalar(fd protoreflect.FieldDescriptor, v any) (protoreflect.Value, error) {
	if v == nil {
		return fd.Default(), nil
	}
	switch fd.Kind() {
	case protoreflect.StringKind:
		switch v := v.(type) {
		case string:
			return protoreflect.ValueOfString(v), nil
		case value.Number:
			return protoreflect.ValueOfString(string(v)), nil
		case bool:
			return protoreflect.ValueOfString(strconv.FormatBool(v)), nil
		}
	case protoreflect.BoolKind:
		if b, ok := v.(bool); ok {
			return protoreflect.ValueOfBool(b), nil
		}
	case protoreflect.Int32Kind, protoreflect.Int64Kind:
		if n, ok := integer(v); ok && fd.Kind() == protoreflect.Int32Kind {
			return protoreflect.ValueOfInt32(int32(min(max(n, math.MinInt32), math.MaxInt32))), nil
		} else if ok {
			return protoreflect.ValueOfInt64(n), nil
		}
	case protoreflect.EnumKind:
		if s, ok := v.(string); ok {
			n, ok := enumNumber(fd.Enum(), s)
			if !ok {
				return protoreflect.Value{}, fmt.Errorf("%q is none of its values", s)
			}
			return protoreflect.ValueOfEnum(n), nil
		}
	}
	return protoreflect.Value{}, wrongKind("a "+fd.Kind().String(), v)
}

// integer reads a whole number. One that no field can hold becomes the largest or smallest.
func integer(v any) (int64, bool) {
	n, ok := v.(value.Number)
	if s, text := v.(string); text {
		n, ok = value.Number(s), true
	}
	if !ok || !n.Valid() {
		return 0, false
	}
	if i, ok := n.Int64(); ok {
		return i, true
	}
	switch {
	case !n.IsInt():
		return 0, false
	case n[0] == '-':
		return math.MinInt64, true
	}
	return math.MaxInt64, true
}

func setAny(a *anypb.Any, v any) error {
	o, ok := v.(*value.Object)
	if !ok {
		return wrongKind("an object", v)
	}
	if t, ok := o.Get("@type"); ok {
		a.TypeUrl, _ = t.(string)
	}
	if c, ok := o.Get("@value"); ok {
		text, _ := c.(string)
		b, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("@value: %w", err)
		}
		a.Value = b
	}
	return nil
}

// toValue puts any JSON value into protobuf's form of it.
func toValue(v any) *structpb.Value {
	switch v := v.(type) {
	case string:
		return structpb.NewStringValue(v)
	case bool:
		return structpb.NewBoolValue(v)
	case value.Number:
		return structpb.NewNumberValue(double(v))
	case []any:
		list := &structpb.ListValue{Values: make([]*structpb.Value, len(v))}
		for i, x := range v {
			list.Values[i] = toValue(x)
		}
		return structpb.NewListValue(list)
	case *value.Object:
		s := &structpb.Struct{Fields: make(map[string]*structpb.Value, v.Len())}
		for name, x := range v.All() {
			s.Fields[name] = toValue(x)
		}
		return structpb.NewStructValue(s)
	}
	return structpb.NewNullValue()
}

// double is the nearest double; the largest one for numbers beyond it.
func double(n value.Number) float64 {
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil && math.IsInf(f, 0) {
		return math.Copysign(math.MaxFloat64, f)
	}
	return f
}
