package daemon

import (
	"context"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/images"
	"github.com/berthd/berth/runtime/container"
)

// cleaner is what removes images from this host by these settings.
func (a *agent) cleaner(c *config.Config) *images.Cleaner {
	return images.New(images.Config{
		Runtime: a.host.runtime, Uses: a.imagesOfTasks,
		Off:      c.Image.CleanupDisabled || c.Image.PullBehavior == config.PullPreferCached,
		Interval: c.Image.CleanupInterval, MinimumAge: c.Image.MinimumAge, PerCycle: c.Image.PerCycle, Excluded: c.Image.Excluded,
		Untracked: c.Image.CleanupUntracked, UntrackedMinimumAge: c.Image.UntrackedMinimumAge,
		UntrackedWait: c.Task.CleanupWait, UntrackedContainers: c.Image.UntrackedPerCycle,
		High: c.Image.DiskHigh, Low: c.Image.DiskLow, Log: a.log.Named("images"),
	})
}

// imagesOfTasks are the images that tasks need: of every task that is known, until
// it is forgotten (spec/task-engine.md §8.1).
func (a *agent) imagesOfTasks() []images.Use {
	var uses []images.Use
	for _, t := range a.engine.Tasks() {
		d := &t.State.Definition
		for i := range d.Containers {
			use := images.Use{Task: d.ID, Ref: d.Containers[i].Image}
			for j := range t.State.Containers {
				if t.State.Containers[j].Name == d.Containers[i].Name {
					use.Digest = t.State.Containers[j].Digest
				}
			}
			uses = append(uses, use)
		}
	}
	return uses
}

// imagesAPI lists images.
type imagesAPI struct{ agent *agent }

// Images are the images in our containerd namespace, and why they stay.
func (i imagesAPI) Images(ctx context.Context) ([]hostapi.ImageView, error) {
	all, err := i.agent.images.List(ctx)
	if err != nil {
		return nil, err
	}
	statuses, err := i.agent.host.runtime.List(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string]int{}
	for _, s := range statuses {
		used[i.agent.host.runtime.Normalise(s.Image)]++
	}
	views := make([]hostapi.ImageView, 0, len(all))
	for _, image := range all {
		count := 0
		for _, name := range image.Names {
			count += used[name]
		}
		view := imageView(image.Image, count)
		view.Stays = image.Stays
		views = append(views, view)
	}
	return views, nil
}

func imageView(i container.Image, used int) hostapi.ImageView {
	return hostapi.ImageView{
		Name: i.Ref, Digest: i.Digest, Size: i.Size, PulledAt: moment(i.PulledAt), LastUsed: moment(i.UsedAt), InUse: used,
	}
}

// pullAPI pulls images for a person.
type pullAPI struct{ agent *agent }

// Pull pulls an image, with the host's own logins.
func (p pullAPI) Pull(ctx context.Context, image string, progress func(hostapi.PullView)) (hostapi.ImageView, error) {
	req := container.PullRequest{
		Ref: image, Policy: container.PullAlways, MakeRoom: p.agent.images.MakeRoom,
		Auth: func(ctx context.Context) (*container.Auth, error) { return p.agent.parts.HostAuth(ctx, image) },
	}
	got, err := p.agent.host.runtime.Pull(ctx, req, func(pr container.Progress) { progress(pullView(pr)) })
	return imageView(got, 0), err
}

// Pulls are the pulls under way.
func (p pullAPI) Pulls() []hostapi.PullView { return p.agent.observer.Pulls() }
