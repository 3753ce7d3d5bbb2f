package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/tutti-run/tutti/bench"
	"github.com/tutti-run/tutti/value"
)

// Main is the program without its process: what main starts, and end-to-end tests too.
type Main struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Env            []string // "NAME=value", as os.Environ returns it
}

// lookup returns a variable of the environment. As for programs, the last one counts.
func (m Main) lookup(name string) (string, bool) {
	for _, kv := range slices.Backward(m.Env) {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// cli declares every command and flag.
type cli struct {
	Config configPath   `placeholder:"FILE" help:"YAML file with values for flags, by flag name or by command and flag name."`
	Output outputFormat `short:"o" enum:"table,json" default:"table" help:"How results are printed: table or json."`

	Serve serveCmd `cmd:"" help:"Run the server."`
	Up    upCmd    `cmd:"" help:"Apply definitions, and run a server when none is there."`

	Apply    applyCmd    `cmd:"" help:"Check and store definitions."`
	Validate validateCmd `cmd:"" help:"Check definitions without a server."`

	Run       runCmd       `cmd:"" help:"Start a run."`
	List      listCmd      `cmd:"" help:"List runs or definitions."`
	Get       getCmd       `cmd:"" help:"Show a run."`
	Explain   explainCmd   `cmd:"" help:"Say what a run waits for."`
	History   historyCmd   `cmd:"" help:"Show the events of a run."`
	Signal    signalCmd    `cmd:"" help:"Complete a step that waits for a signal."`
	Pause     pauseCmd     `cmd:"" help:"Keep a run from taking further steps."`
	Resume    resumeCmd    `cmd:"" help:"Let a paused run go on."`
	Retry     retryCmd     `cmd:"" help:"Go on with a failed run from what failed."`
	Restart   restartCmd   `cmd:"" help:"Begin an ended run again."`
	Terminate terminateCmd `cmd:"" help:"End a run at once."`

	Eval    evalCmd    `cmd:"" help:"Evaluate an expression."`
	Demo    demoCmd    `cmd:"" help:"Run a server with sample services, workers and orders."`
	Bench   benchCmd   `cmd:"" help:"Measure a server."`
	Version versionCmd `cmd:"" help:"Print the version."`

	BenchWorker benchWorkerCmd `cmd:"" hidden:"" help:"Work for the bench."`
}

// Run executes one command and returns the exit code of the process. It returns early, after
// an orderly end, when ctx is done.
func (m Main) Run(ctx context.Context, args []string) int {
	var c cli
	exited := false
	set := &settings{lookup: m.lookup}
	parser, err := kong.New(&c,
		kong.Name("tutti"),
		kong.Description("One orchestrator for microservices: durable workflows, driven by "+
			"unchanged clients.\n\n"+exitHelp),
		kong.Writers(m.Stdout, m.Stderr),
		kong.Exit(func(int) { exited = true }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}),
		kong.ShortUsageOnError(),
		kong.Vars{"workloads": strings.Join(bench.Workloads, ", ")},
		kong.PostBuild(nameEnvironment),
		kong.Resolvers(set),
	)
	if err != nil {
		return m.fail(fmt.Errorf("the commands are declared wrongly: %w", err))
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	kctx, err := parser.Parse(args)
	if exited { // the help was printed
		return exitOK
	}
	if err = cmp.Or(set.err, err); err != nil {
		return m.fail(&usageError{err})
	}
	err = kctx.Run(&session{Main: m, ctx: ctx, format: c.Output})
	return m.fail(err)
}

// session is what a command gets to work with.
type session struct {
	Main
	ctx    context.Context
	format outputFormat
}

// nameEnvironment gives every flag its environment variable, for help and settings alike.
func nameEnvironment(k *kong.Kong) error {
	return kong.Visit(k.Model.Node, func(n kong.Visitable, next kong.Next) error {
		if f, ok := n.(*kong.Flag); ok && f.Name != "help" {
			f.Help += " ($" + envName(f.Name) + ")"
		}
		return next(nil)
	})
}

func envName(flag string) string {
	return "TUTTI_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

type configPath string

// settings finds the values of flags that the command line does not set: in the environment
// first, then in the configuration file.
type settings struct {
	lookup func(string) (string, bool)
	file   *value.Object // nil until it was read
	err    error         // what is wrong with the file
}

// Validate has nothing to check before flags are known.
func (s *settings) Validate(*kong.Application) error { return nil }

// Resolve returns the value of a flag as text, or nil.
func (s *settings) Resolve(c *kong.Context, at *kong.Path, f *kong.Flag) (any, error) {
	if v, ok := s.lookup(envName(f.Name)); ok {
		return v, nil
	}
	if f.Name == "config" || f.Name == "help" {
		return nil, nil
	}
	if s.file == nil {
		s.file = value.NewObject()
		s.err = s.load(c)
	}
	if s.err != nil {
		return nil, nil // said once, without the name of a flag that has nothing to do with it
	}
	if at.Command != nil {
		if section, ok := s.file.Get(at.Command.Name); ok {
			if o, ok := section.(*value.Object); ok {
				if v, ok := o.Get(f.Name); ok {
					return plainValue(f.Name, v)
				}
			}
		}
	}
	if v, ok := s.file.Get(f.Name); ok {
		return plainValue(f.Name, v)
	}
	return nil, nil
}

// load reads the file that --config names, if any.
func (s *settings) load(c *kong.Context) error {
	path, _ := s.lookup(envName("config"))
	for _, p := range c.Path {
		if p.Flag != nil && p.Flag.Name == "config" {
			path = string(c.FlagValue(p.Flag).(configPath))
		}
	}
	if path == "" {
		return nil
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	v, err := value.ParseYAML(src, value.Limits{Bytes: 1 << 20})
	if err != nil {
		return errors.New(value.Diagnose(path, err).String())
	}
	o, ok := v.(*value.Object)
	if !ok {
		return fmt.Errorf("%s: the configuration must be a mapping of flag names to values", path)
	}
	s.file = o
	return s.check(c, path)
}

// check refuses names that are no flag and no command: a misspelt one would go unnoticed.
func (s *settings) check(c *kong.Context, path string) error {
	known := map[string]map[string]bool{"": {}}
	for _, f := range c.Model.Flags {
		known[""][f.Name] = true
	}
	for _, cmd := range c.Model.Children {
		known[cmd.Name] = map[string]bool{}
		for _, f := range cmd.Flags {
			known[""][f.Name], known[cmd.Name][f.Name] = true, true
		}
	}
	for name, v := range s.file.All() {
		section, isSection := v.(*value.Object)
		if flags, ok := known[name]; ok && name != "" && isSection {
			for inner := range section.All() {
				if !flags[inner] {
					return fmt.Errorf("%s: %s has no flag %q", path, name, inner)
				}
			}
			continue
		}
		if !known[""][name] {
			return fmt.Errorf("%s: there is no flag or command %q", path, name)
		}
	}
	return nil
}

// plainValue turns a value of the file into the text that the command line would hold.
func plainValue(name string, v any) (any, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return fmt.Sprint(v), nil
	case value.Number:
		return string(v), nil
	case []any:
		var parts []string
		for _, e := range v {
			p, err := plainValue(name, e)
			if err != nil {
				return nil, err
			}
			parts = append(parts, strings.ReplaceAll(p.(string), ",", `\,`))
		}
		return strings.Join(parts, ","), nil
	}
	return nil, fmt.Errorf("the configuration gives %s, which must be text, a number, true, "+
		"false or a list of them", value.Kind(v))
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(s *session) error {
	if s.format == formatJSON {
		return s.json(map[string]string{"version": version})
	}
	_, err := fmt.Fprintln(s.Stdout, "tutti", version)
	return err
}
