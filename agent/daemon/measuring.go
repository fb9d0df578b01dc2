package daemon

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/control/tcs"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/metrics"
	"github.com/berthd/berth/metrics/cgroup"
	"github.com/berthd/berth/metrics/netns"
	"github.com/berthd/berth/metrics/prom"
	"github.com/berthd/berth/metrics/sampler"
)

// measuring is the sampler with the readers it uses.
type measuring struct {
	sampler *sampler.Sampler
	host    *cgroup.Host
	layout  cgroup.Layout
}

func newMeasuring(log *zap.Logger) (*measuring, error) {
	layout, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	host, err := cgroup.OpenHost("/proc")
	if err != nil {
		return nil, err
	}
	return &measuring{host: host, layout: layout, sampler: sampler.New(sampler.Config{
		Open: func(path string) (sampler.Source, error) { return cgroup.Open(layout, path) },
		OpenNetwork: func(path string, links metrics.Links) (sampler.NetworkSource, error) {
			return netns.Open(path, links)
		},
		HostCPU: host.CPUUsage, Log: log.Named("metrics"),
	})}, nil
}

func (m *measuring) run(ctx context.Context) error {
	err := m.sampler.Run(ctx)
	return errors.Join(err, m.host.Close())
}

// telemetry gives the sampler's statistics to TCS.
type telemetry struct{ sampler *sampler.Sampler }

var _ tcs.Metrics = telemetry{}

// Collect answers what containers used since the last call.
func (t telemetry) Collect() ([]tcs.Sample, int) {
	reports, tracked := t.sampler.Collect()
	samples := make([]tcs.Sample, len(reports))
	for i, r := range reports {
		samples[i] = tcs.Sample{Container: r.Container, Report: r.Report, RestartPolicy: r.RestartPolicy}
	}
	return samples, tracked
}

// statsAPI shows the newest readings to the host API.
type statsAPI struct{ sampler *sampler.Sampler }

var _ hostapi.Stats = statsAPI{}

// Stats is the latest sample of every running container.
func (s statsAPI) Stats() []hostapi.StatsView {
	readings := s.sampler.Snapshot()
	views := make([]hostapi.StatsView, 0, len(readings))
	for i := range readings {
		views = append(views, statsView(&readings[i]))
	}
	return views
}

func statsView(r *metrics.Reading) hostapi.StatsView {
	s := &r.Sample
	v := hostapi.StatsView{
		Task: r.Container.TaskID(), Container: r.Container.Name, ID: r.Container.ID, Time: s.Time,
		CPUPercent: r.Rates.CPUPercent, MemoryBytes: s.ECSMemory(), MemoryLimitBytes: limit(s.Memory.Limit),
		BlockReadBytes: s.IO.ReadBytes, BlockWriteBytes: s.IO.WriteBytes,
		Pids: s.PIDs.Current, PidsLimit: limit(s.PIDs.Limit), OOMKills: s.Memory.OOMKills,
	}
	if s.Network != nil {
		v.NetRxBytes, v.NetTxBytes = s.Network.Total.RxBytes, s.Network.Total.TxBytes
	}
	if periods := s.CPU.Periods - r.Previous.CPU.Periods; r.Rates.Known && periods > 0 && s.CPU.Periods >= r.Previous.CPU.Periods {
		v.ThrottledPercent = 100 * float64(s.CPU.ThrottledPeriods-r.Previous.CPU.ThrottledPeriods) / float64(periods)
	}
	return v
}

// limit is 0 for no limit, as the host API has it.
func limit(v uint64) uint64 {
	if v == metrics.NoLimit {
		return 0
	}
	return v
}

// page is what a scrape of /metrics shows.
func (a *agent) page() prom.Page {
	overhead := a.observer.sampler.Overhead()
	up := func(name string) float64 {
		if connected, _, _ := a.sessions.link(name).Status(); connected {
			return 1
		}
		return 0
	}
	return prom.Page{
		Cluster: a.options.Config.Cluster, Readings: a.observer.sampler.Snapshot(),
		Agent: append(a.host.logFigures(), []prom.Value{
			{Name: "berth_agent_tasks", Help: "Tasks the agent knows.", Value: float64(len(a.engine.Tasks()))},
			{Name: "berth_agent_outbox_entries", Help: "State changes that ECS has not taken yet.", Value: float64(a.host.store.Pending())},
			{Name: "berth_agent_connected", Help: "Whether the line to ECS is up.", Value: up("acs"), Labels: []prom.Label{{Name: "session", Value: "acs"}}},
			{Name: "berth_agent_connected", Help: "Whether the line to ECS is up.", Value: up("tcs"), Labels: []prom.Label{{Name: "session", Value: "tcs"}}},
			{Name: "berth_agent_sampler_seconds_total", Help: "Time spent reading metrics.", Counter: true, Value: overhead.Total.Seconds()},
			{Name: "berth_agent_sampler_rounds_total", Help: "Rounds of reading metrics.", Counter: true, Value: float64(overhead.Rounds)},
			{Name: "berth_agent_samples_dropped_total", Help: "Readings that were not believed.", Counter: true, Value: float64(overhead.Dropped)},
		}...),
	}
}
