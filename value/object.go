package value

import (
	"iter"
	"slices"
)

// An Object is a JSON object that keeps its members in the order they were first set. The zero
// value is an empty object. Any number of goroutines may read an Object that none writes. A nil
// *Object reads as empty.
type Object struct {
	members []member
	// index finds members by name once there are more than scanMax of them; until then a scan is
	// faster. Reads never build it, so that they stay safe to run side by side.
	index map[string]int
	dead  int // members that were deleted but not yet removed, only while index is in use
}

type member struct {
	name  string
	value any
}

// deleted marks a member that was removed from an indexed object.
type deleted struct{}

const scanMax = 12

// NewObject returns an empty object.
func NewObject() *Object { return &Object{} }

// Len returns the number of members.
func (o *Object) Len() int {
	if o == nil {
		return 0
	}
	return len(o.members) - o.dead
}

func (o *Object) find(name string) int {
	if o == nil {
		return -1
	}
	if o.index != nil {
		if i, ok := o.index[name]; ok {
			return i
		}
		return -1
	}
	for i := range o.members {
		if o.members[i].name == name {
			return i
		}
	}
	return -1
}

// Get returns the value of the named member.
func (o *Object) Get(name string) (any, bool) {
	if i := o.find(name); i >= 0 {
		return o.members[i].value, true
	}
	return nil, false
}

// Set gives the named member a value. A new name goes last, a known one keeps its place.
func (o *Object) Set(name string, v any) {
	if i := o.find(name); i >= 0 {
		o.members[i].value = v
		return
	}
	o.members = append(o.members, member{name, v})
	if o.index != nil {
		o.index[name] = len(o.members) - 1
	} else if len(o.members) > scanMax {
		o.reindex()
	}
}

func (o *Object) reindex() {
	o.index = make(map[string]int, 2*len(o.members))
	for i := range o.members {
		o.index[o.members[i].name] = i
	}
}

// Delete removes the named member and reports whether it was there.
func (o *Object) Delete(name string) bool {
	i := o.find(name)
	if i < 0 {
		return false
	}
	if o.index == nil {
		o.members = slices.Delete(o.members, i, i+1)
		return true
	}
	// Moving the members up would cost a reindex each time; do it once for half of them.
	delete(o.index, name)
	o.members[i].value = deleted{}
	if o.dead++; o.dead*2 > len(o.members) {
		o.compact()
	}
	return true
}

func (o *Object) compact() {
	o.members = slices.DeleteFunc(o.members, isDeleted)
	o.dead, o.index = 0, nil
	if len(o.members) > scanMax {
		o.reindex()
	}
}

// All yields the members in order. The loop may set known names but not add or delete any.
func (o *Object) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		if o == nil {
			return
		}
		for _, m := range o.members {
			if o.dead > 0 && isDeleted(m) {
				continue
			}
			if !yield(m.name, m.value) {
				return
			}
		}
	}
}

func isDeleted(m member) bool {
	_, gone := m.value.(deleted)
	return gone
}

// Keys returns the names in order, in a new slice.
func (o *Object) Keys() []string {
	keys := make([]string, 0, o.Len())
	for name := range o.All() {
		keys = append(keys, name)
	}
	return keys
}

// Clone returns a copy that shares the member values; see the function Clone for a deep copy.
func (o *Object) Clone() *Object {
	c := &Object{members: make([]member, 0, o.Len())}
	for name, v := range o.All() {
		c.members = append(c.members, member{name, v})
	}
	if len(c.members) > scanMax {
		c.reindex()
	}
	return c
}

// MarshalJSON writes the object in its order.
func (o *Object) MarshalJSON() ([]byte, error) {
	if o == nil {
		return []byte("null"), nil
	}
	return Append(nil, o), nil
}

// UnmarshalJSON replaces the object by the one in b, within DefaultLimits.
func (o *Object) UnmarshalJSON(b []byte) error {
	v, err := Parse(b, DefaultLimits)
	if err != nil {
		return err
	}
	p, ok := v.(*Object)
	if !ok {
		return &SyntaxError{Line: 1, Column: 1, Message: "want an object, found " + Kind(v)}
	}
	*o = *p
	return nil
}
