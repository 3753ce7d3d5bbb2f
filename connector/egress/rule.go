package egress

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/tutti-run/tutti"
)

// rule is one entry of a Policy's Allow: a network or a name, and a port unless zero.
type rule struct {
	net  netip.Prefix // valid for addresses and networks
	name string       // lower case; a leading dot means the domain and all below
	port uint16
}

func parseRule(entry string) (rule, error) {
	text := strings.TrimSpace(entry)
	if p, err := netip.ParsePrefix(text); err == nil {
		return rule{net: p.Masked()}, nil
	}
	var r rule
	host := text
	if ip, err := netip.ParseAddr(text); err != nil || !ip.IsValid() {
		if h, port, err := net.SplitHostPort(text); err == nil {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil || n == 0 {
				return rule{}, badRule(entry, "its port is not a number from 1 to 65535")
			}
			host, r.port = h, uint16(n)
		}
	}
	host = canonicalHost(host)
	if ip, ok := ParseAddr(host); ok {
		ip = ip.WithZone("").Unmap()
		r.net = netip.PrefixFrom(ip, ip.BitLen())
		return r, nil
	}
	if host == "" || strings.ContainsAny(host, "*/:@ \t") {
		return rule{}, badRule(entry, "it is no address, network, host name or .domain")
	}
	r.name = host
	return r, nil
}

func badRule(entry, why string) error {
	return tutti.E(tutti.Invalid, "egress policy", "InvalidEgressRule",
		fmt.Sprintf("cannot allow %q: %s", entry, why))
}

func (r rule) matchesName(host string, port uint16) bool {
	if r.name == "" || r.port != 0 && r.port != port {
		return false
	}
	if domain, ok := strings.CutPrefix(r.name, "."); ok {
		return host == domain || strings.HasSuffix(host, r.name)
	}
	return host == r.name
}

func (g *Guard) listsName(host string, port uint16) bool {
	for _, r := range g.rules {
		if r.matchesName(host, port) {
			return true
		}
	}
	return false
}

func (g *Guard) listsAddr(to netip.AddrPort) bool {
	for _, r := range g.rules {
		if r.net.IsValid() && r.net.Contains(to.Addr()) && (r.port == 0 || r.port == to.Port()) {
			return true
		}
	}
	return false
}

// listsAddrs reports whether any rule is for addresses, so that a name not listed may still
// resolve to something permitted.
func (g *Guard) listsAddrs() bool {
	for _, r := range g.rules {
		if r.net.IsValid() {
			return true
		}
	}
	return false
}
