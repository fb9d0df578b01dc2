package network

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// What a container that may send raw frames, as Docker's default has it, cannot do to be taken for another: hide its
// packets in VLAN tags, which the host takes off, teach the bridge another's hardware address, or the host another's
// neighbour entry. Every attempt succeeds without our rules, or it would prove nothing.
func TestForgedFrames(t *testing.T) {
	for name, forge := range map[string]struct {
		frame func(a attack) []byte
		// took tells whether the forgery had its effect.
		took func(t *testing.T, a attack) bool
	}{
		"IPv4 with a priority tag": {
			frame: func(a attack) []byte { return a.ethernet(a.own.MAC, tag8021Q, a.udp4(a.other.IPv4)) },
			took:  func(t *testing.T, a attack) bool { t.Helper(); return a.heard(t) },
		},
		"ARP with a priority tag": {
			frame: func(a attack) []byte { return a.ethernet(a.own.MAC, tagARP, a.arp(a.other.IPv4)) },
			took:  func(t *testing.T, a attack) bool { t.Helper(); return a.neighbour(t, a.other.IPv4) },
		},
		"ARP from another's hardware address": {
			frame: func(a attack) []byte { return a.ethernet(a.other.MAC, []byte{0x08, 0x06}, a.arp(a.own.IPv4)) },
			took: func(t *testing.T, a attack) bool {
				t.Helper()
				table := command(t, a.lab.host, "bridge", "fdb", "show", "br", "berth0")
				return strings.Contains(table, a.other.MAC.String()+" dev "+a.lab.net.cfg.linkName(a.own.ID)+" ")
			},
		},
		"an advertisement of another's address": {
			frame: func(a attack) []byte { return a.ethernet(a.own.MAC, []byte{0x86, 0xdd}, a.advertisement(a.other.IPv6)) },
			took:  func(t *testing.T, a attack) bool { t.Helper(); return a.neighbour(t, a.other.IPv6) },
		},
		"no protocol of the internet": {
			frame: func(a attack) []byte { return a.ethernet(a.own.MAC, []byte{0x88, 0xb5}, make([]byte, 64)) },
			took: func(t *testing.T, a attack) bool {
				t.Helper()
				return !strings.Contains(command(t, a.lab.host, "nft", "list", "counter", "bridge", "probe", "odd"), "packets 0 ")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAttack(t)
			tries := func() bool {
				for range 10 { // the host asks again itself, and may win
					a.send(t, forge.frame(a))
					if forge.took(t, a) {
						return true
					}
				}
				return false
			}
			if tries() {
				t.Error("it had its effect")
			}
			command(t, a.lab.host, "nft", "flush", "chain", "bridge", "berth", "prerouting")
			if !tries() {
				t.Error("without the guard it had no effect either; the test proves nothing")
			}
		})
	}
}

// attack is one container's on another.
type attack struct {
	lab        *lab
	own, other ipam.Endpoint
	inside     handle
	listener   net.PacketConn // on port 81 of the host
}

var (
	tag8021Q = []byte{0x81, 0x00, 0, 0, 0x08, 0x00}
	tagARP   = []byte{0x81, 0x00, 0, 0, 0x08, 0x06}
)

func newAttack(t *testing.T) attack {
	t.Helper()
	l := newLab(t, nil)
	l.ensure(t)
	a := attack{lab: l, own: l.attached(t, "thief"), other: l.attached(t, "victim")}
	a.inside = l.inside(t, "thief")
	gw4, gw6 := l.net.cfg.Pool.Gateway()
	ok(t, within(l.host, func() (err error) {
		a.listener, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", ":81")
		return err
	}))
	t.Cleanup(func() { ok(t, a.listener.Close()) })
	// The host believes who answers last. It knows the victim, and the bridge both.
	command(t, l.host, "sysctl", "-qw", "net.ipv4.neigh.berth0.locktime=0")
	serve(t, l.host, "host", 82)
	for _, from := range []handle{a.inside, l.inside(t, "victim")} {
		for _, gw := range []netip.Addr{gw4, gw6} {
			if _, err := ask(t.Context(), from, "udp", at(gw, 82)); err != nil {
				t.Fatal(err)
			}
		}
	}
	command(t, l.host, "nft", "add table bridge probe; add counter bridge probe odd; "+
		"add chain bridge probe input { type filter hook input priority 0; }; add rule bridge probe input ether type 0x88b5 counter name odd")
	return a
}

func (a attack) send(t *testing.T, frame []byte) {
	t.Helper()
	ok(t, within(a.inside, func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index})
	}))
}

// heard tells whether the host took a datagram for one of the victim's.
func (a attack) heard(t *testing.T) bool {
	t.Helper()
	ok(t, a.listener.SetReadDeadline(time.Now().Add(silence/5)))
	_, from, err := a.listener.ReadFrom(make([]byte, 64))
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	ok(t, err)
	return netip.MustParseAddrPort(from.String()).Addr().Unmap() == a.other.IPv4
}

// neighbour tells whether the host looks for the victim's address where the thief is.
func (a attack) neighbour(t *testing.T, addr netip.Addr) bool {
	t.Helper()
	return strings.Contains(command(t, a.lab.host, "ip", "neigh", "show", addr.String(), "dev", "berth0"), a.own.MAC.String())
}

// ethernet is a frame for the bridge.
func (a attack) ethernet(from ipam.MAC, kind, payload []byte) []byte {
	return slices.Concat(bridgeMAC("berth0"), from[:], kind, payload)
}

// udp4 is a datagram for port 81 of the gateway.
func (a attack) udp4(from netip.Addr) []byte {
	gw, _ := a.lab.net.cfg.Pool.Gateway()
	ip := slices.Concat([]byte{0x45, 0, 0, 29, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, from.AsSlice(), gw.AsSlice())
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return slices.Concat(ip, []byte{0x30, 0x39, 0, 81, 0, 9, 0, 0, '?'}) // UDP without a checksum
}

// arp is an answer that the address is the thief's.
func (a attack) arp(addr netip.Addr) []byte {
	gw, _ := a.lab.net.cfg.Pool.Gateway()
	return slices.Concat([]byte{0, 1, 0x08, 0, 6, 4, 0, 2}, a.own.MAC[:], addr.AsSlice(), bridgeMAC("berth0"), gw.AsSlice())
}

// advertisement is a neighbour advertisement that the address is the thief's, from an address that it may have.
func (a attack) advertisement(addr netip.Addr) []byte {
	_, gw := a.lab.net.cfg.Pool.Gateway()
	body := slices.Concat([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, addr.AsSlice(), []byte{2, 1}, a.own.MAC[:])
	from := a.own.IPv6.AsSlice()
	pseudo := slices.Concat(from, gw.AsSlice(), []byte{0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6})
	binary.BigEndian.PutUint16(body[2:], checksum(append(pseudo, body...)))
	head := []byte{0x60, 0, 0, 0, 0, byte(len(body)), unix.IPPROTO_ICMPV6, 255}
	return slices.Concat(head, from, gw.AsSlice(), body)
}

// checksum is the internet's.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
