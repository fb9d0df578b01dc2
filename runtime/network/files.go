package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/runtime/durable"
)

// ErrBadName says that a host name or DNS setting of a task definition would break the file that it belongs in.
var ErrBadName = errors.New("not usable in hosts or resolv.conf")

// Host is a line of /etc/hosts.
type Host struct {
	Addr  netip.Addr
	Names []string
}

// FilesRequest says what a container's name files shall contain.
type FilesRequest struct {
	// ID is the container's id.
	ID string
	// HostNetwork is set in network mode host: the host's own hosts and resolv.conf are the base, loopback resolvers
	// included, since they can be reached.
	HostNetwork bool
	// Shared says that several containers mount these files, so that what is there already stays: one that was replaced
	// would be another file to those that have mounted it.
	Shared bool
	// Hostname is what the container calls itself. Domain, if any, makes it a full name.
	Hostname, Domain string
	// Addrs are the container's own, for its name. Empty in network modes host and none.
	Addrs []netip.Addr
	// ExtraHosts are lines for the hosts file: extraHosts of the task definition, and links, whose alias, container name
	// and host name are the names of the other container's address.
	ExtraHosts []Host
	// DNS replaces the host's resolver settings, each where it is not empty.
	DNS DNS
}

// DNS are resolver settings, in resolv.conf's terms.
type DNS struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// Files are the paths of a container's name files, to be mounted at /etc/hosts, /etc/resolv.conf and /etc/hostname.
type Files struct {
	Hosts, ResolvConf, Hostname string
}

// nameFiles are the host's side of it: where the files go, and what they are made from.
type nameFiles struct {
	dir                   string
	resolvConf, hostsFile string
	upstream              string // systemd-resolved's list of the servers behind its own
	fallback              []netip.Addr
}

func (f nameFiles) write(r FilesRequest) (Files, error) {
	if err := r.validate(); err != nil {
		return Files{}, err
	}
	hosts, err := f.hosts(r)
	if err != nil {
		return Files{}, err
	}
	resolv, err := f.resolv(r)
	if err != nil {
		return Files{}, err
	}
	dir := filepath.Join(f.dir, r.ID)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Files{}, fmt.Errorf("cannot make directory for name files: %w", err)
	}
	out := Files{
		Hosts:      filepath.Join(dir, "hosts"),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
		Hostname:   filepath.Join(dir, "hostname"),
	}
	for path, content := range map[string][]byte{out.Hosts: hosts, out.ResolvConf: resolv, out.Hostname: []byte(r.Hostname + "\n")} {
		put := durable.ReplaceWhole
		if r.Shared {
			put = durable.Add
		}
		if err := put(path, content, 0o644); err != nil {
			return Files{}, err
		}
	}
	return out, nil
}

func (f nameFiles) remove(id string) error {
	if !singleElement(id) {
		return fmt.Errorf("cannot remove name files: %w: container id %q", ErrBadName, id)
	}
	if err := os.RemoveAll(filepath.Join(f.dir, id)); err != nil {
		return fmt.Errorf("cannot remove name files: %w", err)
	}
	return nil
}

// hosts is the host's file for a container that shares its network, else the usual loopback lines; then what the task
// asks for, and the container's own name last.
func (f nameFiles) hosts(r FilesRequest) ([]byte, error) {
	var b bytes.Buffer
	if r.HostNetwork {
		base, err := os.ReadFile(f.hostsFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read hosts file of the host: %w", err)
		}
		b.Write(bytes.TrimRight(base, "\n"))
		b.WriteByte('\n')
	} else {
		b.WriteString("127.0.0.1\tlocalhost\n" +
			"::1\tlocalhost ip6-localhost ip6-loopback\n" +
			"fe00::\tip6-localnet\n" +
			"ff00::\tip6-mcastprefix\n" +
			"ff02::1\tip6-allnodes\n" +
			"ff02::2\tip6-allrouters\n")
	}
	for _, h := range r.ExtraHosts {
		fmt.Fprintf(&b, "%v\t%s\n", h.Addr, strings.Join(h.Names, " "))
	}
	if r.Hostname == "" {
		return b.Bytes(), nil
	}
	name := r.Hostname
	if r.Domain != "" {
		name = r.Hostname + "." + r.Domain + " " + r.Hostname
	}
	for _, a := range r.Addrs {
		fmt.Fprintf(&b, "%v\t%s\n", a, name)
	}
	return b.Bytes(), nil
}

func (r FilesRequest) validate() error {
	if !singleElement(r.ID) {
		return fmt.Errorf("cannot write name files: %w: container id %q", ErrBadName, r.ID)
	}
	if r.Hostname != "" && !word(r.Hostname) || r.Domain != "" && !word(r.Domain) {
		return fmt.Errorf("cannot write name files: %w: host name %q, domain %q", ErrBadName, r.Hostname, r.Domain)
	}
	for _, h := range r.ExtraHosts {
		if !h.Addr.IsValid() || len(h.Names) == 0 {
			return fmt.Errorf("cannot write name files: %w: extra host %v %q", ErrBadName, h.Addr, h.Names)
		}
		for _, name := range h.Names {
			if !word(name) {
				return fmt.Errorf("cannot write name files: %w: extra host %q", ErrBadName, name)
			}
		}
	}
	for _, s := range r.DNS.Servers {
		if !s.IsValid() {
			return fmt.Errorf("cannot write name files: %w: DNS server without address", ErrBadName)
		}
	}
	for _, list := range [][]string{r.DNS.Search, r.DNS.Options} {
		for _, s := range list {
			if !word(s) {
				return fmt.Errorf("cannot write name files: %w: DNS setting %q", ErrBadName, s)
			}
		}
	}
	return nil
}

// word reports whether s is one word of a line: neither empty nor with white space, control characters, or the sign that
// begins a comment.
func word(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' || r == ';' })
}

func singleElement(id string) bool {
	return id != "" && id != "." && id != ".." && !strings.ContainsAny(id, "/\x00")
}
