// Package orders is an example: an order workflow over three small microservices, which the
// server calls by HTTP, and two kinds of worker, one on the native stream and one that polls
// as Conductor's clients do. `tutti demo` runs all of it.
//
// It may import the client and the standard library. Its invariant: a call that is repeated
// with the same idempotency key has its effect once.
package orders

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/tutti-run/tutti/client"
)

// Workflow is the name of the order workflow.
const Workflow = "order"

//go:embed *.json
var definitions embed.FS

// Apply stores the definitions on a server; the workflow calls the given services.
func Apply(ctx context.Context, c *client.Client, urls URLs) error {
	names, err := fs.Glob(definitions, "*.json")
	if err != nil {
		return err
	}
	for _, name := range names {
		src, err := definitions.ReadFile(name)
		if err != nil {
			return err
		}
		if name == Workflow+".json" {
			if src, err = withURLs(src, urls); err != nil {
				return err
			}
		}
		if err := c.Apply(ctx, name, src); err != nil {
			return fmt.Errorf("apply %s: %w", name, err)
		}
	}
	return nil
}

// withURLs replaces the addresses of the services in the workflow.
func withURLs(src []byte, urls URLs) ([]byte, error) {
	var def map[string]any
	if err := json.Unmarshal(src, &def); err != nil {
		return nil, err
	}
	def["inputTemplate"] = map[string]any{"services": urls}
	return json.Marshal(def)
}

// Order is the input of the order workflow.
type Order struct {
	OrderID  string `json:"orderId"`
	Customer string `json:"customer"`
	Card     string `json:"card"`
	Items    []Item `json:"items"`
}

// Item is one line of an order. Price is in cents.
type Item struct {
	SKU   string `json:"sku"`
	Count int    `json:"count"`
	Price int    `json:"price"`
}

// DeclinedCard is a card that the payment service always refuses.
const DeclinedCard = "4000-0000-0000-0002"

var customers = []string{"Ada", "Barbara", "Edsger", "Grace", "Ken", "Leslie"}

var catalogue = []Item{
	{"espresso-machine", 1, 24900},
	{"grinder", 1, 8900},
	{"beans-1kg", 2, 1890},
	{"cups", 6, 450},
	{"filter-papers", 3, 320},
}

// Sample is the n-th order of a stream of orders: every seventh has a card that is declined.
func Sample(n int) Order {
	o := Order{
		OrderID:  fmt.Sprintf("order-%04d", n),
		Customer: customers[n%len(customers)],
		Card:     "4242-4242-4242-4242",
		Items:    []Item{catalogue[n%len(catalogue)], catalogue[(n*3+1)%len(catalogue)]},
	}
	if n%7 == 4 {
		o.Card = DeclinedCard
	}
	return o
}
