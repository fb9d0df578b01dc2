package cgroups

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// fakeSystemd keeps units and tells what it was told.
type fakeSystemd struct {
	units map[string]bool
	told  []string
}

func (f *fakeSystemd) tell(verb, name string, properties []systemd.Property) {
	var words []string
	for _, p := range properties {
		words = append(words, p.Name+"="+p.Value.String())
	}
	f.told = append(f.told, strings.TrimSpace(verb+" "+name+" "+strings.Join(words, " ")))
}

func (f *fakeSystemd) StartTransientUnitContext(_ context.Context, name, _ string, p []systemd.Property, ch chan<- string) (int, error) {
	f.tell("start", name, p)
	if f.units[name] {
		return 0, dbus.Error{Name: "org.freedesktop.systemd1.UnitExists"}
	}
	if slices.ContainsFunc(p, func(p systemd.Property) bool { return p.Name == "Delegate" }) {
		return 0, dbus.Error{Name: "org.freedesktop.DBus.Error.PropertyReadOnly", Body: []any{"Delegation not available for unit type"}}
	}
	f.units[name] = true
	ch <- "done"
	return 1, nil
}

func (f *fakeSystemd) SetUnitPropertiesContext(_ context.Context, name string, _ bool, p ...systemd.Property) error {
	f.tell("set", name, p)
	return nil
}

func (f *fakeSystemd) StopUnitContext(_ context.Context, name, _ string, ch chan<- string) (int, error) {
	f.tell("stop", name, nil)
	if !f.units[name] {
		return 0, fmt.Errorf("call failed: %w", dbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit"})
	}
	delete(f.units, name)
	ch <- "done"
	return 1, nil
}

func (f *fakeSystemd) ResetFailedUnitContext(context.Context, string) error {
	return dbus.Error{Name: "org.freedesktop.systemd1.NoSuchUnit"}
}

func (f *fakeSystemd) Close() {}

func TestSystemd(t *testing.T) {
	m, err := New(Config{Root: fakeV2(t), Mode: V2, Driver: Systemd})
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeSystemd{units: make(map[string]bool)}
	m.backend = systemdSlices{root: m.cfg.Root, connect: func(context.Context) (units, error) { return fake, nil }}
	parent, err := m.Create(t.Context(), Task{ID: "aa11", CPUs: 0.255, MemoryBytes: 1 << 20, Pids: 9})
	if err != nil || parent != "ecstasks-aa11.slice" {
		t.Fatalf("Create = %q, %v", parent, err)
	}
	if _, err := m.Create(t.Context(), Task{ID: "aa11", Shares: 2}); err != nil {
		t.Fatal(err)
	}
	if got, want := m.ContainerPath("aa11", "c1"), "/ecstasks.slice/ecstasks-aa11.slice/berth-c1.scope"; got != want {
		t.Errorf("ContainerPath = %q, want %q", got, want)
	}
	events := filepath.Join(m.cfg.Root, slicePath("aa11"), "cgroup.events")
	if err := os.MkdirAll(filepath.Dir(events), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(events, []byte("populated 1\nfrozen 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove(t.Context(), "aa11"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Remove of a slice with processes = %v, want %v", err, unix.EBUSY)
	}
	if err := os.WriteFile(events, []byte("populated 0\nfrozen 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Remove(t.Context(), "aa11"); err != nil {
			t.Fatal(err)
		}
	}
	const start = `start ecstasks-aa11.slice Description="ECS task aa11" DefaultDependencies=false CPUAccounting=true ` +
		`MemoryAccounting=true IOAccounting=true TasksAccounting=true `
	want := []string{
		start + `CPUQuotaPerSecUSec=@t 260000 MemoryMax=@t 1048576 TasksMax=@t 9`,
		start + `CPUWeight=@t 1`,
		`set ecstasks-aa11.slice CPUWeight=@t 1`,
		`stop ecstasks-aa11.slice`,
		`stop ecstasks-aa11.slice`,
	}
	if !slices.Equal(fake.told, want) {
		t.Errorf("systemd was told\n%s\nwant\n%s", strings.Join(fake.told, "\n"), strings.Join(want, "\n"))
	}
}

func TestSystemdNeedsV2(t *testing.T) {
	if _, err := New(Config{Root: t.TempDir(), Mode: V1, Driver: Systemd}); err == nil {
		t.Error("New took the systemd driver on cgroup v1")
	}
}
