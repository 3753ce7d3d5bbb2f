// Package egress decides where the server may open connections on behalf of workflows, so
// that a workflow cannot reach what only the server's machine can: cloud metadata,
// link-local neighbours, or the server itself.
//
// It may import the root package and the standard library. Its invariant: the address that
// was checked is the address that is connected. The check runs between resolving and
// connecting, once for every address tried, so neither another spelling nor a name that
// resolves differently the second time gets past it.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tutti-run/tutti"
)

// Mode says which addresses a Policy permits. What is forbidden to every policy (see Guard)
// stays forbidden in all modes.
type Mode uint8

// The modes.
const (
	Open    Mode = iota // public and private addresses and loopback: the default
	Public              // globally routed addresses only
	Private             // loopback and private networks only
	Listed              // what Allow lists
)

// Policy says where connections may go. The zero value is the default policy.
type Policy struct {
	Mode Mode
	// Allow lists, for mode Listed: an IP address, a network ("10.1.0.0/16"), a host name,
	// or a domain with all names below it (".example.com"); each but a network may be
	// followed by ":port".
	Allow []string
	// OwnAddrs are the addresses that this server listens on. With an unspecified address
	// (0.0.0.0 or ::) the port is refused on every address of this machine.
	OwnAddrs []netip.AddrPort
	// AllowOwn permits connections to OwnAddrs, for workflows that call this server's API.
	AllowOwn bool
}

// Guard enforces a Policy. It is safe for concurrent use.
//
// Every policy forbids unspecified, multicast, broadcast, reserved and link-local addresses
// and the metadata services of cloud providers, also when an IPv4 address is wrapped in an
// IPv6 one (mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP).
type Guard struct {
	policy Policy
	rules  []rule
	dialer net.Dialer
}

// New returns a guard for a policy. The error says which entry of Allow is malformed.
func New(p Policy) (*Guard, error) {
	g := &Guard{policy: p, dialer: net.Dialer{KeepAlive: 30 * time.Second}}
	for _, entry := range p.Allow {
		r, err := parseRule(entry)
		if err != nil {
			return nil, err
		}
		g.rules = append(g.rules, r)
	}
	return g, nil
}

// CheckHost refuses a host by what can be known without resolving it: an address in any
// spelling, a name of a metadata service, a name that the policy does not list. A host that
// passes is still checked by DialContext.
func (g *Guard) CheckHost(host string, port uint16) error {
	host = canonicalHost(host)
	if ip, ok := ParseAddr(host); ok {
		return g.CheckAddr(netip.AddrPortFrom(ip, port))
	}
	if metadataNames[host] {
		return refuse(host, "it is a cloud metadata service")
	}
	if g.policy.Mode == Listed && !g.listsName(host, port) && !g.listsAddrs() {
		return refuse(host, "the egress policy does not list it")
	}
	return nil
}

// CheckAddr refuses an address and port that the policy does not permit.
func (g *Guard) CheckAddr(to netip.AddrPort) error { return g.checkAddr(to, false) }

// checkAddr is CheckAddr for an address that may stand for a listed name.
func (g *Guard) checkAddr(to netip.AddrPort, listed bool) error {
	ip := to.Addr().WithZone("").Unmap()
	for _, ip := range append(embedded(ip), ip) {
		seen := netip.AddrPortFrom(ip, to.Port())
		if why := forbidden(ip); why != "" {
			return refuse(to.String(), why)
		}
		if g.isOwn(seen) {
			return refuse(to.String(), "this server listens there")
		}
		if why := g.unpermitted(seen, listed); why != "" {
			return refuse(to.String(), why)
		}
	}
	return nil
}

func (g *Guard) unpermitted(to netip.AddrPort, listed bool) string {
	switch g.policy.Mode {
	case Public:
		if !isPublic(to.Addr()) {
			return "the egress policy permits public addresses only"
		}
	case Private:
		if isPublic(to.Addr()) {
			return "the egress policy permits private addresses only"
		}
	case Listed:
		if !listed && !g.listsAddr(to) {
			return "the egress policy does not list it"
		}
	}
	return ""
}

// DialContext connects to "host:port" if the policy permits it. Of the addresses that a
// name resolves to, those refused are not connected to; the error is the guard's when all
// are refused.
func (g *Guard) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number from 0 to 65535", portText)
	}
	if err := g.CheckHost(host, uint16(port)); err != nil {
		return nil, err
	}
	host = canonicalHost(host)
	if ip, ok := ParseAddr(host); ok {
		host = ip.String()
	}
	listed := g.policy.Mode == Listed && g.listsName(host, uint16(port))
	d := g.dialer
	d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return refuse(address, "it is no IP address")
		}
		return g.checkAddr(to, listed)
	}
	return d.DialContext(ctx, network, net.JoinHostPort(host, portText))
}

// isOwn reports whether a connection to that address would reach this server.
func (g *Guard) isOwn(to netip.AddrPort) bool {
	if g.policy.AllowOwn {
		return false
	}
	for _, own := range g.policy.OwnAddrs {
		if own.Port() != to.Port() {
			continue
		}
		addr := own.Addr().WithZone("").Unmap()
		if addr == to.Addr() || addr.IsUnspecified() && isLocal(to.Addr()) {
			return true
		}
	}
	return false
}

// isLocal reports whether an address is one of this machine's, as its interfaces stand now.
func isLocal(ip netip.Addr) bool {
	if ip.IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // unknown: refuse
	}
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && p.Addr().WithZone("").Unmap() == ip {
			return true
		}
	}
	return false
}

// IsRefusal reports whether err is a guard's refusal rather than a failure to connect.
func IsRefusal(err error) bool {
	var e *tutti.Error
	return errors.As(err, &e) && e.Code == "EgressDenied"
}

func refuse(what, why string) error {
	return &tutti.Error{
		Kind: tutti.Denied,
		Op:   "connect to " + strings.TrimSpace(what),
		Code: "EgressDenied",
		Hint: "the egress policy of the server decides where workflows may connect",
		Err:  errors.New("refused: " + why),
	}
}
