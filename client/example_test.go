package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/tutti-run/tutti/client"
)

type Order struct {
	Item  string `json:"item"`
	Cents int    `json:"cents"`
}

type Receipt struct {
	ID    string `json:"id"`
	Cents int    `json:"cents"`
}

// A worker that serves one queue until it is interrupted.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := client.Dial("127.0.0.1:8090", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	w := c.Worker(client.WorkerOptions{Concurrency: 20})
	client.Handle(w, "charge_card", func(ctx context.Context, o Order) (Receipt, error) {
		if o.Cents <= 0 {
			return Receipt{}, client.Fatal(fmt.Errorf("%s costs nothing", o.Item))
		}
		return Receipt{ID: client.TaskOf(ctx).IdempotencyKey, Cents: o.Cents}, nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}

// Starting a run and waiting for its end.
func ExampleClient_Start() {
	ctx := context.Background()
	c, err := client.Dial("127.0.0.1:8090", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	id, err := c.Start(ctx, client.StartOptions{
		Definition: "order", Input: Order{Item: "pear", Cents: 120},
		IdempotencyKey: "order-4711", OnDuplicate: client.ReturnExisting,
	})
	if err != nil {
		log.Fatal(err)
	}
	run, err := c.Wait(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.Status, string(run.Output))
}
