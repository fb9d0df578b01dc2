package vpc

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// onHostOfItsOwn runs the rest of the test in a network namespace of its own. The thread is not used again.
func onHostOfItsOwn(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) *VPC {
	t.Helper()
	v, err := New(DefaultSubnet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func attach(t *testing.T, v *VPC, owner string) Interface {
	t.Helper()
	i, err := v.Attach(owner)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// device is the host's end that stands for the interface.
func device(t *testing.T, v *VPC, mac ipam.MAC) netlink.Link {
	t.Helper()
	links, err := v.nl.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().HardwareAddr.String() == mac.String() })
	if at < 0 {
		return nil
	}
	return links[at]
}

func TestInterfaces(t *testing.T) {
	onHostOfItsOwn(t)
	v := open(t)
	one, two := attach(t, v, "arn:one"), attach(t, v, "arn:two")
	if one.IPv4.String() != "172.28.128.2/22" || two.IPv4.String() != "172.28.128.3/22" || one.GatewayIPv4.String() != "172.28.128.1/22" {
		t.Errorf("addresses %v and %v, gateway %v", one.IPv4, two.IPv4, one.GatewayIPv4)
	}
	if again := attach(t, v, "arn:one"); again != one {
		t.Errorf("asked again: %+v, was %+v", again, one)
	}
	link := device(t, v, one.MAC)
	if link == nil || link.Attrs().Flags&net.FlagUp != 0 || !strings.HasPrefix(one.ID, "eni-") || len(one.ID) != 21 {
		t.Fatalf("interface %s: %+v", one.ID, link)
	}
	if addrs, err := v.nl.AddrList(link, netlink.FAMILY_V4); err != nil || len(addrs) != 0 {
		t.Errorf("it comes with addresses: %v, %v", addrs, err)
	}

	// A process that starts anew knows them, and what has gone meanwhile.
	if err := v.nl.LinkDel(device(t, v, two.MAC)); err != nil {
		t.Fatal(err)
	}
	v = open(t)
	if owners, err := v.Interfaces(); err != nil || !slices.Equal(owners, []string{"arn:one"}) {
		t.Errorf("owners %q, %v", owners, err)
	}
	if three := attach(t, v, "arn:three"); three.IPv4.Addr() == one.IPv4.Addr() {
		t.Errorf("address %v was given twice", three.IPv4)
	}
	if again := attach(t, v, "arn:one"); again != one {
		t.Errorf("asked after a restart: %+v, was %+v", again, one)
	}
	if removed, err := v.Remove(); removed || err != nil {
		t.Errorf("removed while it is in use: %v, %v", removed, err)
	}
	for range 2 {
		for _, owner := range []string{"arn:one", "arn:three"} {
			if err := v.Detach(owner); err != nil {
				t.Fatal(err)
			}
		}
	}
	if device(t, v, one.MAC) != nil {
		t.Error("the interface is still there")
	}
	if removed, err := v.Remove(); !removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
	out, err := exec.CommandContext(t.Context(), "nft", "list", "tables").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("tables %q, %v", out, err)
	}
}

func TestTranslation(t *testing.T) {
	onHostOfItsOwn(t)
	for range 2 { // written, not added
		open(t)
	}
	out, err := exec.CommandContext(t.Context(), "nft", "list", "table", "inet", bridgeName).CombinedOutput()
	const want = `table inet berthvpc0 {
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "berthvpc0" ip saddr 172.28.128.0/22 masquerade
		oifname != "berthvpc0" ip6 saddr fd6c:be27:7490::/64 masquerade
	}
}
`
	if err != nil || string(out) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
}

func TestSubnetInUse(t *testing.T) {
	onHostOfItsOwn(t)
	v := open(t)
	lo, err := v.nl.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.nl.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	elsewhere := netip.MustParsePrefix("10.50.0.0/16")
	if err := v.nl.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: elsewhere.Addr().AsSlice(), Mask: net.CIDRMask(16, 32)}}); err != nil {
		t.Fatal(err)
	}
	_, err = New(netip.MustParsePrefix("10.50.7.0/24"))
	if want := "subnet 10.50.7.0/24 overlaps the route to 10.50.0.0/16 via lo: choose one that this host does not use"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := New(netip.MustParsePrefix("10.51.0.0/31")); err == nil {
		t.Error("a subnet without room was taken")
	}
}
