package ocifront

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// exitFailed is the exit code when the runtime could not be reached; runc has
// the same for its own failures.
const exitFailed = 1

// Called says whether a program with these arguments was called as the front.
func Called(args []string) bool { return len(args) > 0 && filepath.Base(args[0]) == Name }

// Run is the front's whole life: args are the program's, argv[0] the path of the
// link. It returns only after a failure, with the exit code.
func Run(args []string) int {
	c := parse(args)
	err := c.become()
	c.complain(err)
	return exitFailed
}

// call is one call of the OCI runtime.
type call struct {
	state string // the directory of the link
	args  []string
	verb  string // create, exec, or any other
	at    int    // of the verb in args
	log   string // where the caller looks for what went wrong
}

// valued are the runtime's global options that take a value, in the form that
// containerd's shim writes them.
func valued(option string) bool {
	switch option {
	case "--root", "--log", "--log-format", "--criu", "--rootless":
		return true
	}
	return false
}

// parse finds the verb behind the global options.
func parse(args []string) *call {
	c := &call{state: filepath.Dir(args[0]), args: args, at: len(args)}
	for i := 1; i < len(args); i++ {
		name, value, inline := strings.Cut(args[i], "=")
		if !strings.HasPrefix(name, "-") {
			c.verb, c.at = name, i
			return c
		}
		if !inline && valued(name) && i+1 < len(args) {
			i++
			value = args[i]
		}
		if name == "--log" {
			c.log = value
		}
	}
	return c
}

// become replaces this process by the real runtime.
func (c *call) become() error {
	var err error
	switch c.verb {
	case "create":
		err = c.create()
	case "exec":
		err = c.exec()
	}
	if err != nil {
		return err
	}
	runtime, err := os.Readlink(filepath.Join(c.state, realName))
	if err != nil {
		// A reboot took the link; what containerd cleans up then must still work.
		if runtime, err = exec.LookPath("runc"); err != nil {
			return fmt.Errorf("cannot find the OCI runtime: %w", err)
		}
	}
	c.args[0] = runtime
	err = syscall.Exec(runtime, c.args, os.Environ()) //nolint:forbidigo // the caller's, passed on unread
	return fmt.Errorf("cannot run the OCI runtime %s: %w", runtime, err)
}

// create has the runtime read a bundle in memory, which differs from containerd's
// in the variables, and whose root file system is containerd's.
func (c *call) create() error {
	id, bundle := c.args[len(c.args)-1], c.option("--bundle", "-b")
	if bundle == nil {
		return errors.New("cannot add secret variables: the bundle is not named")
	}
	env, err := read(c.state, id)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(*bundle, "config.json"))
	if err != nil {
		return fmt.Errorf("cannot read the container's spec: %w", err)
	}
	if text, err = mergeSpec(text, *bundle, env); err != nil {
		return err
	}
	own := filepath.Join(Dir(c.state), id)
	if err := replace(filepath.Join(own, "config.json"), text); err != nil {
		return err
	}
	*bundle = own
	return nil
}

// exec has the runtime read the process from a file in memory that is gone as
// soon as the runtime has ended.
func (c *call) exec() error {
	id, process := c.args[len(c.args)-1], c.option("--process", "-p")
	if process == nil {
		return nil // somebody's own call by hand
	}
	env, err := read(c.state, id)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(*process)
	if err != nil {
		return fmt.Errorf("cannot read the process: %w", err)
	}
	if text, err = mergeProcess(text, env); err != nil {
		return err
	}
	fd, err := unnamed(filepath.Join(Dir(c.state), id), text)
	if err != nil {
		return err
	}
	*process = fmt.Sprintf("/proc/self/fd/%d", fd)
	return nil
}

// option is where the value of one of the verb's options stands, nil without.
func (c *call) option(names ...string) *string {
	for i := c.at + 1; i+1 < len(c.args); i++ {
		if slices.Contains(names, c.args[i]) {
			return &c.args[i+1]
		}
	}
	return nil
}

// unnamed makes a file without a name in dir that stays open across execve.
func unnamed(dir string, content []byte) (int, error) {
	f, err := os.CreateTemp(dir, ".exec-")
	if err != nil {
		return 0, fmt.Errorf("cannot keep the process: %w", err)
	}
	defer f.Close() //nolint:errcheck // a duplicate stays open
	if err := os.Remove(f.Name()); err != nil {
		return 0, fmt.Errorf("cannot keep the process: %w", err)
	}
	if _, err := f.Write(content); err != nil {
		return 0, fmt.Errorf("cannot keep the process: %w", err)
	}
	fd, err := syscall.Dup(int(f.Fd())) // without close-on-exec
	if err != nil {
		return 0, fmt.Errorf("cannot keep the process: %w", err)
	}
	return fd, nil
}

// complain says what went wrong where containerd's shim looks for it.
func (c *call) complain(err error) {
	words := "berth: " + err.Error()
	if c.log != "" {
		line, _ := json.Marshal(map[string]string{"level": "error", "msg": words, "time": time.Now().Format(time.RFC3339Nano)})
		f, ferr := os.OpenFile(c.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if ferr == nil {
			_, ferr = f.Write(append(line, '\n'))
			ferr = errors.Join(ferr, f.Close())
		}
		if ferr == nil {
			return
		}
	}
	fmt.Fprintln(os.Stderr, words)
}
