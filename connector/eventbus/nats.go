package eventbus

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// NATSConfig names the NATS servers and how to log in there.
type NATSConfig struct {
	URL             string // "nats://host:4222"; several are separated by commas
	User, Password  string
	Token           string
	CredentialsFile string      // a JWT with its key, as the nats tools write it
	TLS             *tls.Config // nil = as the URL says
}

const (
	natsTimeout      = 5 * time.Second
	natsPendingCount = 4096
	natsPendingBytes = 64 << 20
	natsAttempts     = 5 // calls of a handler for one message of core NATS
	natsMsgID        = nats.MsgIdHdr
)

// natsLink is core NATS: at most once, to whoever listens, shared by queue groups. A handler
// that fails is called again a few times; what it never takes, or is in memory when the
// process dies, is lost. JetStream is for messages that must not be.
type natsLink struct {
	cfg Config

	mu     sync.Mutex
	conn   *nats.Conn
	closed bool
}

// connect returns the connection, which heals itself once made.
func (l *natsLink) connect() (*nats.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if l.conn != nil {
		return l.conn, nil
	}
	conn, err := nats.Connect(l.cfg.NATS.URL, l.options()...)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to NATS: %w", err)
	}
	l.conn = conn
	return conn, nil
}

func (l *natsLink) options() []nats.Option {
	c := l.cfg.NATS
	opts := []nats.Option{
		nats.Name("tutti"),
		nats.Timeout(natsTimeout),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(func(n int) time.Duration { return backoff(n) / 3 }),
		// Nothing is buffered while disconnected: Publish would call sent what may be lost.
		nats.ReconnectBufSize(-1),
		nats.ErrorHandler(func(_ *nats.Conn, s *nats.Subscription, err error) {
			queue := "nats"
			if s != nil {
				queue += ":" + s.Subject
			}
			l.cfg.Report(queue, err)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				l.cfg.Report("nats", fmt.Errorf("disconnected: %w", err))
			}
		}),
	}
	if c.User != "" {
		opts = append(opts, nats.UserInfo(c.User, c.Password))
	}
	if c.Token != "" {
		opts = append(opts, nats.Token(c.Token))
	}
	if c.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(c.CredentialsFile))
	}
	if c.TLS != nil {
		opts = append(opts, nats.Secure(c.TLS))
	}
	return opts
}

// publish returns when the server has answered a ping sent after the message.
func (l *natsLink) publish(ctx context.Context, name string, m Message) error {
	conn, err := l.connect()
	if err != nil {
		return err
	}
	subject, _ := l.cfg.splitGroup(name)
	if err := conn.PublishMsg(natsMessage(subject, m)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	return conn.FlushWithContext(ctx)
}

func natsMessage(subject string, m Message) *nats.Msg {
	msg := nats.NewMsg(subject)
	msg.Data = m.Body
	for name, v := range m.Headers {
		msg.Header.Set(oneLine(name), oneLine(v))
	}
	if m.ID != "" {
		msg.Header.Set(natsMsgID, oneLine(m.ID))
	}
	return msg
}

// oneLine removes what would end a header.
func oneLine(s string) string {
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
}

// message is a received message. Id is for one without an ID of its own.
func message(id string, header nats.Header, data []byte) Message {
	m := Message{ID: id, Body: body(data), Headers: map[string]string{}}
	for name := range header {
		m.Headers[name] = header.Get(name)
	}
	if own := header.Get(natsMsgID); own != "" {
		m.ID = own
		delete(m.Headers, natsMsgID)
	}
	return m
}

func (l *natsLink) subscribe(name string, d *delivery) (func(), error) {
	conn, err := l.connect()
	if err != nil {
		return nil, err
	}
	g := newGate(d.slots)
	subject, group := l.cfg.splitGroup(name)
	sub, err := conn.QueueSubscribe(subject, group, func(msg *nats.Msg) {
		m := message(rand.Text(), msg.Header, msg.Data)
		g.run(func() { _ = d.retry(m, natsAttempts) }) // retry reports what fails
	})
	if err != nil {
		return nil, fmt.Errorf("cannot subscribe to NATS subject %q: %w", subject, err)
	}
	if err := sub.SetPendingLimits(natsPendingCount, natsPendingBytes); err != nil {
		return nil, errors.Join(err, sub.Unsubscribe())
	}
	if conn.IsConnected() { // else the subscription is sent on connecting
		if err := conn.FlushTimeout(natsTimeout); err != nil {
			d.report(d.queue, err)
		}
	}
	return func() { endSubscription(conn, sub, d); g.close() }, nil
}

// endSubscription stops a subscription. What has been received is handled first, as nobody
// would deliver it again.
func endSubscription(conn *nats.Conn, sub *nats.Subscription, d *delivery) {
	drained := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(drained) })
	if !conn.IsConnected() || sub.Drain() != nil {
		_ = sub.Unsubscribe() // without a connection there is nobody to tell
		return
	}
	select {
	case <-drained:
	case <-d.ctx.Done():
	case <-time.After(d.timeout):
	}
	_ = sub.Unsubscribe() // fails when it has been drained, as it should
}

func (l *natsLink) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.conn == nil || l.conn.IsClosed() {
		return
	}
	closed := make(chan struct{})
	l.conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	l.conn.Close()
	<-closed
}
