package egress

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// metadataNames are the names under which cloud providers serve credentials to a machine.
var metadataNames = map[string]bool{
	"metadata":                     true,
	"metadata.google.internal":     true,
	"metadata.goog":                true,
	"metadata.azure.internal":      true,
	"metadata.azure.com":           true,
	"metadata.tencentyun.com":      true,
	"metadata.platformequinix.com": true,
	"metadata.packet.net":          true,
	"instance-data":                true,
	"instance-data.ec2.internal":   true,
}

type zone struct {
	why      string
	prefixes []netip.Prefix
}

// zones are forbidden to every policy.
var zones = []zone{
	{"it is a cloud metadata address", prefixes(
		"169.254.169.254/32", "169.254.170.0/24", // most providers; container credentials
		"fd00:ec2::/32",                            // AWS
		"fd20:ce::254/128",                         // Google
		"100.100.100.200/32",                       // Alibaba
		"168.63.129.16/32",                         // Azure
		"192.0.0.192/32", "fd00:c1::a9fe:a9fe/128", // Oracle
		"fd00:42::42/128", // Scaleway
	)},
	{"it is a link-local address", prefixes("169.254.0.0/16", "fe80::/10")},
	{"it is an unspecified address", prefixes("0.0.0.0/8", "::/128")},
	{"it is a multicast address", prefixes("224.0.0.0/4", "ff00::/8")},
	{"it is a reserved address", prefixes("240.0.0.0/4")},
}

// privates are the networks that are not routed on the Internet, loopback included.
var privates = prefixes(
	"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
	"192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"::1/128", "fc00::/7", "fec0::/10", "2001:db8::/32", "64:ff9b:1::/48", "100::/64",
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

func within(ip netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// forbidden says why no policy permits an address; "" if one may.
func forbidden(ip netip.Addr) string {
	for _, z := range zones {
		if within(ip, z.prefixes) {
			return z.why
		}
	}
	return ""
}

func isPublic(ip netip.Addr) bool { return !within(ip, privates) }

var (
	compatible = netip.MustParsePrefix("::/96")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// embedded returns the IPv4 addresses that a connection to an IPv6 address may end up at by
// one of the transition mechanisms.
func embedded(ip netip.Addr) []netip.Addr {
	if !ip.Is6() || ip.IsLoopback() {
		return nil
	}
	b := ip.As16()
	low := [4]byte(b[12:])
	switch {
	case nat64Local.Contains(ip): // the address follows a prefix of 48 or 96 bits
		after48 := [4]byte{b[6], b[7], b[9], b[10]}
		switch [4]byte{} {
		case low:
			return ipv4s(after48)
		case after48:
			return ipv4s(low)
		}
		return ipv4s(low, after48)
	case compatible.Contains(ip), translated.Contains(ip), nat64.Contains(ip):
		return ipv4s(low)
	case sixToFour.Contains(ip):
		return ipv4s([4]byte(b[2:6]))
	case teredo.Contains(ip):
		for i := range low {
			low[i] ^= 0xff
		}
		return ipv4s(low)
	case b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP
		return ipv4s(low)
	}
	return nil
}

func ipv4s(list ...[4]byte) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, b := range list {
		out[i] = netip.AddrFrom4(b)
	}
	return out
}

// canonicalHost removes what makes one host look like several: case, brackets and the
// trailing dot of a rooted name.
func canonicalHost(host string) string {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimRight(host, "."))
}

// ParseAddr parses an IP address in every spelling that resolvers accept: besides the
// usual ones, IPv4 with one to four parts, each decimal, octal (leading 0) or hexadecimal
// (leading 0x), where the last part fills the remaining bytes: 2130706433, 0x7f.1 and
// 0177.0.0.1 are all 127.0.0.1.
func ParseAddr(host string) (netip.Addr, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, true
	}
	parts := strings.Split(host, ".")
	if len(parts) > 4 {
		return netip.Addr{}, false
	}
	var sum uint64
	for i, p := range parts {
		n, ok := parsePart(p)
		bits := 8 // of the address that this part fills
		if i == len(parts)-1 {
			bits = 8 * (4 - i)
		}
		if !ok || n>>bits != 0 {
			return netip.Addr{}, false
		}
		sum = sum<<bits | n
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(sum))
	return netip.AddrFrom4(b), true
}

func parsePart(s string) (uint64, bool) {
	base := 10
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		s, base = s[2:], 16
		if s == "" { // some resolvers read "0x" as 0
			return 0, true
		}
	case len(s) > 1 && s[0] == '0':
		base = 8
	}
	n, err := strconv.ParseUint(s, base, 32)
	return n, err == nil
}
