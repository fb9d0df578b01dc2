package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/containerd/v2/contrib/seccomp"
)

const (
	// burstSize is how many tasks come in one payload.
	burstSize = 40
	// idleTasks is how many do nothing while the agent is watched.
	idleTasks = 30
	// atOnce is how many containers the bare client starts at the same time, as
	// many as the agent does.
	atOnce = 8
	// settling is how long what has begun may still be busy with beginning.
	settling = 4 * time.Second
	// allTime is more than a run takes on a busy machine.
	allTime = 10 * time.Minute
)

// bench is everything that is measured with.
type bench struct {
	options
	*result

	dir      string
	disk     string
	plane    *plane
	bare     *bare
	agent    *agent
	programs []*program
	progress io.Writer
}

// measureAll measures one thing after the other and prints them all.
func measureAll(ctx context.Context, o options, out, progress io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, allTime, errors.New("it takes longer than "+allTime.String()))
	defer cancel()
	dir, disk, cgroup := os.Getenv(envDirectory), os.Getenv(envDisk), os.Getenv(envCgroup)
	if dir == "" || disk == "" || cgroup == "" {
		return errors.New("-stage is for the command's own use")
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	b := &bench{options: o, dir: dir, disk: disk, progress: progress, result: &result{
		At: time.Now().UTC(), Load: strings.Join(strings.Fields(string(load))[:3], " "),
	}}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"setting up", func(ctx context.Context) error { return b.setUp(ctx, cgroup) }},
		{"starting and stopping, one after the other", b.oneByOne},
		{"bursts", b.bursts},
		{"idle tasks", b.idleCost},
		{"restarts", b.restarts},
		{"size of the binary", b.size},
	} {
		begun := time.Now()
		if err := step.do(ctx); err != nil {
			for _, p := range b.programs {
				_, _ = fmt.Fprintf(progress, "--- %s\n%s\n", filepath.Base(p.log), p.lastWords())
			}
			return fmt.Errorf("%s: %w", step.name, err)
		}
		_, _ = fmt.Fprintf(progress, "%s: %.1f s\n", step.name, time.Since(begun).Seconds())
	}
	return b.write(out, o.json)
}

// setUp starts containerd, the cluster and the agent, and warms each path once.
func (b *bench) setUp(ctx context.Context, cgroup string) error {
	daemon, address, err := startContainerd(ctx, b.dir, b.disk)
	if daemon != nil {
		b.programs = append(b.programs, daemon)
	}
	if err != nil {
		return err
	}
	if b.plane, err = startPlane(ctx, filepath.Join(b.dir, fileTasks)); err != nil {
		return err
	}
	if b.bare, err = newBare(ctx, address, b.plane.image, cgroup); err != nil {
		return err
	}
	if b.agent, err = newAgent(b.dir, b.disk, b.berth, b.plane.server.URL(), address); err != nil {
		return err
	}
	err = b.agent.start(ctx)
	if b.agent.now != nil {
		b.programs = append(b.programs, b.agent.now)
	}
	if err != nil {
		return err
	}
	if err := b.plane.connected(ctx, 1); err != nil {
		return err
	}
	for range 2 {
		if _, err := b.round(ctx); err != nil {
			return err
		}
	}
	return nil
}

// latencies are what one task of each kind took.
type latencies struct{ start, stop, bareStart, bareStop, confined time.Duration }

// round starts and stops one task, and then one of the bare client, so that
// whatever the machine is busy with slows down both.
func (b *bench) round(ctx context.Context) (l latencies, err error) {
	arns, err := b.plane.run(ctx, 1)
	if err != nil {
		return l, err
	}
	if _, err := b.plane.running(ctx, arns...); err != nil {
		return l, err
	}
	if err := b.obedient(ctx, 1); err != nil {
		return l, err
	}
	if err := b.plane.stop(ctx, arns); err != nil {
		return l, err
	}
	m, err := b.plane.stopped(ctx, arns...)
	if err != nil {
		return l, err
	}
	l.start, l.stop = m[0].Running.Sub(m[0].RunSent), m[0].Stopped.Sub(m[0].StopSent)
	t, took, err := b.bare.start(ctx)
	if err != nil {
		return l, err
	}
	l.bareStart = took
	if err := b.obedient(ctx, 1); err != nil {
		return l, err
	}
	if l.bareStop, err = b.bare.stop(ctx, t); err != nil {
		return l, err
	}
	if t, l.confined, err = b.bare.start(ctx, seccomp.WithDefaultProfile()); err != nil {
		return l, err
	}
	if err := b.obedient(ctx, 1); err != nil {
		return l, err
	}
	_, err = b.bare.stop(ctx, t)
	return l, err
}

// obedient waits until so many containers, and no other, can obey a signal.
func (b *bench) obedient(ctx context.Context, containers int) error {
	return await(ctx, fmt.Sprintf("%d containers to be ready", containers), func() (bool, error) {
		all, err := look("/proc")
		return all[kindSleepers].count == containers, err
	})
}

// oneByOne measures the latencies of one task at a time.
func (b *bench) oneByOne(ctx context.Context) error {
	stopProfile := b.profileCPU(ctx, "start")
	var start, stop, bareStart, bareStop, confined []time.Duration
	for range b.starts {
		l, err := b.round(ctx)
		if err != nil {
			return err
		}
		start, stop = append(start, l.start), append(stop, l.stop)
		bareStart, bareStop = append(bareStart, l.bareStart), append(bareStop, l.bareStop)
		confined = append(confined, l.confined)
	}
	for _, p := range []struct {
		name  string
		share float64
		goals [2]goal
	}{
		{"p50", 0.5, [2]goal{{mostOfBare: 1.3}, {most: 50}}},
		{"p99", 0.99, [2]goal{}},
	} {
		b.add("start "+p.name, "ms", milliseconds(percentile(start, p.share)), milliseconds(percentile(bareStart, p.share)), p.goals[0])
		b.add("start "+p.name+", beside bare with seccomp", "ms", milliseconds(percentile(start, p.share)), milliseconds(percentile(confined, p.share)), goal{})
		b.add("stop "+p.name, "ms", milliseconds(percentile(stop, p.share)), milliseconds(percentile(bareStop, p.share)), p.goals[1])
	}
	return stopProfile()
}

// bursts measures many tasks in one payload, in turn with the bare client.
func (b *bench) bursts(ctx context.Context) error {
	stopProfile := b.profileCPU(ctx, "burst")
	var own, bare, confined []float64
	for range b.rounds {
		rate, err := b.burst(ctx)
		if err != nil {
			return err
		}
		own = append(own, rate)
		ready := func() error { return b.obedient(ctx, burstSize) }
		if rate, err = b.bare.burst(ctx, burstSize, ready); err != nil {
			return err
		}
		bare = append(bare, rate)
		if rate, err = b.bare.burst(ctx, burstSize, ready, seccomp.WithDefaultProfile()); err != nil {
			return err
		}
		confined = append(confined, rate)
	}
	b.add(fmt.Sprintf("%d tasks in one payload", burstSize), "/s", median(own), median(bare), goal{least: 15, leastBare: 0.9})
	b.add("the same, beside bare with seccomp", "/s", median(own), median(confined), goal{leastBare: 0.9})
	return stopProfile()
}

// burst is how many tasks a second become RUNNING of those in one payload.
func (b *bench) burst(ctx context.Context) (perSecond float64, err error) {
	b.plane.hold(true)
	arns, err := b.plane.run(ctx, burstSize)
	if err != nil {
		return 0, err
	}
	b.plane.hold(false)
	all, err := b.plane.running(ctx, arns...)
	if err != nil {
		return 0, err
	}
	last := all[0].Running
	for _, m := range all {
		if m.Running.After(last) {
			last = m.Running
		}
	}
	perSecond = burstSize / last.Sub(all[0].RunSent).Seconds()
	return perSecond, b.clear(ctx, arns)
}

// clear stops tasks and waits until their containers have been removed too.
func (b *bench) clear(ctx context.Context, arns []string) error {
	if err := b.obedient(ctx, len(arns)); err != nil {
		return err
	}
	if err := b.plane.stop(ctx, arns); err != nil {
		return err
	}
	if _, err := b.plane.stopped(ctx, arns...); err != nil {
		return err
	}
	return await(ctx, "stopped tasks to be removed", func() (bool, error) {
		dirs, err := filepath.Glob(filepath.Join(b.dir, "netns", "*"))
		if err != nil || len(dirs) > 0 {
			return false, err
		}
		all, err := look("/proc")
		return all[kindShims].count == 0, err
	})
}

// idleCost measures what tasks cost that do nothing, and leaves them running.
func (b *bench) idleCost(ctx context.Context) error {
	arns, err := b.plane.run(ctx, idleTasks)
	if err != nil {
		return err
	}
	if _, err := b.plane.running(ctx, arns...); err != nil {
		return err
	}
	if err := pause(ctx, settling); err != nil {
		return err
	}
	stopProfile := b.profileCPU(ctx, "idle")
	before, err := look("/proc")
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	after, err := look("/proc")
	if err != nil {
		return err
	}
	span := time.Since(begun)
	in := 0.0
	for _, k := range []struct {
		kind, name  string
		cpu, memory goal
	}{
		{kindAgent, "agent", goal{most: 0.5}, goal{most: 35}},
		{kindLogs, "log process", goal{}, goal{most: 15}},
		{kindContainerd, "containerd", goal{}, goal{}},
		{kindShims, "shims", goal{}, goal{}},
	} {
		if after[k.kind].count == 0 || after[k.kind].count != before[k.kind].count {
			return fmt.Errorf("%d processes of kind %s became %d", before[k.kind].count, k.kind, after[k.kind].count)
		}
		percent := 100 * (after[k.kind].cpu - before[k.kind].cpu).Seconds() / span.Seconds()
		in += percent
		b.add(fmt.Sprintf("%d idle tasks, %s: CPU", idleTasks, k.name), "%", percent, 0, k.cpu)
		b.add(fmt.Sprintf("%d idle tasks, %s: resident memory", idleTasks, k.name), "MiB", float64(after[k.kind].memory)/(1<<20), 0, k.memory)
		b.add(fmt.Sprintf("%d idle tasks, %s: of it not of files", idleTasks, k.name), "MiB", float64(after[k.kind].anonymous)/(1<<20), 0, goal{})
	}
	b.add(fmt.Sprintf("%d idle tasks, in all: CPU", idleTasks), "%", in, 0, goal{most: 3})
	return errors.Join(stopProfile(), b.profileHeap(ctx))
}

// restarts measures how long the agent is away.
func (b *bench) restarts(ctx context.Context) error {
	var adopted, reconnected, upgraded []time.Duration
	for range b.rounds {
		for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
			asked := time.Now()
			if err := b.agent.now.end(ctx, sig); err != nil {
				return err
			}
			// The cluster must have seen the old session end, or it would be taken
			// for the new one.
			if err := b.plane.connected(ctx, 0); err != nil {
				return err
			}
			if sig == syscall.SIGKILL {
				asked = time.Now()
			}
			if err := b.agent.start(ctx); err != nil {
				return err
			}
			ready := time.Since(asked)
			if err := b.plane.connected(ctx, 1); err != nil {
				return err
			}
			back := time.Since(asked)
			if sig == syscall.SIGKILL {
				adopted, reconnected = append(adopted, ready), append(reconnected, back)
			} else {
				upgraded = append(upgraded, back)
			}
		}
	}
	name := fmt.Sprintf(" with %d tasks", idleTasks)
	b.add("start after kill -9 → adopted,"+name, "ms", milliseconds(percentile(adopted, 0.5)), 0, goal{})
	b.add("start after kill -9 → connected,"+name, "ms", milliseconds(percentile(reconnected, 0.5)), 0, goal{most: 300})
	b.add("SIGTERM → start → connected,"+name, "ms", milliseconds(percentile(upgraded, 0.5)), 0, goal{most: 300})
	return nil
}

// size is the binary's.
func (b *bench) size(context.Context) error {
	info, err := os.Stat(b.berth)
	if err != nil {
		return err
	}
	b.add("size of the binary", "MB", float64(info.Size())/1e6, 0, goal{most: 45})
	return nil
}

// profileCPU takes a CPU profile of the agent until the answer is called, if
// profiles are wanted.
func (b *bench) profileCPU(ctx context.Context, name string) (stop func() error) {
	if b.profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1) // One profile.
	go func() { done <- b.fetch(ctx, "profile?seconds=15", name+".cpu") }()
	return func() error { return <-done }
}

func (b *bench) profileHeap(ctx context.Context) error {
	if b.profiles == "" {
		return nil
	}
	return b.fetch(ctx, "heap", "idle.heap")
}

// fetch keeps a profile that the agent gives.
func (b *bench) fetch(ctx context.Context, path, name string) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:51678/debug/pprof/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("cannot take a profile: %w", err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot take a profile: %s", resp.Status)
	}
	file, err := os.Create(filepath.Join(b.profiles, name))
	if err != nil {
		return err
	}
	_, err = io.Copy(file, resp.Body)
	return errors.Join(err, file.Close())
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
