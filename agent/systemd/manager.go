package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/coreos/go-systemd/v22/dbus"
)

// Supervised says whether a service manager runs this process and listens to it.
func Supervised() bool {
	// A variable that nobody knows: it is the way there that is asked for.
	sent, err := daemon.SdNotify(false, "X_BERTH=1")
	return sent && err == nil
}

// StartUnit asks systemd to start a unit, and does not wait until it has. A unit that runs already is left as it is.
func StartUnit(ctx context.Context, name string) error {
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot reach systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.StartUnitContext(ctx, name, "replace", nil); err != nil {
		return fmt.Errorf("cannot start unit %s: %w", name, err)
	}
	return nil
}

// GoingDown says whether the whole host is being shut down or booted anew, and not this service alone stopped. Where systemd is not
// PID 1 nobody knows, and the answer is no.
func GoingDown(ctx context.Context) (bool, error) {
	if _, err := os.Stat("/run/systemd/system"); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	// Not by the bus, which is stopped at the same time.
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		return false, fmt.Errorf("cannot reach systemd: %w", err)
	}
	defer conn.Close()
	state, err := conn.SystemStateContext(ctx)
	if err != nil {
		return false, fmt.Errorf("cannot ask systemd for the state of the system: %w", err)
	}
	return state.Value.Value() == "stopping", nil
}

// RestartUnit asks systemd to stop a unit if it runs and to start it, and does not wait until it has.
func RestartUnit(ctx context.Context, name string) error {
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		return fmt.Errorf("cannot reach systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.RestartUnitContext(ctx, name, "replace", nil); err != nil {
		return fmt.Errorf("cannot restart unit %s: %w", name, err)
	}
	return nil
}

// Booted says whether systemd is PID 1 of this host.
func Booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}
