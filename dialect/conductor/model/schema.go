package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// maxViolations bounds how many faults of one document a schema reports.
const maxViolations = 10

// schemaURL names the schema being compiled. No other document can be referred to, apart from
// the meta-schemas of JSON Schema.
const schemaURL = "tutti:///schema"

// A Schema checks payloads. It is immutable and safe for concurrent use.
type Schema struct {
	name   string
	schema *jsonschema.Schema
	plan   *plan
}

// CompileSchema compiles a linked schema. The error is a *tutti.Error: Unsupported for Avro,
// Protobuf and schemas kept elsewhere, Invalid for data that is no JSON Schema or has a dynamic
// reference. Drafts 4 to 2020-12 are known, the last being the default.
func CompileSchema(d *SchemaDef) (*Schema, error) {
	switch {
	case d.Type == SchemaAvro || d.Type == SchemaProtobuf:
		return nil, unsupportedSchema(d, "schemas of type "+string(d.Type))
	case d.Data == nil && d.ExternalRef != "":
		return nil, unsupportedSchema(d, "schemas in an external registry")
	case d.Data == nil:
		return nil, badSchema(d, errors.New("it has no data"))
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(jsonschema.SchemeURLLoader{})
	if err := c.AddResource(schemaURL, plain(d.Data)); err != nil {
		return nil, badSchema(d, err)
	}
	s, err := c.Compile(schemaURL)
	if err != nil {
		return nil, badSchema(d, err)
	}
	p, err := newPlan(s)
	if err != nil {
		return nil, badSchema(d, err)
	}
	return &Schema{name: d.Name, schema: s, plan: p}, nil
}

func unsupportedSchema(d *SchemaDef, what string) error {
	return &tutti.Error{
		Kind: tutti.Unsupported, Op: "compile schema " + d.Name, Code: "SchemaUnsupported",
		Err:  errors.New(what + " are not supported"),
		Hint: "use a schema of type JSON with inline data, or set enforceSchema to false",
	}
}

func badSchema(d *SchemaDef, err error) error {
	return &tutti.Error{
		Kind: tutti.Invalid, Op: "compile schema " + d.Name, Code: "SchemaInvalid", Err: err,
	}
}

// Check returns an error that names the schema and the first faults of a decoded value, each
// with its JSON pointer, or nil if there are none. It takes a bounded amount of work.
func (s *Schema) Check(v any) error {
	doc := plain(v)
	if err := s.plan.check(s.schema, doc); err != nil {
		return fmt.Errorf("schema %s: %w", s.name, err)
	}
	err := s.schema.Validate(doc)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return fmt.Errorf("schema %s: %w", s.name, err)
	}
	faults := leaves(*invalid.BasicOutput(), nil)
	if len(faults) > maxViolations {
		more := fmt.Sprintf("and %d more", len(faults)-maxViolations)
		faults = append(faults[:maxViolations], more)
	}
	return fmt.Errorf("does not match schema %s: %s", s.name, strings.Join(faults, "; "))
}

// leaves collects the faults that have no causes of their own.
func leaves(u jsonschema.OutputUnit, faults []string) []string {
	for _, e := range u.Errors {
		faults = leaves(e, faults)
	}
	if u.Error != nil && len(u.Errors) == 0 {
		at := u.InstanceLocation
		if at == "" {
			at = "/"
		}
		faults = append(faults, at+": "+u.Error.String())
	}
	return faults
}

// plain turns a decoded value into what the validator works on. Numbers stay exact.
func plain(v any) any {
	switch v := v.(type) {
	case value.Number:
		return plainNumber(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = plain(e)
		}
		return list
	case *value.Object:
		m := make(map[string]any, v.Len())
		for name, e := range v.All() {
			m[name] = plain(e)
		}
		return m
	}
	return v
}

// plainNumber keeps numbers beyond the range of a float64 out of the validator, which cannot
// work with large exponents. They compare as being just out of range.
func plainNumber(n value.Number) json.Number {
	sign := ""
	if strings.HasPrefix(string(n), "-") {
		sign = "-"
	}
	f, ok := n.Float64()
	switch {
	case !ok:
		return json.Number(sign + "1e400")
	case f == 0 && n.Compare("0") != 0:
		return json.Number(sign + "1e-400")
	}
	return json.Number(n)
}
