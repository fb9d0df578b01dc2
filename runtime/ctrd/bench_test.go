package ctrd_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/runtimetest"
)

// BenchmarkStart compares what a container costs here with what it costs a bare
// containerd client: create and start, and stop and remove.
//
//	go test -bench Start -benchtime 30x ./runtime/ctrd
func BenchmarkStart(b *testing.B) {
	daemon := runtimetest.NewContainerd(b, "containerd")
	registry := runtimetest.Images(b)
	b.Run("Bare", func(b *testing.B) { benchBare(b, daemon.Address, registry.Busybox) })
	b.Run("Berth", func(b *testing.B) { benchBerth(b, daemon.Address, registry.Busybox, false) })
	b.Run("BerthGrouped", func(b *testing.B) { benchBerth(b, daemon.Address, registry.Busybox, true) })
}

func benchBare(b *testing.B, address, ref string) {
	b.Helper()
	client, err := containerd.New(address)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx := namespaces.WithNamespace(b.Context(), "bare")
	img, err := client.Pull(ctx, ref, containerd.WithPullUnpack)
	if err != nil {
		b.Fatal(err)
	}
	var starts, stops []time.Duration
	for i := range b.N {
		id := fmt.Sprintf("bare-%d-%d", b.N, i)
		begun := time.Now()
		c, err := client.NewContainer(ctx, id, containerd.WithNewSnapshot(id, img),
			containerd.WithNewSpec(oci.WithImageConfig(img), oci.WithProcessArgs("sleep", "3600")))
		if err != nil {
			b.Fatal(err)
		}
		task, err := c.NewTask(ctx, cio.NullIO)
		if err != nil {
			b.Fatal(err)
		}
		if err := task.Start(ctx); err != nil {
			b.Fatal(err)
		}
		starts = append(starts, time.Since(begun))
		begun = time.Now()
		if _, err := task.Delete(ctx, containerd.WithProcessKill); err != nil {
			b.Fatal(err)
		}
		if err := c.Delete(ctx, containerd.WithSnapshotCleanup); err != nil {
			b.Fatal(err)
		}
		stops = append(stops, time.Since(begun))
	}
	report(b, starts, stops)
}

func benchBerth(b *testing.B, address, ref string, grouped bool) {
	b.Helper()
	s := suite{address: address, state: stateDir(b)}
	rt := open(b, s.config(b, fmt.Sprintf("bench-%v", grouped)))
	if err := pullErr(b.Context(), rt, ref); err != nil {
		b.Fatal(err)
	}
	group := ""
	if grouped {
		group = "task"
		spec := container.Spec{ID: fmt.Sprintf("holder-%d", b.N), Group: group, Image: ref}
		spec.Process.Command = []string{"sleep", "3600"}
		if err := rt.Create(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
		if _, err := rt.Start(b.Context(), spec.ID); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = rt.Remove(b.Context(), spec.ID) }()
	}
	var starts, stops []time.Duration
	for i := range b.N {
		spec := container.Spec{ID: fmt.Sprintf("berth-%v-%d-%d", grouped, b.N, i), Group: group, Image: ref}
		spec.Process.Command = []string{"sleep", "3600"}
		begun := time.Now()
		if err := rt.Create(b.Context(), spec); err != nil {
			b.Fatal(err)
		}
		if _, err := rt.Start(b.Context(), spec.ID); err != nil {
			b.Fatal(err)
		}
		starts = append(starts, time.Since(begun))
		begun = time.Now()
		if err := rt.Remove(b.Context(), spec.ID); err != nil {
			b.Fatal(err)
		}
		stops = append(stops, time.Since(begun))
	}
	report(b, starts, stops)
}

func report(b *testing.B, starts, stops []time.Duration) {
	b.Helper()
	p50 := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Microseconds()) / 1000
	}
	b.ReportMetric(p50(starts), "ms-start-p50")
	b.ReportMetric(p50(stops), "ms-remove-p50")
	b.ReportMetric(0, "ns/op")
}
