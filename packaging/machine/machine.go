package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// booting is how long a machine may take to be up; most take two seconds.
const booting = 5 * time.Minute

// Slack is how much slower than it usually is a host may be at a bad moment.
const Slack = 5

// Machine is a host with systemd. It is used by one goroutine at a time.
//
//	off ── Boot ──▶ running ── PowerOff, Cut ──▶ off
type Machine struct {
	// Name is its host name, and Address where it is on the network.
	Name, Address string

	tb     testing.TB
	id     string // of its network namespace and cgroups, on this host
	dir    string // root, where its files are seen, and what they consist of
	nspawn *exec.Cmd
	leader int // its PID 1, as this host numbers it; 0 when it is off
}

// Boot makes a machine and waits until it is up. It is off and gone when the test ends.
func (l *LAN) Boot(tb testing.TB, name string) *Machine {
	tb.Helper()
	m := l.Make(tb, name)
	m.Boot()
	return m
}

// Make makes a machine that is off.
func (l *LAN) Make(tb testing.TB, name string) *Machine {
	tb.Helper()
	n := l.machines.Add(1)
	m := &Machine{
		Name: name, Address: fmt.Sprintf("10.213.0.%d", 10+n), tb: tb,
		id: fmt.Sprintf("%s-%d", strings.Replace(l.name, "lan", "machine", 1), n), dir: tb.TempDir(),
	}
	for _, dir := range []string{"root", "upper", "work", "containerd"} {
		if err := os.Mkdir(filepath.Join(m.dir, dir), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", filepath.Join(l.tree, "root"), filepath.Join(m.dir, "upper"), filepath.Join(m.dir, "work"))
	if err := syscall.Mount("berth-machine", m.Root(), "overlay", 0, layers); err != nil {
		tb.Fatalf("cannot mount the tree: %v", err)
	}
	tb.Cleanup(func() {
		if err := syscall.Unmount(m.Root(), syscall.MNT_DETACH); err != nil {
			tb.Errorf("cannot unmount the tree: %v", err)
		}
	})
	m.plug(l)
	tb.Cleanup(m.Cut)
	return m
}

// plug connects the machine with the network, by a link that outlives its reboots.
func (m *Machine) plug(l *LAN) {
	m.tb.Helper()
	port := "port" + strconv.Itoa(int(l.machines.Load()))
	ip(m.tb, "netns", "add", m.id)
	m.tb.Cleanup(func() { ipDown(m.tb, "netns", "del", m.id) })
	for _, args := range [][]string{
		{"-n", l.name, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", m.id},
		{"-n", l.name, "link", "set", port, "master", "lan0", "up"},
		{"-n", m.id, "link", "set", "lo", "up"},
		{"-n", m.id, "addr", "add", m.Address + "/24", "dev", "eth0"},
		{"-n", m.id, "link", "set", "eth0", "up"},
		{"-n", m.id, "route", "add", "default", "via", Gateway},
	} {
		ip(m.tb, args...)
	}
}

// Root is the directory of the host that the machine has as its root directory. What is below /run and /tmp the machine sees another.
func (m *Machine) Root() string { return filepath.Join(m.dir, "root") }

// Put copies a file of the host into the machine, and answers its path there.
func (m *Machine) Put(file string) string {
	m.tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		m.tb.Fatal(err)
	}
	inside := "/root/" + filepath.Base(file)
	m.Write(inside, string(data))
	return inside
}

// Write writes a file in the machine, and the directories above it.
func (m *Machine) Write(path, text string) {
	m.tb.Helper()
	if m.leader != 0 {
		cmd := m.Command(m.tb.Context(), "install", "-D", "-m", "0644", "/dev/stdin", path)
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			m.tb.Fatalf("%s: cannot write %s: %v: %s", m.Name, path, err, out)
		}
		return
	}
	path = filepath.Join(m.Root(), path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.tb.Fatal(err)
	}
	if err := write(path, text); err != nil {
		m.tb.Fatal(err)
	}
}

// Boot starts the machine and waits until systemd says that it is up.
func (m *Machine) Boot() {
	m.tb.Helper()
	if m.leader != 0 {
		m.tb.Fatalf("%s runs already", m.Name)
	}
	groups, err := makeCgroups(m.id)
	if err != nil {
		m.tb.Fatalf("cannot make cgroups: %v", err)
	}
	console, err := os.OpenFile(m.console(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.tb.Fatal(err)
	}
	defer func() { _ = console.Close() }() // The machine has its own.
	// The shell moves itself into the cgroups, and becomes systemd-nspawn there.
	script := `for g in ` + strings.Join(groups, " ") + `; do echo $$ >$g/cgroup.procs || exit 1; done; exec "$@"`
	m.nspawn = exec.Command("sh", "-c", script, "sh", "systemd-nspawn", "--quiet", "--directory="+m.Root(), //nolint:noctx // PowerOff or Cut ends it
		"--register=no", "--keep-unit", "--network-namespace-path=/run/netns/"+m.id, "--machine="+m.Name, "--hostname="+m.Name,
		"--console=read-only", "--capability=all", "--system-call-filter=add_key keyctl bpf", "--kill-signal=SIGRTMIN+3",
		"--resolv-conf=off", "--timezone=off", "--link-journal=no", "--bind="+filepath.Join(m.dir, "containerd")+":/var/lib/containerd",
		"/usr/local/sbin/machine-init")
	m.nspawn.Stdout, m.nspawn.Stderr = console, console
	if err := m.nspawn.Start(); err != nil {
		m.tb.Fatal(err)
	}
	m.awaitUp()
}

func (m *Machine) console() string { return filepath.Join(m.dir, "console") }

// awaitUp waits for the first process, and then for systemd to have started everything.
func (m *Machine) awaitUp() {
	m.tb.Helper()
	ctx, cancel := context.WithTimeoutCause(m.tb.Context(), booting, errSlow)
	defer cancel()
	said := ""
	for ctx.Err() == nil {
		if m.leader == 0 {
			m.leader = m.findLeader()
		}
		if m.leader != 0 {
			out, err := m.Command(ctx, "systemctl", "is-system-running", "--wait").CombinedOutput()
			said = strings.TrimSpace(string(out))
			if err == nil || said == "degraded" {
				return
			}
		}
		pause(ctx)
	}
	console, _ := os.ReadFile(m.console()) // It may have said nothing yet.
	m.tb.Fatalf("%s does not come up: %s\n%s", m.Name, said, console)
}

// findLeader finds the machine's first process: it is nspawn's only child that has a process namespace of its own.
func (m *Machine) findLeader() int {
	pid := strconv.Itoa(m.nspawn.Process.Pid)
	children, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return 0
	}
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return 0
	}
	for child := range strings.FieldsSeq(string(children)) {
		ns, err := os.Readlink("/proc/" + child + "/ns/pid")
		exe, _ := os.Readlink("/proc/" + child + "/exe") // Before systemd it is nspawn, or the shell that becomes systemd.
		if err != nil || ns == own || filepath.Base(exe) != "systemd" {
			continue
		}
		if n, err := strconv.Atoi(child); err == nil {
			return n
		}
	}
	return 0
}

// Command prepares a program in the machine.
func (m *Machine) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(m.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "TERM=dumb",
		"DEBIAN_FRONTEND=noninteractive", program,
	}, args...)...)
}

// Run runs a line of shell in the machine, which has to succeed, and answers what it printed.
func (m *Machine) Run(line string) string {
	m.tb.Helper()
	out, err := m.Try(line)
	if err != nil {
		m.tb.Fatalf("%s: %s: %v\n%s", m.Name, line, err, out)
	}
	return out
}

// Try runs a line of shell in the machine, and answers what it printed on both streams, without blanks around it.
func (m *Machine) Try(line string) (string, error) {
	out, err := m.Command(m.tb.Context(), "sh", "-c", line).CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// Eventually waits until a line of shell succeeds in the machine, and answers what it printed then. Patience is how long that takes at
// most on a host that has nothing else to do.
func (m *Machine) Eventually(patience time.Duration, line string) string {
	m.tb.Helper()
	patience *= Slack
	ctx, cancel := context.WithTimeoutCause(m.tb.Context(), patience, errSlow)
	defer cancel()
	for {
		out, err := m.Try(line)
		if err == nil {
			return out
		}
		if ctx.Err() != nil {
			m.tb.Fatalf("%s: this did not come true in %s: %s: %v\n%s", m.Name, patience, line, err, out)
		}
		pause(ctx)
	}
}

// PowerOff shuts the machine down in order, and waits for that. It answers how long it took.
func (m *Machine) PowerOff() time.Duration {
	m.tb.Helper()
	start := time.Now()
	// The answer gets lost when the machine is quick.
	_ = m.Command(m.tb.Context(), "systemctl", "--no-block", "poweroff").Run()
	m.AwaitOff()
	return time.Since(start)
}

// AwaitOff waits until the machine, which was told to shut down, has.
func (m *Machine) AwaitOff() {
	m.tb.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.nspawn.Wait() // How it ends says nothing: it is off.
	}()
	timer := time.NewTimer(5 * time.Minute)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		console, _ := os.ReadFile(m.console())
		_ = m.nspawn.Process.Kill()
		<-done
		m.tb.Errorf("%s does not shut down\n%s", m.Name, console)
	}
	m.off()
}

// Cut takes the power away, if the machine has it.
func (m *Machine) Cut() {
	m.tb.Helper()
	if m.nspawn == nil {
		return
	}
	if m.leader != 0 {
		_ = syscall.Kill(m.leader, syscall.SIGKILL) // It may have ended just now.
	}
	_ = m.nspawn.Process.Kill()
	_ = m.nspawn.Wait() // It was killed.
	m.off()
}

// off forgets the machine's processes and removes its cgroups, with whatever is in them.
func (m *Machine) off() {
	m.tb.Helper()
	m.nspawn, m.leader = nil, 0
	ctx, cancel := context.WithTimeoutCause(context.Background(), tidying, errSlow)
	defer cancel()
	for {
		err := removeCgroups(m.id)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			m.tb.Errorf("cannot remove cgroups: %v", errors.Join(err, context.Cause(ctx)))
			return
		}
		pause(ctx) // The kernel is still at its processes.
	}
}

// pause waits for a moment between two looks.
func pause(ctx context.Context) {
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
