package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/berthd/berth/runtime/container"
)

// ErrOld: the log process does not know how to give way to another.
var ErrOld = errors.New("the log process is too old for that")

// Process says which program the log process is.
type Process struct {
	PID     int    `json:"pid"`
	Version string `json:"version"`
}

// process answers which program this is.
func (s *server) process(rw http.ResponseWriter, _ *http.Request) {
	s.answer(rw, http.StatusOK, Process{PID: os.Getpid(), Version: s.cfg.Version})
}

// retire ends this process, and not the next one if somebody asks twice.
func (s *server) retire(rw http.ResponseWriter, r *http.Request) {
	if r.FormValue("pid") == strconv.Itoa(os.Getpid()) {
		select {
		case s.retired <- struct{}{}:
		default: // It has been asked already.
		}
	}
	rw.WriteHeader(http.StatusNoContent)
}

// Process is the log process as it is now. It matches ErrOld when that cannot say.
func (c *Client) Process(ctx context.Context) (p Process, err error) {
	resp, err := c.ask(ctx, http.MethodGet, "http://logs/v1/process")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return p, fmt.Errorf("cannot read answer of log process: %w", err)
	}
	return p, nil
}

// Retire asks the log process p to end, so that whoever keeps it running (systemd, or ClientConfig.Spawn) starts the program that is
// installed now. This side holds the pipes open meanwhile, and writers have room in them: no line is lost. It returns when it was asked,
// not when it has ended.
func (c *Client) Retire(ctx context.Context, p Process) error {
	if err := c.holdAll(); err != nil {
		return err
	}
	resp, err := c.ask(ctx, http.MethodPost, "http://logs/v1/retire?pid="+strconv.Itoa(p.PID))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// holdAll holds the pipes of containers that another agent opened: what a container leaves in them when it ends while no log process
// runs must not go with it.
func (c *Client) holdAll() error {
	entries, err := os.ReadDir(c.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot look for containers: %w", err)
	}
	var errs []error
	for _, entry := range entries {
		dir := filepath.Join(c.cfg.Dir, entry.Name())
		if checkID(entry.Name()) != nil || !exists(filepath.Join(dir, configName)) || exists(filepath.Join(dir, closedName)) {
			continue
		}
		var pipes container.IO
		for name, path := range map[string]*string{stdoutName: &pipes.Stdout, stderrName: &pipes.Stderr} {
			if p := filepath.Join(dir, name); exists(p) {
				*path = p
			}
		}
		// One that ends just now takes its pipes with it.
		if err := c.hold(Container{ID: entry.Name()}, pipes); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// ask is request for these two; the body is the caller's to close.
func (c *Client) ask(ctx context.Context, method, url string) (*http.Response, error) {
	resp, err := c.request(ctx, method, url, nil)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusNotFound:
		return nil, errors.Join(ErrOld, resp.Body.Close())
	case resp.StatusCode >= http.StatusBadRequest:
		return nil, errors.Join(fmt.Errorf("log process: %s", resp.Status), resp.Body.Close())
	}
	return resp, nil
}
