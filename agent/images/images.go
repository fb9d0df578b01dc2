// Package images keeps the disk from filling with images that no task needs. It
// removes them by the settings of the ECS agent (spec/task-engine.md §8.1), and
// above a share of the disk without waiting for those; before a pull that would
// not fit it makes the room that is missing.
//
//	                    every interval        disk above high      pull does not fit
//	which images        unused, old enough    unused               unused
//	in which order      least recently used first
//	how many            at most PerCycle      until disk at low    until it fits
//
// An image stays as long as a task that the agent knows names it (one that has
// stopped, too, until it is cleaned up), while it is pulled, when a setting or its
// label says so, or when a container of somebody else in our containerd namespace
// was made from it. What is in other namespaces is never looked at.
package images

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/container"
)

// watch is how often the disk is looked at: one system call.
const watch = time.Minute

// Runtime has the images.
type Runtime interface {
	// Images lists the images, one for each digest.
	Images(ctx context.Context) ([]container.ImageRecord, error)
	// RemoveUnused removes an image by all of its names, unless one of them is
	// being pulled or inUse, asked while no pull can begin, says yes.
	RemoveUnused(ctx context.Context, names []string, inUse func() bool) (bool, error)
	// MarkUsed keeps, across restarts, when an image was in use.
	MarkUsed(ctx context.Context, name string, at time.Time) error
	// Normalise completes a reference to the form of ImageRecord.Names.
	Normalise(ref string) string
	// Space is how many bytes are free of how many where images are kept.
	Space(ctx context.Context) (free, total uint64, err error)
	// Strangers are the containers beside Berth's; RemoveStranger removes one that
	// does not run.
	Strangers(ctx context.Context) ([]container.Stranger, error)
	RemoveStranger(ctx context.Context, id string) error
}

// Use is an image that a task needs: by digest once that is known, else whatever
// its reference names.
type Use struct{ Task, Ref, Digest string }

// Config is what New needs. Runtime, Uses and Log must be set; the zero value of
// anything else turns off what it is about.
type Config struct {
	Runtime Runtime
	// Uses are the images of all tasks. It is asked before every removal.
	Uses func() []Use
	// Off removes nothing, whatever happens (ECS_DISABLE_IMAGE_CLEANUP, and the pull
	// behaviour prefer-cached).
	Off bool
	// Interval is the time between two cycles, MinimumAge how long ago an image must
	// have come, PerCycle the most that one cycle removes.
	Interval, MinimumAge time.Duration
	PerCycle             int
	// Excluded are references that are never removed.
	Excluded []string
	// Untracked removes images, and at most UntrackedContainers stopped containers
	// in a cycle, that did not come through Berth: an image UntrackedMinimumAge after
	// it came, a container UntrackedWait after it ended.
	Untracked                          bool
	UntrackedMinimumAge, UntrackedWait time.Duration
	UntrackedContainers                int
	// High and Low are percents of the disk in use: above High, images are removed
	// until Low.
	High, Low int
	Log       *zap.Logger
}

// Cleaner removes images. Its methods may be called at once.
type Cleaner struct {
	cfg  Config
	pass chan struct{} // one token: a pass is under way
	full bool          // belongs to the pass: it was said that nothing more can go
}

// New makes a Cleaner.
func New(cfg Config) *Cleaner { return &Cleaner{cfg: cfg, pass: make(chan struct{}, 1)} }

// Run removes images until ctx ends.
func (c *Cleaner) Run(ctx context.Context) error {
	if c.cfg.Off {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	disk := time.NewTicker(watch)
	defer disk.Stop()
	var due <-chan time.Time
	if c.cfg.Interval > 0 {
		cycle := time.NewTicker(c.cfg.Interval)
		defer cycle.Stop()
		due = cycle.C
	}
	c.relieve(ctx)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-due:
			c.cycle(ctx)
		case <-disk.C:
			c.relieve(ctx)
		}
	}
}

// begin waits for the pass under way and returns the end of the own one; nil when
// ctx ends first.
func (c *Cleaner) begin(ctx context.Context) func() {
	select {
	case c.pass <- struct{}{}:
		return func() { <-c.pass }
	case <-ctx.Done():
		return nil
	}
}

// cycle is what is done once in an interval.
func (c *Cleaner) cycle(ctx context.Context) {
	end := c.begin(ctx)
	if end == nil {
		return
	}
	defer end()
	s, err := c.survey(ctx)
	if err != nil {
		c.complain(ctx, "cannot look for images to remove", err)
		return
	}
	c.markUsed(ctx, s)
	left := c.cfg.PerCycle
	for _, image := range s.candidates(c.cfg.aged) {
		if left == 0 || ctx.Err() != nil {
			break
		}
		if c.remove(ctx, image, "unused") {
			left--
		}
	}
	if !c.cfg.Untracked {
		return
	}
	c.removeStrangers(ctx, s)
	for _, image := range s.untracked(c.cfg.aged) {
		if left == 0 || ctx.Err() != nil {
			break
		}
		if c.remove(ctx, image, "unused, and not pulled by Berth") {
			left--
		}
	}
}

// markUsed notes of the images in use that they still are, so that the time of
// their last use is right after a restart too.
func (c *Cleaner) markUsed(ctx context.Context, s *survey) {
	now := time.Now()
	for i := range s.images {
		image := &s.images[i]
		if s.user(image) == "" || now.Sub(image.UsedAt) < c.cfg.Interval/2 {
			continue
		}
		if err := c.cfg.Runtime.MarkUsed(ctx, image.Ref, now); err != nil {
			c.complain(ctx, "cannot note that an image is in use", err)
			return
		}
	}
}

// removeStrangers removes containers that somebody else has left.
func (c *Cleaner) removeStrangers(ctx context.Context, s *survey) {
	left := c.cfg.UntrackedContainers
	for i := range s.strangers {
		stranger := &s.strangers[i]
		if left == 0 || ctx.Err() != nil {
			return
		}
		if stranger.Running || time.Since(stranger.EndedAt) <= c.cfg.UntrackedWait {
			continue
		}
		if err := c.cfg.Runtime.RemoveStranger(ctx, stranger.ID); err != nil {
			c.complain(ctx, "cannot remove a container that is not Berth's", err)
			continue
		}
		c.cfg.Log.Info("removed a container that is not Berth's", zap.String("container", stranger.ID), zap.String("image", stranger.Image))
		s.strangers[i].Image = "" // it keeps its image no longer
		left--
	}
}

// remove removes one image, unless somebody needs it by now.
func (c *Cleaner) remove(ctx context.Context, image *container.ImageRecord, why string) bool {
	inUse := func() bool { return usedBy(image, c.cfg.Uses(), c.cfg.Runtime.Normalise) != "" }
	removed, err := c.cfg.Runtime.RemoveUnused(ctx, image.Names, inUse)
	if err != nil {
		c.complain(ctx, "cannot remove an image", err)
		return false
	}
	if removed {
		c.cfg.Log.Info("removed an image", zap.String("image", image.Ref), zap.String("why", why),
			zap.Int64("bytes", image.Size), zap.Time("used", lastUsed(image)))
	}
	return removed
}

// complain logs what went wrong, but for what the end of the agent cut short.
func (c *Cleaner) complain(ctx context.Context, what string, err error) {
	if ctx.Err() == nil {
		c.cfg.Log.Warn(what, zap.Error(err))
	}
}

// aged says whether an image has been here for long enough to go in a cycle.
func (c *Config) aged(image *container.ImageRecord) bool {
	least := c.MinimumAge
	if !image.Tracked() {
		least = c.UntrackedMinimumAge
	}
	return time.Since(image.PulledAt) > least
}

// excluded says whether a setting keeps the image.
func (c *Config) excluded(image *container.ImageRecord) bool {
	return slices.ContainsFunc(c.Excluded, func(ref string) bool {
		return slices.Contains(image.Names, ref) || slices.Contains(image.Names, c.Runtime.Normalise(ref))
	})
}

// lastUsed is when an image was last of use: its pull counts.
func lastUsed(image *container.ImageRecord) time.Time {
	if image.UsedAt.After(image.PulledAt) {
		return image.UsedAt
	}
	return image.PulledAt
}
