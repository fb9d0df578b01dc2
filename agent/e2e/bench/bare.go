package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"golang.org/x/sync/errgroup"
)

// bare is a containerd client with nothing around it: what a container costs at
// the least.
type bare struct {
	client *containerd.Client
	image  containerd.Image
	cgroup string
	made   atomic.Int64
}

// bareTask is a running container of the bare client.
type bareTask struct {
	container containerd.Container
	task      containerd.Task
}

// newBare connects and pulls the image, which is then cached.
func newBare(ctx context.Context, address, image, cgroup string) (*bare, error) {
	client, err := containerd.New(address)
	if err != nil {
		return nil, err
	}
	resolver := docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))})
	pulled, err := client.Pull(ownNamespace(ctx), image, containerd.WithPullUnpack, containerd.WithResolver(resolver))
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &bare{client: client, image: pulled, cgroup: cgroup}, nil
}

func ownNamespace(ctx context.Context) context.Context { return namespaces.WithNamespace(ctx, "bare") }

// start is the whole of it: container, task, start. Without further options
// nothing confines the container but its namespaces.
func (b *bare) start(ctx context.Context, further ...oci.SpecOpts) (t bareTask, took time.Duration, err error) {
	ctx = ownNamespace(ctx)
	id := fmt.Sprintf("bare-%d", b.made.Add(1))
	spec := append([]oci.SpecOpts{
		oci.WithImageConfig(b.image), oci.WithProcessArgs(obedient()...), oci.WithCgroup(b.cgroup + "/bare/" + id),
	}, further...)
	begun := time.Now()
	t.container, err = b.client.NewContainer(ctx, id, containerd.WithNewSnapshot(id, b.image), containerd.WithNewSpec(spec...))
	if err != nil {
		return t, 0, fmt.Errorf("cannot create a bare container: %w", err)
	}
	if t.task, err = t.container.NewTask(ctx, cio.NullIO); err != nil {
		return t, 0, fmt.Errorf("cannot make a bare task: %w", err)
	}
	if err := t.task.Start(ctx); err != nil {
		return t, 0, fmt.Errorf("cannot start a bare task: %w", err)
	}
	return t, time.Since(begun), nil
}

// stop sends SIGTERM and waits for the exit; took is until then. Then it removes
// all.
func (b *bare) stop(ctx context.Context, t bareTask) (took time.Duration, err error) {
	ctx = ownNamespace(ctx)
	exit, err := t.task.Wait(ctx)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	if err := t.task.Kill(ctx, syscall.SIGTERM); err != nil {
		return 0, fmt.Errorf("cannot signal a bare task: %w", err)
	}
	select {
	case <-exit:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	took = time.Since(begun)
	if _, err := t.task.Delete(ctx); err != nil {
		return 0, fmt.Errorf("cannot delete a bare task: %w", err)
	}
	if err := t.container.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
		return 0, fmt.Errorf("cannot delete a bare container: %w", err)
	}
	return took, nil
}

// burst starts count containers, so many at once, and answers how many a second
// that was. Once they are ready it removes them.
func (b *bare) burst(ctx context.Context, count int, ready func() error, further ...oci.SpecOpts) (perSecond float64, err error) {
	tasks := make([]bareTask, count)
	begun := time.Now()
	if err := inParallel(ctx, count, atOnce, func(ctx context.Context, i int) (err error) {
		tasks[i], _, err = b.start(ctx, further...)
		return err
	}); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	if err := ready(); err != nil {
		return 0, err
	}
	return float64(count) / took.Seconds(), inParallel(ctx, count, atOnce, func(ctx context.Context, i int) error {
		_, err := b.stop(ctx, tasks[i])
		return err
	})
}

func inParallel(ctx context.Context, count, atOnce int, f func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range count {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}
