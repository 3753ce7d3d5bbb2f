package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector/egress"
)

// serveCmd are the flags of the server. The zero value of most means the default of what
// they set.
type serveCmd struct {
	Listen     string `default:"127.0.0.1:8080" help:"Address of all HTTP APIs."`
	GRPCListen string `name:"grpc-listen" default:"127.0.0.1:8090" help:"Address of all gRPC APIs."`
	Data       string `default:"./tutti-data" help:"Folder that holds everything the server knows."`
	Store      string `placeholder:"URL" help:"Database to use in place of a folder, such as postgres://host/name."`
	Shards     int    `default:"0" help:"Number of shards of a new data folder; 0 means 4."`
	Insecure   bool   `help:"Serve beyond this machine although there is no authentication."`

	AllowedHosts []string      `placeholder:"NAME" help:"Further host names that requests may be addressed to, as behind a proxy."`
	DrainTimeout time.Duration `default:"10s" help:"How long an orderly stop waits for requests and calls in progress."`

	RetentionAge   time.Duration `default:"0s" help:"Remove ended runs after this long; 0 keeps them."`
	RetentionCount int           `default:"0" help:"Keep this many ended runs of each definition; 0 keeps all."`

	SecretsFile string `placeholder:"FILE" help:"YAML file with secrets by name, readable by its owner only. $$TUTTI_SECRET_NAME sets one more."`

	Egress      string   `enum:"open,public,private,listed" default:"open" help:"Where HTTP tasks may connect to: open, public, private or listed."`
	EgressAllow []string `placeholder:"HOST" help:"Hosts, domains and networks for --egress=listed."`
	EgressSelf  bool     `help:"Let HTTP tasks call this server."`

	NATSURL      string   `name:"nats-url" placeholder:"URL" help:"NATS servers for events, separated by commas."`
	KafkaBrokers []string `placeholder:"ADDR" help:"Kafka brokers for events."`

	LogLevel     slog.Level `default:"info" help:"debug, info, warn or error."`
	LogFormat    string     `enum:"text,json" default:"text" help:"text or json."`
	OTLPEndpoint string     `name:"otlp-endpoint" placeholder:"URL" help:"Where to send OpenTelemetry traces by OTLP over HTTP; none when empty."`
	PprofListen  string     `placeholder:"ADDR" help:"Loopback address for Go profiles; none when empty."`
}

// Run serves until the session's context is done and has drained then.
func (c *serveCmd) Run(s *session) error {
	return c.serve(s, func(*server) error { return nil })
}

// serve is Run with something to do once the server serves.
func (c *serveCmd) serve(s *session, ready func(*server) error) error {
	if err := c.check(); err != nil {
		return err
	}
	secrets, err := loadSecrets(s.Main, c.SecretsFile)
	if err != nil {
		return err
	}
	srv, err := startServer(s.ctx, serverOptions{
		serveCmd: *c, secrets: secrets, log: newLogger(s.Stderr, c.LogLevel, c.LogFormat),
	})
	if err != nil {
		return err
	}
	s.printf("tutti ready http=%s grpc=%s\n", srv.httpAddr(), srv.grpcAddr())
	if err := ready(srv); err != nil {
		srv.stop()
		return err
	}
	return srv.wait(s.ctx)
}

func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// check refuses flags that do not go together.
func (c *serveCmd) check() error {
	if c.Store != "" {
		return &tutti.Error{
			Kind: tutti.Unsupported, Op: "serve", Code: "UnsupportedStore",
			Err:  fmt.Errorf("databases such as %s are not there yet", redactURL(c.Store)),
			Hint: "leave out --store and name a folder with --data",
		}
	}
	for _, addr := range []string{c.Listen, c.GRPCListen} {
		if !loopback(addr) && !c.Insecure {
			return &tutti.Error{
				Kind: tutti.Denied, Op: "serve", Code: "NotLoopback",
				Err: fmt.Errorf("%s can be reached from other machines, and there is no "+
					"authentication", addr),
				Hint: "listen on 127.0.0.1, or say --insecure if everybody who can reach the " +
					"address may do everything",
			}
		}
	}
	if c.PprofListen != "" && !loopback(c.PprofListen) {
		return usagef("--pprof-listen must be a loopback address such as 127.0.0.1:6060")
	}
	if c.RetentionAge < 0 || c.RetentionCount < 0 || c.Shards < 0 {
		return usagef("--retention-age, --retention-count and --shards must not be negative")
	}
	if len(c.EgressAllow) > 0 && c.Egress != "listed" {
		return usagef("--egress-allow has an effect with --egress=listed only")
	}
	return nil
}

var egressModes = map[string]egress.Mode{
	"open": egress.Open, "public": egress.Public, "private": egress.Private,
	"listed": egress.Listed,
}

// loopback reports whether only this machine can reach an address to listen on.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // listening will say what is wrong with it
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// redactURL leaves the password of a URL out.
func redactURL(u string) string {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		return u
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}
