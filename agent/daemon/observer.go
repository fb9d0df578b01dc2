package daemon

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/agent/engine"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/metrics/sampler"
	"github.com/berthd/berth/runtime/container"
)

// observer is told by the engine what happens, and passes it on: running
// containers to the sampler, events and pulls to the host API.
type observer struct {
	sampler *sampler.Sampler
	events  *hostapi.Events
	// cgroup and netns say where a container is measured.
	cgroup func(task, id string) string
	netns  func(id string) string
	// bases are what the counters of restarted containers had reached.
	bases bases
	// meta is told of every view of a task.
	meta *meta
	// ended is told of every view of a task that has stopped; nil is nobody.
	ended func(t *engine.Task)

	mu      sync.Mutex // guards what follows
	tracked map[string]time.Time
	pulls   map[string]hostapi.PullView
}

var _ engine.Observer = (*observer)(nil)

// Changed tracks what runs and forgets what does not. A container that its restart
// policy is about to start again stays tracked: its counters go on from where they
// were (spec/task-engine.md §13.6).
func (o *observer) Changed(t engine.Task) {
	o.meta.changed(t)
	if o.ended != nil && (t.Forgotten || !t.State.StoppedAt.IsZero()) {
		o.ended(&t)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range t.State.Containers {
		c := &t.State.Containers[i]
		id := t.ContainerID(c.Name)
		if c.Phase != task.PhaseRunning || t.Forgotten {
			if _, was := o.tracked[id]; was {
				o.pausedOrOver(id, t.Forgotten || t.Settled[c.Name])
			}
			continue
		}
		started := c.StartedAt
		if c.Restarts.LastAt.After(started) {
			started = c.Restarts.LastAt
		}
		if was, ok := o.tracked[id]; ok && was.Equal(started) {
			continue
		}
		o.tracked[id] = started
		o.sampler.Track(o.target(&t, i, started))
	}
}

// pausedOrOver is told of a measured container that does not run any more, or not
// at the moment.
func (o *observer) pausedOrOver(id string, over bool) {
	if over {
		delete(o.tracked, id)
		o.sampler.Untrack(id)
		o.bases.forget(id)
		return
	}
	if base, ok := o.sampler.Reached(id); ok {
		o.bases.keep(id, base)
		o.tracked[id] = time.Time{} // Whatever comes next is another life.
	}
}

// target says how to measure a container.
func (o *observer) target(t *engine.Task, i int, started time.Time) sampler.Target {
	d, c := &t.State.Definition, &t.State.Containers[i]
	id := t.ContainerID(c.Name)
	target := sampler.Target{
		Container: metrics.Container{ID: id, Name: c.Name, TaskARN: d.ARN, Family: d.Family, Revision: d.Version},
		Cgroup:    o.cgroup(d.ID, id), Links: metrics.EthernetLinks, StartedAt: started,
		RestartPolicy: d.Containers[i].Restart != nil, Restarts: c.Restarts.Count,
	}
	if target.RestartPolicy {
		target.Base = o.bases.of(id)
	}
	switch d.Network {
	case task.NetworkBridge:
		target.Netns = o.netns(id)
	case task.NetworkAWSVPC:
		// The task's counters count for each of its containers (spec/task-engine.md §13.5).
		target.Netns, target.Links = o.netns(engine.EndpointID(d, c.Name)), metrics.DeviceLinks
	case task.NetworkHost, task.NetworkNone:
	}
	return target
}

// Event passes an event on to people.
func (o *observer) Event(e engine.Event) {
	o.events.Publish(hostapi.Event{Time: e.Time, Task: e.Task, Container: e.Container, What: e.What, Detail: e.Detail})
}

// Pulling keeps the progress of pulls for `berth pull` and `berth run`.
func (o *observer) Pulling(taskID, name string, p container.Progress) {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := taskID + "/" + name
	if p.Stage == "done" {
		delete(o.pulls, key)
		return
	}
	o.pulls[key] = pullView(p)
}

// Pulls are the pulls under way.
func (o *observer) Pulls() []hostapi.PullView {
	o.mu.Lock()
	defer o.mu.Unlock()
	pulls := make([]hostapi.PullView, 0, len(o.pulls))
	for _, p := range o.pulls {
		pulls = append(pulls, p)
	}
	slices.SortFunc(pulls, func(a, b hostapi.PullView) int { return strings.Compare(a.Image, b.Image) })
	return pulls
}

func pullView(p container.Progress) hostapi.PullView {
	v := hostapi.PullView{
		Image: p.Ref, Phase: p.Stage, BytesDone: p.Fetched, BytesTotal: p.Total,
		Layers: len(p.Layers), Digest: p.Digest, Done: p.Stage == "done",
	}
	for _, l := range p.Layers {
		if l.Total > 0 && l.Fetched >= l.Total {
			v.LayersDone++
		}
	}
	return v
}
