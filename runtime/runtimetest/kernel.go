package runtimetest

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/berthd/berth/runtime/container"
)

// runKernel tests what a container sees from inside.
func runKernel(t *testing.T, h Harness) {
	t.Helper()
	t.Run("Inside", func(t *testing.T) {
		b := newBench(t, h)
		for _, tt := range insideTests() {
			t.Run(tt.name, func(t *testing.T) { tt.run(t, b) })
		}
	})
	tests := []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"Command", testCommand},
		{"ImageConfig", testImageConfig},
		{"Streams", testStreams},
		{"Terminal", testTerminal},
		{"CommandNotFound", testCommandNotFound},
		{"BadSpec", testBadSpec},
		{"Limits", testLimits},
		{"OutOfMemory", testOutOfMemory},
		{"Mounts", testMounts},
		{"JoinPID", testJoinPID},
		{"JoinIPC", testJoinIPC},
		{"ExecOptions", testExecOptions},
		{"ExecTerminal", testExecTerminal},
		{"ExecLeavesChild", testExecLeavesChild},
		{"ExecManyBytes", testExecManyBytes},
		{"ExecStopped", testExecStopped},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, newBench(t, h)) })
	}
}

// inside is a container whose script's output is known.
type inside struct {
	name   string
	spec   func(*container.Spec)
	script string
	want   string
}

func insideTests() []inside {
	status := func(field string) string { return "grep ^" + field + ": /proc/self/status | cut -f2" }
	return []inside{
		{"Env", func(s *container.Spec) { s.Process.Env = []string{"A=1", "B=2", "A=3"} }, `echo $A$B`, "32"},
		{"EnvPath", nil, `echo $PATH`, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		{"EnvHostname", func(s *container.Spec) { s.Process.Hostname = "anna" }, `echo $HOSTNAME; hostname`, "anna anna"},
		{"EnvHome", nil, `echo $HOME`, "/root"},
		{
			"Domainname", func(s *container.Spec) { s.Process.Domainname = "example.test" },
			`cat /proc/sys/kernel/domainname`, "example.test",
		},
		{"UserName", user("ada"), `id -u; id -g; id -G`, "1000 1000 1000 50"},
		{"UserNumber", user("1000"), `id -u; id -g`, "1000 1000"},
		{"UserUnknownNumber", user("4242"), `id -u; id -g`, "4242 0"},
		{"UserAndGroup", user("ada:disk"), `id -u; id -G`, "1000 6"},
		{"UserAndNumber", user("7:8"), `id -u; id -g`, "7 8"},
		{"GroupAdd", func(s *container.Spec) { s.Rights.GroupAdd = []string{"disk", "77"} }, `id -G`, "0 6 77"},
		{"WorkingDir", func(s *container.Spec) { s.Process.WorkingDir = "/made/for/it" }, `pwd`, "/made/for/it"},
		{"ReadonlyRoot", func(s *container.Spec) { s.Rights.ReadonlyRootfs = true }, `touch /x 2>/dev/null || echo no`, "no"},
		{"WritableRoot", nil, `touch /x && echo yes`, "yes"},
		{"Caps", nil, status("CapEff"), "00000000a80425fb"},
		{"CapsOfUser", user("ada"), status("CapEff") + ";" + status("CapBnd"), "0000000000000000 00000000a80425fb"},
		{
			"CapsChanged", func(s *container.Spec) {
				s.Rights.CapDrop, s.Rights.CapAdd = []string{"ALL"}, []string{"NET_BIND_SERVICE", "CAP_CHOWN"}
			},
			status("CapEff"), "0000000000000401",
		},
		{"CapsDropped", func(s *container.Spec) { s.Rights.CapDrop = []string{"net_raw"} }, status("CapEff"), "00000000a80405fb"},
		{"Privileges", nil, status("NoNewPrivs"), "0"},
		{"NoNewPrivileges", func(s *container.Spec) { s.Rights.NoNewPrivileges = true }, status("NoNewPrivs"), "1"},
		{"Seccomp", nil, status("Seccomp"), "2"},
		{"SeccompUnconfined", func(s *container.Spec) { s.Rights.Seccomp = "unconfined" }, status("Seccomp"), "0"},
		{
			"SeccompProfile", func(s *container.Spec) {
				s.Rights.Seccomp = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`
			},
			`mkdir /y 2>/dev/null || echo no`, "no",
		},
		{
			"Ulimits", func(s *container.Spec) {
				s.Limits.Ulimits = []container.Ulimit{{Name: "nofile", Soft: 1000, Hard: 2000}, {Name: "core"}}
			},
			`ulimit -Sn; ulimit -Hn; ulimit -c`, "1000 2000 0",
		},
		{"Masked", nil, `wc -c </proc/timer_list; ls /sys/firmware | wc -l`, "0 0"},
		{"ReadonlyProc", nil, `(echo 4 >/proc/sys/kernel/printk) 2>/dev/null || echo no`, "no"},
		{"ReadonlySys", nil, `d=/sys/fs/cgroup; test -d $d/pids && d=$d/pids; mkdir $d/x 2>/dev/null || echo no`, "no"},
		{
			"DeviceRefused", nil,
			`mknod /dev/x b 7 0; dd if=/dev/x of=/dev/null count=1 2>&1 | grep -c 'not permitted'`, "1",
		},
		{
			"Device", func(s *container.Spec) {
				s.Devices = []container.Device{{HostPath: "/dev/zero", ContainerPath: "/dev/mine"}}
			},
			`head -c 3 /dev/mine | wc -c`, "3",
		},
		{
			"Sysctl", func(s *container.Spec) { s.Sysctls = map[string]string{"kernel.shm_rmid_forced": "1"} },
			`cat /proc/sys/kernel/shm_rmid_forced`, "1",
		},
		{
			"OOMScore", func(s *container.Spec) { score := 321; s.Limits.OOMScoreAdj = &score },
			`cat /proc/self/oom_score_adj`, "321",
		},
		{"OOMScoreOfItsOwn", nil, `cat /proc/self/oom_score_adj`, "0"},
		{"PrivatePID", nil, `echo $$`, "1"},
		{"HostPID", func(s *container.Spec) { s.PID.Mode = "host" }, `test $$ -ne 1 && echo host`, "host"},
		{
			"ShmSize", func(s *container.Spec) { s.Limits.ShmSize = 2 << 20 },
			`grep ' /dev/shm ' /proc/mounts | grep -o size=.*k | cut -d, -f1`, "size=2048k",
		},
		{"NoShm", func(s *container.Spec) { s.IPC.Mode = "none" }, `grep -c ' /dev/shm ' /proc/mounts`, "0"},
		{
			"Privileged", func(s *container.Spec) { s.Rights.Privileged = true },
			status("Seccomp") + `; mount -t tmpfs none /tmp && echo mounted; test -b /dev/loop0 && echo loop`, "0 mounted loop",
		},
	}
}

func user(name string) func(*container.Spec) {
	return func(s *container.Spec) { s.Process.User = name }
}

func (tt inside) run(t *testing.T, b *bench) {
	t.Helper()
	spec := b.spec(tt.script)
	if tt.spec != nil {
		tt.spec(&spec)
	}
	got, _ := b.output(t, spec)
	if joined := strings.Join(strings.Fields(got), " "); joined != tt.want {
		t.Errorf("%s printed %q, want %q", tt.script, joined, tt.want)
	}
}

// output runs a container to its end and returns what it wrote to both its
// streams.
func (b *bench) output(t *testing.T, spec container.Spec) (string, container.Exit) {
	t.Helper()
	path, read := pipe(t)
	spec.IO.Stdout = path
	if !spec.Process.Terminal {
		spec.IO.Stderr = path
	}
	id := b.start(t, spec)
	st := b.stopped(t, id)
	return read(), *st.Exit
}

// pipe makes a FIFO; read returns all that was written to it, once every writer
// has gone.
func pipe(t *testing.T) (path string, read func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	// While we hold a writer, the reader does not see the end.
	w, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		text []byte
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		text, err := io.ReadAll(r)
		done <- answer{text, err}
	}()
	t.Cleanup(func() { _, _ = w.Close(), r.Close() })
	return path, func() string {
		_ = w.Close()
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case a := <-done:
			if a.err != nil {
				t.Errorf("cannot read the container's output: %v", a.err)
			}
			return string(a.text)
		case <-timer.C:
			t.Fatal("the container's output has no end")
			return ""
		}
	}
}

// testCommand is the table of Docker for entry point and command.
func testCommand(t *testing.T, b *bench) {
	ref := b.h.Registry.Push("entry:1", v1.Config{
		Entrypoint: []string{"/bin/echo", "image"}, Cmd: []string{"cmd"},
	}, nil)
	tests := []struct {
		name                string
		entrypoint, command []string
		want                string
	}{
		{"Neither", nil, nil, "image cmd"},
		{"Command", nil, []string{"mine"}, "image mine"},
		{"EmptyCommand", nil, []string{}, "image"},
		{"Entrypoint", []string{"/bin/echo", "ours"}, nil, "ours"},
		{"Both", []string{"/bin/echo", "ours"}, []string{"mine"}, "ours mine"},
		{"NoEntrypoint", []string{""}, []string{"echo", "bare"}, "bare"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := b.spec("")
			spec.Image = ref
			spec.Process.Entrypoint, spec.Process.Command = tt.entrypoint, tt.command
			if got, _ := b.output(t, spec); strings.TrimSpace(got) != tt.want {
				t.Errorf("printed %q, want %q", got, tt.want)
			}
		})
	}
}

// testImageConfig: what the image says holds unless the container says other.
func testImageConfig(t *testing.T, b *bench) {
	ref := b.h.Registry.Push("config:1", v1.Config{
		Entrypoint: []string{"sh", "-c", "id -u; pwd; echo $COLOUR $SIZE; cat /etc/motd"},
		Env:        []string{"PATH=/bin", "COLOUR=red", "SIZE=big"}, User: "ada", WorkingDir: "/tmp",
		StopSignal: "SIGQUIT", Labels: map[string]string{"maker": "us"},
		Healthcheck: &v1.HealthConfig{Test: []string{"CMD", "true"}, Interval: 5 * time.Second, Retries: 2},
	}, map[string]string{"/etc/motd": "hello"})
	img := b.pull(t, ref)
	if img.StopSignal != "SIGQUIT" || img.Labels["maker"] != "us" || len(img.Env) != 3 {
		t.Errorf("Pull = %+v, want the image's StopSignal, Labels and Env", img)
	}
	if h := img.Healthcheck; h == nil || h.Interval != 5*time.Second || h.Retries != 2 || len(h.Test) != 2 {
		t.Errorf("Healthcheck = %+v", img.Healthcheck)
	}
	spec := b.spec("")
	spec.Image, spec.Digest = ref, img.Digest
	spec.Process.Command = nil
	spec.Process.Env = []string{"COLOUR=blue"}
	got, _ := b.output(t, spec)
	if joined := strings.Join(strings.Fields(got), " "); joined != "1000 /tmp blue big hello" {
		t.Errorf("printed %q", joined)
	}
}

func testStreams(t *testing.T, b *bench) {
	out, readOut := pipe(t)
	errs, readErrs := pipe(t)
	in := filepath.Join(t.TempDir(), "in")
	if err := syscall.Mkfifo(in, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(in, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	spec := b.spec(`read line; echo "$line"; echo oops >&2`)
	spec.IO = container.IO{Stdin: in, Stdout: out, Stderr: errs}
	id := b.start(t, spec)
	if _, err := io.WriteString(w, "typed\n"); err != nil {
		t.Fatal(err)
	}
	b.stopped(t, id)
	if got := readOut(); got != "typed\n" {
		t.Errorf("stdout %q", got)
	}
	if got := readErrs(); got != "oops\n" {
		t.Errorf("stderr %q", got)
	}
	// Only one stream connected: the other goes nowhere.
	only, readOnly := pipe(t)
	spec = b.spec(`echo seen; echo unseen >&2`)
	spec.IO.Stdout = only
	b.stopped(t, b.start(t, spec))
	if got := readOnly(); got != "seen\n" {
		t.Errorf("stdout alone: %q", got)
	}
}

func testTerminal(t *testing.T, b *bench) {
	spec := b.spec(`test -t 0 && test -t 1 && test -t 2 && echo tty $TERM`)
	spec.Process.Terminal = true
	if got, _ := b.output(t, spec); got != "tty xterm\r\n" {
		t.Errorf("printed %q, want a terminal's line", got)
	}
}
