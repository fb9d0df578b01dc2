package network

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// maxServers is how many nameservers the C library looks at.
const maxServers = 3

// resolv makes a container's resolv.conf: the host's, with what the task definition says in place of it. A container of
// its own network namespace cannot reach resolvers on the host's loopback interface, nor link-local ones that are named
// with an interface of the host, so they are left out. If none is left, the servers that systemd-resolved forwards to
// are taken, and else the fallback.
func (f nameFiles) resolv(r FilesRequest) ([]byte, error) {
	base, err := readResolv(f.resolvConf)
	if err != nil {
		return nil, err
	}
	if !r.HostNetwork && len(r.DNS.Servers) == 0 {
		if base, err = f.reachable(base); err != nil {
			return nil, err
		}
	}
	if len(r.DNS.Servers) > 0 {
		base.Servers = r.DNS.Servers
	}
	if len(r.DNS.Search) > 0 {
		base.Search = r.DNS.Search
	}
	if len(r.DNS.Options) > 0 {
		base.Options = r.DNS.Options
	}
	return base.format(), nil
}

// reachable puts servers that a container can reach in place of those of the host.
func (f nameFiles) reachable(d DNS) (DNS, error) {
	if d.Servers = reachable(d.Servers); len(d.Servers) > 0 {
		return d, nil
	}
	up, err := readResolv(f.upstream)
	if err != nil {
		return DNS{}, err
	}
	if d.Servers = reachable(up.Servers); len(d.Servers) == 0 {
		d.Servers = f.fallback
	}
	if len(d.Search) == 0 {
		d.Search = up.Search
	}
	return d, nil
}

func reachable(servers []netip.Addr) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(servers), func(a netip.Addr) bool { return a.IsLoopback() || a.Zone() != "" })
}

// readResolv reads a resolv.conf(5). A file that is not there is an empty one, lines that cannot be understood are
// passed over, as the C library does.
func readResolv(path string) (DNS, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return DNS{}, nil
	}
	if err != nil {
		return DNS{}, fmt.Errorf("cannot read resolver configuration: %w", err)
	}
	var d DNS
	for line := range strings.Lines(string(b)) {
		if i := strings.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				d.Servers = append(d.Servers, a)
			}
		case "search", "domain": // the last of either counts
			d.Search = fields[1:]
		case "options":
			d.Options = append(d.Options, fields[1:]...)
		}
	}
	return d, nil
}

func (d DNS) format() []byte {
	var b bytes.Buffer
	for _, s := range d.Servers[:min(len(d.Servers), maxServers)] {
		fmt.Fprintf(&b, "nameserver %v\n", s)
	}
	// A single dot stands for no search domain, as with Docker.
	if len(d.Search) > 0 && !slices.Equal(d.Search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return b.Bytes()
}
