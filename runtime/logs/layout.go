package logs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/durable"
)

// Default places, used where a configuration leaves them empty.
const (
	DefaultSocket  = "/run/berth/logs.sock"
	DefaultDir     = "/run/berth/logs"
	DefaultDataDir = "/var/lib/berth/logs"
)

// Names inside a container's directory.
const (
	stdinName   = "stdin"
	stdoutName  = "stdout"
	stderrName  = "stderr"
	configName  = "config.json"
	spoolName   = "spool"
	closingName = "closing" // the agent asked for the end
	closedName  = "closed"  // the log process has written everything
	secretsName = "secrets" // values of secret options; only where the directory is in memory
)

// Container is what the log process knows about a container. It is kept in the
// container's directory, readable by root alone, until Remove.
type Container struct {
	// ID is the container's in the runtime; it names the directories.
	ID string `json:"id"`
	// Task is the task's ARN or id, Name the container's name in the task
	// definition, Image the reference it was made from, ImageID its id.
	Task    string `json:"task,omitempty"`
	Name    string `json:"name,omitempty"`
	Image   string `json:"image,omitempty"`
	ImageID string `json:"imageId,omitempty"`
	// Command is what the container runs. Created, which Open fills in, is when its
	// log was opened first.
	Command []string  `json:"command,omitempty"`
	Created time.Time `json:"created,omitzero"`
	// RuntimeName is the name that ECS users know the container by on its host, and
	// that drivers give it; "" is Name.
	RuntimeName string `json:"runtimeName,omitempty"`
	// Driver is "json-file" (also when empty) or another that the log process
	// has; Options are its options as ECS gives them.
	Driver  string            `json:"driver,omitempty"`
	Options map[string]string `json:"options,omitempty"`
	// Secrets are options that must not reach a disk; SecretNames, which Open
	// fills in, are their names. A driver finds them among Options.
	Secrets     container.SecretOptions `json:"-"`
	SecretNames []string                `json:"secretNames,omitempty"`
	// Labels and Env (K=V) are what the options "labels" and "env" choose from.
	// Only the variables that are chosen are kept.
	Labels map[string]string `json:"labels,omitempty"`
	Env    []string          `json:"env,omitempty"`
	// Terminal says that there is no stderr of its own; Stdin asks for a pipe to
	// the container.
	Terminal bool `json:"terminal,omitempty"`
	Stdin    bool `json:"stdin,omitempty"`
}

// driver is the driver's name with the default filled in.
func (c Container) driver() string {
	if c.Driver == "" {
		return DriverJSONFile
	}
	return c.Driver
}

// name is what drivers call the container.
func (c Container) name() string { return cmp.Or(c.RuntimeName, c.Name) }

// streams are the names of the output FIFOs the container has. Without a
// driver that wants lines there are none, unless a terminal needs its far end
// read.
func (c Container) streams() []string {
	switch {
	case c.Terminal:
		return []string{stdoutName}
	case c.driver() == DriverNone:
		return nil
	}
	return []string{stdoutName, stderrName}
}

// checkID says whether id can name a directory.
func checkID(id string) error {
	if id == "" || len(id) > 128 || id[0] == '.' || strings.ContainsFunc(id, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	}) {
		return fmt.Errorf("cannot use container id %q: it must be 1 to 128 of [a-zA-Z0-9_.-]", id)
	}
	return nil
}

// saveContainer writes the configuration beside and renames it.
func saveContainer(dir string, c Container) error {
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("cannot encode log configuration: %w", err)
	}
	return durable.ReplaceWhole(filepath.Join(dir, configName), data, 0o600)
}

// loadContainer reads the configuration in a container's directory.
func loadContainer(dir string) (Container, error) {
	data, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		return Container{}, fmt.Errorf("cannot read log configuration: %w", err)
	}
	var c Container
	if err := json.Unmarshal(data, &c); err != nil {
		return Container{}, fmt.Errorf("cannot read log configuration %s: %w", dir, err)
	}
	return c, nil
}

// makeFIFO makes a FIFO unless there is one.
func makeFIFO(path string) error {
	err := unix.Mkfifo(path, 0o600)
	if errors.Is(err, fs.ErrExist) {
		info, statErr := os.Lstat(path)
		if statErr == nil && info.Mode()&fs.ModeNamedPipe == 0 {
			statErr = errors.New("something else is there")
		}
		err = statErr
	}
	if err != nil {
		return fmt.Errorf("cannot make pipe %s: %w", path, err)
	}
	return nil
}

// openFIFO opens the reading end without waiting for a writer. A read from it
// answers 0 while nobody has the writing end open, and EAGAIN while somebody
// has and the pipe is empty.
func openFIFO(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open pipe: %w", err)
	}
	return f, nil
}

// exists says whether there is something at path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// touch makes an empty file.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make %s: %w", path, err)
	}
	return f.Close()
}

// removeAll removes files that may be gone already.
func removeAll(paths ...string) error {
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
