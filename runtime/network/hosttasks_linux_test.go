package network

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/ipam"
)

// unified is where the version 2 control groups are mounted here.
func unified(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(dir, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	t.Skip("needs a version 2 hierarchy of control groups")
	return ""
}

// newGroup makes a control group for the test and answers with its id.
func newGroup(t *testing.T, dir string) uint64 {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("needs to make control groups: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// Instance metadata is closed to tasks in the host's namespace, and to nobody else there.
func TestGuardHostTasks(t *testing.T) {
	root := unified(t)
	l := newLab(t, func(c *Config) { c.BlockIMDS = true })
	l.ensure(t)
	if !l.net.GuardsHostTasks() {
		t.Fatal("this kernel has nft_socket, and it was not used")
	}
	serve(t, l.client, "instance metadata", 80)
	imds4, imds6 := imds()
	command(t, l.client, "ip", "addr", "add", imds4.String()+"/32", "dev", "lo")
	command(t, l.client, "ip", "addr", "add", imds6.String()+"/128", "dev", "lo")

	base := filepath.Join(root, fmt.Sprintf("berth-test-imds-%d", os.Getpid()))
	tasks := newGroup(t, base)
	newGroup(t, filepath.Join(base, "one"))
	newGroup(t, filepath.Join(base, "one", "container"))
	trusted := newGroup(t, filepath.Join(base, "two"))
	newGroup(t, filepath.Join(base, "two", "container"))

	// reaches connects from a process in a control group.
	reaches := func(group string, to netip.Addr) bool {
		procs := filepath.Join(root, group, "cgroup.procs")
		script := fmt.Sprintf("echo $$ >%s; exec 3<>/dev/tcp/%s/80", procs, to)
		out, err := exec.CommandContext(t.Context(), "nsenter", "--net="+filepath.Join(l.dir, "host"), "--", "timeout", "3", "bash", "-c", script).CombinedOutput()
		t.Logf("%s to %v: %v %s", group, to, err, out)
		return err == nil
	}
	name := filepath.Base(base)
	for _, tc := range []struct {
		what               string
		tasks              HostTasks
		one, two, anywhere bool
	}{
		{"nothing said yet", HostTasks{}, true, true, true},
		{"all tasks", HostTasks{Group: tasks}, false, false, true},
		{"one is allowed", HostTasks{Group: tasks, Allowed: []uint64{trusted}}, false, true, true},
		{"and again", HostTasks{Group: tasks, Allowed: []uint64{trusted}}, false, true, true},
		{"not any more", HostTasks{Group: tasks}, false, false, true},
	} {
		if err := l.net.GuardHostTasks(t.Context(), tc.tasks); err != nil {
			t.Fatal(err)
		}
		l.ensure(t) // What is in the sets stays.
		for _, to := range []netip.Addr{imds4, imds6} {
			for group, want := range map[string]bool{name + "/one/container": tc.one, name + "/two/container": tc.two, "": tc.anywhere} {
				if got := reaches(group, to); got != want {
					t.Errorf("%s: a process of %q reaches %v: %t", tc.what, group, to, got)
				}
			}
		}
		if got := reaches(name+"/one/container", client4); !got {
			t.Errorf("%s: another address is closed, too", tc.what)
		}
	}

	// Somebody flushes all rules of the host.
	command(t, l.host, "nft", "flush", "ruleset")
	if mended, err := l.net.Mend(t.Context(), func() ipam.Plan { return nil }); !mended || err != nil {
		t.Fatalf("mended %t, %v", mended, err)
	}
	if reaches(name+"/one/container", imds4) {
		t.Error("after the rules were written again a task reaches instance metadata")
	}
}
