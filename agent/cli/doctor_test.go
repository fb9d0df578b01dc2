package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/hostapi/hostapitest"
	"github.com/berthd/berth/runtime/runtimetest"
)

// wellHost is a host that has everything, under a directory of the test.
func wellHost(t *testing.T) *patient {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/group":                        "root:x:0:\nberth:x:998:ann\n",
		"etc/ecs/ecs.config":               "ECS_CLUSTER=blue\nBERTH_BRIDGE_SUBNET=172.30.0.0/20\n",
		"etc/systemd/system/berth.service": "",
		"etc/systemd/system/multi-user.target.wants/berth.service": "",
		"run/systemd/system/x":                      "",
		"usr/bin/runc":                              "",
		"var/lib/berth/x":                           "",
		"var/lib/containerd/x":                      "",
		"proc/filesystems":                          "nodev\tproc\nnodev\toverlay\n\text4\n",
		"proc/sys/net/ipv4/ip_forward":              "1\n",
		"proc/sys/net/ipv4/ip_local_port_range":     "32768\t60999\n",
		"proc/sys/net/ipv4/ip_local_reserved_ports": "51678-51679\n",
		"proc/net/route":                            routes("eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF", "berth0\t00001EAC\t00000000\t0001\t0\t0\t0\t00F0FFFF"),
		"sys/fs/cgroup/cgroup.controllers":          "cpuset cpu io memory hugetlb pids\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	logs, err := hostapi.Listen(t.Context(), filepath.Join(t.TempDir(), "l.sock"), "no-such-group")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = logs.Close() })
	return &patient{
		root: root, now: hostapitest.Start(), file: filepath.Join(root, "etc/ecs/ecs.config"),
		env: []string{
			"BERTH_CONTAINERD_ADDRESS=" + fakeContainerd(t, "1.6.20~ds1"), "BERTH_LOG_SOCKET=" + logs.Addr().String()[:len(logs.Addr().String())-len(".new")],
			"ECS_AGENT_CONFIG_FILE_PATH=" + os.DevNull,
		},
		client:  hostapi.NewClient(hostapitest.Serve(t, hostapitest.New().Providers())),
		statfs:  func(string) (unix.Statfs_t, error) { return disk(50, 50), nil },
		adjtime: func() (bool, error) { return true, nil },
		nftable: func() error { return nil },
	}
}

func routes(lines ...string) string {
	return "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n" + strings.Join(lines, "\n") + "\n"
}

func disk(free, inodes uint64) unix.Statfs_t {
	return unix.Statfs_t{Bsize: 4096, Blocks: 100 << 20, Bavail: free << 20, Files: 100, Ffree: inodes}
}

// fakeContainerd answers one gRPC method, Version, over cleartext HTTP/2 on a unix socket as containerd does.
func fakeContainerd(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.sock")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	srv := &http.Server{Protocols: &protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		if r.URL.Path != "/containerd.services.version.v1.Version/Version" {
			w.Header().Set("Grpc-Status", "12")
			return
		}
		message := append([]byte{1<<3 | 2, byte(len(version))}, version...)
		_, _ = w.Write(append([]byte{0, 0, 0, 0, byte(len(message))}, message...))
		w.Header().Set("Grpc-Status", "0")
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return path
}

func find(t *testing.T, all []finding, name string) finding {
	t.Helper()
	for _, f := range all {
		if f.Check == name {
			return f
		}
	}
	t.Fatalf("no check %q", name)
	return finding{}
}

func TestDoctorFindsNothingOnAWellHost(t *testing.T) {
	for _, f := range examine(t.Context(), wellHost(t)) {
		if f.Status != good {
			t.Errorf("%s %s: %s", f.Status, f.Check, f.Why)
		}
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	write := func(name, text string) func(*testing.T, *patient) {
		return func(t *testing.T, p *patient) {
			t.Helper()
			if err := os.WriteFile(p.path(name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(*testing.T, *patient) {
		return func(t *testing.T, p *patient) {
			t.Helper()
			if err := os.Remove(p.path(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := func(kv string) func(*testing.T, *patient) {
		return func(_ *testing.T, p *patient) { p.env = append(p.env, kv) }
	}
	tests := []struct {
		name      string
		hurt      func(*testing.T, *patient)
		check     string
		status    verdict
		why, mend string
	}{
		{"not root", func(_ *testing.T, p *patient) { p.uid = 1000 }, "root", poor, "not root", "sudo"},
		{"bad settings", write("etc/ecs/ecs.config", "ECS_INSTANCE_ATTRIBUTES=x"), "settings", bad, "ECS_INSTANCE_ATTRIBUTES", "berth config --check"},
		{"a slip in the settings", write("etc/ecs/ecs.config", "ECS_CLUTSER=x"), "settings", poor, "did you mean ECS_CLUSTER?", "edit"},
		{"a setting of no use", write("etc/ecs/ecs.config", "DOCKER_HOST=x"), "settings", poor, "DOCKER_HOST", "remove"},
		{"no group", write("etc/group", "root:x:0:\n"), "group", poor, "no group berth", "groupadd --system berth"},
		{"no containerd", env("BERTH_CONTAINERD_ADDRESS=/nowhere/c.sock"), "containerd", bad, "/nowhere/c.sock", "apt-get install containerd"},
		{"old containerd", func(t *testing.T, p *patient) {
			t.Helper()
			p.env = append(p.env, "BERTH_CONTAINERD_ADDRESS="+fakeContainerd(t, "v1.4.13"))
		}, "containerd", bad, "needs 1.6", "apt-get install containerd"},
		{"no runc", remove("usr/bin/runc"), "runc", bad, "no runc", "apt-get install runc"},
		{"no overlay", write("proc/filesystems", "ext4\n"), "overlayfs", bad, "overlay", "modprobe overlay"},
		{"no memory controller", write("sys/fs/cgroup/cgroup.controllers", "cpu io pids\n"), "cgroups", bad, "v2 without memory", "cgroup_enable=memory"},
		{"cgroup v1", func(t *testing.T, p *patient) {
			t.Helper()
			remove("sys/fs/cgroup/cgroup.controllers")(t, p)
			write("proc/mounts", "cgroup /c cgroup rw,cpu,cpuacct 0 0\ncgroup /m cgroup rw,memory 0 0\ncgroup /p cgroup rw,pids 0 0\ncgroup /b cgroup rw,blkio 0 0\n")(t, p)
		}, "cgroups", poor, "cgroup v1", "unified"},
		{"nothing of cgroups", func(t *testing.T, p *patient) {
			t.Helper()
			remove("sys/fs/cgroup/cgroup.controllers")(t, p)
			write("proc/mounts", "proc /proc proc rw 0 0\n")(t, p)
		}, "cgroups", bad, "without cpu", "cgroup_enable"},
		{"no nftables", func(_ *testing.T, p *patient) { p.nftable = func() error { return unix.EOPNOTSUPP } }, "nftables", bad, "not supported", "modprobe nf_tables"},
		{"nftables for root only", func(_ *testing.T, p *patient) { p.nftable = func() error { return fs.ErrPermission } }, "nftables", poor, "only root", "sudo"},
		{"no forwarding", write("proc/sys/net/ipv4/ip_forward", "0\n"), "ip_forward", poor, "off", "sysctl --system"},
		{"overlap", write("proc/net/route", routes("eth1\t00081EAC\t00000000\t0001\t0\t0\t0\t00FFFFFF")), "bridge subnet", bad, "172.30.8.0/24", "BERTH_BRIDGE_SUBNET"},
		{"disk nearly full", func(_ *testing.T, p *patient) {
			p.statfs = func(string) (unix.Statfs_t, error) { return disk(10, 50), nil }
		}, "data disk", poor, "10%", "berth images"},
		{"no inodes", func(_ *testing.T, p *patient) {
			p.statfs = func(string) (unix.Statfs_t, error) { return disk(50, 1), nil }
		}, "image disk", bad, "1% of inodes", "berth images"},
		{"clock runs free", func(_ *testing.T, p *patient) { p.adjtime = func() (bool, error) { return false, nil } }, "clock", poor, "AWS", "timesyncd"},
		{"clock of another time", func(_ *testing.T, p *patient) { p.now = time.Unix(0, 0) }, "clock", bad, "1970", "timesyncd"},
		{"unit disabled", remove("etc/systemd/system/multi-user.target.wants/berth.service"), "unit", poor, "at boot", "systemctl enable --now berth"},
		{"unit missing", remove("etc/systemd/system/berth.service"), "unit", bad, "berth.service", "install"},
		{"no systemd", func(t *testing.T, p *patient) {
			t.Helper()
			if err := os.RemoveAll(p.path("run/systemd")); err != nil {
				t.Fatal(err)
			}
		}, "unit", poor, "systemd does not run", "berth agent"},
		{"no log process", env("BERTH_LOG_SOCKET=/nowhere/l.sock"), "log process", bad, "/nowhere/l.sock", "systemctl restart berth-logs"},
		{"no log process and no systemd", func(t *testing.T, p *patient) {
			t.Helper()
			env("BERTH_LOG_SOCKET=/nowhere/l.sock")(t, p)
			if err := os.RemoveAll(p.path("run/systemd")); err != nil {
				t.Fatal(err)
			}
		}, "log process", good, "starts one", ""},
		{"an update that came back", func(t *testing.T, p *patient) {
			t.Helper()
			if err := os.Mkdir(p.path("var/lib/berth/update"), 0o700); err != nil {
				t.Fatal(err)
			}
			write("var/lib/berth/update/record.json", `{"phase":"returned","from":"1.0.0","to":"1.1.0","reason":"ACS: not connected","at":"2026-01-02T03:04:00Z","ended":"2026-01-02T03:05:00Z"}`)(t, p)
		}, "updates", poor, "version 1.1.0 came back at 2026-01-02T03:05:00Z, and 1.0.0 runs again: ACS: not connected", "berth update --to 1.1.0"},
		{"nobody to believe", env("BERTH_UPDATE_SOURCE=https://releases.example"), "updates", poor, "there is no " + packagedRoot, "BERTH_UPDATE_ROOT"},
		{"an update well made", func(t *testing.T, p *patient) {
			t.Helper()
			if err := errors.Join(os.Mkdir(p.path("var/lib/berth/update"), 0o700), os.MkdirAll(p.path(filepath.Dir(packagedRoot)), 0o755)); err != nil {
				t.Fatal(err)
			}
			env("BERTH_UPDATE_SOURCE=https://releases.example")(t, p)
			write(packagedRoot, "{}")(t, p)
			write("var/lib/berth/update/record.json", `{"phase":"confirmed","from":"1.0.0","to":"1.1.0","ended":"2026-01-02T03:05:00Z"}`)(t, p)
		}, "updates", good, "to 1.1.0 at 2026-01-02T03:05:00Z", ""},
		{"no agent", func(_ *testing.T, p *patient) { p.client = hostapi.NewClient("/nowhere/b.sock") }, "agent", bad, "/nowhere/b.sock", "systemctl start berth"},
		{"disconnected", func(t *testing.T, p *patient) {
			t.Helper()
			h := hostapitest.New()
			h.View.Connections[0] = hostapi.ConnectionView{Name: "acs", Since: hostapitest.Start().Add(-time.Minute), Reason: "no route to host"}
			p.client = hostapi.NewClient(hostapitest.Serve(t, h.Providers()))
		}, "connections", bad, "acs is down for 1m: no route to host", "journalctl"},
		{"containers do not reach the agent", func(t *testing.T, p *patient) {
			t.Helper()
			all := hostapitest.New().Providers()
			all.Checks = func(context.Context) []hostapi.CheckView {
				return []hostapi.CheckView{{Check: "metadata, bridge mode", Status: "FAIL", Why: "no answer", Mend: "Accept them: iptables -I INPUT"}}
			}
			p.client = hostapi.NewClient(hostapitest.Serve(t, all))
		}, "metadata, bridge mode", bad, "no answer", "iptables -I INPUT"},
		{"an agent that cannot look", func(t *testing.T, p *patient) {
			t.Helper()
			all := hostapitest.New().Providers()
			all.Checks = nil
			p.client = hostapi.NewClient(hostapitest.Serve(t, all))
		}, "network", poor, "cannot look", "systemctl restart berth"},
		{"impaired", func(t *testing.T, p *patient) {
			t.Helper()
			h := hostapitest.New()
			h.View.Health.Stale = []string{"engine"}
			p.client = hostapi.NewClient(hostapitest.Serve(t, h.Providers()))
		}, "agent", bad, "engine stands still", "journalctl"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := wellHost(t)
			tt.hurt(t, p)
			f := find(t, examine(t.Context(), p), tt.check)
			if f.Status != tt.status || !strings.Contains(f.Why, tt.why) || !strings.Contains(f.Mend, tt.mend) {
				t.Errorf("%s %s → %s; want %s %s → %s", f.Status, f.Why, f.Mend, tt.status, tt.why, tt.mend)
			}
		})
	}
}

func TestReport(t *testing.T) {
	all := []finding{
		{Check: "root", Status: good, Why: "root"},
		{Check: "disk", Status: poor, Why: "10% free", Mend: "berth images"},
		{Check: "runc", Status: bad, Why: "no runc", Mend: "apt-get install runc"},
	}
	var out bytes.Buffer
	a := &app{Streams: Streams{Out: &out, Err: &out}, now: time.Now}
	err := a.report(all)
	if e, ok := errors.AsType[*exitError](err); !ok || e.code != ExitFailure || e.err != nil {
		t.Errorf("a FAIL ends with %v", err)
	}
	golden(t, "doctor", out.String())
	out.Reset()
	a.json = true
	if err := a.report(all[:2]); err != nil {
		t.Errorf("a WARN ends with %v", err)
	}
	var got []finding
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all[:2], got); diff != "" {
		t.Error(diff)
	}
}

// The doctor runs on this very machine, whatever it lacks, and each finding is whole.
func TestDoctorHere(t *testing.T) {
	r := runWith(t, filepath.Join(t.TempDir(), "absent"), "", "doctor", "--json")
	var all []finding
	if err := json.Unmarshal([]byte(r.out), &all); err != nil {
		t.Fatalf("%v: %s%s", err, r.out, r.err)
	}
	if len(all) != len(checks()) {
		t.Errorf("%d findings, want %d", len(all), len(checks()))
	}
	for _, f := range all {
		if f.Check == "" || f.Why == "" || f.Status != good && f.Status != poor && f.Status != bad {
			t.Errorf("half a finding: %+v", f)
		}
	}
	if find(t, all, "agent").Status != bad || r.code != ExitFailure {
		t.Errorf("without an agent the code is %d", r.code)
	}
}

func TestContainerdVersionOfTheRealOne(t *testing.T) {
	version, err := containerdVersion(t.Context(), runtimetest.StartContainerd(t))
	if err != nil || !strings.Contains(version, ".") {
		t.Errorf("version %q, %v", version, err)
	}
}

func TestFirstStringRefusesNonsense(t *testing.T) {
	for _, message := range [][]byte{nil, {1}, {10}, {10, 5, 'a'}, {10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}} {
		if v, err := firstString(message); err == nil {
			t.Errorf("%v is version %q", message, v)
		}
	}
}

func TestContainerdThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("too slow"))
	defer cancel()
	if _, err := containerdVersion(ctx, path); err == nil {
		t.Error("a containerd that hangs has a version")
	}
}
