// Command worker-go is a worker in twenty lines: it serves the step "greet" of the workflow
// in greeting.json.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/tutti-run/tutti/client"
)

type person struct{ Name string }

type greeting struct {
	Text string `json:"text"`
}

func greet(_ context.Context, p person) (greeting, error) {
	return greeting{"Hello, " + p.Name + "!"}, nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	addr := "127.0.0.1:8090"
	if s := os.Getenv("TUTTI_SERVER"); s != "" {
		addr = s
	}
	c, err := client.Dial(addr, client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	w := c.Worker(client.WorkerOptions{})
	client.Handle(w, "greet", greet)
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
