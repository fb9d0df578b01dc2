package runtimetest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// testCommandNotFound: a start that fails is told in words, leaves the
// container as it was, and does not harm the others of its group.
func testCommandNotFound(t *testing.T, b *bench) {
	sibling := b.spec("run")
	b.start(t, sibling)
	spec := b.spec("")
	spec.Group = sibling.Group
	spec.Process.Command = []string{"no-such-program"}
	id := b.create(t, spec)
	for range 2 {
		_, err := b.Start(t.Context(), id)
		if err == nil || container.KindOf(err, "") != container.KindStart {
			t.Fatalf("Start = %v, want an error of kind %s", err, container.KindStart)
		}
		if want := `exec: "no-such-program": executable file not found in $PATH`; err.Error() != want {
			t.Errorf("Start says %q, want %q", err, want)
		}
		if st := b.status(t, id); st.Phase != container.Created || !st.StartedAt.IsZero() {
			t.Errorf("after a failed start: %+v", st)
		}
	}
	if st := b.status(t, sibling.ID); st.Phase != container.Running {
		t.Errorf("the other container of the group: %+v", st)
	}
}

func testBadSpec(t *testing.T, b *bench) {
	tests := []struct {
		name string
		spec func(*container.Spec)
		want string
	}{
		{"User", user("nobody-knows"), "unable to find user nobody-knows: no matching entries in passwd file"},
		{"Group", user("ada:nobodies"), "unable to find group nobodies: no matching entries in group file"},
		{"Capability", func(s *container.Spec) { s.Rights.CapAdd = []string{"FLY"} }, `unknown capability "FLY"`},
		{
			"Ulimit", func(s *container.Spec) { s.Limits.Ulimits = []container.Ulimit{{Name: "luck"}} },
			"invalid ulimit type: luck",
		},
		{
			"Device", func(s *container.Spec) { s.Devices = []container.Device{{HostPath: "/dev/no-such"}} },
			"no such file or directory",
		},
		{
			"Mount", func(s *container.Spec) {
				s.Mounts = []container.Mount{{Type: "bind", Source: "/tmp", Destination: "rel"}}
			},
			"mount path must be absolute",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := b.spec("run")
			tt.spec(&spec)
			b.pull(t, spec.Image)
			b.removeLater(t, spec.ID)
			err := b.Create(t.Context(), spec)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Create = %v, want %q in it", err, tt.want)
			}
			if kind := container.KindOf(err, ""); kind != container.KindCreate {
				t.Errorf("kind %q, want %q", kind, container.KindCreate)
			}
			if all, err := b.List(t.Context(), spec.ID); err != nil || len(all) != 0 {
				t.Errorf("List = %v, %v; want no container", all, err)
			}
		})
	}
}

// testLimits reads the limits back from the kernel.
func testLimits(t *testing.T, b *bench) {
	spec := b.spec("run")
	spec.Limits = container.Limits{
		CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000,
		Memory: 64 << 20, MemoryReservation: 32 << 20, Pids: 77,
	}
	id := b.start(t, spec)
	pid := b.status(t, id).PID
	files := []struct{ controller, v1, v1Want, v2, v2Want string }{
		{"memory", "memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
		{"memory", "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"},
		{"memory", "memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "67108864"},
		{"cpu", "cpu.shares", "512", "cpu.weight", "20"},
		{"cpu", "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
		{"pids", "pids.max", "77", "pids.max", "77"},
	}
	for _, f := range files {
		dir, v2 := cgroupOf(t, pid, f.controller)
		name, want := f.v1, f.v1Want
		if v2 {
			name, want = f.v2, f.v2Want
		}
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("cannot read limit: %v", err)
			continue
		}
		if text := strings.TrimSpace(string(got)); text != want {
			t.Errorf("%s = %s, want %s", name, text, want)
		}
	}
	dir, _ := cgroupOf(t, pid, "memory")
	if err := b.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("cgroup %s outlived its container", dir)
	}
}

// cgroupOf is the directory of a process's cgroup for a controller.
func cgroupOf(t *testing.T, pid int, controller string) (dir string, v2 bool) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for name := range strings.SplitSeq(f[1], ",") {
			if name == controller {
				return filepath.Join("/sys/fs/cgroup", name, f[2]), false
			}
		}
		if f[0] == "0" {
			dir = filepath.Join("/sys/fs/cgroup", f[2])
		}
	}
	return dir, true
}

func testOutOfMemory(t *testing.T, b *bench) {
	// The shell is PID 1 and takes more memory than there is.
	spec := b.spec(`x=$(head -c 200000000 /dev/zero | tr '\0' x); sleep 3600`)
	spec.Limits.Memory, spec.Limits.MemorySwap = 16<<20, 16<<20
	id := b.start(t, spec)
	st := b.stopped(t, id)
	if !st.Exit.OOMKilled || st.Exit.Code != 137 || !st.Exit.Known {
		t.Errorf("init out of memory: %+v", st.Exit)
	}
	// The record outlives the cgroup that counted.
	eventually(t, func() bool {
		st = b.status(t, id)
		return st.Exit != nil && st.Exit.OOMKilled
	}, func() string { return "OOMKilled to stay" })

	// A child is killed and init lives on to exit by itself. The child offers
	// itself: left to choose, the kernel has been seen to take both.
	child := b.spec(`sh -c 'echo 1000 >/proc/self/oom_score_adj; x=$(head -c 200000000 /dev/zero | tr "\0" x)'; exit 9`)
	child.Limits.Memory, child.Limits.MemorySwap = 64<<20, 64<<20
	if st := b.stopped(t, b.start(t, child)); !st.Exit.OOMKilled || st.Exit.Code != 9 {
		t.Errorf("child out of memory: %+v", st.Exit)
	}
}

func testMounts(t *testing.T, b *bench) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("file", "content")
	volume, made := filepath.Join(dir, "volume"), filepath.Join(dir, "made/by/us")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	spec := b.spec(`cat /data/file; (echo no >/data/file) 2>/dev/null || echo " refused"
		touch /made/it; cat /one; ls /etc/group; grep -o ' /scratch .*size=1024k' /proc/mounts | cut -d' ' -f2; touch /scratch/x`)
	spec.Mounts = []container.Mount{
		{Type: "bind", Source: dir, Destination: "/data", Options: []string{"ro"}},
		{Type: "bind", Source: made, Destination: "/made", CreateSource: true},
		{Type: "bind", Source: file, Destination: "/one"},
		{Type: "bind", Source: volume, Destination: "/etc", CopyUp: true},
		{Type: "tmpfs", Destination: "/scratch", Options: []string{"rw", "size=1m"}},
	}
	got, exit := b.output(t, spec)
	if joined := strings.Join(strings.Fields(got), " "); joined != "content refused content/etc/group /scratch" {
		t.Errorf("printed %q", joined)
	}
	if exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
	for _, path := range []string{filepath.Join(made, "it"), filepath.Join(volume, "passwd")} {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("after the container: %v", err)
		}
	}
}

func testJoinPID(t *testing.T, b *bench) {
	first := b.spec("run")
	id := b.start(t, first)
	b.settle(t, id)
	second := b.spec(`ps -o args | grep -c '[s]leep 3600'`)
	second.Group = first.Group
	second.PID = container.Namespace{Mode: "container", Of: id}
	if got, _ := b.output(t, second); strings.TrimSpace(got) == "0" {
		t.Errorf("the second container does not see the first's processes: %q", got)
	}
	if err := b.Signal(t.Context(), id, syscall.SIGKILL, true); err != nil {
		t.Fatal(err)
	}
	b.stopped(t, id)
	third := b.spec("run")
	third.PID = container.Namespace{Mode: "container", Of: id}
	_, err := b.Start(t.Context(), b.create(t, third))
	wantErr(t, "Start in the namespace of a stopped container", err, container.ErrNotRunning)
}

func testJoinIPC(t *testing.T, b *bench) {
	first := b.spec(`echo shared >/dev/shm/note; trap 'exit 143' TERM; sleep 3600 & wait`)
	first.IPC.Mode = "shareable"
	first.Limits.ShmSize = 4 << 20
	id := b.start(t, first)
	b.settle(t, id)
	second := b.spec(`cat /dev/shm/note; readlink /proc/self/ns/ipc`)
	second.IPC = container.Namespace{Mode: "container", Of: id}
	got, _ := b.output(t, second)
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/ipc", b.status(t, id).PID))
	if err != nil {
		t.Fatal(err)
	}
	if joined := strings.Join(strings.Fields(got), " "); joined != "shared "+ns {
		t.Errorf("the second container sees %q, want the first's note and namespace %s", joined, ns)
	}
}

func testExecOptions(t *testing.T, b *bench) {
	spec := b.spec("run")
	spec.Process.Env = []string{"A=container", "B=container"}
	id := b.start(t, spec)
	var out, errs bytes.Buffer
	code, err := b.Exec(t.Context(), id, container.ExecRequest{
		Args: []string{"sh", "-c", `echo $A $B; pwd; id -u; id -g; id -G; echo wrong >&2; exit 4`},
		Env:  []string{"B=exec"}, User: "ada", WorkingDir: "/tmp", Stdout: &out, Stderr: &errs,
	})
	if err != nil || code != 4 {
		t.Errorf("Exec = %d, %v", code, err)
	}
	if got := strings.Join(strings.Fields(out.String()), " "); got != "container exec /tmp 1000 1000 1000 50" {
		t.Errorf("stdout %q", got)
	}
	if errs.String() != "wrong\n" {
		t.Errorf("stderr %q", errs.String())
	}
	_, err = b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"no-such-program"}})
	if err == nil || !strings.Contains(err.Error(), "executable file not found") {
		t.Errorf("Exec of an absent program = %v", err)
	}
	_, err = b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"true"}, User: "nobody-knows"})
	if err == nil || !strings.Contains(err.Error(), "unable to find user nobody-knows") {
		t.Errorf("Exec as an unknown user = %v", err)
	}
}

func testExecTerminal(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	sizes := make(chan container.Size, 1)
	sizes <- container.Size{Width: 132, Height: 43}
	var out bytes.Buffer
	code, err := b.Exec(t.Context(), id, container.ExecRequest{
		Args:     []string{"sh", "-c", `until [ "$(stty size 2>/dev/null)" = "43 132" ]; do usleep 10000; done; echo $TERM; test -t 0`},
		Terminal: true, Stdin: strings.NewReader(""), Stdout: &out, Resize: sizes,
	})
	if err != nil || code != 0 || strings.TrimSpace(out.String()) != "xterm" {
		t.Errorf("Exec = %d, %v, output %q", code, err, out.String())
	}
}

// testExecLeavesChild: a child that holds the pipe does not hold Exec.
func testExecLeavesChild(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	var out bytes.Buffer
	begun := time.Now()
	code, err := b.Exec(t.Context(), id, container.ExecRequest{
		Args: []string{"sh", "-c", `echo said; sleep 1800 & exit 3`}, Stdout: &out,
	})
	if err != nil || code != 3 || out.String() != "said\n" {
		t.Errorf("Exec = %d, %v, output %q", code, err, out.String())
	}
	if took := time.Since(begun); took > patience/2 {
		t.Errorf("Exec waited %s for a child in the background", took)
	}
}

func testExecManyBytes(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	const size = 5 << 20
	in := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var out bytes.Buffer
	code, err := b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"cat"}, Stdin: bytes.NewReader(in), Stdout: &out})
	if err != nil || code != 0 || !bytes.Equal(out.Bytes(), in) {
		t.Errorf("Exec(cat) = %d, %v, %s of %d bytes came back", code, err, strconv.Itoa(out.Len()), size)
	}
}

// testExecStopped: a process ends with its container.
func testExecStopped(t *testing.T, b *bench) {
	id := b.start(t, b.spec("run"))
	b.settle(t, id)
	type answer struct {
		code int
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		code, err := b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"sleep", "1700"}})
		done <- answer{code, err}
	}()
	eventually(t, func() bool {
		var out bytes.Buffer
		if _, err := b.Exec(t.Context(), id, container.ExecRequest{Args: []string{"ps", "-o", "args"}, Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		return strings.Contains(out.String(), "sleep 1700")
	}, func() string { return "the exec to run" })
	if err := b.Signal(t.Context(), id, syscall.SIGKILL, true); err != nil {
		t.Fatal(err)
	}
	b.stopped(t, id)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-done:
		if a.err == nil && a.code != 137 {
			t.Errorf("Exec in a killed container = %d", a.code)
		}
	case <-timer.C:
		t.Error("Exec did not return after its container ended")
	}
}
