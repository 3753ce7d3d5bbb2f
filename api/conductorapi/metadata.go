package conductorapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/api"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/engine"
	"github.com/tutti-run/tutti/value"
)

func metadataRoutes() []route {
	const base = "/api/metadata"
	return []route{
		{
			"POST", base + "/workflow", api.WriteDefinitions, "Create a workflow definition",
			(*API).createWorkflow,
			[]string{"overwrite boolean=false"},
			"WorkflowDef", "",
		},
		{
			"POST", base + "/workflow/validate", api.ReadDefinitions,
			"Check a workflow definition without storing it",
			(*API).validateWorkflow, nil, "WorkflowDef", "",
		},
		{
			"PUT", base + "/workflow", api.WriteDefinitions,
			"Create or replace workflow definitions",
			(*API).updateWorkflows, nil, "[WorkflowDef]", "BulkResponse",
		},
		{
			"GET", base + "/workflow/{name}", api.ReadDefinitions, "Get a workflow definition",
			(*API).getWorkflowDef,
			[]string{"version integer"},
			"", "WorkflowDef",
		},
		{
			"GET", base + "/workflow", api.ReadDefinitions,
			"Get all versions of all workflow definitions",
			(*API).listWorkflowDefs,
			[]string{"classifier string"},
			"", "[WorkflowDef]",
		},
		{
			"GET", base + "/workflow/names-and-versions", api.ReadDefinitions,
			"Get the names of all workflow definitions with their versions",
			(*API).namesAndVersions, nil, "", "object",
		},
		{
			"GET", base + "/workflow/names", api.ReadDefinitions,
			"Get the names of all workflow definitions",
			(*API).workflowNames, nil, "", "[string]",
		},
		{
			"GET", base + "/workflow/{name}/versions", api.ReadDefinitions,
			"Get the versions of a workflow definition",
			(*API).workflowVersions, nil, "", "[WorkflowDefSummary]",
		},
		{
			"GET", base + "/workflow/latest-versions", api.ReadDefinitions,
			"Get the newest version of every workflow definition",
			(*API).latestWorkflows, nil, "", "[WorkflowDef]",
		},
		{
			"DELETE", base + "/workflow/{name}/{version}", api.WriteDefinitions,
			"Remove a version of a workflow definition; its runs go on",
			(*API).deleteWorkflowDef, nil, "", "",
		},
	}
}

func taskDefRoutes() []route {
	const base = "/api/metadata"
	return []route{
		{
			"POST", base + "/taskdefs", api.WriteDefinitions,
			"Create or replace task definitions",
			(*API).createTaskDefs, nil, "[TaskDef]", "",
		},
		{
			"PUT", base + "/taskdefs", api.WriteDefinitions, "Replace a task definition",
			(*API).updateTaskDef, nil, "TaskDef", "",
		},
		{
			"GET", base + "/taskdefs", api.ReadDefinitions, "Get all task definitions",
			(*API).listTaskDefs, nil, "", "[TaskDef]",
		},
		{
			"GET", base + "/taskdefs/{tasktype}", api.ReadDefinitions, "Get a task definition",
			(*API).getTaskDef, nil, "", "TaskDef",
		},
		{
			"DELETE", base + "/taskdefs/{tasktype}", api.WriteDefinitions,
			"Remove a task definition",
			(*API).deleteTaskDef, nil, "", "",
		},
	}
}

// violations answers what a check of a document found, if it rejects it. Where says which
// parameter of which method of the official server the document was.
func violations(report *model.Report, where string) error {
	found := report.Violations()
	if len(found) == 0 {
		return nil
	}
	list := make([]violation, len(found))
	for i, f := range found {
		path := where
		if f.Path != "" {
			path += "." + f.Path
		}
		list[i] = violation{path: path, message: f.Message}
		if f.InvalidValue != nil {
			list[i].invalid = string(value.Marshal(f.InvalidValue))
		}
	}
	return invalid(list...)
}

func (a *API) documents(ctx context.Context) (tutti.Documents, error) {
	return a.svc.Catalog(ctx, namespace, model.Dialect)
}

// checkedWorkflow reads and checks a workflow definition.
func (a *API) checkedWorkflow(
	ctx context.Context, raw value.Raw, where string,
) (*model.WorkflowDef, error) {
	docs, err := a.documents(ctx)
	if err != nil {
		return nil, err
	}
	def, err := model.DecodeWorkflowDef(raw)
	if err != nil {
		return nil, malformed(err)
	}
	return def, violations(a.opts.Rules.Workflow(def, docs), where)
}

func (a *API) putWorkflow(
	ctx context.Context, def *model.WorkflowDef, mode engine.PutMode,
) error {
	_, err := a.svc.PutDocument(ctx, engine.Document{
		Namespace: namespace, Dialect: model.Dialect, Kind: model.KindWorkflow,
		Name: def.Name, Version: def.Version, Body: def.Encode(), CreatedBy: def.CreatedBy,
	}, mode)
	return err
}

// externalTasks warns of task types that the official server runs itself and this one leaves
// to workers.
func (a *API) externalTasks(defs ...*model.WorkflowDef) http.Header {
	h := http.Header{}
	for _, def := range defs {
		types := model.ExternalTasks(def)
		if len(types) == 0 {
			continue
		}
		list := strings.Join(types, ", ")
		a.log.Warn("tasks of these types need a worker that polls for them",
			"workflow", def.Name, "version", def.Version, "types", list)
		h.Add("Warning", fmt.Sprintf("299 tutti %q", "workflow "+printable(def.Name)+
			": tasks of type "+list+" need a worker that polls for them"))
	}
	return h
}

// printable makes a name fit for a header.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func (a *API) createWorkflow(c *call) (answer, error) {
	overwrite, err := c.flag("overwrite", false)
	if err != nil {
		return answer{}, err
	}
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	def, err := a.checkedWorkflow(c.ctx(), raw, "registerWorkflowDef.workflowDef")
	if err != nil {
		return answer{}, err
	}
	mode := engine.PutNew
	if overwrite {
		mode = engine.PutAny
	}
	if err = a.putWorkflow(c.ctx(), def, mode); isKind(err, tutti.Exists) {
		err = fail(http.StatusConflict, "Workflow with %s.%d already exists!",
			def.Name, def.Version)
	}
	return answer{header: a.externalTasks(def)}, err
}

func (a *API) validateWorkflow(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	def, err := a.checkedWorkflow(c.ctx(), raw, "validateWorkflowDef.workflowDef")
	if err != nil {
		return answer{}, err
	}
	return answer{header: a.externalTasks(def)}, nil
}

func (a *API) updateWorkflows(c *call) (answer, error) {
	raw, err := c.json("array")
	if err != nil {
		return answer{}, err
	}
	var defs []*model.WorkflowDef
	var found []violation
	for e := range raw.Elements() {
		where := fmt.Sprintf("updateWorkflowDef.workflowDefList[%d]", len(defs))
		def, err := a.checkedWorkflow(c.ctx(), e, where)
		var f *failure
		switch {
		case errors.As(err, &f) && f.violations != nil:
			found = append(found, f.violations...)
		case err != nil:
			return answer{}, err
		}
		defs = append(defs, def)
	}
	switch {
	case len(defs) == 0:
		return answer{}, invalid(violation{
			path: "updateWorkflowDef.workflowDefList", invalid: "[]",
			message: "WorkflowDefList name cannot be null or empty",
		})
	case len(found) > 0:
		return answer{}, invalid(found...)
	}
	var out bulkResult
	for _, def := range defs {
		out.add(def.Name, a.putWorkflow(c.ctx(), def, engine.PutAny))
	}
	return answer{body: out.body(), header: a.externalTasks(defs...)}, nil
}

func workflowRef(name string, version int) api.DocumentRef {
	return api.DocumentRef{
		Namespace: namespace, Dialect: model.Dialect, Kind: model.KindWorkflow,
		Name: name, Version: version,
	}
}

// dated returns the body of a document with the times and author that the catalogue keeps.
func dated(doc engine.Document) value.Raw {
	o := newObject(make([]byte, 0, len(doc.Body)+96))
	o.num("createTime", doc.CreateMs)
	o.num("updateTime", doc.UpdateMs)
	o.text("createdBy", doc.CreatedBy)
	for name, v := range doc.Body.Members() {
		switch name {
		case "createTime", "updateTime", "createdBy":
			continue
		}
		o.b = append(o.b, ',')
		o.b = value.AppendString(o.b, name)
		o.b = append(o.b, ':')
		o.b = append(o.b, v...)
	}
	return o.end()
}

func (a *API) getWorkflowDef(c *call) (answer, error) {
	name, given := c.path("name"), c.text("version", "")
	version, err := readVersion(given)
	if err != nil {
		return answer{}, err
	}
	doc, err := a.svc.Document(c.ctx(), workflowRef(name, version))
	if given == "" {
		given = "null"
	}
	if err != nil {
		return answer{}, missing(err,
			"No such workflow found by name: %s, version: %s", name, given)
	}
	return rawOf(dated(doc))
}

// definitions returns all documents of a kind.
func (a *API) definitions(c *call, kind string) ([]engine.Document, error) {
	return a.svc.Documents(c.ctx(), namespace, model.Dialect, kind)
}

func appendDated(dst []byte, d engine.Document) []byte { return append(dst, dated(d)...) }

func (a *API) listWorkflowDefs(c *call) (answer, error) {
	docs, err := a.definitions(c, model.KindWorkflow)
	if err != nil {
		return answer{}, err
	}
	if want := c.text("classifier", ""); want != "" {
		var some []engine.Document
		for _, d := range docs {
			if strings.EqualFold(classifier(d.Body), want) {
				some = append(some, d)
			}
		}
		docs = some
	}
	return jsonOf(appendList(nil, docs, appendDated))
}

// classifier is classOf for a stored definition.
func classifier(def value.Raw) string {
	raw, _ := def.Field("metadata")
	decoded, err := raw.Parse()
	meta, ok := decoded.(*value.Object)
	if err != nil || !ok {
		return classOf(nil)
	}
	return classOf(meta)
}

// classOf tells kinds of workflows apart by their metadata: what its classifier says, else
// agents, which carry the definition of one, from plain workflows.
func classOf(meta *value.Object) string {
	v, _ := meta.Get("classifier")
	if s, ok := v.(string); ok && s != "" {
		return s
	}
	for _, name := range []string{"agentDef", "agent"} {
		if v, _ := meta.Get(name); v != nil {
			return "agent"
		}
	}
	return "workflow"
}

// eachName calls fn with the versions of every workflow, in order of name.
func eachName(docs []engine.Document, fn func(versions []engine.Document)) {
	for from := 0; from < len(docs); {
		to := from + 1
		for to < len(docs) && docs[to].Name == docs[from].Name {
			to++
		}
		fn(docs[from:to])
		from = to
	}
}

func appendSummary(dst []byte, d engine.Document) []byte {
	o := newObject(dst)
	o.string("name", d.Name)
	o.num("version", int64(d.Version))
	o.num("createTime", d.CreateMs)
	o.num("updateTime", d.UpdateMs)
	return o.end()
}

func (a *API) namesAndVersions(c *call) (answer, error) {
	docs, err := a.definitions(c, model.KindWorkflow)
	if err != nil {
		return answer{}, err
	}
	b := []byte{'{'}
	eachName(docs, func(versions []engine.Document) {
		b = comma(b, len(b)-1)
		b = append(value.AppendString(b, versions[0].Name), ':')
		b = appendList(b, versions, appendSummary)
	})
	return jsonOf(append(b, '}'))
}

func (a *API) workflowNames(c *call) (answer, error) {
	docs, err := a.definitions(c, model.KindWorkflow)
	var names []string
	eachName(docs, func(versions []engine.Document) { names = append(names, versions[0].Name) })
	return answer{body: appendTexts(nil, names)}, err
}

func (a *API) workflowVersions(c *call) (answer, error) {
	docs, err := a.definitions(c, model.KindWorkflow)
	var some []engine.Document
	for _, d := range docs {
		if d.Name == c.path("name") {
			some = append(some, d)
		}
	}
	return answer{body: appendList(nil, some, appendSummary)}, err
}

func (a *API) latestWorkflows(c *call) (answer, error) {
	docs, err := a.definitions(c, model.KindWorkflow)
	var latest []engine.Document
	eachName(docs, func(versions []engine.Document) {
		latest = append(latest, versions[len(versions)-1])
	})
	return answer{body: appendList(nil, latest, appendDated)}, err
}

func (a *API) deleteWorkflowDef(c *call) (answer, error) {
	name := c.path("name")
	version, err := readVersion(c.path("version"))
	if err != nil {
		return answer{}, err
	}
	return emptyOr(missing(a.svc.DeleteDocument(c.ctx(), workflowRef(name, version)),
		"No such workflow definition: %s version: %d", name, version))
}

func taskRef(name string) api.DocumentRef {
	return api.DocumentRef{
		Namespace: namespace, Dialect: model.Dialect, Kind: model.KindTaskDef,
		Name: name,
	}
}

func (a *API) putTaskDef(
	ctx context.Context, def *model.TaskDef, mode engine.PutMode,
) error {
	_, err := a.svc.PutDocument(ctx, engine.Document{
		Namespace: namespace, Dialect: model.Dialect, Kind: model.KindTaskDef,
		Name: def.Name, Body: def.Encode(), CreatedBy: def.CreatedBy,
	}, mode)
	return err
}

func (a *API) createTaskDefs(c *call) (answer, error) {
	raw, err := c.json("array")
	if err != nil {
		return answer{}, err
	}
	var defs []*model.TaskDef
	var found []violation
	for e := range raw.Elements() {
		def, err := model.DecodeTaskDef(e)
		if err != nil {
			return answer{}, malformed(err)
		}
		where := fmt.Sprintf("registerTaskDef.taskDefinitions[%d]", len(defs))
		var f *failure
		if errors.As(violations(a.opts.Rules.TaskDef(def), where), &f) {
			found = append(found, f.violations...)
		}
		defs = append(defs, def)
	}
	switch {
	case len(defs) == 0:
		return answer{}, invalid(violation{
			path: "registerTaskDef.taskDefinitions", invalid: "[]",
			message: "TaskDefList is empty",
		})
	case len(found) > 0:
		return answer{}, invalid(found...)
	}
	for _, def := range defs {
		if err := a.putTaskDef(c.ctx(), def, engine.PutAny); err != nil {
			return answer{}, err
		}
	}
	return empty()
}

func (a *API) updateTaskDef(c *call) (answer, error) {
	raw, err := c.json("object")
	if err != nil {
		return answer{}, err
	}
	def, err := model.DecodeTaskDef(raw)
	if err != nil {
		return answer{}, malformed(err)
	}
	if err := violations(a.opts.Rules.TaskDef(def), "updateTaskDef.taskDefinition"); err != nil {
		return answer{}, err
	}
	return emptyOr(missing(a.putTaskDef(c.ctx(), def, engine.PutExists),
		"No such task by name %s", def.Name))
}

func (a *API) listTaskDefs(c *call) (answer, error) {
	docs, err := a.definitions(c, model.KindTaskDef)
	return answer{body: appendList(nil, docs, appendDated)}, err
}

func (a *API) getTaskDef(c *call) (answer, error) {
	name := c.path("tasktype")
	doc, err := a.svc.Document(c.ctx(), taskRef(name))
	if err != nil {
		return answer{}, missing(err, "No such taskType found by name: %s", name)
	}
	return rawOf(dated(doc))
}

func (a *API) deleteTaskDef(c *call) (answer, error) {
	err := a.svc.DeleteDocument(c.ctx(), taskRef(c.path("tasktype")))
	return emptyOr(missing(err, "No such task definition"))
}
