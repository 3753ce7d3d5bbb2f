package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/http"
	"sync"
	"time"
)

// URLs are the addresses of the services.
type URLs struct {
	Payment  string `json:"payment"`
	Stock    string `json:"stock"`
	Shipping string `json:"shipping"`
}

// Say is told what happens to an order, in one sentence.
type Say func(orderID, sentence string)

// Services are the three microservices, each an HTTP server of its own.
type Services struct {
	URLs    URLs
	servers []*http.Server
}

// StartServices starts the services on the given addresses: payment, stock and shipping.
func StartServices(payment, stock, shipping string, say Say) (*Services, error) {
	s := &Services{}
	for _, one := range []struct {
		addr    string
		handler http.Handler
		url     *string
	}{
		{payment, newPayment(say), &s.URLs.Payment},
		{stock, newStock(say), &s.URLs.Stock},
		{shipping, newShipping(say), &s.URLs.Shipping},
	} {
		l, err := net.Listen("tcp", one.addr)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("start a service: %w", err)
		}
		srv := &http.Server{Handler: one.handler, ReadHeaderTimeout: 5 * time.Second}
		s.servers = append(s.servers, srv)
		*one.url = "http://" + l.Addr().String()
		go func() { _ = srv.Serve(l) }() // ends with Close
	}
	return s, nil
}

// Close stops the services.
func (s *Services) Close() {
	for _, srv := range s.servers {
		_ = srv.Close()
	}
}

// ledger remembers what was done under which idempotency key, so that doing it again gives
// the same answer and no second effect.
type ledger struct {
	mu   sync.Mutex
	done map[string]any
}

// once does fn, or returns what it returned for the key before. An error is not kept.
func (l *ledger) once(key string, fn func() (any, error)) (any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v, ok := l.done[key]; ok {
		return v, nil
	}
	v, err := fn()
	if err == nil {
		l.done[key] = v
	}
	return v, err
}

// refusal is an error with an HTTP status.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

// endpoint is a handler that decodes a request and encodes what fn returns for it.
func endpoint[In any](fn func(r *http.Request, in In) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		var out any
		err := error(nil)
		if r.Method == http.MethodPost {
			err = json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&in)
		}
		if err != nil {
			err = &refusal{http.StatusBadRequest, err.Error()}
		} else {
			out, err = fn(r, in)
		}
		status := http.StatusOK
		if err != nil {
			status = http.StatusInternalServerError
			if ref, ok := errors.AsType[*refusal](err); ok {
				status = ref.status
			}
			out = map[string]string{"error": err.Error()}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(out) // the caller is gone
	}
}

// key is what the server sends with every attempt of a step.
func key(r *http.Request) string { return r.Header.Get("Idempotency-Key") }

// pause stands for work that takes its time.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// number draws a number below n that depends on the text only.
func number(text string, n uint32) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	return h.Sum32() % n
}

// newPayment charges cards. It is too busy for the first attempt of every third order, and
// refuses one card always.
func newPayment(say Say) http.Handler {
	type request struct {
		OrderID string `json:"orderId"`
		Card    string `json:"card"`
		Amount  int    `json:"amount"`
	}
	charges := &ledger{done: map[string]any{}}
	var tries sync.Map
	m := http.NewServeMux()
	m.HandleFunc("POST /charges", endpoint(func(r *http.Request, in request) (any, error) {
		pause(r.Context(), 30*time.Millisecond)
		_, again := tries.LoadOrStore(in.OrderID, true)
		switch {
		case in.Card == DeclinedCard:
			say(in.OrderID, "the bank declines the card")
			return nil, &refusal{http.StatusPaymentRequired, "the card was declined"}
		case !again && number(in.OrderID, 3) == 0:
			say(in.OrderID, "the payment service is too busy; the step will be tried again")
			return nil, &refusal{http.StatusServiceUnavailable, "the bank does not answer"}
		}
		return charges.once(key(r), func() (any, error) {
			say(in.OrderID, fmt.Sprintf("%d.%02d € charged", in.Amount/100, in.Amount%100))
			return map[string]any{"chargeId": "ch-" + in.OrderID, "amount": in.Amount}, nil
		})
	}))
	return m
}

// newStock keeps reservations, which can be released again.
func newStock(say Say) http.Handler {
	type request struct {
		OrderID string `json:"orderId"`
		Items   []Item `json:"items"`
	}
	reservations := &ledger{done: map[string]any{}}
	m := http.NewServeMux()
	m.HandleFunc("POST /reservations", endpoint(func(r *http.Request, in request) (any, error) {
		return reservations.once(key(r), func() (any, error) {
			say(in.OrderID, fmt.Sprintf("%d articles reserved", len(in.Items)))
			return map[string]any{"reservationId": "rs-" + in.OrderID}, nil
		})
	}))
	m.HandleFunc("DELETE /reservations/{order}", endpoint(
		func(r *http.Request, _ struct{}) (any, error) {
			return reservations.once(key(r), func() (any, error) {
				say(r.PathValue("order"), "the reservation is released")
				return map[string]any{"released": true}, nil
			})
		}))
	return m
}

// newShipping hands parcels to a carrier, which now and then takes its time.
func newShipping(say Say) http.Handler {
	type request struct {
		OrderID  string `json:"orderId"`
		Customer string `json:"customer"`
		Parcels  int    `json:"parcels"`
	}
	shipments := &ledger{done: map[string]any{}}
	m := http.NewServeMux()
	m.HandleFunc("POST /shipments", endpoint(func(r *http.Request, in request) (any, error) {
		if number(in.OrderID, 4) == 1 {
			pause(r.Context(), 800*time.Millisecond)
		}
		return shipments.once(key(r), func() (any, error) {
			tracking := fmt.Sprintf("TR-%08X", number(in.OrderID, 1<<31))
			say(in.OrderID, fmt.Sprintf("handed to the carrier as %s", tracking))
			return map[string]any{"tracking": tracking}, nil
		})
	}))
	return m
}
