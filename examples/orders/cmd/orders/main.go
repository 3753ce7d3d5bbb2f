// Command orders runs the services and workers of the example against a server that runs
// already: `tutti serve` in another terminal.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/tutti-run/tutti/client"
	"github.com/tutti-run/tutti/examples/orders"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	say := func(order, sentence string) { log.Printf("%s: %s", order, sentence) }
	services, err := orders.StartServices("127.0.0.1:9081", "127.0.0.1:9082", "127.0.0.1:9083", say)
	if err != nil {
		return err
	}
	defer services.Close()
	c, err := client.Dial("127.0.0.1:8090", client.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if err := orders.Apply(ctx, c, services.URLs); err != nil {
		return err
	}
	log.Print("ready; start orders with: tutti run order --input @examples/orders/sample.input")
	go func() { _ = orders.RunPollingWorker(ctx, "http://127.0.0.1:8080/api", say) }()
	return orders.RunStreamWorker(ctx, c)
}
