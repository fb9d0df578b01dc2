package logs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
)

// ErrUnavailable: the log process does not answer; trying again can help.
var ErrUnavailable = errors.New("log process unavailable")

// spawnEvery is how long a process that was started is given to answer.
const spawnEvery = 200 * time.Millisecond

// keepPause is the pause before Keep tries again what failed.
const keepPause = time.Second

// ClientConfig is what a Client is made of.
type ClientConfig struct {
	// Socket, Dir and DataDir are those of the log process; empty ones are the
	// defaults.
	Socket, Dir, DataDir string
	// Spawn starts a log process when none answers; nil waits for somebody else
	// to (systemd). It returns once the process is started, not ready, and is
	// called again from time to time while none answers; one that has been
	// started and runs is enough. See Spawner.
	Spawn func() error
	// Patience is how long a call waits for a log process to answer; zero is
	// five seconds.
	Patience time.Duration
	// Log is where Keep logs; nil is nowhere.
	Log *zap.Logger
}

// Client is the agent's side: it makes the pipes and talks to the log process.
// Its methods may be called at once; calls for one container should not be.
//
// For each container it opened it holds the pipes open as well, so that output
// in them outlives a log process.
type Client struct {
	cfg  ClientConfig
	http *http.Client

	mu   sync.Mutex // guards held and secrets
	held map[string][]io.Closer
	// secrets are brought to a log process that has lost them.
	secrets map[string]container.SecretOptions
}

// NewClient makes a Client. It connects when it is asked to do something.
func NewClient(cfg ClientConfig) *Client {
	cfg.Socket = cmp.Or(cfg.Socket, DefaultSocket)
	cfg.Dir = cmp.Or(cfg.Dir, DefaultDir)
	cfg.DataDir = cmp.Or(cfg.DataDir, DefaultDataDir)
	cfg.Patience = cmp.Or(cfg.Patience, 5*time.Second)
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", cfg.Socket)
		},
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     30 * time.Second,
	}
	return &Client{cfg: cfg, http: &http.Client{Transport: transport}, held: make(map[string][]io.Closer), secrets: make(map[string]container.SecretOptions)}
}

// Open makes a container's pipes and returns once the log process reads them.
// It may be called again, by another agent too, before or after Close: the
// container's log is then carried on with. Wrong options match ErrOptions; a
// log process that does not answer in time ErrUnavailable.
//
// With the driver none, and no terminal, the answer has no output pipes.
func (c *Client) Open(ctx context.Context, want Container) (container.IO, error) {
	if err := checkID(want.ID); err != nil {
		return container.IO{}, err
	}
	var err error
	if want.Env, err = chosenEnv(want); err != nil {
		return container.IO{}, err
	}
	want.Options, want.Secrets = concealed(want.Options, want.Secrets)
	want.SecretNames = slices.Sorted(maps.Keys(want.Secrets))
	dir := filepath.Join(c.cfg.Dir, want.ID)
	fresh := !exists(dir)
	io, err := c.prepare(dir, want)
	if err == nil {
		err = c.call(ctx, http.MethodPost, want.ID+"/open", opening{want.Secrets}, nil)
	}
	if err == nil {
		err = c.hold(want, io)
	}
	if err != nil {
		if fresh && errors.Is(err, ErrOptions) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return container.IO{}, err
	}
	return io, nil
}

// prepare makes the container's directory true.
func (c *Client) prepare(dir string, want Container) (io container.IO, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return io, fmt.Errorf("cannot make log directory: %w", err)
	}
	names := want.streams()
	if want.Stdin {
		names = append(names, stdinName)
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := makeFIFO(path); err != nil {
			return io, err
		}
		switch name {
		case stdinName:
			io.Stdin = path
		case stdoutName:
			io.Stdout = path
		case stderrName:
			io.Stderr = path
		}
	}
	want.Created = time.Now()
	if was, err := loadContainer(dir); err == nil && !was.Created.IsZero() {
		want.Created = was.Created
	}
	if err := saveContainer(dir, want); err != nil {
		return io, err
	}
	return io, removeAll(filepath.Join(dir, closedName), filepath.Join(dir, closingName))
}

// hold keeps the reading ends of a container's output open.
func (c *Client) hold(want Container, io container.IO) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := want.ID
	if len(want.Secrets) > 0 {
		c.secrets[id] = want.Secrets
	}
	if c.held[id] != nil {
		return nil
	}
	for _, path := range []string{io.Stdout, io.Stderr} {
		if path == "" {
			continue
		}
		f, err := openFIFO(path)
		if err != nil {
			return err
		}
		c.held[id] = append(c.held[id], f)
	}
	return nil
}

// release lets go of a container's pipes.
func (c *Client) release(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, closer := range c.held[id] {
		errs = append(errs, closer.Close())
	}
	delete(c.held, id)
	return errors.Join(errs...)
}

// Detach lets go of all pipes and connections; containers and their logs go on.
func (c *Client) Detach() error {
	c.mu.Lock()
	ids := make([]string, 0, len(c.held))
	for id := range c.held {
		ids = append(ids, id)
	}
	c.mu.Unlock()
	var errs []error
	for _, id := range ids {
		errs = append(errs, c.release(id))
	}
	c.http.CloseIdleConnections()
	return errors.Join(errs...)
}

// Close is to be called once the container has exited and its task is deleted
// in the runtime. It returns when everything that was written is on disk, at
// the latest when ctx ends; the end itself is then still coming. A process that
// outlived the container and holds its pipe is waited for two seconds. Closing
// twice, or what was never opened, is no error.
func (c *Client) Close(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	dir := filepath.Join(c.cfg.Dir, id)
	if !exists(dir) || exists(filepath.Join(dir, closedName)) {
		return c.release(id)
	}
	if err := touch(filepath.Join(dir, closingName)); err != nil {
		return err
	}
	// The process adopts it first if it did not know it.
	for _, verb := range []string{"/open", "/close"} {
		if err := c.call(ctx, http.MethodPost, id+verb, nil, nil); err != nil {
			return err
		}
	}
	return c.release(id)
}

// Delivered returns once a log service has all that a container wrote that was
// closed; at once for a container whose lines go to none. It waits until ctx ends.
func (c *Client) Delivered(ctx context.Context, id string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := c.Status(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(s Status) bool { return s.ID == id })
		if i < 0 || !list[i].Open && list[i].Queued == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("cannot deliver the log of %s, %d bytes wait: %w", id, list[i].Queued, context.Cause(ctx))
		}
	}
}

// Remove deletes a container's pipes and log files. What is absent is no error.
func (c *Client) Remove(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.secrets, id)
	c.mu.Unlock()
	if err := c.release(id); err != nil {
		return err
	}
	if !exists(filepath.Join(c.cfg.Dir, id)) && !exists(filepath.Join(c.cfg.DataDir, id)) {
		return nil
	}
	return c.call(ctx, http.MethodDelete, id, nil, nil)
}

// Status is that of every container whose log is open, or has still to be
// delivered.
func (c *Client) Status(ctx context.Context) ([]Status, error) {
	var list []Status
	err := c.call(ctx, http.MethodGet, "", nil, &list)
	return list, err
}

// Keep sees to it that a log process runs, until ctx ends: it holds a
// connection, and starts a process (or waits for one) when that breaks. An
// agent without systemd runs it beside the rest.
func (c *Client) Keep(ctx context.Context) error {
	if err := c.holdAll(); err != nil {
		c.cfg.Log.Warn("cannot hold containers' pipes open", zap.Error(err))
	}
	silent := false
	for ctx.Err() == nil {
		resp, err := c.request(ctx, http.MethodGet, "http://logs/v1/hold", nil)
		if err != nil {
			if ctx.Err() == nil && !silent {
				silent = true
				c.cfg.Log.Warn("log process does not answer; trying until it does, and no container starts until then", zap.Error(err))
			}
			// request has waited for Patience, unless no process could be started.
			backoff.Wait(ctx, keepPause) // The loop looks at ctx.
			continue
		}
		if silent {
			silent = false
			c.cfg.Log.Info("log process answers")
		}
		c.remind(ctx)
		_, err = io.Copy(io.Discard, resp.Body)
		if err = errors.Join(err, resp.Body.Close()); ctx.Err() == nil {
			c.cfg.Log.Info("log process has ended", zap.Error(err))
		}
	}
	return context.Cause(ctx)
}

// remind brings a log process, which may have been started anew, the secret
// options that it cannot keep.
func (c *Client) remind(ctx context.Context) {
	c.mu.Lock()
	secrets := maps.Clone(c.secrets)
	c.mu.Unlock()
	for id, options := range secrets {
		if err := c.call(ctx, http.MethodPost, id+"/open", opening{options}, nil); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("cannot bring secret options to the log process", zap.String("container", id), zap.Error(err))
		}
	}
}

// call asks the log process for something, with in as the body unless it is nil,
// and decodes its answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) (err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("cannot ask log process: %w", err)
		}
	}
	resp, err := c.request(ctx, method, strings.TrimSuffix("http://logs/v1/containers/"+path, "/"), body)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode >= http.StatusBadRequest {
		var p problem
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
			p.Error = resp.Status
		}
		if resp.StatusCode == http.StatusBadRequest {
			return &optionsError{p.Error}
		}
		return fmt.Errorf("log process: %s", p.Error)
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("cannot read answer of log process: %w", err)
	}
	return nil
}

// optionsError is ErrOptions come over the wire.
type optionsError struct{ text string }

// Error is the log process's own text.
func (e *optionsError) Error() string { return e.text }

// Is makes it match ErrOptions.
func (e *optionsError) Is(target error) bool { return target == ErrOptions }

// request sends a request, and if nobody answers starts a log process, and
// tries again for as long as there is patience. Every verb may be repeated.
func (c *Client) request(ctx context.Context, method, url string, body []byte) (*http.Response, error) {
	deadline := time.Now().Add(c.cfg.Patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var spawn time.Time // not again before
	for {
		req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
		if err != nil {
			return nil, fmt.Errorf("cannot ask log process: %w", err)
		}
		resp, err := c.http.Do(req)
		if err == nil && resp.StatusCode == http.StatusServiceUnavailable {
			err = errors.Join(errStopped, resp.Body.Close()) // the next process will do it
		}
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cannot ask log process: %w", context.Cause(ctx))
		}
		if c.cfg.Spawn != nil && time.Now().After(spawn) {
			if err := c.cfg.Spawn(); err != nil {
				return nil, fmt.Errorf("cannot start log process: %w: %w", ErrUnavailable, err)
			}
			spawn = time.Now().Add(spawnEvery)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("cannot ask log process: %w: %w", ErrUnavailable, err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
