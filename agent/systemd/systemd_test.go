package systemd

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// manager stands in for systemd: it owns the socket and hands out what is written to it.
type manager struct{ conn *net.UnixConn }

func listen(t *testing.T) manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return manager{conn}
}

func (m manager) next(t *testing.T, within time.Duration) (string, bool) {
	t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return "", false
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n]), true
}

func TestMessages(t *testing.T) {
	tests := []struct {
		name string
		send func() error
		want string
	}{
		{"ready", func() error { return Ready("2 tasks adopted") }, `^READY=1\nSTATUS=2 tasks adopted$`},
		{"status", func() error { return Status("containerd impaired") }, `^STATUS=containerd impaired$`},
		{"status that would smuggle", func() error { return Status("a\nMAINPID=1") }, `^STATUS=a MAINPID=1$`},
		{"stopping", func() error { return Stopping("closing") }, `^STOPPING=1\nSTATUS=closing$`},
		{"reloading", Reloading, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`},
		{"extend", func() error { return ExtendTimeout(30 * time.Second) }, `^EXTEND_TIMEOUT_USEC=30000000$`},
	}
	m := listen(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.send(); err != nil {
				t.Fatal(err)
			}
			got, ok := m.next(t, time.Minute)
			if !ok || !regexp.MustCompile(tt.want).MatchString(got) {
				t.Errorf("systemd heard %q, want %s", got, tt.want)
			}
		})
	}
}

func TestWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	if err := errors.Join(Ready(""), Status("x"), Stopping(""), Reloading(), Watch(t.Context(), func(time.Time) bool { return true })); err != nil {
		t.Error(err)
	}
}

func TestWatchPingsOnlyWhileAlive(t *testing.T) {
	m := listen(t)
	const interval = 40 * time.Millisecond
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(interval.Microseconds(), 10))
	var dead atomic.Bool
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- Watch(ctx, func(time.Time) bool { return !dead.Load() }) }()

	for range 3 {
		if got, ok := m.next(t, time.Minute); !ok || got != "WATCHDOG=1" {
			t.Fatalf("systemd heard %q, want WATCHDOG=1", got)
		}
	}
	dead.Store(true)
	// Some pings may have been under way when the loop stood still; after them there is silence.
	for heard := 0; ; heard++ {
		got, ok := m.next(t, 5*interval)
		if !ok {
			break
		}
		if heard == 50 {
			t.Fatalf("systemd still hears %q from an agent that is not alive", got)
		}
	}
	dead.Store(false)
	if _, ok := m.next(t, time.Minute); !ok {
		t.Error("an agent that is alive again does not ping")
	}
	cancel(errors.New("test ends"))
	if err := <-done; err != nil {
		t.Error(err)
	}
}
