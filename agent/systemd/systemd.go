// Package systemd tells the service manager how the agent is: ready, reloading, stopping, a line of status, and, while the agent's
// loops turn, that it is alive. Without NOTIFY_SOCKET, as in a shell or a test, everything here does nothing and succeeds.
//
//	start ──► adoption ──► Ready ──► Status… ──► Stopping ──► exit
//	                          └─ Watch: WATCHDOG=1 while alive, silence otherwise, and systemd restarts the unit
package systemd

import (
	"context"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready tells systemd that start-up is complete: containers are adopted and the sockets answer. status is the first status line.
func Ready(status string) error { return notify(daemon.SdNotifyReady + "\nSTATUS=" + oneLine(status)) }

// Status replaces the line that `systemctl status` shows.
func Status(line string) error { return notify("STATUS=" + oneLine(line)) }

// Stopping tells systemd that the agent is on its way out.
func Stopping(status string) error {
	return notify(daemon.SdNotifyStopping + "\nSTATUS=" + oneLine(status))
}

// Reloading tells systemd that settings are being read again; call Ready when they are.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("cannot read monotonic clock: %w", err)
	}
	return notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// ExtendTimeout asks for d more before systemd calls the start, or the stop, a failure: while containerd is waited for, or while the
// tasks of a host that goes down are stopped.
func ExtendTimeout(d time.Duration) error {
	return notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", d.Microseconds()))
}

// Watch pings the watchdog at half its interval as long as alive says so, until ctx ends. It returns at once, without an error, if the
// unit has no watchdog. alive has to be cheap: it is asked at every ping. A ping that cannot be sent is returned, because systemd is
// going to end us for it.
func Watch(ctx context.Context, alive func(time.Time) bool) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("cannot read watchdog interval: %w", err)
	}
	if interval == 0 {
		return nil
	}
	ticker := time.NewTicker(interval / 2)
	defer ticker.Stop()
	for {
		if alive(time.Now()) {
			if err := notify(daemon.SdNotifyWatchdog); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("cannot notify systemd: %w", err)
	}
	return nil
}

// oneLine keeps a status from being read as further assignments.
func oneLine(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r == '\n' || r == '\r' {
			out[i] = ' '
		}
	}
	return string(out)
}
