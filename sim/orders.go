package sim

import (
	"embed"
	"fmt"
	"math/rand/v2"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/dialect/conductor"
	"github.com/tutti-run/tutti/value"
)

// Orders is a cast of Conductor definitions: an order with payment, stock and shipping.
type Orders struct{}

//go:embed orders.json
var ordersFS embed.FS

// orders reads the catalogue of the cast: lists of documents by kind.
type orders map[string]value.Raw

func loadOrders() orders {
	raw, err := ordersFS.ReadFile("orders.json")
	if err != nil {
		panic(err) // it is embedded
	}
	docs := orders{}
	for kind, list := range value.Raw(raw).Members() {
		for doc := range list.Elements() {
			field, _ := doc.Field("name")
			name, _ := field.Text()
			docs[kind+"/"+name] = doc
		}
	}
	return docs
}

// Document implements tutti.Documents.
func (d orders) Document(kind, name string, _ int) (value.Raw, int, bool) {
	doc, ok := d[kind+"/"+name]
	return doc, 1, ok
}

// Name implements Cast.
func (Orders) Name() string { return "orders" }

// Documents implements Cast.
func (Orders) Documents() tutti.Documents { return loadOrders() }

// Queues implements Cast.
func (Orders) Queues() []string { return []string{"pay", "stock", "ship"} }

// Definitions implements Cast.
func (Orders) Definitions(*rand.Rand) (all []*tutti.Source) {
	docs := loadOrders()
	for _, name := range []string{"parcel", "order", "fan", "patient"} {
		src, err := conductor.Dialect{}.Link(docs, name, 0)
		if err != nil {
			panic(fmt.Sprintf("sim: definition %s: %v", name, err)) // the definitions are ours
		}
		all = append(all, src)
	}
	return all
}

// Expect implements Cast: every definition says in its output what it counts to.
func (Orders) Expect(src *tutti.Source, r *tutti.Run) error {
	want := map[string]string{
		"parcel": `{"weight":3}`, "order": `{"rounds":3,"weight":3,"kind":"plain"}`,
		"fan": `{"branches":3}`, "patient": `{"seen":true}`,
	}[src.Name]
	if !sameJSON(r.Output, value.Raw(want)) {
		return fmt.Errorf("it ended with %s, want %s", r.Output, want)
	}
	return nil
}
