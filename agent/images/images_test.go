package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/berthd/berth/runtime/container"
)

const gib = 1 << 30

// disk is a host's images and the disk that they are on.
type disk struct {
	mu        sync.Mutex // guards all below
	total     uint64
	other     uint64 // bytes of what is no image
	images    []container.ImageRecord
	strangers []container.Stranger
	busy      map[string]bool // names that are being pulled
	broken    map[string]bool // names that cannot be removed
	removed   []string
	uses      []Use
	lateUse   *Use // comes as soon as something is to be removed
}

func (d *disk) Images(context.Context) ([]container.ImageRecord, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.images), nil
}

func (d *disk) RemoveUnused(_ context.Context, names []string, inUse func() bool) (bool, error) {
	d.mu.Lock()
	if d.lateUse != nil {
		d.uses, d.lateUse = append(d.uses, *d.lateUse), nil
	}
	d.mu.Unlock()
	if inUse() {
		return false, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		if d.busy[name] {
			return false, nil
		}
		if d.broken[name] {
			return false, errors.New("containerd says no")
		}
	}
	d.images = slices.DeleteFunc(d.images, func(i container.ImageRecord) bool { return slices.Equal(i.Names, names) })
	d.removed = append(d.removed, names[0])
	return true, nil
}

func (d *disk) MarkUsed(_ context.Context, name string, at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.images {
		if slices.Contains(d.images[i].Names, name) {
			d.images[i].UsedAt = at
		}
	}
	return nil
}

func (*disk) Normalise(ref string) string {
	if strings.Contains(ref, ":") || strings.Contains(ref, "@") {
		return ref
	}
	return ref + ":latest"
}

func (d *disk) Space(context.Context) (free, total uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used := d.other
	for _, i := range d.images {
		used += uint64(i.Size)
	}
	return d.total - used, d.total, nil
}

func (d *disk) Strangers(context.Context) ([]container.Stranger, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.strangers), nil
}

func (d *disk) RemoveStranger(_ context.Context, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken[id] {
		return errors.New("containerd says no")
	}
	d.strangers = slices.DeleteFunc(d.strangers, func(s container.Stranger) bool { return s.ID == id })
	d.removed = append(d.removed, "container "+id)
	return nil
}

func (d *disk) used() []Use {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.uses)
}

// gone are the removed since the last call, in order.
func (d *disk) gone() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := strings.Join(d.removed, " ")
	d.removed = nil
	return out
}

// image is one of a gibibyte, pulled by Berth and last used some hours ago.
func image(name string, hours int) container.ImageRecord {
	then := time.Now().Add(-time.Duration(hours) * time.Hour)
	return container.ImageRecord{
		Image:  container.Image{Ref: name + ":latest", Digest: "sha256:" + name, Size: gib, PulledAt: then.Add(-time.Hour), UsedAt: then},
		Names:  []string{name + ":latest", name + "@sha256:" + name},
		Pulled: true,
	}
}

// foreign is an image that is not Berth's.
func foreign(name string, hours, size int) container.ImageRecord {
	i := image(name, hours)
	i.Pulled, i.UsedAt, i.Size = false, time.Time{}, int64(size)*gib
	return i
}

// defaults are the ECS agent's settings.
func defaults(d *disk) Config {
	return Config{
		Runtime: d, Uses: d.used, Interval: 30 * time.Minute, MinimumAge: time.Hour, PerCycle: 5,
		UntrackedMinimumAge: time.Hour, UntrackedContainers: 5, UntrackedWait: 3 * time.Hour, Log: zap.NewNop(),
	}
}

// run runs a Cleaner for the test and returns its end.
func run(t *testing.T, c *Cleaner) func() {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	synctest.Wait()
	return func() { cancel(errors.New("the test ends")); <-done }
}

// TestCycle: which images one cycle removes, and in which order
// (spec/task-engine.md §8.1).
func TestCycle(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*disk, *Config)
		want string
	}{
		{"least recently used first, PerCycle of them", func(d *disk, c *Config) { c.PerCycle = 2 }, "old:latest mid:latest"},
		{"all", func(*disk, *Config) {}, "old:latest mid:latest new:latest"},
		{"in use by its digest", func(d *disk, _ *Config) { d.uses = []Use{{"t1", "other", "sha256:old"}} }, "mid:latest new:latest"},
		{"in use by its name, before it is pulled", func(d *disk, _ *Config) { d.uses = []Use{{"t1", "mid", ""}} }, "old:latest new:latest"},
		{"the name of a task that was created from another image", func(d *disk, _ *Config) { d.uses = []Use{{"t1", "mid", "sha256:before"}} }, "old:latest mid:latest new:latest"},
		{"a task that comes during the cycle", func(d *disk, _ *Config) { d.lateUse = &Use{"t1", "mid", ""} }, "old:latest new:latest"},
		{"excluded", func(_ *disk, c *Config) { c.Excluded = []string{"mid"} }, "old:latest new:latest"},
		{"protected by its label", func(d *disk, _ *Config) { d.images[0].Protected = true }, "mid:latest new:latest"},
		{"being pulled", func(d *disk, _ *Config) { d.busy = map[string]bool{"mid:latest": true} }, "old:latest new:latest"},
		{"one that fails does not count", func(d *disk, c *Config) {
			c.PerCycle, d.broken = 1, map[string]bool{"old:latest": true}
		}, "mid:latest"},
		{"younger than the minimum age", func(_ *disk, c *Config) { c.MinimumAge = 5 * time.Hour }, "old:latest"},
		{"off", func(_ *disk, c *Config) { c.Off, c.High, c.Low = true, 1, 1 }, ""},
		{"a container of somebody else was made from it", func(d *disk, _ *Config) {
			d.strangers = []container.Stranger{{ID: "s", Image: "mid"}}
		}, "old:latest new:latest"},
		{"somebody else's stay", func(d *disk, _ *Config) { d.images = append(d.images, foreign("f", 90, 1)) }, "old:latest mid:latest new:latest"},
		{"somebody else's go when asked, smallest first", func(d *disk, c *Config) {
			c.Untracked = true
			d.images = append(d.images, foreign("big", 90, 3), foreign("small", 80, 1))
		}, "old:latest mid:latest new:latest small:latest big:latest"},
		{"the budget is for both, and not off by one", func(d *disk, c *Config) {
			c.Untracked, c.PerCycle = true, 3
			d.images = append(d.images, foreign("f", 90, 1))
		}, "old:latest mid:latest new:latest"},
		{"somebody else's containers that ended long ago, and then their images", func(d *disk, c *Config) {
			c.Untracked, c.PerCycle, c.UntrackedContainers = true, 9, 2
			d.images = append(d.images, foreign("f", 90, 1), foreign("g", 90, 2))
			long, short := time.Now().Add(-4*time.Hour), time.Now().Add(-time.Hour)
			d.strangers = []container.Stranger{
				{ID: "runs", Running: true, Image: "g"},
				{ID: "recent", EndedAt: short},
				{ID: "fails", EndedAt: long},
				{ID: "a", EndedAt: long, Image: "f"},
				{ID: "b", EndedAt: long},
				{ID: "c", EndedAt: long},
			}
			d.broken = map[string]bool{"fails": true}
		}, "old:latest mid:latest new:latest container a container b f:latest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &disk{total: 100 * gib, images: []container.ImageRecord{image("old", 6), image("new", 2), image("mid", 3)}}
				cfg := defaults(d)
				c.set(d, &cfg)
				defer run(t, New(cfg))()
				if got := d.gone(); got != "" {
					t.Errorf("removed before the first interval: %s", got)
				}
				time.Sleep(cfg.Interval + time.Second)
				if got := d.gone(); got != c.want {
					t.Errorf("removed %q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestUsedIsKept: an image that was in use until now is not the oldest only
// because its container was created long ago.
func TestUsedIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{total: 100 * gib, images: []container.ImageRecord{image("long", 90), image("short", 2)}}
		d.uses = []Use{{"t1", "long", "sha256:long"}, {"t2", "short", "sha256:short"}}
		cfg := defaults(d)
		cfg.PerCycle = 1
		defer run(t, New(cfg))()
		time.Sleep(cfg.Interval + time.Second)
		d.mu.Lock()
		d.uses = d.uses[:1]
		d.mu.Unlock()
		time.Sleep(cfg.Interval)
		d.mu.Lock()
		d.uses = nil
		d.mu.Unlock()
		if got := d.gone(); got != "short:latest" {
			t.Errorf("removed %q first", got)
		}
	})
}

// TestWatermark: above the high mark images go until the low one is reached,
// whatever their age and the interval.
func TestWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{total: 100 * gib, other: 76 * gib}
		for i := range 8 {
			d.images = append(d.images, image(fmt.Sprintf("i%d", i), 8-i))
		}
		core, logs := observer.New(zap.InfoLevel)
		cfg := defaults(d)
		cfg.Interval, cfg.MinimumAge, cfg.High, cfg.Low, cfg.Log = 0, 1000*time.Hour, 85, 80, zap.New(core)
		defer run(t, New(cfg))()
		if got := d.gone(); got != "" {
			t.Errorf("removed at 84%%: %s", got)
		}
		grow := func(by uint64) {
			d.mu.Lock()
			d.other += by
			d.mu.Unlock()
			time.Sleep(watch + time.Second)
		}
		grow(2 * gib) // 86
		if got, want := d.gone(), "i0:latest i1:latest i2:latest i3:latest i4:latest i5:latest"; got != want {
			t.Errorf("removed %q, want %q: 86%% to 80%%", got, want)
		}
		grow(20 * gib)
		if got, want := d.gone(), "i6:latest i7:latest"; got != want {
			t.Errorf("removed %q, want all that is left: %q", got, want)
		}
		time.Sleep(time.Hour)
		warnings := logs.FilterLevelExact(zap.WarnLevel).All()
		if len(warnings) != 1 || warnings[0].ContextMap()["percent"] != int64(98) {
			t.Errorf("that nothing can go is said once, with numbers: %+v", warnings)
		}
	})
}

// TestMakeRoom: room for a pull is made at once, and no more of it than is missing.
func TestMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{total: 10 * gib, other: 5 * gib}
		d.images = []container.ImageRecord{image("a", 1), image("b", 3), image("c", 2), image("d", 9)}
		d.uses = []Use{{"t1", "d", ""}}
		c := New(defaults(d))
		var wg sync.WaitGroup
		for range 2 { // two pulls at once
			wg.Go(func() { c.MakeRoom(t.Context(), 3*gib) })
		}
		wg.Wait()
		if got := d.gone(); got != "b:latest c:latest" {
			t.Errorf("removed %q", got)
		}
		c.MakeRoom(t.Context(), 100*gib)
		if got := d.gone(); got != "a:latest" {
			t.Errorf("for what never fits, removed %q", got)
		}
		off := defaults(d)
		off.Off = true
		d.uses = nil
		New(off).MakeRoom(t.Context(), gib)
		if got := d.gone(); got != "" {
			t.Errorf("removed %q though clean-up is off", got)
		}
	})
}

func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{images: []container.ImageRecord{
			image("used", 9), image("free", 9), image("young", 0), image("safe", 9), image("listed", 9), foreign("baked", 90, 1), image("made", 3),
		}}
		d.images[2].PulledAt = time.Now()
		d.images[3].Protected = true
		d.uses = []Use{{"t1", "used", ""}}
		d.strangers = []container.Stranger{{ID: "s1", Image: "made"}}
		cfg := defaults(d)
		cfg.Excluded = []string{"listed"}
		views, err := New(cfg).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range views {
			got = append(got, v.Ref+" "+v.Stays)
		}
		want := []string{
			"baked:latest not pulled or used by Berth", "free:latest ", "listed:latest excluded by ECS_EXCLUDE_UNTRACKED_IMAGE",
			"made:latest in use by container s1", "safe:latest protected by its label", "used:latest in use by task t1", "young:latest came less than 1h ago",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
		cfg.Off = true
		if views, err = New(cfg).List(t.Context()); err != nil || views[1].Stays != "clean-up is off" {
			t.Errorf("with clean-up off: %+v, %v", views[1], err)
		}
	})
}
