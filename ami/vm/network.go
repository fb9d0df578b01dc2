package vm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/agent/e2e/standin"
	"github.com/berthd/berth/runtime/durable"
)

// Addresses on the network of the machines.
const (
	// Gateway is the test's, which is also the machines' way to everywhere.
	Gateway = "10.214.0.1"
	// Address is the machine's.
	Address = "10.214.0.11"
	// Subnet is where both are.
	Subnet = "10.214.0.0/24"

	metadataAddress = "169.254.169.254"
	bridge          = "vm0"
)

var errTest = errors.New("the test ends")

// network is a bridge of this process's network namespace, with a DHCP server and a metadata service.
type network struct {
	tb       testing.TB
	metadata *standin.Server
}

// newNetwork makes the network.
func newNetwork(tb testing.TB) *network {
	tb.Helper()
	server, err := standin.New(standin.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	n := &network{tb: tb, metadata: server}
	run(tb, "ip", "link", "set", "lo", "up")
	run(tb, "ip", "link", "add", bridge, "type", "bridge")
	tb.Cleanup(func() { gone(tb, bridge) })
	run(tb, "ip", "addr", "add", Gateway+"/24", "dev", bridge)
	run(tb, "ip", "addr", "add", metadataAddress+"/32", "dev", bridge)
	run(tb, "ip", "link", "set", bridge, "up")
	n.serveMetadata()
	n.serveAddresses()
	return n
}

func (n *network) serveMetadata() {
	n.tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(n.tb.Context(), "tcp", metadataAddress+":80")
	if err != nil {
		n.tb.Fatal(err)
	}
	server := &http.Server{Handler: n.metadata, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // It is closed below.
	}()
	n.tb.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// serveAddresses gives the machine its address.
func (n *network) serveAddresses() {
	n.tb.Helper()
	dir := n.tb.TempDir()
	leases := filepath.Join(dir, "leases")
	conf := filepath.Join(dir, "udhcpd.conf")
	text := strings.Join([]string{
		"interface " + bridge, "start " + Address, "end " + Address, "max_leases 1", "lease_file " + leases, "pidfile " + filepath.Join(dir, "pid"),
		"static_lease " + primaryMAC + " " + Address, "option subnet 255.255.255.0", "option router " + Gateway, "option lease 86400", "",
	}, "\n")
	for path, text := range map[string]string{conf: text, leases: ""} {
		if err := durable.ReplaceUnsynced(path, []byte(text), 0o600); err != nil {
			n.tb.Fatal(err)
		}
	}
	spawn(n.tb, "busybox", "udhcpd", "-f", conf)
}

// port makes a tap in the bridge.
func (n *network) port(name string) {
	n.tb.Helper()
	run(n.tb, "ip", "tuntap", "add", "dev", name, "mode", "tap")
	n.tb.Cleanup(func() { gone(n.tb, name) })
	run(n.tb, "ip", "link", "set", name, "master", bridge, "up")
}

// gone removes a link at the end of the test.
func gone(tb testing.TB, link string) {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(tb.Context()), patience, errSlow)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "ip", "link", "del", link).CombinedOutput(); err != nil {
		tb.Errorf("cannot remove %s: %v: %s", link, err, out)
	}
}

// run runs a program that has to succeed.
func run(tb testing.TB, program string, args ...string) {
	tb.Helper()
	out, err := exec.CommandContext(tb.Context(), program, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
}

// spawn starts a program that ends with the test.
func spawn(tb testing.TB, program string, args ...string) {
	tb.Helper()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(tb.Context()))
	cmd := exec.CommandContext(ctx, program, args...)
	if err := cmd.Start(); err != nil {
		cancel(errTest)
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		cancel(errTest)
		_ = cmd.Wait() // It was killed.
	})
}
