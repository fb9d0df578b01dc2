package sampler

import (
	"fmt"
	"testing"

	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/metrics/cgroup"
)

// BenchmarkRound reads many targets from fixture files; a round happens once a second, so that 1 ms is 0.1 % of a core. What the
// kernel needs to make the content of real files comes on top: see BenchmarkReadReal in metrics/cgroup.
func BenchmarkRound(b *testing.B) {
	for _, version := range []struct {
		version metrics.Version
		path    string
	}{{metrics.V1, "/ecs/9ab04c1d/3f0e6d1c"}, {metrics.V2, "ecstasks.slice/ecstasks-9ab04c1d.slice/web"}} {
		for _, count := range []int{30, 300} {
			b.Run(fmt.Sprintf("v%d/%d", version.version, count), func(b *testing.B) {
				l := cgroup.Under(fmt.Sprintf("../cgroup/testdata/v%d", version.version), version.version)
				s := New(Config{
					Open: func(path string) (Source, error) { return cgroup.Open(l, path) },
				})
				defer s.close()
				for i := range count {
					t := target(fmt.Sprint(i))
					t.Cgroup = version.path
					s.Track(t)
				}
				b.ReportAllocs()
				for b.Loop() {
					s.round()
				}
				if got := len(s.Snapshot()); got != count {
					b.Fatalf("%d readings of %d", got, count)
				}
			})
		}
	}
}
