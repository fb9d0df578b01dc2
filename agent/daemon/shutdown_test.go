package daemon

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/systemd"
)

// bench is a host with a logind, and what the agent does on it, in order.
type bench struct {
	mu        sync.Mutex // guards the fields below
	said      []string
	preparing bool
	stopping  bool // what systemd says
	down      string
	noBus     error
	refuse    error // locks

	words chan systemd.Word
}

func (b *bench) say(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, what)
}

func (b *bench) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// fakeLogind is a conversation with it.
type fakeLogind struct{ *bench }

func (l fakeLogind) Delay(context.Context, string, string) (*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return nil, l.refuse
	}
	l.said = append(l.said, "lock")
	return os.Open(os.DevNull)
}

func (l fakeLogind) Preparing(context.Context) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.preparing, nil
}

func (l fakeLogind) Patience(context.Context) (time.Duration, error) { return time.Minute, nil }

func (l fakeLogind) Next(ctx context.Context) (systemd.Word, error) {
	select {
	case word, open := <-l.words:
		if !open {
			return "", errors.New("the bus is gone")
		}
		return word, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (l fakeLogind) Close() error { return nil }

// start runs shutdowns in a boot, and answers how to stop it.
func (b *bench) start(t *testing.T, boot string, lock *os.File) (stop func()) {
	t.Helper()
	s := &shutdowns{
		log: zap.NewNop(), boot: boot, lock: lock,
		dial: func(context.Context) (logind, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return fakeLogind{b}, b.noBus
		},
		goingDown: func(context.Context) (bool, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.stopping, nil
		},
		keep:   func(*os.File) error { b.say("kept"); return nil },
		forget: func() error { b.say("let go"); return nil },
		down: func() string {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.down
		},
		leave: func(ctx context.Context) {
			b.set(func() { b.said, b.down = append(b.said, "leave"), boot })
			timer := time.NewTimer(time.Second)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				b.say("cut short")
			}
		},
		stay: func(context.Context) { b.set(func() { b.said, b.down = append(b.said, "stay"), "" }) },
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	over := errors.New("the test is over")
	return func() {
		cancel(over)
		if err := <-done; !errors.Is(err, over) {
			t.Errorf("run = %v", err)
		}
		if s.lock != nil {
			t.Error("a lock is left")
		}
	}
}

func (b *bench) after(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func TestShutdowns(t *testing.T) {
	for _, tt := range []struct {
		name  string
		world *bench
		play  func(b *bench)
		want  string
	}{
		{"it comes", &bench{}, func(b *bench) {
			b.words <- systemd.Down
			b.after(2 * time.Second)
		}, "lock kept leave let go"},
		{"it is cancelled", &bench{}, func(b *bench) {
			b.words <- systemd.Down
			b.words <- systemd.Up
			b.after(2 * time.Second)
		}, "lock kept leave let go stay lock kept"},
		{"logind says that it is done, while systemd is at it", &bench{}, func(b *bench) {
			b.words <- systemd.Down
			b.set(func() { b.stopping = true })
			b.words <- systemd.Up
			b.after(2 * time.Second)
		}, "lock kept leave let go"},
		{"logind is another one", &bench{}, func(b *bench) {
			b.words <- systemd.Anew
			b.after(time.Second)
		}, "lock kept lock kept"},
		{"logind is another one, and forgets that the host was to go down", &bench{}, func(b *bench) {
			b.words <- systemd.Down
			b.words <- systemd.Anew
			b.after(2 * time.Second)
		}, "lock kept leave let go stay lock kept"},
		{"the bus is another one", &bench{}, func(b *bench) {
			close(b.words)
			b.set(func() { b.words = make(chan systemd.Word) })
			b.after(2 * time.Second)
		}, "lock kept lock kept"},
		{"the agent is started while it comes", &bench{preparing: true}, func(b *bench) {
			b.after(2 * time.Second)
		}, "leave let go"},
		{"the agent is stopped meanwhile, and the next one goes on", &bench{}, func(b *bench) {
			b.words <- systemd.Down
			b.after(500 * time.Millisecond)
		}, "lock kept leave cut short"},
		{"the last agent was killed, and then it was cancelled", &bench{down: "this"}, func(b *bench) {
			b.after(time.Second)
		}, "stay lock kept"},
		{"the host is up again", &bench{down: "that"}, func(b *bench) {
			b.after(time.Second)
		}, "stay lock kept"},
		{"the host is up again, without logind", &bench{down: "that", noBus: errors.New("no bus")}, func(b *bench) {
			b.after(time.Hour)
		}, "stay"},
		{"it was cancelled, and logind is gone", &bench{down: "this", noBus: errors.New("no bus")}, func(b *bench) {
			b.after(time.Hour)
		}, "stay"},
		{"the bus goes down with the host", &bench{down: "this", stopping: true, noBus: errors.New("no bus")}, func(b *bench) {
			b.after(time.Minute)
		}, ""},
		{"logind comes late", &bench{noBus: errors.New("no bus")}, func(b *bench) {
			b.after(time.Minute)
			b.set(func() { b.noBus = nil })
			b.after(time.Minute)
		}, "lock kept"},
		{"logind gives no locks", &bench{refuse: errors.New("not you")}, func(b *bench) {
			b.after(time.Minute)
			b.set(func() { b.refuse = nil })
			b.after(time.Minute)
		}, "lock kept"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := tt.world
				b.words = make(chan systemd.Word)
				inherited, err := os.Open(os.DevNull)
				if err != nil {
					t.Fatal(err)
				}
				stop := b.start(t, "this", inherited)
				synctest.Wait()
				tt.play(b)
				stop()
				if got := strings.Join(b.said, " "); got != tt.want {
					t.Errorf("got  %s\nwant %s", got, tt.want)
				}
				if _, err := inherited.Stat(); !errors.Is(err, os.ErrClosed) {
					t.Error("the lock that was inherited is still open")
				}
			})
		})
	}
}
