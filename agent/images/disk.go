package images

import (
	"context"
	"math"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/container"
)

// anyAge is what a full disk asks of an image's age.
func anyAge(*container.ImageRecord) bool { return true }

// relieve removes images while the disk is above the high mark, until it is at
// the low one.
func (c *Cleaner) relieve(ctx context.Context) {
	if c.cfg.High <= 0 {
		return
	}
	free, total, err := c.cfg.Runtime.Space(ctx)
	if err != nil || total == 0 {
		return // containerd's disk is not ours to see
	}
	if percent(free, total) <= c.cfg.High {
		return
	}
	end := c.begin(ctx)
	if end == nil {
		return
	}
	defer end()
	// In whole bytes, rounded up: the low mark is reached, not missed by one.
	want := total - total/100*uint64(c.cfg.Low)
	removed, now := c.free(ctx, want, "the disk is full")
	switch {
	case removed > 0:
		c.full = false
		c.cfg.Log.Info("removed images because the disk was full", zap.Int("images", removed),
			zap.Int("percent", percent(free, total)), zap.Int("now", percent(now, total)))
	case !c.full:
		c.full = true
		c.cfg.Log.Warn("the disk is full and no image can be removed: what fills it is in use, protected, or no image",
			zap.Int("percent", percent(free, total)), zap.Int("high", c.cfg.High), zap.Uint64("free", free), zap.Uint64("total", total))
	}
}

// MakeRoom removes images before a pull that needs so many bytes, those that are
// least recently used first, until they are free or nothing can go.
func (c *Cleaner) MakeRoom(ctx context.Context, bytes int64) {
	if c.cfg.Off || bytes <= 0 {
		return
	}
	end := c.begin(ctx)
	if end == nil {
		return
	}
	defer end()
	removed, now := c.free(ctx, uint64(bytes), "a pull needs the room")
	if removed > 0 {
		c.cfg.Log.Info("made room for a pull", zap.Int("images", removed), zap.Int64("needed", bytes), zap.Uint64("free", now))
	}
}

// free removes images until so many bytes are free, and says how many it removed
// and how much is free now.
func (c *Cleaner) free(ctx context.Context, want uint64, why string) (removed int, now uint64) {
	enough := func() bool {
		free, _, err := c.cfg.Runtime.Space(ctx)
		now = free
		return err != nil || free >= want || ctx.Err() != nil
	}
	if enough() { // somebody else has made room meanwhile
		return 0, now
	}
	s, err := c.survey(ctx)
	if err != nil {
		c.complain(ctx, "cannot look for images to remove", err)
		return 0, now
	}
	for _, image := range append(s.candidates(anyAge), s.untracked(anyAge)...) {
		if c.remove(ctx, image, why) {
			removed++
		}
		if enough() {
			break
		}
	}
	return removed, now
}

// percent is how much of the disk is in use.
func percent(free, total uint64) int {
	return int(math.Ceil(100 * float64(total-min(free, total)) / float64(total)))
}
