// Package initproc is a minimal init for containers that ask for one on hosts
// that have neither docker-init nor tini nor catatonit: it runs one command as
// its child, hands it every signal, reaps whatever is orphaned, and exits as
// the command does. `berth init -- COMMAND` calls it.
package initproc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Exit codes of an init that could not run its command, as a shell has them.
const (
	exitCannotRun = 126
	exitNotFound  = 127
)

// Hold, instead of a command, has Run do nothing but reap, until SIGTERM: it is
// PID 1 of a namespace that others join.
const Hold = "--hold"

// Run runs the command, after an optional "--", and returns the exit code: the
// command's, or 128+n when signal n ended it. It must be called once, by a
// process that has no other children.
func Run(args []string) int {
	if len(args) == 1 && args[0] == Hold {
		return hold()
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "berth init: no command")
		return exitNotFound
	}
	signals := make(chan os.Signal, 64) // as many as may come while one is handed on
	signal.Notify(signals)
	defer signal.Stop(signals)
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it is what we are for
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "berth init: %v\n", err)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return exitNotFound
		}
		return exitCannotRun
	}
	child := cmd.Process.Pid
	for s := range signals {
		sig, ok := s.(unix.Signal)
		if !ok {
			continue
		}
		switch sig { //nolint:exhaustive // all others are handed on
		case unix.SIGCHLD:
			if code, ended := reap(child); ended {
				return code
			}
		case unix.SIGURG: // the Go runtime's own
		default:
			_ = unix.Kill(child, sig) // it may have gone: SIGCHLD tells
		}
	}
	return 0
}

// hold reaps until it is told to end.
func hold() int {
	signals := make(chan os.Signal, 64) // as many as may come while children are reaped
	signal.Notify(signals, unix.SIGCHLD, unix.SIGTERM, unix.SIGINT)
	defer signal.Stop(signals)
	for s := range signals {
		if s != unix.SIGCHLD {
			return 0
		}
		reap(0)
	}
	return 0
}

// reap takes in every child that has ended; ended says that the command is
// among them.
func reap(child int) (code int, ended bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return code, ended
		case pid != child:
			continue
		}
		ended, code = true, status.ExitStatus()
		if status.Signaled() {
			code = 128 + int(status.Signal())
		}
	}
}
