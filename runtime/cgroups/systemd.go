package cgroups

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// systemdSlices makes transient slices. The slice ecstasks.slice comes with the
// first one below it.
type systemdSlices struct {
	root    string
	connect func(context.Context) (units, error)
}

// units is what we need of systemd.
type units interface {
	StartTransientUnitContext(ctx context.Context, name, mode string, properties []systemd.Property, ch chan<- string) (int, error)
	SetUnitPropertiesContext(ctx context.Context, name string, runtime bool, properties ...systemd.Property) error
	StopUnitContext(ctx context.Context, name, mode string, ch chan<- string) (int, error)
	ResetFailedUnitContext(ctx context.Context, name string) error
	Close()
}

var _ units = (*systemd.Conn)(nil)

// connectSystemd opens a connection of its own for each piece of work: tasks
// come seldom, and a connection held for ever would have to be watched.
func connectSystemd(ctx context.Context) (units, error) {
	conn, err := systemd.NewWithContext(ctx) // By the bus, and where there is none to systemd itself.
	if err != nil {
		return nil, fmt.Errorf("cannot reach systemd: %w", err)
	}
	return conn, nil
}

// create makes the slice. It is not delegated: systemd refuses that of a slice,
// and it is the containers' scopes that are.
func (s systemdSlices) create(ctx context.Context, t Task) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	properties := append([]systemd.Property{
		systemd.PropDescription("ECS task " + t.ID),
		property("DefaultDependencies", false),
		property("CPUAccounting", true),
		property("MemoryAccounting", true),
		property("IOAccounting", true),
		property("TasksAccounting", true),
	}, limits(t)...)
	done := make(chan string, 1) // systemd answers once
	_, err = conn.StartTransientUnitContext(ctx, sliceName(t.ID), "replace", properties, done)
	if named(err, "UnitExists") {
		// It is there since before a restart: its limits are set anew.
		return conn.SetUnitPropertiesContext(ctx, sliceName(t.ID), true, limits(t)...)
	}
	if err != nil {
		return err
	}
	return await(ctx, "start", done)
}

func (s systemdSlices) remove(ctx context.Context, id string) error {
	// systemd would stop what is in the slice along with it.
	events, err := os.ReadFile(filepath.Join(s.root, slicePath(id), "cgroup.events"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if slices.Contains(strings.Split(string(events), "\n"), "populated 1") {
		return unix.EBUSY
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	done := make(chan string, 1)
	_, err = conn.StopUnitContext(ctx, sliceName(id), "replace", done)
	if named(err, "NoSuchUnit") {
		return nil
	}
	if err != nil {
		return err
	}
	if err := await(ctx, "stop", done); err != nil {
		return err
	}
	// A slice whose processes were killed may have failed; unknown is as good.
	if err := conn.ResetFailedUnitContext(ctx, sliceName(id)); err != nil && !named(err, "NoSuchUnit") {
		return err
	}
	return nil
}

func (s systemdSlices) list(context.Context) ([]string, error) { return slicesBelow(s.root) }

// limits are a task's as properties of its slice.
func limits(t Task) []systemd.Property {
	var out []systemd.Property
	if t.CPUs > 0 {
		out = append(out, property("CPUQuotaPerSecUSec", perSecond(t.CPUs)))
	} else {
		out = append(out, property("CPUWeight", weight(shares(t))))
	}
	if t.MemoryBytes > 0 {
		out = append(out, property("MemoryMax", uint64(t.MemoryBytes))) // positive
	}
	if t.Pids > 0 {
		out = append(out, property("TasksMax", uint64(t.Pids))) // positive
	}
	return out
}

// perSecond is CPU time in microseconds for each second, rounded up to what
// systemd can set: a multiple of 10 ms.
func perSecond(cpus float64) uint64 {
	const grain = 10_000
	return uint64(math.Ceil(math.Round(cpus*1e6)/grain)) * grain
}

func property(name string, value any) systemd.Property {
	return systemd.Property{Name: name, Value: dbus.MakeVariant(value)}
}

// await waits for the end of systemd's job.
func await(ctx context.Context, verb string, done <-chan string) error {
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("systemd could not %s the slice: %s", verb, result)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// named says whether err is systemd's error of that name.
func named(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && strings.HasSuffix(e.Name, "."+name)
}
