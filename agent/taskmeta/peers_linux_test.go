package taskmeta

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/metrics/cgroup"
)

// layout are this host's hierarchies; the test is skipped where it may not make
// control groups.
func layout(t *testing.T) cgroup.Layout {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes control groups")
	}
	l, err := cgroup.Detect()
	if err != nil {
		t.Skipf("needs control groups: %v", err)
	}
	return l
}

// group makes a control group in every hierarchy and puts a shell into it that
// connects when it is told to and holds the connection.
type group struct {
	dirs []string
}

func newGroup(t *testing.T, roots []string, name string) group {
	t.Helper()
	var g group
	for _, root := range roots {
		if root == "" {
			continue
		}
		dir := filepath.Join(root, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for d := dir; d != root; d = filepath.Dir(d) {
				_ = unix.Rmdir(d) // A test beside this one may be in the upper ones.
			}
		})
		g.dirs = append(g.dirs, dir)
	}
	return g
}

// connect has a process in the group connect to an address, and answers with its
// end of the connection.
func (g group) connect(t *testing.T, to net.Listener) netip.AddrPort {
	t.Helper()
	client := exec.CommandContext(t.Context(), "bash", "-c", `read go; exec 3<>/dev/tcp/127.0.0.1/$1; read stop`, "bash", strconv.Itoa(to.Addr().(*net.TCPAddr).Port))
	stdin, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Skipf("needs bash: %v", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = client.Wait() // It ends with its input.
	})
	for _, dir := range g.dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(client.Process.Pid)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(stdin, "go\n"); err != nil {
		t.Fatal(err)
	}
	conn, err := to.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return addrPort(conn.RemoteAddr())
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// TestHostPeers: the kernel tells in which control group a caller is, by either
// version of control groups.
func TestHostPeers(t *testing.T) {
	l := layout(t)
	base := "berth-test-peers-" + strconv.Itoa(os.Getpid())
	legacy := l.Controllers["memory"]
	roots := []string{l.Unified, legacy}
	mine, other := newGroup(t, roots, base+"/mine/container"), newGroup(t, roots, base+"/other/container")
	server := listen(t)
	fromMine, fromOther := mine.connect(t, server), other.connect(t, server)
	self, err := (&net.Dialer{}).DialContext(t.Context(), "tcp4", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = self.Close() })

	for name, p := range map[string]*HostPeers{
		"version 2":    {Unified: l.Unified},
		"version 1":    {Legacy: legacy},
		"both of them": {Unified: l.Unified, Legacy: legacy},
	} {
		if p.Unified == "" && p.Legacy == "" {
			t.Logf("this host has no control groups of %s", name)
			continue
		}
		p.Tasks = base
		p.Task = func(id string) string { return filepath.Join(base, id) }
		for _, tc := range []struct {
			name          string
			client        netip.AddrPort
			mine, outside bool
		}{
			{"the task", fromMine, true, false},
			{"another task", fromOther, false, false},
			{"the host", addrPort(self.LocalAddr()), false, true},
		} {
			s, err := p.Socket(tc.client, addrPort(server.Addr()))
			if err != nil {
				t.Errorf("%s, %s: %v", name, tc.name, err)
				continue
			}
			in, err := s.InTask("mine")
			if err != nil || in != tc.mine {
				t.Errorf("%s, %s: in the task %t, %v", name, tc.name, in, err)
			}
			out, err := s.RootOutside()
			if err != nil || out != tc.outside {
				t.Errorf("%s, %s: root outside %t, %v", name, tc.name, out, err)
			}
		}
		if _, err := p.Socket(netip.MustParseAddrPort("127.0.0.1:1"), addrPort(server.Addr())); !errors.Is(err, errNoSocket) {
			t.Errorf("%s: a connection that is not there: %v", name, err)
		}
	}
}

// TestMappedSocket: an IPv6 socket that speaks IPv4 is found too; Java has no
// others.
func TestMappedSocket(t *testing.T) {
	server := listen(t)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs IPv6: %v", err)
	}
	defer func() { _ = unix.Close(fd) }()
	to := &unix.SockaddrInet6{Port: server.Addr().(*net.TCPAddr).Port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	if err := unix.Connect(fd, to); err != nil {
		t.Skipf("needs IPv6: %v", err)
	}
	conn, err := server.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	s, err := diagnose(addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr()))
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || s.inode != st.Ino || int(s.uid) != os.Geteuid() {
		t.Errorf("found socket %+v, want inode %d (%v)", s, st.Ino, err)
	}
}

// TestServe: a real server tells a real caller in host network mode from
// another, and ends when it is told to.
func TestServe(t *testing.T) {
	l := layout(t)
	base := "berth-test-serve-" + strconv.Itoa(os.Getpid())
	roots := []string{l.Unified, l.Controllers["memory"]}
	group := newGroup(t, roots, base+"/host/container")
	w := newWorld(t, func(c *Config) {
		c.Peers = &HostPeers{
			Unified: l.Unified, Legacy: l.Controllers["memory"], Tasks: base, Task: func(id string) string { return filepath.Join(base, id) },
		}
	})
	server := listen(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, server) }()

	url := "http://" + server.Addr().String() + "/v2/credentials/hostrole"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "InvalidIdInRequest") {
		t.Errorf("root on the host: %d %s, %v", res.StatusCode, text, err)
	}
	_ = res.Body.Close()
	http.DefaultClient.CloseIdleConnections()

	script := `echo $$ | tee "$@" >/dev/null; exec 3<>/dev/tcp/127.0.0.1/` + strconv.Itoa(server.Addr().(*net.TCPAddr).Port) +
		`; printf 'GET /v2/credentials/hostrole HTTP/1.0\r\n\r\n' >&3; cat <&3`
	args := []string{"-c", script, "bash"}
	for _, dir := range group.dirs {
		args = append(args, filepath.Join(dir, "cgroup.procs"))
	}
	out, err := exec.CommandContext(t.Context(), "bash", args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 503 ") || !strings.Contains(string(out), "CredentialsUninitialized") {
		t.Errorf("the task: %s, %v", out, err)
	}

	cancel(errors.New("the test ends"))
	if err := <-done; err != nil {
		t.Error(err)
	}
}
