package packaging_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/packaging/machine"
)

// loadName is set where this program is called to use tasks from the machines' network: the URL of the cluster's health, and the
// addresses of the tasks, which send back what they are sent. It answers each line of its input with what it has seen since the one
// before.
const loadName = "BERTH_TEST_LOAD"

// seen is what those saw who use the tasks.
type seen struct {
	// Users is how many connections stay open.
	Users int
	// Echoes is how often a line came back, on connections that stay open; Opened how many connections were made besides.
	Echoes, Opened int
	// Slowest is how long the slowest of all of them took.
	Slowest time.Duration
	// Broken are the connections that ended or could not be made.
	Broken []string
	// Away is how long no agent was connected with ECS, and Back when one was again, after the line before.
	Away, Back time.Duration
}

// user uses tasks.
type user struct {
	mu    sync.Mutex // guards what follows
	since time.Time
	seen  seen
}

// bear uses the tasks until its input ends.
func bear(argument string) error {
	fields := strings.Fields(argument)
	u := &user{since: time.Now()}
	go u.watch(fields[0])
	go func() {
		var all sync.WaitGroup
		for _, address := range fields[1:] {
			all.Go(func() { u.enter(address) })
		}
		all.Wait()
		u.comeAndGo(fields[1:])
	}()
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		u.mu.Lock()
		told := u.seen
		u.seen, u.since = seen{Users: told.Users}, time.Now()
		u.mu.Unlock()
		if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
			return err
		}
	}
	return in.Err()
}

// note changes what was seen.
func (u *user) note(how func(*seen)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	how(&u.seen)
}

func (u *user) failed(address string, err error) {
	u.note(func(s *seen) { s.Broken = append(s.Broken, address+": "+err.Error()) })
}

// echo sends a line and waits for it.
func (u *user) echo(c net.Conn, lines *bufio.Reader, n int) error {
	began := time.Now()
	if err := c.SetDeadline(began.Add(time.Minute)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, n); err != nil {
		return err
	}
	back, err := lines.ReadString('\n')
	if err != nil {
		return err
	}
	if back != fmt.Sprintln(n) {
		return fmt.Errorf("%d came back as %q", n, back)
	}
	u.note(func(s *seen) { s.Slowest = max(s.Slowest, time.Since(began)) })
	return nil
}

// enter makes a connection that stays. A task that is RUNNING may not be listening yet.
func (u *user) enter(address string) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		c, err := net.Dial("tcp", address)
		if err == nil {
			lines := bufio.NewReader(c)
			if err = u.echo(c, lines, 0); err == nil {
				u.note(func(s *seen) { s.Users++ })
				go u.stay(address, c, lines)
				return
			}
			_ = c.Close() // The next one may be better.
		}
		<-ticker.C
	}
}

// stay uses a connection ten times a second.
func (u *user) stay(address string, c net.Conn, lines *bufio.Reader) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for n := 1; ; n++ {
		<-ticker.C
		if err := u.echo(c, lines, n); err != nil {
			u.failed(address, err)
			u.note(func(s *seen) { s.Users-- })
			return
		}
		u.note(func(s *seen) { s.Echoes++ })
	}
}

// comeAndGo makes ten new connections a second.
func (u *user) comeAndGo(addresses []string) {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		address := addresses[n%len(addresses)]
		c, err := net.DialTimeout("tcp", address, time.Minute)
		if err == nil {
			err = errors.Join(u.echo(c, bufio.NewReader(c), n), c.Close())
		}
		if err != nil {
			u.failed(address, err)
		}
		u.note(func(s *seen) { s.Opened++ })
		<-ticker.C
	}
}

// watch looks whether an agent is connected with ECS.
func (u *user) watch(url string) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	up, last := true, time.Now()
	for range ticker.C {
		now := connectedAgents(url)
		u.note(func(s *seen) {
			if !up {
				s.Away += time.Since(last)
			}
			if now > 0 && !up {
				s.Back = time.Since(u.since)
			}
		})
		up, last = now > 0, time.Now()
	}
}

func connectedAgents(url string) int {
	r, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer func() { _ = r.Body.Close() }()
	var health struct {
		Connected int `json:"connected"`
	}
	_ = json.NewDecoder(r.Body).Decode(&health) // That is 0.
	return health.Connected
}

// load is a user outside of the machines.
type load struct {
	t     *testing.T
	tell  io.WriteCloser
	hears *bufio.Scanner
}

// newLoad starts one, which ends with the test.
func newLoad(t *testing.T, lan *machine.LAN, health string, addresses []string) *load {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := lan.Command(context.WithoutCancel(t.Context()), self)
	cmd.Env = append(cmd.Environ(), loadName+"="+health+" "+strings.Join(addresses, " "))
	cmd.Stderr = os.Stderr
	tell, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	hear, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = tell.Close() // That is what ends it.
		if err := cmd.Wait(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			t.Errorf("those who use the tasks: %v", err)
		}
	})
	return &load{t, tell, bufio.NewScanner(hear)}
}

// saw is what was seen since it was asked last.
func (l *load) saw() seen {
	l.t.Helper()
	if _, err := fmt.Fprintln(l.tell); err != nil {
		l.t.Fatal(err)
	}
	if !l.hears.Scan() {
		l.t.Fatalf("those who use the tasks are gone: %v", l.hears.Err())
	}
	var s seen
	if err := json.Unmarshal(l.hears.Bytes(), &s); err != nil {
		l.t.Fatal(err)
	}
	return s
}
