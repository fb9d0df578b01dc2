package ctrd

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/berthd/berth/runtime/container"
)

// hosts that fields depend on.
var (
	oldHost = host{swap: true, nofile: 1 << 20}
	newHost = host{unified: true, swap: true, nofile: 1 << 20}
)

// made is the spec of a container with the fields that set changes.
func made(h host, set func(*container.Spec)) (*specs.Spec, error) {
	in := specInput{Spec: container.Spec{ID: "c"}, host: h, hostname: "host", apparmor: "berth-default", shm: func(id string) string { return "/shm/" + id }}
	in.Process.Command = []string{"sh"}
	in.NetNS = "/run/netns/c"
	if set != nil {
		set(&in.Spec)
	}
	return ociSpec(in)
}

// text is a part of a spec as JSON.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestFields: what each field of a task definition becomes (spec/task-engine.md
// §5.1 to §5.4). What containers see of it is in package runtimetest.
func TestFields(t *testing.T) {
	memory := func(s *specs.Spec) any { return s.Linux.Resources.Memory }
	cpu := func(s *specs.Spec) any { return s.Linux.Resources.CPU }
	namespaces := func(s *specs.Spec) any {
		var kinds []string
		for _, n := range s.Linux.Namespaces {
			kinds = append(kinds, string(n.Type))
		}
		return strings.Join(kinds, " ")
	}
	mount := func(at string) func(*specs.Spec) any {
		return func(s *specs.Spec) any {
			i := slices.IndexFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == at })
			if i < 0 {
				return "none"
			}
			return s.Mounts[i].Type + " " + strings.Join(s.Mounts[i].Options, ",")
		}
	}
	swappiness := uint64(60)
	score := -5
	for _, c := range []struct {
		name string
		host host
		set  func(*container.Spec)
		part func(*specs.Spec) any
		want string
	}{
		{"memory: as much swap again", oldHost, func(s *container.Spec) { s.Limits.Memory = 64 << 20 }, memory, `{"limit":67108864,"swap":134217728}`},
		{"memory: the least", oldHost, func(s *container.Spec) { s.Limits.Memory = 1 }, memory, `{"limit":4194304,"swap":8388608}`},
		{"memory: a kernel that counts no swap", host{}, func(s *container.Spec) { s.Limits.Memory = 64 << 20 }, memory, `{"limit":67108864}`},
		{"memoryReservation alone", newHost, func(s *container.Spec) { s.Limits.MemoryReservation = 32 << 20 }, memory, `{"reservation":33554432}`},
		{"maxSwap", newHost, func(s *container.Spec) { s.Limits.Memory, s.Limits.MemorySwap = 64<<20, 96<<20 }, memory, `{"limit":67108864,"swap":100663296}`},
		{"maxSwap: none", newHost, func(s *container.Spec) { s.Limits.Memory, s.Limits.MemorySwap = 64<<20, 64<<20 }, memory, `{"limit":67108864,"swap":67108864}`},
		{"maxSwap: unlimited", newHost, func(s *container.Spec) { s.Limits.Memory, s.Limits.MemorySwap = 64<<20, -1 }, memory, `{"limit":67108864,"swap":-1}`},
		{"swappiness", oldHost, func(s *container.Spec) { s.Limits.Swappiness = &swappiness }, memory, `{"swappiness":60}`},
		{"swappiness on cgroup v2, which has none", newHost, func(s *container.Spec) { s.Limits.Swappiness = &swappiness }, memory, `{}`},
		{"OomKillDisable", oldHost, func(s *container.Spec) { s.Limits.DisableOOMKiller = true }, memory, `{"disableOOMKiller":true}`},
		{"OomKillDisable on cgroup v2, which has none", newHost, func(s *container.Spec) { s.Limits.DisableOOMKiller = true }, memory, `{}`},
		{"cpu", oldHost, func(s *container.Spec) { s.Limits.CPUShares = 512 }, cpu, `{"shares":512}`},
		{"cpu: the least", oldHost, func(s *container.Spec) { s.Limits.CPUShares = 1 }, cpu, `{"shares":2}`},
		{"cpu: the most", oldHost, func(s *container.Spec) { s.Limits.CPUShares = 1 << 30 }, cpu, `{"shares":262144}`},
		{"CpuQuota, CpusetCpus", oldHost, func(s *container.Spec) {
			s.Limits.CPUQuota, s.Limits.CPUPeriod, s.Limits.CPUSet = 50000, 100000, "0-1"
		}, cpu, `{"quota":50000,"period":100000,"cpus":"0-1"}`},
		{"PidsLimit", oldHost, func(s *container.Spec) { s.Limits.Pids = 9 }, func(s *specs.Spec) any { return s.Linux.Resources.Pids }, `{"limit":9}`},
		{"OomScoreAdj", oldHost, func(s *container.Spec) { s.Limits.OOMScoreAdj = &score }, func(s *specs.Spec) any { return s.Process.OOMScoreAdj }, `-5`},
		{"ulimits: the default", oldHost, nil, func(s *specs.Spec) any { return s.Process.Rlimits }, `[{"type":"RLIMIT_NOFILE","hard":65536,"soft":32768}]`},
		{"ulimits", oldHost, func(s *container.Spec) {
			s.Limits.Ulimits = []container.Ulimit{{Name: "nofile", Soft: 1, Hard: 2}, {Name: "MEMLOCK", Soft: -1, Hard: -1}}
		}, func(s *specs.Spec) any { return s.Process.Rlimits }, `[{"type":"RLIMIT_NOFILE","hard":2,"soft":1},{"type":"RLIMIT_MEMLOCK","hard":18446744073709551615,"soft":18446744073709551615}]`},
		{"sharedMemorySize: the default", oldHost, nil, mount("/dev/shm"), `"tmpfs nosuid,noexec,nodev,mode=1777,size=67108864"`},
		{"sharedMemorySize", oldHost, func(s *container.Spec) { s.Limits.ShmSize = 1 << 20 }, mount("/dev/shm"), `"tmpfs nosuid,noexec,nodev,mode=1777,size=1048576"`},
		{"tmpfs", oldHost, func(s *container.Spec) {
			s.Mounts = []container.Mount{{Type: "tmpfs", Destination: "/run", Options: []string{"size=64m", "exec"}}}
		}, mount("/run"), `"tmpfs nosuid,nodev,noexec,size=64m,exec"`},
		{"a mount over one of the system's", oldHost, func(s *container.Spec) {
			s.Mounts = []container.Mount{{Type: "tmpfs", Destination: "/dev/shm", Options: []string{"size=1m"}}}
		}, mount("/dev/shm"), `"tmpfs nosuid,nodev,noexec,size=1m"`},
		{"sys", oldHost, nil, mount("/sys"), `"sysfs nosuid,noexec,nodev,ro"`},
		{"sys, privileged", oldHost, func(s *container.Spec) { s.Rights.Privileged = true }, mount("/sys"), `"sysfs nosuid,noexec,nodev,rw"`},
		{"ipcMode none", oldHost, func(s *container.Spec) { s.IPC.Mode = "none" }, mount("/dev/shm"), `"none"`},
		{"readonlyRootFilesystem", oldHost, func(s *container.Spec) { s.Rights.ReadonlyRootfs = true }, func(s *specs.Spec) any { return s.Root.Readonly }, `true`},
		{"namespaces", oldHost, nil, namespaces, `"mount uts pid ipc network"`},
		{"namespaces on cgroup v2: limits are found at the root", newHost, nil, namespaces, `"mount uts pid ipc network cgroup"`},
		{"namespaces, privileged on cgroup v2", newHost, func(s *container.Spec) { s.Rights.Privileged = true }, namespaces, `"mount uts pid ipc network cgroup"`},
		{"CgroupnsMode host", newHost, func(s *container.Spec) { s.Rights.Cgroupns = "host" }, namespaces, `"mount uts pid ipc network"`},
		{"CgroupnsMode private", oldHost, func(s *container.Spec) { s.Rights.Cgroupns = "private" }, namespaces, `"mount uts pid ipc network cgroup"`},
		{"pidMode and ipcMode host", oldHost, func(s *container.Spec) { s.PID.Mode, s.IPC.Mode = "host", "host" }, namespaces, `"mount uts network"`},
		{"networkMode host", oldHost, func(s *container.Spec) { s.NetNS = "" }, namespaces, `"mount uts pid ipc"`},
		{"hostname: the container's id", oldHost, func(s *container.Spec) { s.ID = "0123456789abcdef" }, func(s *specs.Spec) any { return s.Hostname }, `"0123456789ab"`},
		{"hostname in host mode: the host's", oldHost, func(s *container.Spec) { s.NetNS = "" }, func(s *specs.Spec) any { return s.Hostname }, `"host"`},
		{"Domainname", oldHost, func(s *container.Spec) { s.Process.Domainname = "d.test" }, func(s *specs.Spec) any { return s.Linux.Sysctl }, `{"kernel.domainname":"d.test"}`},
		{"systemControls", oldHost, func(s *container.Spec) { s.Sysctls = map[string]string{"net.core.somaxconn": "9"} }, func(s *specs.Spec) any { return s.Linux.Sysctl }, `{"net.core.somaxconn":"9"}`},
		{"no-new-privileges", oldHost, func(s *container.Spec) { s.Rights.NoNewPrivileges = true }, func(s *specs.Spec) any { return s.Process.NoNewPrivileges }, `true`},
		{"apparmor: ours", host{apparmor: true}, nil, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, `"berth-default"`},
		{"apparmor: Docker's is ours", host{apparmor: true}, func(s *container.Spec) { s.Rights.AppArmor = "docker-default" }, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, `"berth-default"`},
		{"apparmor: a profile", host{apparmor: true}, func(s *container.Spec) { s.Rights.AppArmor = "mine" }, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, `"mine"`},
		{"apparmor: unconfined", host{apparmor: true}, func(s *container.Spec) { s.Rights.AppArmor = "unconfined" }, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, `""`},
		{"apparmor, privileged", host{apparmor: true}, func(s *container.Spec) { s.Rights.Privileged = true }, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, `""`},
		{"apparmor on a host without", host{}, func(s *container.Spec) { s.Rights.AppArmor = "mine" }, func(s *specs.Spec) any { return s.Process.ApparmorProfile }, `""`},
		{"SELinux", host{selinux: true}, func(s *container.Spec) { s.Rights.SELinux = []string{"type:spc_t", "level:s0:c1,c2"} }, func(s *specs.Spec) any { return s.Process.SelinuxLabel }, `"system_u:system_r:spc_t:s0:c1,c2"`},
		{"SELinux: disable", host{selinux: true}, func(s *container.Spec) { s.Rights.SELinux = []string{"disable"} }, func(s *specs.Spec) any { return s.Process.SelinuxLabel }, `""`},
		{"masked paths, privileged", oldHost, func(s *container.Spec) { s.Rights.Privileged = true }, func(s *specs.Spec) any { return len(s.Linux.MaskedPaths) + len(s.Linux.ReadonlyPaths) }, `0`},
		{"masked paths", oldHost, nil, func(s *specs.Spec) any { return s.Linux.MaskedPaths }, text(maskedPaths)},
		{"seccomp", oldHost, nil, func(s *specs.Spec) any { return s.Linux.Seccomp != nil }, `true`},
		{"seccomp, privileged", oldHost, func(s *container.Spec) { s.Rights.Privileged = true }, func(s *specs.Spec) any { return s.Linux.Seccomp != nil }, `false`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := made(c.host, c.set)
			if err != nil {
				t.Fatal(err)
			}
			if got := text(c.part(s)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestFieldsRefused: what cannot be is said in Docker's words.
func TestFieldsRefused(t *testing.T) {
	swappiness, score := uint64(101), 1001
	for _, c := range []struct {
		want string
		set  func(*container.Spec)
	}{
		{"You should always set the Memory limit when using Memoryswap limit, see usage", func(s *container.Spec) { s.Limits.MemorySwap = 1 << 30 }},
		{"Minimum memoryswap limit should be larger than memory limit, see usage", func(s *container.Spec) { s.Limits.Memory, s.Limits.MemorySwap = 64<<20, 32<<20 }},
		{"Minimum memory limit can not be less than memory reservation limit, see usage", func(s *container.Spec) { s.Limits.Memory, s.Limits.MemoryReservation = 64<<20, 65<<20 }},
		{"Invalid value: 101, valid memory swappiness range is 0-100", func(s *container.Spec) { s.Limits.Swappiness = &swappiness }},
		{"Invalid value 1001, range for oom score adj is [-1000, 1000]", func(s *container.Spec) { s.Limits.OOMScoreAdj = &score }},
		{"CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)", func(s *container.Spec) { s.Limits.CPUPeriod = 999 }},
		{"CPU cfs quota can not be less than 1ms (i.e. 1000)", func(s *container.Spec) { s.Limits.CPUQuota = 999 }},
		{"invalid cgroup namespace mode: shared", func(s *container.Spec) { s.Rights.Cgroupns = "shared" }},
		{"invalid userns mode: private", func(s *container.Spec) { s.Rights.Userns = "private" }},
		{"invalid ulimit type: luck", func(s *container.Spec) { s.Limits.Ulimits = []container.Ulimit{{Name: "luck"}} }},
		{"invalid device permissions \"rx\"", func(s *container.Spec) {
			s.Devices = []container.Device{{HostPath: "/dev/null", Permissions: "rx"}}
		}},
		{"no command specified", func(s *container.Spec) { s.Process.Command = nil }},
	} {
		if _, err := made(oldHost, c.set); err == nil || err.Error() != c.want || container.KindOf(err, "") != container.KindCreate {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// TestDevices: a link stands for the device behind it, a directory for all of them.
func TestDevices(t *testing.T) {
	if _, err := os.Stat("/dev/fd/0"); err != nil {
		t.Skipf("needs a /dev: %v", err)
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "by-id")
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		device container.Device
		want   string
	}{
		{container.Device{HostPath: "/dev/zero"}, "/dev/zero 1:5 rwm"},
		{container.Device{HostPath: "/dev/zero", ContainerPath: "/dev/mine", Permissions: "r"}, "/dev/mine 1:5 r"},
		{container.Device{HostPath: link, ContainerPath: "/dev/disk"}, "/dev/disk 1:5 rwm"},
		{container.Device{HostPath: link}, cleanPath(link) + " 1:5 rwm"},
		{container.Device{HostPath: dir}, "error gathering device information while adding custom device"},
		{container.Device{HostPath: filepath.Join(dir, "absent")}, "error gathering device information while adding custom device"},
	} {
		s, err := made(oldHost, func(s *container.Spec) { s.Devices = []container.Device{c.device} })
		got := fmt.Sprint(err)
		if err == nil {
			node := s.Linux.Devices[len(s.Linux.Devices)-1]
			rules := s.Linux.Resources.Devices
			got = fmt.Sprintf("%s %d:%d %s", node.Path, node.Major, node.Minor, rules[len(rules)-1].Access)
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %s, want %s", c.device, got, c.want)
		}
	}
	s, err := made(oldHost, func(s *container.Spec) {
		s.Devices = []container.Device{{HostPath: "/dev/pts", ContainerPath: "/dev/lines", Permissions: "rw"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.Linux.Devices, func(d specs.LinuxDevice) bool { return d.Path == "/dev/lines/ptmx" && d.Major == 5 && d.Minor == 2 }) {
		t.Errorf("the devices of a directory: %+v", s.Linux.Devices)
	}
}
