package conductor

import (
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/value"
)

// program is a compiled workflow definition. It is immutable.
type program struct {
	def     *WorkflowDef
	body    *body
	outputs *Template // outputParameters; nil = none
	// checkIn and checkOut enforce the schemas of the definition; nil = none.
	checkIn, checkOut *Schema
}

var _ tutti.Program = (*program)(nil)

// Compile makes a source that Link returned executable. It does not validate: what the
// official server lets pass until a run gets there, does so here.
func (Dialect) Compile(src *tutti.Source) (tutti.Program, value.Diagnostics) {
	def, err := DecodeWorkflowDef(src.Body)
	if err != nil {
		return nil, diagnose(err)
	}
	p := &program{def: def, body: compileBody(def.Tasks)}
	if def.OutputParameters.Len() > 0 {
		p.outputs = CompileTemplate(def.OutputParameters)
	}
	if def.EnforceSchema {
		if p.checkIn, err = optionalSchema(def.InputSchema); err != nil {
			return nil, diagnose(err)
		}
		if p.checkOut, err = optionalSchema(def.OutputSchema); err != nil {
			return nil, diagnose(err)
		}
	}
	return p, nil
}

func optionalSchema(d *SchemaDef) (*Schema, error) {
	if d == nil {
		return nil, nil
	}
	return CompileSchema(d)
}

func diagnose(err error) value.Diagnostics {
	return value.Diagnostics{{Severity: value.Error, Code: "compile", Message: err.Error()}}
}

// linkInline makes a source of a definition that came into being at run time.
func (x *exec) linkInline(def *WorkflowDef) (*tutti.Source, error) {
	docs := tutti.Documents(x.t)
	return Dialect{}.LinkInline(docs, def.Encode())
}

// checkInput enforces the input schema when a run starts.
func (x *exec) checkInput() error {
	if x.p.checkIn == nil {
		return nil
	}
	if fault := x.p.checkIn.Check(x.workflowInput()); fault != nil {
		return x.finish(tutti.RunFailed, fmt.Sprintf("workflow input %v", fault), nil)
	}
	return nil
}

// checkOutput enforces the output schema of a task's definition: what does not match has
// failed for good.
func (x *exec) checkOutput(s site, t *tutti.Task) {
	def := s.node.task.TaskDefinition
	if def == nil || !def.EnforceSchema || def.OutputSchema == nil {
		return
	}
	schema, err := CompileSchema(def.OutputSchema)
	if err == nil {
		err = schema.Check(decoded(t.Output))
	}
	if err != nil {
		x.t.EndTask(t.Seq, tutti.Fatal, nil, "task output "+err.Error())
	}
}
