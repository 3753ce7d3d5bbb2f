package egress_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/tutti-run/tutti"
	"github.com/tutti-run/tutti/connector/egress"
)

func guard(t *testing.T, p egress.Policy) *egress.Guard {
	t.Helper()
	g, err := egress.New(p)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var spellings = []struct {
	host string
	port uint16
	why  string // part of the reason; "" = permitted
}{
	{"169.254.169.254", 80, "metadata"},
	{"169.254.169.254.", 80, "metadata"},
	{"2852039166", 80, "metadata"},
	{"0xa9fea9fe", 80, "metadata"},
	{"0XA9FEA9FE", 80, "metadata"},
	{"025177524776", 80, "metadata"},
	{"0251.0376.0251.0376", 80, "metadata"},
	{"0xa9.0xfe.0xa9.0xfe", 80, "metadata"},
	{"169.254.43518", 80, "metadata"},
	{"169.16689662", 80, "metadata"},
	{"0251.254.0xa9fe", 80, "metadata"},
	{"::ffff:169.254.169.254", 80, "metadata"},
	{"[::ffff:a9fe:a9fe]", 80, "metadata"},
	{"::ffff:a9fe:a9fe%eth0", 80, "metadata"},
	{"::a9fe:a9fe", 80, "metadata"},
	{"::ffff:0:a9fe:a9fe", 80, "metadata"},
	{"64:ff9b::a9fe:a9fe", 80, "metadata"},
	{"64:ff9b:1::a9fe:a9fe", 80, "metadata"},
	{"64:ff9b:1:a9fe:a9:fe00::", 80, "metadata"},
	{"2002:a9fe:a9fe::1", 80, "metadata"},
	{"2001:0:1234::5601:5601", 80, "metadata"},
	{"2001:db8::5efe:a9fe:a9fe", 80, "metadata"},
	{"2001:db8::200:5efe:a9fe:a9fe", 80, "metadata"},
	{"169.254.170.2", 80, "metadata"},
	{"fd00:ec2::254", 80, "metadata"},
	{"FD00:EC2:0:0::0254", 80, "metadata"},
	{"fd20:ce::254", 80, "metadata"},
	{"100.100.100.200", 80, "metadata"},
	{"168.63.129.16", 80, "metadata"},
	{"192.0.0.192", 80, "metadata"},
	{"metadata.google.internal", 80, "metadata"},
	{"METADATA.Google.Internal.", 80, "metadata"},
	{"metadata", 80, "metadata"},
	{"instance-data.ec2.internal", 80, "metadata"},
	{"169.254.1.1", 80, "link-local"},
	{"fe80::1", 80, "link-local"},
	{"fe80::1%lo", 80, "link-local"},
	{"febf::1", 80, "link-local"},
	{"0.0.0.0", 80, "unspecified"},
	{"0", 80, "unspecified"},
	{"0x0", 80, "unspecified"},
	{"0.1.2.3", 80, "unspecified"},
	{"::", 80, "unspecified"},
	{"::ffff:0.0.0.0", 80, "unspecified"},
	{"64:ff9b::", 80, "unspecified"},
	{"224.0.0.1", 80, "multicast"},
	{"239.255.255.255", 80, "multicast"},
	{"ff02::1", 80, "multicast"},
	{"255.255.255.255", 80, "reserved"},
	{"4294967295", 80, "reserved"},

	{"127.0.0.1", 8080, "listens"},
	{"127.1", 8080, "listens"},
	{"2130706433", 8080, "listens"},
	{"0x7f.0.0.1", 8080, "listens"},
	{"0177.0.0.1", 8080, "listens"},
	{"::ffff:127.0.0.1", 8080, "listens"},
	{"::127.0.0.1", 8080, "listens"},
	{"64:ff9b::127.0.0.1", 8080, "listens"},
	{"2002:7f00:1::", 8080, "listens"},
	{"127.0.0.1", 8090, "listens"},
	{"127.8.8.8", 8090, "listens"},
	{"::1", 8090, "listens"},

	{"127.0.0.1", 8081, ""},
	{"127.0.0.2", 8080, ""}, // not where the server listens
	{"::1", 8080, ""},
	{"10.1.2.3", 8080, ""},
	{"192.168.1.1", 80, ""},
	{"fd12:3456::1", 80, ""},
	{"8.8.8.8", 443, ""},
	{"64:ff9b::808:808", 443, ""},
	{"64:ff9b:1::808:808", 443, ""},
	{"2606:4700::1", 443, ""},
	{"orders.internal", 80, ""},
	{"0x7f.example.com", 80, ""},
	{"1.2.3.4.5", 80, ""}, // a name, which will not resolve
}

func TestForbiddenInEverySpelling(t *testing.T) {
	g := guard(t, egress.Policy{OwnAddrs: []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:8080"),
		netip.MustParseAddrPort("[::]:8090"),
	}})
	for _, tt := range spellings {
		check(t, g, tt.host, tt.port, tt.why)
	}
}

func check(t *testing.T, g *egress.Guard, host string, port uint16, why string) {
	t.Helper()
	err := g.CheckHost(host, port)
	switch {
	case why == "" && err != nil:
		t.Errorf("%s port %d: %v, want it permitted", host, port, err)
	case why != "" && err == nil:
		t.Errorf("%s port %d: permitted, want it refused: %s", host, port, why)
	case why != "" && !strings.Contains(err.Error(), why):
		t.Errorf("%s port %d: %v, want the reason to say %q", host, port, err, why)
	case err != nil && (tutti.KindOf(err) != tutti.Denied || !egress.IsRefusal(err)):
		t.Errorf("%s port %d: %v is of kind %v", host, port, err, tutti.KindOf(err))
	}
}

func TestModes(t *testing.T) {
	listed := egress.Policy{Mode: egress.Listed, Allow: []string{
		"10.1.0.0/16", "192.0.2.7:443", "Api.Example.com", ".svc.local:8080", "[2001:db8::1]:80",
		"169.254.169.254", "fd12::/16",
	}}
	tests := []struct {
		policy egress.Policy
		host   string
		port   uint16
		why    string
	}{
		{egress.Policy{Mode: egress.Public}, "8.8.8.8", 80, ""},
		{egress.Policy{Mode: egress.Public}, "127.0.0.1", 80, "public"},
		{egress.Policy{Mode: egress.Public}, "0x0a000001", 80, "public"},
		{egress.Policy{Mode: egress.Public}, "100.64.0.1", 80, "public"},
		{egress.Policy{Mode: egress.Public}, "::ffff:10.0.0.1", 80, "public"},
		{egress.Policy{Mode: egress.Public}, "64:ff9b::a00:1", 80, "public"},
		{egress.Policy{Mode: egress.Public}, "fd12::1", 80, "public"},
		{egress.Policy{Mode: egress.Public}, "2002:a00:1::", 80, "public"},
		{egress.Policy{Mode: egress.Private}, "10.0.0.1", 80, ""},
		{egress.Policy{Mode: egress.Private}, "127.0.0.1", 80, ""},
		{egress.Policy{Mode: egress.Private}, "::1", 80, ""},
		{egress.Policy{Mode: egress.Private}, "8.8.8.8", 80, "private"},
		{egress.Policy{Mode: egress.Private}, "169.254.169.254", 80, "metadata"},
		{listed, "10.1.200.3", 9, ""},
		{listed, "10.2.0.1", 9, "list"},
		{listed, "192.0.2.7", 443, ""},
		{listed, "192.0.2.7", 80, "list"},
		{listed, "api.example.com", 1, ""},
		{listed, "api.example.com.", 1, ""},
		{listed, "a.svc.local", 8080, ""},
		{listed, "2001:db8::1", 80, ""},
		{listed, "2001:db8::2", 80, "list"},
		{listed, "fd12::5", 1, ""},
		{listed, "169.254.169.254", 80, "metadata"}, // listing does not help
		{egress.Policy{Mode: egress.Listed, Allow: []string{"a.example"}}, "b.example", 1, "list"},
		{egress.Policy{Mode: egress.Listed, Allow: []string{".a.example"}}, "xa.example", 1, "list"},
		{egress.Policy{Mode: egress.Listed}, "127.0.0.1", 80, "list"},
	}
	for _, tt := range tests {
		check(t, guard(t, tt.policy), tt.host, tt.port, tt.why)
	}
}

func TestMalformedRules(t *testing.T) {
	entries := []string{"", "a b", "*.example.com", "http://x", "x:0", "x:99999", "10.0.0.0/33"}
	for _, entry := range entries {
		if _, err := egress.New(egress.Policy{Allow: []string{entry}}); err == nil {
			t.Errorf("Allow %q: no error", entry)
		} else if tutti.KindOf(err) != tutti.Invalid {
			t.Errorf("Allow %q: kind %v", entry, tutti.KindOf(err))
		}
	}
}

// TestDialChecksResolvedAddress dials names, which CheckHost alone lets through.
func TestDialChecksResolvedAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	own := l.Addr().(*net.TCPAddr).AddrPort()
	_, port, _ := net.SplitHostPort(own.String())
	target := net.JoinHostPort("localhost", port)

	open := guard(t, egress.Policy{})
	conn, err := open.DialContext(t.Context(), "tcp4", target)
	if err != nil {
		t.Fatalf("default policy: %v", err)
	}
	conn.Close()

	refusing := map[string]egress.Policy{
		"own":      {OwnAddrs: []netip.AddrPort{own}},
		"wildcard": {OwnAddrs: []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), own.Port())}},
		"public":   {Mode: egress.Public},
		"listed":   {Mode: egress.Listed, Allow: []string{"10.0.0.0/8"}},
	}
	for name, p := range refusing {
		_, err := guard(t, p).DialContext(t.Context(), "tcp4", target)
		if !egress.IsRefusal(err) {
			t.Errorf("%s: error %v, want a refusal", name, err)
		}
	}

	permitting := map[string]egress.Policy{
		"allow own":   {OwnAddrs: []netip.AddrPort{own}, AllowOwn: true},
		"listed name": {Mode: egress.Listed, Allow: []string{"localhost"}},
		"listed net":  {Mode: egress.Listed, Allow: []string{"127.0.0.0/8"}},
	}
	for name, p := range permitting {
		conn, err := guard(t, p).DialContext(t.Context(), "tcp4", target)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"1.2.3.4", "0x7f.1", "0", "::1", "08.1", "1..2", "0x", "1.2.3.4."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if ip, ok := egress.ParseAddr(s); ok && !ip.IsValid() {
			t.Errorf("ParseAddr(%q) = invalid address", s)
		}
	})
}
