package adminapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti/value"
)

// object is a JSON object of the document. Go writes its members in order of name.
type object map[string]any

// document is the OpenAPI 3.1 document of routes.
func document(routes []route, version string) []byte {
	d := &schemas{named: object{}}
	d.schema(reflect.TypeFor[Error]())
	paths := object{}
	for _, rt := range routes {
		item, _ := paths[Prefix+rt.pattern].(object)
		if item == nil {
			item = object{}
			paths[Prefix+rt.pattern] = item
		}
		item[strings.ToLower(rt.method)] = d.operation(rt)
	}
	doc, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Tutti native API", "version": version,
			"description": "Runs, definitions and queues of every dialect. Times are Unix " +
				"milliseconds. Every request may name a namespace.",
		},
		"paths":      paths,
		"components": object{"schemas": d.named},
	}, "", " ")
	if err != nil {
		return nil // maps, strings and numbers only
	}
	return doc
}

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

var pathDocs = map[string]string{
	"id": "identifier of the run", "task": "identifier or number of the attempt",
	"dialect": "name of the dialect", "name": "name of the definition", "queue": "name of the queue",
}

func (d *schemas) operation(rt route) object {
	params := []object{{
		"name": "namespace", "in": "query", "schema": object{"type": "string"},
		"description": "namespace, default when absent",
	}}
	for _, m := range pathParam.FindAllStringSubmatch(rt.pattern, -1) {
		params = append(params, object{
			"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"},
			"description": pathDocs[m[1]],
		})
	}
	for _, p := range rt.query {
		params = append(params, object{
			"name": p.name, "in": "query", "schema": object{"type": p.typ},
			"description": p.doc,
		})
	}
	op := object{
		"operationId": operationID(rt), "summary": rt.summary, "parameters": params,
		"responses": object{
			strconv.Itoa(rt.success()): d.success(rt),
			"default": object{
				"description": "an error", "content": jsonContent(ref("Error")),
			},
		},
	}
	if rt.permission != "" {
		op["description"] = "Needs the permission " + string(rt.permission) + "."
	}
	switch {
	case rt.binary:
		op["requestBody"] = object{"required": true, "content": object{
			"application/octet-stream": object{"schema": object{"type": "string"}},
		}}
	case rt.in != nil:
		op["requestBody"] = object{
			"content": jsonContent(d.schema(reflect.TypeOf(rt.in))),
		}
	}
	return op
}

func (rt *route) success() int {
	if rt.status == 0 {
		return http.StatusOK
	}
	return rt.status
}

func (d *schemas) success(rt route) object {
	answer := object{"description": http.StatusText(rt.success())}
	switch {
	case rt.stream != "":
		d.schema(reflect.TypeOf(rt.out))
		answer["content"] = object{rt.stream: object{"schema": object{"type": "string"}}}
	case rt.out != nil:
		answer["content"] = jsonContent(d.schema(reflect.TypeOf(rt.out)))
	case rt.success() == http.StatusOK:
		answer["content"] = jsonContent(object{"type": "object"})
	}
	return answer
}

// operationID makes a name such as "postRunsSignal" of a route.
func operationID(rt route) string {
	id := strings.ToLower(rt.method)
	for _, part := range strings.FieldsFunc(rt.pattern, func(r rune) bool {
		return strings.ContainsRune("/{}:.", r)
	}) {
		id += strings.ToUpper(part[:1]) + part[1:]
	}
	return id
}

func jsonContent(schema object) object {
	return object{"application/json": object{"schema": schema}}
}

func ref(name string) object { return object{"$ref": "#/components/schemas/" + name} }

// schemas collects the schemas of named types.
type schemas struct{ named object }

func (d *schemas) schema(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[value.Raw]():
		return object{} // any JSON
	case t == reflect.TypeFor[value.Severity]():
		return object{"type": "string", "enum": []string{"error", "warning", "info"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return d.schema(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Slice:
		return object{"type": "array", "items": d.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": d.schema(t.Elem())}
	case reflect.Struct:
		d.define(t)
		return ref(t.Name())
	}
	return object{"type": "integer"}
}

// define adds the schema of a struct, once.
func (d *schemas) define(t reflect.Type) {
	if _, ok := d.named[t.Name()]; ok {
		return
	}
	s := object{"type": "object"}
	d.named[t.Name()] = s // before its fields, which may refer to it
	props := object{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		prop := d.schema(f.Type)
		if doc := f.Tag.Get("doc"); doc != "" {
			prop["description"] = doc
		}
		props[name] = prop
		if !strings.Contains(opts, "omitempty") {
			required = append(required, name)
		}
	}
	s["properties"] = props
	if required != nil {
		s["required"] = required
	}
}
