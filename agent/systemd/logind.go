package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// Where logind is on the bus.
const (
	logindName    = "org.freedesktop.login1"
	logindPath    = "/org/freedesktop/login1"
	logindManager = logindName + ".Manager"
)

// Word is what logind says about the life of the host.
type Word string

// The words.
const (
	// Down: a shutdown has begun, and waits for those who delay it.
	Down Word = "down"
	// Up: what had begun has ended or failed, and the host is up as far as logind knows.
	Up Word = "up"
	// Anew: another logind has begun. It may have begun a shutdown since.
	Anew Word = "anew"
)

// errNoBus is why a conversation with logind ends.
var errNoBus = errors.New("the system bus has closed the connection")

// Logind is a conversation with logind over the system bus, as far as it is about shutting the host down. It is used by one goroutine
// at a time.
type Logind struct {
	conn    *dbus.Conn
	manager dbus.BusObject
	signals chan *dbus.Signal
}

// DialLogind begins a conversation. Without a system bus it fails; whether logind is there shows with the first question. The
// conversation ends with ctx, or Close.
func DialLogind(ctx context.Context) (*Logind, error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx), dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, fmt.Errorf("cannot reach the system bus: %w", err)
	}
	// Words are few; the handler keeps those that nobody has heard yet, in order.
	l := &Logind{conn: conn, manager: conn.Object(logindName, logindPath), signals: make(chan *dbus.Signal, 1)}
	conn.Signal(l.signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface(logindManager), dbus.WithMatchMember("PrepareForShutdown"), dbus.WithMatchObjectPath(logindPath)},
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, logindName)},
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot listen to logind: %w", err), conn.Close())
		}
	}
	return l, nil
}

// Close ends the conversation. Locks stay.
func (l *Logind) Close() error {
	if err := l.conn.Close(); err != nil {
		return fmt.Errorf("cannot leave the system bus: %w", err)
	}
	return nil
}

// Delay takes a lock that delays shutdowns until it is closed everywhere, at most for as long as Patience says. While a shutdown is
// under way there is none to be had.
func (l *Logind) Delay(ctx context.Context, who, why string) (*os.File, error) {
	var fd dbus.UnixFD
	if err := l.manager.CallWithContext(ctx, logindManager+".Inhibit", 0, "shutdown", who, why, "delay").Store(&fd); err != nil {
		return nil, fmt.Errorf("cannot take a lock of logind: %w", err)
	}
	return os.NewFile(uintptr(fd), "shutdown lock"), nil
}

// Preparing says whether a shutdown has begun.
func (l *Logind) Preparing(ctx context.Context) (bool, error) {
	var yes bool
	return yes, l.property(ctx, "PreparingForShutdown", &yes)
}

// Patience is for how long all locks together delay a shutdown at most (InhibitDelayMaxSec of logind.conf).
func (l *Logind) Patience(ctx context.Context) (time.Duration, error) {
	var microseconds uint64
	err := l.property(ctx, "InhibitDelayMaxUSec", &microseconds)
	return time.Duration(microseconds) * time.Microsecond, err
}

func (l *Logind) property(ctx context.Context, name string, to any) error {
	var v dbus.Variant
	if err := l.manager.CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, logindManager, name).Store(&v); err != nil {
		return fmt.Errorf("cannot ask logind for %s: %w", name, err)
	}
	if err := v.Store(to); err != nil {
		return fmt.Errorf("cannot understand logind's %s: %w", name, err)
	}
	return nil
}

// Next waits for the next word. It fails when ctx ends, or the bus goes away.
func (l *Logind) Next(ctx context.Context) (Word, error) {
	for {
		select {
		case s, open := <-l.signals:
			if !open {
				return "", errNoBus
			}
			if word := wordOf(s); word != "" {
				return word, nil
			}
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// wordOf is the word in a signal; "" is none. The bus itself sends some that nobody asked for.
func wordOf(s *dbus.Signal) Word {
	switch s.Name {
	case logindManager + ".PrepareForShutdown":
		if len(s.Body) == 1 && s.Body[0] == true {
			return Down
		}
		return Up
	case "org.freedesktop.DBus.NameOwnerChanged":
		// Name, old owner, new owner; none is "".
		if len(s.Body) == 3 && s.Body[0] == logindName && s.Body[2] != "" {
			return Anew
		}
	}
	return ""
}
