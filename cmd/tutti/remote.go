package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tutti-run/tutti/api/grpcapi"
	tuttipb "github.com/tutti-run/tutti/api/pb/tutti/v1"
	"github.com/tutti-run/tutti/value"
)

// defaultServer is where commands look for a server: the default of --server.
const defaultServer = "127.0.0.1:8090"

// remote are the flags of commands that talk to a server.
type remote struct {
	Server    string `default:"127.0.0.1:8090" help:"Server: host:port of its gRPC or HTTP port, or an http or https URL."`
	Namespace string `short:"n" default:"default" help:"Namespace of runs and definitions."`
}

// peer is a connection to a server.
type peer struct {
	addr        string
	conn        *grpc.ClientConn
	runs        tuttipb.RunsClient
	definitions tuttipb.DefinitionsClient
}

func (r *remote) dial() (*peer, error) {
	addr, secure, err := serverAddress(r.Server)
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if secure {
		creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(grpcapi.MaxMessageBytes)))
	if err != nil {
		return nil, usagef("--server %s: %w", r.Server, err)
	}
	return &peer{
		addr: addr, conn: conn,
		runs: tuttipb.NewRunsClient(conn), definitions: tuttipb.NewDefinitionsClient(conn),
	}, nil
}

// call dials, calls fn and closes the connection.
func (r *remote) call(fn func(*peer) error) error {
	p, err := r.dial()
	if err != nil {
		return err
	}
	defer func() { _ = p.conn.Close() }()
	return p.explain(fn(p))
}

// explain tells a server that is not there from one that refuses.
func (p *peer) explain(err error) error {
	st, ok := status.FromError(err)
	if !ok || err == nil {
		return err
	}
	switch {
	case st.Code() == codes.Canceled:
		return context.Canceled
	case st.Code() == codes.Unavailable && len(st.Details()) == 0:
		return &unreachableError{p.addr, lastPart(st.Message())}
	}
	return err
}

// lastPart is the cause in gRPC's report of a failed connection.
func lastPart(text string) string {
	text = strings.Trim(text, `"`)
	if i := strings.LastIndex(text, "dial tcp"); i >= 0 {
		text = text[i:]
		if _, cause, ok := strings.Cut(text, ": "); ok {
			text = cause
		}
	}
	return strings.Trim(text, `"`)
}

// serverAddress reads what --server says.
func serverAddress(s string) (addr string, secure bool, err error) {
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || (scheme != "http" && scheme != "https") {
			return "", false, usagef("--server %s is neither an address nor an http URL", s)
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[scheme]
		}
		return net.JoinHostPort(u.Hostname(), port), scheme == "https", nil
	}
	if _, _, err := net.SplitHostPort(s); err != nil {
		s = net.JoinHostPort(strings.Trim(s, "[]"), "8090")
	}
	return s, false, nil
}

// readInput returns the JSON of an argument: the text itself, a file when it begins with @,
// or the standard input when it is "-". Empty stays empty.
func (s *session) readInput(flag, arg string) ([]byte, error) {
	src, name, err := []byte(arg), flag, error(nil)
	switch {
	case arg == "":
		return nil, nil
	case arg == "-":
		name = "standard input"
		src, err = io.ReadAll(io.LimitReader(s.Stdin, inputLimit+1))
	case arg[0] == '@':
		name = arg[1:]
		src, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, usagef("read the input: %w", err)
	}
	if err := value.Check(src, value.Limits{Bytes: inputLimit}); err != nil {
		return nil, &usageError{fmt.Errorf("the input is no JSON: %s", value.Diagnose(name, err))}
	}
	return src, nil
}

// inputLimit is the largest input that is read, in bytes.
const inputLimit = 32 << 20
