package network

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// ErrPortTaken says that a host port is published for another container.
var ErrPortTaken = errors.New("host port is published for another container")

// containerLink is the container's end of a veth pair.
const containerLink = "eth0"

// Config is what a [Network] is made of. Only Pool is needed; the zero values of the rest are useful.
type Config struct {
	Pool ipam.Pool
	// Bridge is the name of the bridge, berth0 by default. At most 15 bytes.
	Bridge string
	// Table is the name of the nftables table, berth by default.
	Table string
	// NetNSDir is where namespaces are bound, a file for each container; /run/berth/netns by default.
	NetNSDir string
	// FilesDir is where hosts, resolv.conf and hostname files go, a directory for each container; /run/berth/net by
	// default.
	FilesDir string
	// MTU of the bridge and of every veth, in bytes. 0 stands for that of the host's default route, else 1500.
	MTU int
	// BlockIMDS closes 169.254.169.254 and fd00:ec2::254 to all containers but those with AllowIMDS.
	BlockIMDS bool
	// LinkLocal is the pool of the second interfaces of endpoints with an ENI; [ipam.DefaultLinkLocal] by default. It
	// has no IPv6.
	LinkLocal ipam.Pool
	// LocalRoutes are IPv4 destinations that endpoints with an ENI reach through the host instead of their VPC. The gateway
	// of LinkLocal among them opens what the host itself serves on every address.
	LocalRoutes []netip.Prefix
	// BlockTaskIMDS closes the instance metadata to all endpoints with an ENI, whatever they are allowed.
	BlockTaskIMDS bool
	// ENIPatience is how long Attach waits for an ENI to appear on the host; one minute by default.
	ENIPatience time.Duration
	// TMDS is where the agent serves task metadata and credentials; 169.254.170.2:80 leads there from the bridge and from
	// the host. The zero value makes no such rule. The address is IPv4: a loopback one, or 169.254.170.2 itself.
	TMDS netip.AddrPort
	// TMDSBeside leaves 169.254.170.2 of the host's own sockets to another agent: TMDS serves the bridge's containers alone.
	TMDSBeside bool
	// ResolvConf is the host's resolver configuration, /etc/resolv.conf by default. HostsFile is /etc/hosts.
	ResolvConf, HostsFile string
	// FallbackDNS are used by containers if every nameserver of the host is on its loopback interface and
	// systemd-resolved does not name its upstream servers. By default Google's public resolvers, as with Docker.
	FallbackDNS []netip.Addr
	// NetNS is the path of the namespace that counts as the host's; by default that of the process. For tests.
	NetNS string
	// OnHost calls a function where the host's mounts are, in the network namespace of the calling thread, for a process
	// that is shut in and has other mounts; by default it is called.
	OnHost onHost
	// Log takes what is worth knowing and is no error. By default nothing is logged.
	Log *zap.Logger
}

func (c *Config) fill() {
	for _, d := range []struct {
		field *string
		value string
	}{
		{&c.Bridge, "berth0"},
		{&c.Table, "berth"},
		{&c.NetNSDir, "/run/berth/netns"},
		{&c.FilesDir, "/run/berth/net"},
		{&c.ResolvConf, "/etc/resolv.conf"},
		{&c.HostsFile, "/etc/hosts"},
		{&c.NetNS, "/proc/self/ns/net"},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	if c.LinkLocal == (ipam.Pool{}) {
		c.LinkLocal = ipam.DefaultLinkLocal()
	}
	if c.ENIPatience <= 0 {
		c.ENIPatience = time.Minute
	}
	if len(c.FallbackDNS) == 0 {
		c.FallbackDNS = []netip.Addr{netip.AddrFrom4([4]byte{8, 8, 8, 8}), netip.AddrFrom4([4]byte{8, 8, 4, 4})}
	}
	if c.OnHost == nil {
		c.OnHost = func(fn func() error) error { return fn() }
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
}

// Network is the host's side of all containers' networks. Its methods are safe for concurrent use, except that two
// calls for one endpoint must not overlap. Netlink calls are short and cannot be cancelled: a context is looked at
// before work begins.
type Network struct {
	cfg  Config
	log  *zap.Logger
	host netns.NsHandle  // the host's namespace
	nl   *netlink.Handle // in the host's namespace; locks by itself
	nft  *firewall

	unlink unlinker
	side   sync.Mutex // held while the bridge of second interfaces is made

	// plan is held for reading by what concerns one endpoint, for writing by what concerns the whole host, so that Sync
	// does not take a half-made endpoint for a stray.
	plan sync.RWMutex
}

// New opens the host's namespace and netlink sockets, and changes nothing. It needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
// Close ends it.
func New(cfg Config) (*Network, error) {
	cfg.fill()
	if err := cfg.Pool.Validate(); err != nil {
		return nil, err
	}
	if err := cfg.LinkLocal.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Bridge) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("bridge name %q is longer than %d bytes", cfg.Bridge, unix.IFNAMSIZ-1)
	}
	if cfg.TMDS.IsValid() && !cfg.TMDS.Addr().Is4() {
		return nil, fmt.Errorf("task metadata address %v is not IPv4", cfg.TMDS)
	}
	host, err := netns.GetFromPath(cfg.NetNS)
	if err != nil {
		return nil, fmt.Errorf("cannot open network namespace of the host: %w", err)
	}
	nl, err := netlink.NewHandleAt(host, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open netlink sockets: %w", err), host.Close())
	}
	n := &Network{cfg: cfg, log: cfg.Log, host: host, nl: nl}
	n.unlink.n = n
	n.nft = newFirewall(&n.cfg, int(host))
	return n, nil
}

// Close gives up the sockets. Everything that was made stays: bridge, table, namespaces and links.
func (n *Network) Close() error {
	n.nl.Close()
	err := n.nft.close()
	if hostErr := n.host.Close(); hostErr != nil {
		err = errors.Join(err, fmt.Errorf("cannot close network namespace of the host: %w", hostErr))
	}
	return err
}

// NetNS is the path of a container's network namespace, whether it exists or not.
func (n *Network) NetNS(id string) string { return filepath.Join(n.cfg.NetNSDir, id) }

// linkPrefix begins the names of the host's ends of veth pairs, and no other names: not even those of a second Network
// with another bridge on the same host.
func (c *Config) linkPrefix() string { return "bth" + digest(c.Bridge)[:3] }

// linkName is the name of the host's end of a container's veth pair: ids are longer than interface names may be.
func (c *Config) linkName(id string) string {
	return (c.linkPrefix() + digest(id))[:unix.IFNAMSIZ-1]
}

// digest is a hash in letters and digits, 5 bits each.
func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// alive is the check at the beginning of every method that takes a context.
func alive(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
