package conductor

import (
	"fmt"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor/model"
	"github.com/tutti-run/tutti/value"
)

// program is a compiled workflow definition. It is immutable.
type program struct {
	def     *WorkflowDef
	body    *body
	outputs *Template // outputParameters; nil = none
	// checkIn and checkOut enforce the schemas of the definition.
	checkIn, checkOut checker
}

var _ tutti.Program = (*program)(nil)

var _ tutti.Preparer = (*program)(nil)

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
	p.checkIn = newChecker(def.EnforceSchema, def.InputSchema)
	p.checkOut = newChecker(def.EnforceSchema, def.OutputSchema)
	for _, c := range []checker{p.checkIn, p.checkOut} {
		if c.err != nil {
			return nil, diagnose(c.err)
		}
	}
	return p, nil
}

// checker enforces a schema. The zero value lets everything pass.
type checker struct {
	schema *Schema
	err    error // the schema cannot be used
}

func newChecker(enforce bool, d *SchemaDef) checker {
	if !enforce || d == nil {
		return checker{}
	}
	s, err := CompileSchema(d)
	return checker{s, err}
}

// fault says what is wrong with a payload; empty if nothing is.
func (c checker) fault(payload value.Raw, what string) string {
	if c.schema == nil && c.err == nil {
		return ""
	}
	return c.faultOf(decoded(payload), what)
}

func (c checker) faultOf(v any, what string) string {
	err := c.err
	if c.schema != nil {
		err = c.schema.Check(v)
	}
	if err == nil {
		return ""
	}
	return fmt.Sprintf("%s %v", what, err)
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
	if fault := x.p.checkIn.faultOf(x.workflowInput(), "workflow input"); fault != "" {
		return x.finish(tutti.RunFailed, fault, nil)
	}
	return nil
}

// Prepare fills in what the definition says of all its runs, as far as spec leaves it open:
// the timeout and the limit on how many are open at a time.
func (p *program) Prepare(spec *tutti.RunSpec) error {
	if p.def.TimeoutPolicy == TimeOutWorkflow && spec.TimeoutMs == 0 {
		spec.TimeoutMs = p.def.TimeoutSeconds * 1000
	}
	limit := p.def.RateLimitConfig
	if limit == nil || limit.ConcurrentExecLimit <= 0 || spec.Limit != nil {
		return nil
	}
	workflow := value.NewObject()
	workflow.Set("input", decoded(spec.Input))
	workflow.Set("correlationId", nullable(spec.CorrelationID))
	workflow.Set("workflowType", p.def.Name)
	key, err := CompileTemplate(limit.RateLimitKey).ResolveDocument(single(rootWorkflow, workflow))
	if err != nil || textOf(key) == "" {
		key = p.def.Name
	}
	spec.Limit = &tutti.RunLimit{
		Key: JavaString(key), Concurrency: limit.ConcurrentExecLimit,
		Reject: limit.Policy == model.RateLimitReject,
	}
	return nil
}
