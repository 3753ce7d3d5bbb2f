package main

import (
	"errors"
	"fmt"
)

type upCmd struct {
	Paths   []string `arg:"" optional:"" name:"path" help:"Files, or folders whose .json and .yaml files are taken; the current folder by default."`
	Dialect string   `placeholder:"NAME" help:"Dialect of the files; found by name and content by default."`
	remote
	serveCmd
}

// Help describes the command.
func (upCmd) Help() string {
	return "Applies the definitions to the server. When none answers and --server is not given, " +
		"it runs one in this process, as serve would, until it is interrupted."
}

// Run applies definitions and serves when nobody else does.
func (c *upCmd) Run(s *session) error {
	if len(c.Paths) == 0 {
		c.Paths = []string{"."}
	}
	files, err := findSources(c.Paths)
	if err != nil {
		return err
	}
	err = c.call(func(p *peer) error {
		return applyAll(s, files, "applied", p.applier(&c.remote, c.Dialect))
	})
	var gone *unreachableError
	if !errors.As(err, &gone) || c.Server != defaultServer {
		return err
	}
	return c.serveCmd.serve(s, func(srv *server) error {
		c.Server = srv.grpcAddr()
		return c.call(func(p *peer) error {
			err := applyAll(s, files, "applied", p.applier(&c.remote, c.Dialect))
			if err != nil {
				_, _ = fmt.Fprintf(s.Stderr, "tutti: %s\n", message(err))
			}
			return nil
		})
	})
}
