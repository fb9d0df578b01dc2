package machine_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// Two machines are up, hear each other, run a container, keep their files over a power cut, and are off at the end.
func TestMachines(t *testing.T) {
	lan := machine.New(t, os.Getenv("BERTH_TEST_MACHINE"))
	one, two := lan.Boot(t, "one"), lan.Boot(t, "two")
	if got := one.Run("systemctl is-system-running; hostname"); got != "running\none" {
		t.Errorf("systemd says %q; failed: %s", got, one.Run("systemctl --failed --no-legend"))
	}
	if out, err := lan.Command(t.Context(), "ip", "-4", "neigh").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	two.Run("echo here >/root/index.html; busybox httpd -p 8080 -h /root")
	if got := one.Run("curl -sS -m 5 http://" + two.Address + ":8080/index.html"); got != "here" {
		t.Errorf("the other machine answers %q", got)
	}
	if out, err := lan.Command(t.Context(), "curl", "-sS", "-m", "5", "http://"+two.Address+":8080/index.html").Output(); string(out) != "here\n" {
		t.Errorf("from the test it answers %q (%v)", out, err)
	}
	one.Eventually(20*time.Second, "ctr version")
	// A limit that is only written is none: the kernel has to keep it.
	if got, err := one.Try("systemd-run --quiet --wait -p MemoryMax=20M -p MemorySwapMax=0 sh -c 'head -c 100m /dev/zero | tail >/dev/null'"); err == nil {
		t.Errorf("a unit ate 100 MB of 20: %s", got)
	}
	one.Run("sysctl -qw net.ipv4.ip_forward=1 && sync")

	boot := one.Run("cat /proc/sys/kernel/random/boot_id; echo kept >/root/kept; sync")
	one.Cut()
	one.Boot()
	if again := one.Run("cat /proc/sys/kernel/random/boot_id"); strings.Contains(boot, again) {
		t.Error("it was not booted")
	}
	if got := one.Run("cat /root/kept"); got != "kept" {
		t.Errorf("the file says %q", got)
	}
	if took := two.PowerOff(); took > 30*time.Second {
		t.Errorf("shutting down took %s", took)
	}
}
