package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeV2 is a directory that looks like cgroup v2 to what we write and read.
// The kernel's files of a cgroup must be there before they are written, so the
// task's are made beforehand.
func fakeV2(t *testing.T, ids ...string) string {
	t.Helper()
	root := t.TempDir()
	put := func(dir string, names ...string) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range append(names, "cgroup.controllers", "cgroup.subtree_control") {
			text := ""
			if name == "cgroup.controllers" {
				text = "cpuset cpu io memory pids\n"
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(root)
	put(filepath.Join(root, "ecstasks.slice"))
	for _, id := range ids {
		put(filepath.Join(root, slicePath(id)), "cpu.max", "cpu.weight", "memory.max", "pids.max")
	}
	return root
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

func TestUnified(t *testing.T) {
	root := fakeV2(t, "aa11", "bb22")
	m, err := New(Config{Root: root, Mode: V2, Driver: Cgroupfs})
	if err != nil {
		t.Fatal(err)
	}
	parent, err := m.Create(t.Context(), Task{ID: "aa11", CPUs: 0.7, MemoryBytes: 64 << 20, Pids: 100})
	if err != nil {
		t.Fatal(err)
	}
	if want := "/ecstasks.slice/ecstasks-aa11.slice"; parent != want {
		t.Errorf("parent %q, want %q", parent, want)
	}
	if got, want := m.ContainerPath("aa11", "c1"), parent+"/c1"; got != want {
		t.Errorf("ContainerPath = %q, want %q", got, want)
	}
	if _, err := m.Create(t.Context(), Task{ID: "bb22", Shares: 1024}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{
		"cpu.max":    read(t, root, parent, "cpu.max"),
		"memory.max": read(t, root, parent, "memory.max"),
		"pids.max":   read(t, root, parent, "pids.max"),
		"weight":     read(t, root, slicePath("bb22"), "cpu.weight"),
	}
	want := map[string]string{"cpu.max": "70000 100000", "memory.max": "67108864", "pids.max": "100", "weight": "39"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	ids, err := m.List(t.Context())
	if err != nil || !slices.Equal(ids, []string{"aa11", "bb22"}) {
		t.Errorf("List = %v, %v", ids, err)
	}
}

func TestUnifiedWithoutMemory(t *testing.T) {
	root := fakeV2(t)
	if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte("cpu pids\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := New(Config{Root: root, Mode: V2, Driver: Cgroupfs})
	if err == nil || !strings.Contains(err.Error(), "memory is not enabled") {
		t.Errorf("New = %v, want it to miss the memory controller", err)
	}
}

func TestLegacy(t *testing.T) {
	root := t.TempDir()
	files := map[string][]string{
		"cpu,cpuacct": {"cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.shares"},
		"cpuset":      {"cpuset.cpus", "cpuset.mems"},
		"memory":      {"memory.limit_in_bytes", "memory.use_hierarchy"},
		"pids":        {"pids.max"},
	}
	for controller, names := range files {
		for _, dir := range []string{"", "ecs", "ecs/aa11", "ecs/bb22"} {
			if err := os.MkdirAll(filepath.Join(root, controller, dir), 0o755); err != nil {
				t.Fatal(err)
			}
			for _, name := range append(names, "cgroup.procs") {
				text := ""
				if strings.HasPrefix(name, "cpuset.") && dir == "" {
					text = "0-1\n"
				}
				if err := os.WriteFile(filepath.Join(root, controller, dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	m, err := New(Config{Root: root, Mode: V1, Driver: Cgroupfs})
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range []Task{{ID: "aa11", CPUs: 0.7, MemoryBytes: 64 << 20, Pids: 100}, {ID: "bb22", Shares: 512}} {
		if parent, err := m.Create(t.Context(), task); err != nil || parent != "/ecs/"+task.ID {
			t.Fatalf("Create = %q, %v", parent, err)
		}
	}
	for file, want := range map[string]string{
		"cpu,cpuacct/ecs/aa11/cpu.cfs_quota_us": "70000",
		"cpu,cpuacct/ecs/bb22/cpu.cfs_quota_us": "",
		"cpu,cpuacct/ecs/bb22/cpu.shares":       "512",
		"cpuset/ecs/bb22/cpuset.mems":           "0-1",
		"memory/ecs/aa11/memory.limit_in_bytes": "67108864",
		"memory/ecs/memory.use_hierarchy":       "1",
		"pids/ecs/aa11/pids.max":                "100",
	} {
		if got := read(t, root, file); got != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
	ids, err := m.List(t.Context())
	slices.Sort(ids)
	if err != nil || !slices.Equal(slices.Compact(ids), []string{"aa11", "bb22"}) {
		t.Errorf("List = %v, %v", ids, err)
	}
}

func testLegacyKernel(t *testing.T) {
	m, err := New(Config{Driver: Cgroupfs})
	if err != nil {
		t.Skipf("needs cgroup v1 with cpu and memory: %v", err)
	}
	const id = "berthtest0cg"
	t.Cleanup(func() {
		if err := m.Remove(t.Context(), id); err != nil {
			t.Error(err)
		}
	})
	task := Task{ID: id, CPUs: 0.25, MemoryBytes: 32 << 20, Pids: 50}
	for range 2 { // Create is idempotent
		parent, err := m.Create(t.Context(), task)
		if err != nil || parent != "/ecs/"+id {
			t.Fatalf("Create = %q, %v", parent, err)
		}
	}
	for file, want := range map[string]string{
		"cpu/ecs/" + id + "/cpu.cfs_quota_us":            "25000",
		"memory/ecs/" + id + "/memory.limit_in_bytes":    "33554432",
		"memory/ecs/" + id + "/memory.use_hierarchy":     "1",
		"pids/ecs/" + id + "/pids.max":                   "50",
		"cpuset/ecs/" + id + "/cpuset.mems":              read(t, "/sys/fs/cgroup/cpuset/cpuset.mems"),
		"cpu/ecs/" + id + "/cpu.shares":                  "1024",
		"freezer/ecs/" + id + "/freezer.parent_freezing": "0",
	} {
		if got := read(t, "/sys/fs/cgroup", file); got != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
	// An empty cgroup of a container that was forgotten goes with the task's.
	if err := os.Mkdir("/sys/fs/cgroup/pids/ecs/"+id+"/left", 0o755); err != nil {
		t.Fatal(err)
	}
	// So does what runc makes in the v2 hierarchy of a hybrid host.
	runc := "/sys/fs/cgroup/unified/ecs/" + id
	if m.Mode() == Hybrid {
		if err := os.MkdirAll(runc+"/left", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := m.List(t.Context())
	if err != nil || !slices.Contains(ids, id) {
		t.Errorf("List = %v, %v", ids, err)
	}
	for range 2 {
		if err := m.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := m.List(t.Context()); err != nil || slices.Contains(ids, id) {
		t.Errorf("List after Remove = %v, %v", ids, err)
	}
	if _, err := os.Stat(runc); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s after Remove: %v", runc, err)
	}
}

func TestInvalidID(t *testing.T) {
	m, err := New(Config{Root: fakeV2(t), Mode: V2, Driver: Cgroupfs})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "..", "a/b", "../../etc"} {
		if _, err := m.Create(t.Context(), Task{ID: id}); err == nil {
			t.Errorf("Create(%q) was not refused", id)
		}
		if err := m.Remove(t.Context(), id); err == nil {
			t.Errorf("Remove(%q) was not refused", id)
		}
	}
}

func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{2: 1, 1024: 39, 262144: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestSharesAreBounded(t *testing.T) {
	for in, want := range map[uint64]uint64{0: 2, 1: 2, 512: 512, 1 << 30: 262144} {
		if got := shares(Task{Shares: in}); got != want {
			t.Errorf("shares(%d) = %d, want %d", in, got, want)
		}
	}
}

// TestIDWithDashes takes the UUID of a control plane other than ECS: it must not
// nest slices.
func TestIDWithDashes(t *testing.T) {
	const id = "2ffd7ed1-3bcb-4d8a-8d8c-3f8f5b7d9a10"
	root := fakeV2(t, id)
	m, err := New(Config{Root: root, Mode: V2, Driver: Cgroupfs})
	if err != nil {
		t.Fatal(err)
	}
	parent, err := m.Create(t.Context(), Task{ID: id, MemoryBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if want := "/ecstasks.slice/ecstasks-2ffd7ed1_3bcb_4d8a_8d8c_3f8f5b7d9a10.slice"; parent != want || m.TaskPath(id) != want {
		t.Errorf("parent %q, path %q, want %q", parent, m.TaskPath(id), want)
	}
	if _, err := m.Create(t.Context(), Task{ID: "../" + id}); err == nil {
		t.Error("an ID that is a path was taken")
	}
}
