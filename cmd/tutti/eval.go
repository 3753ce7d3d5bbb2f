package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/expr/jsonpath"
	"github.com/tutti-run/tutti/expr/script"
	"github.com/tutti-run/tutti/value"
)

type evalCmd struct {
	Lang  string `required:"" placeholder:"LANG" help:"Language: jsonpath, jq or js."`
	Input string `type:"existingfile" placeholder:"FILE" help:"JSON document to evaluate on; null by default."`
	Batch bool   `help:"Read one request per line from the standard input."`
	Expr  string `arg:"" optional:"" help:"The expression."`
}

// Help describes the command.
func (evalCmd) Help() string {
	return "Prints the result as JSON; a path that leads nowhere prints nothing and exits " +
		"with 1. In JavaScript the document is $ and bindings are global variables. Of a jq " +
		"program with several results each has a line of its own.\n\n" +
		`With --batch every line of the standard input is a request {"expr", "input", ` +
		`"bindings"} and is answered by one line: {"result": …}, {"undefined": true} or ` +
		`{"error": {"code", "message"}}. Several results of jq are answered as one list.`
}

// evaluator computes an expression on a document. No result at all means undefined.
type evaluator func(expr string, input any, bindings *value.Object) (results []any, err error)

var evaluators = map[string]evaluator{"jsonpath": evalPath, "jq": evalJQ, "js": evalJS}

// Run evaluates one expression, or many.
func (c *evalCmd) Run(s *session) error {
	eval, ok := evaluators[c.Lang]
	switch {
	case !ok && (c.Lang == "jsonata" || c.Lang == "gwf"):
		return tutti.E(tutti.Unsupported, "eval", "UnknownLanguage",
			c.Lang+" is not there yet; this version has jsonpath, jq and js")
	case !ok:
		return usagef("--lang %s is none of jsonpath, jq and js", c.Lang)
	case c.Batch && (c.Expr != "" || c.Input != ""):
		return usagef("--batch takes expressions and inputs from its lines")
	case c.Batch:
		return evalBatch(s.ctx, s.Stdin, s.Stdout, eval)
	case c.Expr == "":
		return usagef("name the expression, or use --batch")
	}
	input, err := c.document()
	if err != nil {
		return err
	}
	results, err := eval(c.Expr, input, nil)
	if err != nil {
		f := failureOf(err)
		return &tutti.Error{
			Kind: tutti.Invalid, Op: "eval", Code: f.code, Err: errors.New(f.message),
		}
	}
	if len(results) == 0 {
		return tutti.E(tutti.Invalid, "eval", "Undefined", "the expression has no value")
	}
	for _, r := range results {
		s.printf("%s\n", value.Marshal(r))
	}
	return nil
}

func (c *evalCmd) document() (any, error) {
	if c.Input == "" {
		return nil, nil
	}
	src, err := os.ReadFile(c.Input)
	if err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	v, err := value.Parse(src, value.Limits{})
	if err != nil {
		return nil, &usageError{errors.New(value.Diagnose(c.Input, err).String())}
	}
	return v, nil
}

func evalPath(expr string, input any, bindings *value.Object) ([]any, error) {
	if bindings.Len() > 0 {
		return nil, errBindings
	}
	p, err := jsonpath.Compile(expr)
	if err != nil {
		return nil, err
	}
	v, err := p.Eval(input)
	if errors.Is(err, jsonpath.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []any{v}, nil
}

func evalJQ(expr string, input any, bindings *value.Object) ([]any, error) {
	if bindings.Len() > 0 {
		return nil, errBindings
	}
	q, err := script.CompileJQ(expr)
	if err != nil {
		return nil, err
	}
	return q.Run(input, script.JQOptions{Now: time.Now()})
}

func evalJS(expr string, input any, bindings *value.Object) ([]any, error) {
	js, err := script.CompileJS(expr)
	if err != nil {
		return nil, err
	}
	vars := map[string]any{"$": input}
	for name, v := range bindings.All() {
		vars[name] = v
	}
	v, err := js.Run(script.Options{Bindings: vars, Now: time.Now(), Rand: rand.Float64})
	if err != nil {
		return nil, err
	}
	return []any{v}, nil
}

// failure is what a batch says of an expression that has no result.
type failure struct{ code, message string }

func (f *failure) Error() string { return f.message }

var errBindings = &failure{"InvalidRequest", "only js has bindings"}

func failureOf(err error) *failure {
	var f *failure
	var path *jsonpath.SyntaxError
	var failed *script.ScriptError
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &path):
		return &failure{"SyntaxError", err.Error()}
	case errors.Is(err, script.ErrTimeout):
		return &failure{"Timeout", err.Error()}
	case errors.Is(err, script.ErrLimit), errors.Is(err, jsonpath.ErrLimit):
		return &failure{"LimitExceeded", err.Error()}
	case errors.As(err, &failed):
		return &failure{"ScriptError", err.Error()}
	}
	return &failure{"EvaluationError", err.Error()}
}

// evalBatch answers each line of in with a line of out, until in ends.
func evalBatch(ctx context.Context, in io.Reader, out io.Writer, eval evaluator) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), inputLimit)
	w := bufio.NewWriter(out)
	for lines.Scan() && ctx.Err() == nil {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		if _, err := w.Write(append(value.Append(nil, answer(line, eval)), '\n')); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read a request: %w", err)
	}
	return ctx.Err()
}

// answer evaluates one request.
func answer(line []byte, eval evaluator) *value.Object {
	out := value.NewObject()
	results, err := evalRequest(line, eval)
	switch {
	case err != nil:
		f := failureOf(err)
		e := value.NewObject()
		e.Set("code", f.code)
		e.Set("message", f.message)
		out.Set("error", e)
	case len(results) == 0:
		out.Set("undefined", true)
	case len(results) == 1:
		out.Set("result", results[0])
	default:
		out.Set("result", results)
	}
	return out
}

func evalRequest(line []byte, eval evaluator) ([]any, error) {
	doc, err := value.Parse(line, value.Limits{})
	if err != nil {
		return nil, &failure{"InvalidRequest", err.Error()}
	}
	req, ok := doc.(*value.Object)
	if !ok {
		return nil, &failure{"InvalidRequest", "the request is no object"}
	}
	raw, _ := req.Get("expr")
	expr, ok := raw.(string)
	if !ok {
		return nil, &failure{"InvalidRequest", `"expr" must be a text`}
	}
	input, _ := req.Get("input")
	vars, _ := req.Get("bindings")
	bindings, ok := vars.(*value.Object)
	if vars != nil && !ok {
		return nil, &failure{"InvalidRequest", `"bindings" must be an object`}
	}
	return eval(expr, input, bindings)
}
