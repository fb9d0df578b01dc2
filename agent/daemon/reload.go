package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/images"
	"github.com/berthd/berth/agent/systemd"
)

// liveSettings are the agent's as they count now. Most of them are fixed for as long as it runs; agent.options has those.
type liveSettings struct {
	agent *agent

	mu     sync.Mutex // guards config
	config config.Config
}

// list is what berth config --running shows.
func (s *liveSettings) list() []config.Setting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.Settings()
}

// run reads the settings again at each SIGHUP until ctx ends.
func (s *liveSettings) run(ctx context.Context) error {
	for {
		select {
		case <-s.agent.options.Hangup:
			s.reload(ctx)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// reload takes over what may change while the agent runs, and says what may not. Settings that cannot be read change nothing.
func (s *liveSettings) reload(ctx context.Context) {
	log := s.agent.log
	tell(log, systemd.Reloading())
	status := "settings are read again"
	live, late, err := s.read(ctx)
	if err != nil {
		status = "the settings cannot be used and are left as they were: berth config --check"
		log.Error("cannot read the settings again; they are left as they were", zap.Error(err))
	} else {
		log.Info("settings are read again", zap.Strings("changed", live))
	}
	if len(late) > 0 {
		status = "restart for " + strings.Join(late, ", ")
		log.Warn("settings that count after a restart of the agent, which its tasks do not notice", zap.Strings("names", late))
	}
	tell(log, systemd.Ready(status))
	s.agent.observer.events.Publish(hostapi.Event{Time: time.Now(), What: "settings read", Detail: status})
}

// read reads the settings and lets those count that are live.
func (s *liveSettings) read(ctx context.Context) (live, late []string, err error) {
	a := s.agent
	from, err := a.sources(ctx)
	if err != nil {
		return nil, nil, err
	}
	next, warnings, err := config.Load(from)
	for _, w := range warnings {
		a.log.Warn("setting", zap.Stringer("about", w))
	}
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now, live, late := s.config.Reloaded(next)
	// First what may fail: a change is taken over wholly or not at all.
	if slices.Contains(live, "ECS_ENGINE_AUTH_DATA") || slices.Contains(live, "ECS_ENGINE_AUTH_TYPE") {
		if err := a.parts.HostLogins(now.Image.AuthType, now.Image.AuthData); err != nil {
			return nil, nil, err
		}
	}
	if a.options.LogLevel != nil {
		if err := a.options.LogLevel(now.Agent.LogLevel); err != nil {
			return nil, nil, err
		}
	}
	a.drainer.ListenForSpot(now.Instance.SpotDraining)
	a.images.renew(a.cleaner(&now))
	s.config = now
	return live, late, nil
}

// sources are where the settings come from, with what instance metadata says.
func (a *agent) sources(ctx context.Context) (config.Options, error) {
	o := config.Options{File: a.options.ConfigFile, Environ: a.options.Environ}
	if !a.metadata.Available(ctx) {
		return o, nil
	}
	var err error
	if o.Region, err = a.metadata.Region(ctx); err != nil && !errors.Is(err, awsapi.ErrNotSet) && a.options.Config.Region == "" {
		return o, fmt.Errorf("cannot find out the region: %w", err)
	}
	data, err := a.metadata.UserData(ctx)
	if err != nil && !errors.Is(err, awsapi.ErrNotSet) && !a.options.Config.Explicit("ECS_CLUSTER") {
		return o, fmt.Errorf("cannot read user data, which may name the cluster: %w", err)
	}
	o.UserData = []byte(data)
	return o, nil
}

// imageCleaner is the clean-up with the settings that count now. Its methods may be called at once.
type imageCleaner struct {
	current atomic.Pointer[images.Cleaner]
	renewed chan struct{} // One token is enough: whoever takes it looks at what is current.
}

func newImageCleaner(first *images.Cleaner) *imageCleaner {
	c := &imageCleaner{renewed: make(chan struct{}, 1)}
	c.current.Store(first)
	return c
}

// renew puts another one in the place of the last.
func (c *imageCleaner) renew(next *images.Cleaner) {
	c.current.Store(next)
	select {
	case c.renewed <- struct{}{}:
	default:
	}
}

// errRenewed ends the clean-up by settings that count no longer.
var errRenewed = errors.New("the settings were read again")

// run cleans up until ctx ends.
func (c *imageCleaner) run(ctx context.Context) error {
	for {
		own, cancel := context.WithCancelCause(ctx)
		done := make(chan error, 1) // Its end, heard once.
		go func() { done <- c.current.Load().Run(own) }()
		select {
		case err := <-done:
			cancel(nil)
			return err
		case <-c.renewed:
			cancel(errRenewed)
			if err := <-done; ctx.Err() != nil {
				return err
			}
		}
	}
}

// MakeRoom makes room for a pull.
func (c *imageCleaner) MakeRoom(ctx context.Context, bytes int64) {
	c.current.Load().MakeRoom(ctx, bytes)
}

// List are the images, and why they stay.
func (c *imageCleaner) List(ctx context.Context) ([]images.View, error) {
	return c.current.Load().List(ctx)
}
