package runtimetest_test

import (
	"net"
	"strings"
	"testing"

	"github.com/berthd/berth/runtime/runtimetest"
)

func TestContainerdStartsAgain(t *testing.T) {
	c := runtimetest.NewContainerd(t, "containerd")
	if len(c.Address) > 107 {
		t.Errorf("address %q is too long for a socket", c.Address)
	}
	c.Kill()
	var dialer net.Dialer
	if conn, err := dialer.DialContext(t.Context(), "unix", c.Address); err == nil {
		_ = conn.Close()
		t.Fatal("a killed containerd accepts")
	}
	c.Start()
	conn, err := dialer.DialContext(t.Context(), "unix", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
}

func TestImagesAreServed(t *testing.T) {
	r := runtimetest.Images(t)
	if !strings.HasPrefix(r.Busybox, "127.0.0.1:") {
		t.Errorf("Busybox = %q, want it on loopback", r.Busybox)
	}
	if got := r.Requests(); len(got) != 0 {
		t.Errorf("requests of the set-up are remembered: %q", got)
	}
}
