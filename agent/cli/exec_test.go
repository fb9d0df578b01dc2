package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/hostapi/hostapitest"
)

// openTerminal makes a pseudo terminal: person is the side of whoever types, program that of whoever reads.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs a pseudo terminal: %v", err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

func resize(t *testing.T, f *os.File, width, height uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(f.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		t.Fatal(err)
	}
}

func TestExecOnATerminal(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	person, program := openTerminal(t)
	resize(t, program, 80, 24)
	before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{Streams: Streams{In: program, Out: program, Err: program}, now: time.Now}
	done := make(chan int, 1)
	go func() {
		done <- a.main(t.Context(), []string{"--socket", socket, "exec", "-it", "0123/web", "size", "1"})
	}()

	screen := bufio.NewReader(person)
	if line, err := screen.ReadString('\n'); err != nil || strings.TrimSpace(line) != "80x24" {
		t.Fatalf("the process has a terminal of %q, %v", line, err)
	}
	if raw, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS); err != nil || raw.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the terminal is not raw: ctrl-c would end us and not what runs in the container; %v", err)
	}
	resize(t, program, 132, 43)
	// The kernel tells those in front of a terminal, which a test is not.
	if err := unix.Kill(os.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	if line, err := screen.ReadString('\n'); err != nil || strings.TrimSpace(line) != "132x43" {
		t.Errorf("after the change the terminal is %q, %v", line, err)
	}
	if code := <-done; code != ExitOK {
		t.Errorf("code %d", code)
	}
	after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was not put back: %+v, was %+v; %v", after, before, err)
	}
}

func TestTerminalName(t *testing.T) {
	if got := terminalName([]string{"A=1"}); got == "" {
		t.Error("no TERM")
	}
	if got := terminalName([]string{"TERM=dumb"}); got != "" {
		t.Errorf("%s in place of the caller's", got)
	}
}

func TestTopOnATerminalRedraws(t *testing.T) {
	socket := hostapitest.Serve(t, hostapitest.New().Providers())
	person, program := openTerminal(t)
	ctx, stop := contextWithStop(t)
	a := &app{Streams: Streams{In: program, Out: program, Err: program}, now: time.Now}
	done := make(chan int, 1)
	go func() { done <- a.main(ctx, []string{"--socket", socket, "top", "--interval", "10ms"}) }()
	screen := bufio.NewReader(person)
	for drawn := 0; drawn < 3; {
		line, err := screen.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "\x1b[H") && strings.Contains(line, "TASK") {
			drawn++
		}
	}
	stop()
	if code := <-done; code != ExitOK {
		t.Errorf("an interrupted top answers %d", code)
	}
}
