package main

import (
	"errors"
	"fmt"
	"strings"
)

type upCmd struct {
	Paths     []string `arg:"" optional:"" name:"path" help:"Files, or folders whose .json and .yaml files are taken; the current folder by default."`
	Dialect   string   `placeholder:"NAME" help:"Dialect of the files; found by name and content by default."`
	Server    string   `placeholder:"ADDR" help:"Server to apply to: host:port of its gRPC or HTTP port, or an http or https URL."`
	Namespace string   `short:"n" default:"default" help:"Namespace of the definitions."`
	serveCmd
}

// Help describes the command.
func (upCmd) Help() string {
	return "Applies the definitions to the server. Without --server that is the one at " +
		"--grpc-listen, and when none answers there, this process becomes it, as serve would, " +
		"until it is interrupted."
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
	if c.Server != "" {
		return c.apply(s, c.Server, files)
	}
	if !strings.HasSuffix(c.GRPCListen, ":0") {
		var gone *unreachableError
		if err := c.apply(s, c.GRPCListen, files); !errors.As(err, &gone) {
			return err
		}
	}
	return c.serve(s, func(srv *server) error {
		if err := c.apply(s, srv.grpcAddr(), files); err != nil {
			_, _ = fmt.Fprintf(s.Stderr, "tutti: %s\n", message(err))
		}
		return nil
	})
}

func (c *upCmd) apply(s *session, server string, files []sourceFile) error {
	r := &remote{Server: server, Namespace: c.Namespace}
	return r.call(func(p *peer) error {
		return p.applyAll(s, r, files, c.Dialect)
	})
}
