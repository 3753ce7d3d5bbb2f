package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/client"
	"github.com/tutti-run/tutti/examples/orders"
)

type demoCmd struct {
	Listen     string        `default:"127.0.0.1:8080" help:"Address of all HTTP APIs."`
	GRPCListen string        `name:"grpc-listen" default:"127.0.0.1:8090" help:"Address of all gRPC APIs."`
	Data       string        `placeholder:"DIR" help:"Folder for the data; a temporary one by default, which is removed in the end."`
	Every      time.Duration `default:"1s" help:"Time between two orders."`
	Orders     int           `default:"0" help:"Stop ordering after this many; 0 goes on."`
	Exit       bool          `help:"End when those --orders have ended, instead of serving on."`
}

// Help describes the command.
func (demoCmd) Help() string {
	return "Runs a server, three small services (payment, stock, shipping), workers of two " +
		"kinds, and a stream of orders through the workflow of examples/orders. Some payments " +
		"fail at first and are tried again; some cards are declined, and those orders are undone."
}

// Run serves until it is interrupted.
func (c *demoCmd) Run(s *session) error {
	if c.Every <= 0 || c.Orders < 0 || (c.Exit && c.Orders == 0) {
		return usagef("--every must be positive, and --exit needs --orders")
	}
	if c.Data == "" {
		dir, err := os.MkdirTemp("", "tutti-demo-")
		if err != nil {
			return fmt.Errorf("make a folder for the data: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		c.Data = dir
	}
	flags := serveCmd{
		Listen: c.Listen, GRPCListen: c.GRPCListen, Data: c.Data, Egress: "open",
		DrainTimeout: 5 * time.Second,
	}
	if err := flags.check(); err != nil {
		return err
	}
	srv, err := startServer(s.ctx, serverOptions{
		serveCmd: flags, secrets: secrets{}, log: newLogger(s.Stderr, slog.LevelWarn, "text"),
	})
	if err != nil {
		return err
	}
	d := &demo{cmd: c, srv: srv, say: newTeller(s.Stdout)}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		failed <- d.run(ctx)
		if c.Exit {
			cancel()
		}
	}()
	err = srv.wait(ctx)
	cancel()
	if runErr := <-failed; runErr != nil && s.ctx.Err() == nil {
		return runErr
	}
	return err
}

// demo is the order business: services, workers and customers.
type demo struct {
	cmd *demoCmd
	srv *server
	say *teller

	mu                         sync.Mutex
	started, completed, undone int
	undoing                    []string // runs that undo an order
}

// run opens the business and orders until ctx is done.
func (d *demo) run(ctx context.Context) error {
	services, err := orders.StartServices("127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", d.say.order)
	if err != nil {
		return err
	}
	defer services.Close()
	c, err := client.Dial(d.srv.grpcAddr(), client.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := orders.Apply(ctx, c, services.URLs); err != nil {
		return err
	}
	d.welcome(services.URLs)
	var workers sync.WaitGroup
	defer workers.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	workers.Go(func() { d.report(orders.RunStreamWorker(ctx, c)) })
	workers.Go(func() {
		d.report(orders.RunPollingWorker(ctx, "http://"+d.srv.httpAddr()+"/api", d.say.order))
	})
	return d.order(ctx, c)
}

func (d *demo) report(err error) {
	if err != nil {
		d.say.line("", "a worker stopped: "+err.Error())
	}
}

// order starts one run after the other.
func (d *demo) order(ctx context.Context, c *client.Client) error {
	s, err := c.Session(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	tick := time.NewTicker(d.cmd.Every)
	defer tick.Stop()
	var open sync.WaitGroup
	for n := 1; d.cmd.Orders == 0 || n <= d.cmd.Orders; n++ {
		o := orders.Sample(n)
		open.Add(1)
		err := s.Start(client.StartOptions{
			Definition: orders.Workflow, Input: o, CorrelationID: o.OrderID,
		}, func(id string, err error) { d.begun(o, id, err) }, func(e client.Ended) {
			d.ended(ctx, o.OrderID, e)
			open.Done()
		})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	if d.cmd.Exit {
		open.Wait()
		return d.settle(ctx, c)
	}
	<-ctx.Done()
	return nil
}

// settle waits for the runs that undo orders, which no session watches.
func (d *demo) settle(ctx context.Context, c *client.Client) error {
	d.mu.Lock()
	ids := d.undoing
	d.mu.Unlock()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, id := range ids {
		for {
			_, err := c.Wait(ctx, id)
			var refused *client.Error
			if !errors.As(err, &refused) || refused.Kind != tutti.NotFound.String() {
				if err != nil {
					return err
				}
				break
			}
			<-tick.C // the order to start it is on its way to another shard
		}
	}
	return nil
}

func (d *demo) begun(o orders.Order, id string, err error) {
	if err != nil {
		d.say.bad(o.OrderID, "was refused: "+err.Error())
		return
	}
	d.mu.Lock()
	d.started++
	d.mu.Unlock()
	d.say.order(o.OrderID, fmt.Sprintf("%s orders; run %s", o.Customer, id))
}

// ended says how an order ended and, now and then, how all did.
func (d *demo) ended(ctx context.Context, id string, e client.Ended) {
	if ctx.Err() != nil || e.Err != nil {
		return // the demo is over
	}
	d.mu.Lock()
	if e.Status == "COMPLETED" {
		d.completed++
	} else {
		d.undone++
		var out struct {
			Undo string `json:"conductor.failure_workflow"`
		}
		if json.Unmarshal(e.Output, &out) == nil && out.Undo != "" {
			d.undoing = append(d.undoing, out.Undo)
		}
	}
	started, completed, undone := d.started, d.completed, d.undone
	d.mu.Unlock()
	if e.Status == "COMPLETED" {
		d.say.good(id, "completed")
	} else {
		d.say.bad(id, "failed for good; order_compensation undoes it")
	}
	if (completed+undone)%10 == 0 {
		d.say.line("", fmt.Sprintf("%d orders so far: %d completed, %d undone, %d on their way",
			started, completed, undone, started-completed-undone))
	}
}

func (d *demo) welcome(u orders.URLs) {
	grpc := ""
	if d.srv.grpcAddr() != defaultServer {
		grpc = " --server " + d.srv.grpcAddr()
	}
	d.say.text(fmt.Sprintf(`Tutti is serving: http://%[1]s  gRPC %[2]s  data in %[3]s
Services: payment %[4]s  stock %[5]s  shipping %[6]s

While orders run here, try in another terminal:
  tutti list%[7]s
  tutti list%[7]s --status failed
  tutti history%[7]s RUN
  tutti explain%[7]s RUN
  tutti run%[7]s order --wait --input '%[8]s'
  curl -s http://%[1]s/api/workflow/RUN
Stop with Ctrl-C.

`, d.srv.httpAddr(), d.srv.grpcAddr(), d.srv.opts.Data, u.Payment, u.Stock, u.Shipping, grpc, sampleOrder))
}

// sampleOrder is an order for people to try.
const sampleOrder = `{"orderId":"mine","customer":"Me","card":"1",` +
	`"items":[{"sku":"cups","count":6,"price":450}]}`

// teller prints what happens, a line for each event, in colour only on a terminal.
type teller struct {
	mu     sync.Mutex
	w      io.Writer
	colour bool
}

func newTeller(w io.Writer) *teller { return &teller{w: w, colour: isTerminal(w)} }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// The colours of ANSI terminals.
const (
	plain = ""
	green = "\x1b[32m"
	red   = "\x1b[31m"
	faint = "\x1b[2m"
	reset = "\x1b[0m"
)

func (t *teller) order(id, sentence string)   { t.paint(plain, id, sentence) }
func (t *teller) good(id, sentence string)    { t.paint(green, id, sentence) }
func (t *teller) bad(id, sentence string)     { t.paint(red, id, sentence) }
func (t *teller) line(topic, sentence string) { t.paint(faint, topic, sentence) }

func (t *teller) paint(colour, topic, sentence string) {
	end := reset
	if !t.colour || colour == plain {
		colour, end = "", ""
	}
	t.text(fmt.Sprintf("%s%s  %-12s %s%s\n", colour, time.Now().Format("15:04:05.000"), topic,
		sentence, end))
}

func (t *teller) text(s string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.w, s) // nobody reads: the demo goes on
}
