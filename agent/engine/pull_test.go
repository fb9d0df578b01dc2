package engine

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

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
)

// stock is a world whose registry answers as told, and which remembers what
// containers were created from.
type stock struct {
	*world

	mu      sync.Mutex // guards all below
	image   fakert.Image
	created []string // digests
}

func newStock(image fakert.Image) *stock {
	s := &stock{image: image}
	script := func(spec container.Spec) fakert.Script {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.created = append(s.created, spec.Digest)
		return fakert.Script{}
	}
	s.world = newWorld(script)
	s.runtime = fakert.New(fakert.Config{Container: script, Image: func(container.PullRequest) fakert.Image {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.image
	}})
	return s
}

func (s *stock) serve(image fakert.Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.image = image
}

// from are the digests that containers were created from.
func (s *stock) from() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Compact(slices.Clone(s.created))
}

// have puts an image on the host.
func (s *stock) have(t *testing.T, ref string) {
	t.Helper()
	if _, err := s.runtime.Pull(t.Context(), container.PullRequest{Ref: ref}, nil); err != nil {
		t.Fatal(err)
	}
}

// TestPullBehaviour: what ECS hears of a task by the behaviour, whether the
// registry works, and whether the image is on the host (spec/task-engine.md §7.1).
func TestPullBehaviour(t *testing.T) {
	const digest = "sha256:0123"
	ran := []string{"PENDING, web PENDING", "RUNNING, web RUNNING"}
	broken := fakert.Image{Digest: digest, ResolveErr: errors.New("registry is down")}
	lost := fakert.Image{Digest: digest, PullErr: errors.New("layer is gone")}
	manifest := `STOPPED, web STOPPED "CannotPullImageManifestError: registry is down"`
	for _, c := range []struct {
		name    string
		policy  container.PullPolicy
		upfront bool
		here    bool
		image   fakert.Image
		want    []string
		asked   bool // pullStartedAt is told
	}{
		{name: "default", policy: container.PullDefault, want: ran, asked: true},
		{name: "default, on the host", policy: container.PullDefault, here: true, want: ran, asked: true},
		{name: "default, registry down", policy: container.PullDefault, image: broken, want: []string{manifest}, asked: true},
		{name: "default, registry down, on the host", policy: container.PullDefault, here: true, image: broken, want: ran},
		{name: "default, layer gone", policy: container.PullDefault, image: lost, want: []string{
			"PENDING, web PENDING", `STOPPED, web STOPPED "CannotPullContainerError: layer is gone"`,
		}, asked: true},
		{name: "always, registry down, on the host", policy: container.PullAlways, here: true, image: broken, want: []string{manifest}, asked: true},
		{name: "once, on the host", policy: container.PullOnce, here: true, image: broken, want: ran},
		{name: "once, registry down", policy: container.PullOnce, image: broken, want: []string{manifest}, asked: true},
		{name: "prefer-cached, on the host", policy: container.PullPreferCached, here: true, image: broken, want: ran},
		{name: "prefer-cached", policy: container.PullPreferCached, want: ran, asked: true},
		{name: "upfront, registry down", policy: container.PullDefault, upfront: true, image: broken, want: []string{
			`STOPPED "CannotPullImageManifestError: registry is down", web STOPPED "CannotPullImageManifestError: registry is down"`,
		}, asked: true},
		{name: "upfront, registry down, on the host", policy: container.PullDefault, upfront: true, here: true, image: broken, want: ran},
		{name: "upfront, always", policy: container.PullAlways, upfront: true, image: broken, want: []string{manifest}, asked: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStock(fakert.Image{Digest: digest})
				if c.here {
					s.have(t, "registry.test/web:1")
				}
				s.serve(fakert.Image{Digest: digest, PullDelay: time.Second, ResolveErr: c.image.ResolveErr, PullErr: c.image.PullErr})
				e, stop := s.start(t, func(cfg *Config) {
					cfg.PullPolicy, cfg.Machine = c.policy, task.Options{PullUpfront: c.upfront}
				})
				defer stop()
				synctest.Wait()
				d := web("a1", 0)
				if err := e.Accept(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(30 * time.Second)
				if diff := cmp.Diff(c.want, s.reports(d.ARN)); diff != "" {
					t.Error(diff)
				}
				last := s.reported()[len(s.reported())-1]
				if got := !last.PullStartedAt.IsZero(); got != c.asked {
					t.Errorf("a pull was told of: %v, want %v", got, c.asked)
				}
				if slices.Contains(c.want, ran[1]) {
					if diff := cmp.Diff([]string{digest}, s.from()); diff != "" {
						t.Error(diff)
					}
				}
			})
		})
	}
}

// TestPullPinned: of an image whose digest the task definition names, ECS is told
// no digest (spec/task-engine.md §7.2).
func TestPullPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStock(fakert.Image{})
		e, stop := s.start(t, nil)
		defer stop()
		synctest.Wait()
		d := web("a1", 0)
		d.Containers[0].Image = "registry.test/web@sha256:" + strings.Repeat("ab", 32)
		begin(t, e, d)
		if diff := cmp.Diff([]string{"RUNNING, web RUNNING"}, s.reports(d.ARN)); diff != "" {
			t.Error(diff)
		}
		if got := s.reported()[0].Containers[0].ImageDigest; got != "" {
			t.Errorf("digest %q was told", got)
		}
	})
}

// TestPulledDigestStays: an agent that is killed between pull and creation creates
// from what was pulled, though the tag has moved since.
func TestPulledDigestStays(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprintf("image kept %v", kept), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStock(fakert.Image{Digest: "sha256:first"})
				slow := func(cfg *Config) { cfg.Resources = waiting{} }
				e, stop := s.start(t, slow)
				synctest.Wait()
				d := web("a1", 0)
				if err := e.Accept(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // pulled, and waiting for its resources
				stop()
				s.serve(fakert.Image{Digest: "sha256:second"})
				if kept {
					s.have(t, "registry.test/web:1") // another task moved the tag
				} else {
					s.runtime.Forget("registry.test/web:1")
				}
				_, stop = s.start(t, nil)
				defer stop()
				time.Sleep(time.Second)
				if diff := cmp.Diff([]string{"sha256:first"}, s.from()); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]string{"PENDING, web PENDING", "RUNNING, web RUNNING"}, s.reports(d.ARN)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// waiting are resources that do not come.
type waiting struct{ nothing }

func (waiting) Provision(ctx context.Context, _ Task) (map[string]Outfit, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestPullTimes: the total time of a pull, in ECS's words.
func TestPullTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStock(fakert.Image{PullDelay: 3 * time.Hour})
		e, stop := s.start(t, nil)
		defer stop()
		synctest.Wait()
		d := web("a1", 0)
		if err := e.Accept(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2*time.Hour + time.Second)
		want := `STOPPED, web STOPPED "DockerTimeoutError: Could not transition to pulled; timed out after waiting 2h0m0s"`
		if got := s.reports(d.ARN); len(got) == 0 || got[len(got)-1] != want {
			t.Errorf("reports %q, want the last %q", got, want)
		}
	})
}
