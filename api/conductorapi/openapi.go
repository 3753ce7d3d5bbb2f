package conductorapi

import (
	_ "embed"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/tutti-run/tutti/value"
)

// schemas are the components of the OpenAPI document.
//
//go:embed schemas.json
var schemas []byte

// document writes the OpenAPI document of all routes.
func (a *API) document() []byte {
	paths := value.NewObject()
	templates := map[string]string{} // by the path without the names of its parameters
	for _, rt := range routes() {
		own := strings.ReplaceAll(rt.pattern, "*", "{name}")
		shape := pathParameter.ReplaceAllString(own, "{}")
		if templates[shape] == "" {
			templates[shape] = own
		}
		item, ok := paths.Get(templates[shape])
		if !ok {
			item = value.NewObject()
			paths.Set(templates[shape], item)
		}
		op := rt.operation(own, templates[shape])
		item.(*value.Object).Set(strings.ToLower(rt.method), op)
	}
	components, err := value.Raw(schemas).Parse()
	if err != nil {
		components = nil // a test keeps it from happening
	}
	return value.Marshal(obj(
		"openapi", "3.0.3",
		"info", obj("title", "Conductor API of Tutti", "version", a.opts.Version,
			"license", obj("name", "Apache-2.0")),
		"paths", paths, "components", obj("schemas", components),
	))
}

// obj builds an object from names and values in turn.
func obj(pairs ...any) *value.Object {
	o := value.NewObject()
	for i := 0; i+1 < len(pairs); i += 2 {
		o.Set(pairs[i].(string), pairs[i+1])
	}
	return o
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

// operation describes the route. Its path parameters have the names of a template, which other
// routes with the same path may have given them; own has the names that it calls them by.
func (rt *route) operation(own, template string) *value.Object {
	tag, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(rt.pattern, "/"), "api/"), "/")
	op := obj("tags", []any{tag}, "summary", rt.doc, "operationId", rt.id())
	if rt.perm != open {
		op.Set("x-permission", string(rt.perm))
	}
	if params := rt.parameters(own, template); len(params) > 0 {
		op.Set("parameters", params)
	}
	if rt.body != "" {
		op.Set("requestBody", obj("required", true, "content",
			obj("application/json", obj("schema", schemaOf(rt.body)))))
	}
	ok := obj("description", http.StatusText(http.StatusOK))
	switch rt.result {
	case "":
	case "text":
		ok.Set("content", obj("text/plain", obj("schema", schemaOf("string"))))
	default:
		ok.Set("content", obj("application/json", obj("schema", schemaOf(rt.result))))
	}
	bad := obj("description", "error", "content",
		obj("application/json", obj("schema", schemaOf("ErrorResponse"))))
	op.Set("responses", obj("2XX", ok, "default", bad))
	return op
}

// id is a name for the operation that is the same in every version.
func (rt *route) id() string {
	words := strings.FieldsFunc(strings.ReplaceAll(rt.pattern, "*", "of"), func(r rune) bool {
		return strings.ContainsRune("/{}-", r)
	})
	return strings.ToLower(rt.method) + "_" + strings.Join(words, "_")
}

func (rt *route) parameters(own, template string) []any {
	var list []any
	meaning := pathParameter.FindAllStringSubmatch(own, -1)
	for i, m := range pathParameter.FindAllStringSubmatch(template, -1) {
		list = append(list, obj("name", m[1], "in", "path", "required", true,
			"description", meaning[i][1], "schema", schemaOf("string")))
	}
	for _, q := range rt.query {
		name, kind, _ := strings.Cut(q, " ")
		kind, absent, _ := strings.Cut(kind, "=")
		s := schemaOf(kind)
		if absent != "" {
			s.Set("default", defaultOf(kind, absent))
		}
		list = append(list, obj("name", strings.TrimPrefix(name, "*"), "in", "query",
			"required", strings.HasPrefix(name, "*"), "schema", s))
	}
	return list
}

func defaultOf(kind, text string) any {
	switch kind {
	case "integer":
		return value.Number(text)
	case "boolean":
		return text == "true"
	}
	return text
}

// schemaOf is the schema of a name in the table of routes.
func schemaOf(name string) *value.Object {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		return obj("type", "array", "items", schemaOf(strings.TrimSuffix(inner, "]")))
	}
	switch name {
	case "string", "boolean":
		return obj("type", name)
	case "integer":
		return obj("type", name, "format", "int64")
	case "object":
		return obj("type", name, "additionalProperties", true)
	}
	return obj("$ref", fmt.Sprintf("#/components/schemas/%s", name))
}
