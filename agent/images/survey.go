package images

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berthd/berth/runtime/container"
)

// survey is what there is at one moment.
type survey struct {
	cfg       *Config
	images    []container.ImageRecord
	uses      []Use
	strangers []container.Stranger
}

func (c *Cleaner) survey(ctx context.Context) (*survey, error) {
	s := &survey{cfg: &c.cfg}
	var err error
	// Images first: what a task asks for after that is in Uses.
	if s.images, err = c.cfg.Runtime.Images(ctx); err != nil {
		return nil, err
	}
	if s.strangers, err = c.cfg.Runtime.Strangers(ctx); err != nil {
		return nil, err
	}
	s.uses = c.cfg.Uses()
	return s, nil
}

// user is the task that needs an image, or the container of somebody else that
// was made from it; "" when nobody does.
func (s *survey) user(image *container.ImageRecord) string {
	if by := usedBy(image, s.uses, s.cfg.Runtime.Normalise); by != "" {
		return "task " + by
	}
	for _, stranger := range s.strangers {
		if stranger.Image != "" && slices.Contains(image.Names, s.cfg.Runtime.Normalise(stranger.Image)) {
			return "container " + stranger.ID
		}
	}
	return ""
}

// usedBy is the first task that needs an image.
func usedBy(image *container.ImageRecord, uses []Use, normalise func(string) string) string {
	for _, use := range uses {
		if use.Digest != "" {
			if use.Digest == image.Digest {
				return use.Task
			}
			continue
		}
		if slices.Contains(image.Names, normalise(use.Ref)) {
			return use.Task
		}
	}
	return ""
}

// kept says why an image stays whatever the disk is like; "" when it may go.
func (s *survey) kept(image *container.ImageRecord) string {
	if by := s.user(image); by != "" {
		return "in use by " + by
	}
	switch {
	case image.Protected:
		return "protected by its label"
	case s.cfg.excluded(image):
		return "excluded by ECS_EXCLUDE_UNTRACKED_IMAGE"
	case s.cfg.Off:
		return "clean-up is off"
	case !image.Tracked() && !s.cfg.Untracked:
		return "not pulled or used by Berth"
	}
	return ""
}

// candidates are the images of Berth's that may go and are ready, least recently
// used first.
func (s *survey) candidates(ready func(*container.ImageRecord) bool) []*container.ImageRecord {
	return s.pick(
		func(i *container.ImageRecord) bool { return i.Tracked() && ready(i) },
		func(a, b *container.ImageRecord) int { return lastUsed(a).Compare(lastUsed(b)) })
}

// untracked are the images of somebody else that may go and are ready, smallest
// first (spec/task-engine.md §8.1).
func (s *survey) untracked(ready func(*container.ImageRecord) bool) []*container.ImageRecord {
	return s.pick(
		func(i *container.ImageRecord) bool { return !i.Tracked() && ready(i) },
		func(a, b *container.ImageRecord) int { return cmp.Compare(a.Size, b.Size) })
}

func (s *survey) pick(which func(*container.ImageRecord) bool, order func(a, b *container.ImageRecord) int) []*container.ImageRecord {
	var out []*container.ImageRecord
	for i := range s.images {
		if image := &s.images[i]; which(image) && s.kept(image) == "" {
			out = append(out, image)
		}
	}
	slices.SortStableFunc(out, order)
	return out
}

// View is an image as a person sees it.
type View struct {
	container.ImageRecord

	// Stays says why the image is not removed; "" for one that the next cycle may
	// take.
	Stays string
	// LastUsed is the last use by a container, or the pull.
	LastUsed time.Time
}

// List are the images with the reasons for which they stay, by reference.
func (c *Cleaner) List(ctx context.Context) ([]View, error) {
	s, err := c.survey(ctx)
	if err != nil {
		return nil, err
	}
	views := make([]View, 0, len(s.images))
	for i := range s.images {
		image := &s.images[i]
		v := View{ImageRecord: *image, Stays: s.kept(image), LastUsed: lastUsed(image)}
		if v.Stays == "" && !c.cfg.aged(image) {
			least := c.cfg.MinimumAge
			if !image.Tracked() {
				least = c.cfg.UntrackedMinimumAge
			}
			v.Stays = fmt.Sprintf("came less than %s ago", strings.TrimSuffix(strings.TrimSuffix(least.String(), "0s"), "0m"))
		}
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b View) int { return strings.Compare(a.Ref, b.Ref) })
	return views, nil
}
