package sampler

import (
	"time"

	"github.com/berthd/berth/metrics"
)

// Source reads one cgroup. It is used by one goroutine at a time. metrics.ErrGone means that the cgroup is not there.
type Source interface {
	Read(s *metrics.Sample) error
	Detail() (metrics.Detail, error)
	Close() error
}

// NetworkSource reads one network namespace. It is used by one goroutine at a time. metrics.ErrGone means that the namespace is not
// there. What Read returned is not changed afterwards.
type NetworkSource interface {
	Read() (*metrics.Network, error)
	Close() error
}

// Target says what to measure.
type Target struct {
	// Container names it; Container.ID is the key. With an empty Container.Name it is a whole task, which Collect leaves out.
	Container metrics.Container
	// Cgroup is the path of its cgroup relative to the hierarchies.
	Cgroup string
	// Netns is the path of its network namespace, and Links which links of it count. Netns is empty where there are no counters of
	// its own: network modes host and none, and the pause container. Targets with the same two share one reading.
	Netns string
	Links metrics.Links
	// StartedAt is when the container was last started. A later time than before means that it was started again: sources are
	// opened anew, and the series goes on.
	StartedAt time.Time
	// RestartPolicy says that the container has a restart policy, Restarts how often that has started it again so far.
	RestartPolicy bool
	Restarts      int
	// Base is what Sampler.Reached told the last time, if the container was measured by an earlier agent.
	Base metrics.Base
}

// Collected is the statistics of one container since the last Collect.
type Collected struct {
	Container metrics.Container
	Report    metrics.Report
	// RestartPolicy says that Report.Restarts means something.
	RestartPolicy bool
}

// Overhead is what sampling costs.
type Overhead struct {
	// Rounds counts the rounds so far, Last and Total are the time they took: the last one, and all together.
	Rounds      uint64
	Last, Total time.Duration
	// Tracked is the number of targets now, Dropped the readings of them that were not believed.
	Tracked int
	Dropped uint64
}
