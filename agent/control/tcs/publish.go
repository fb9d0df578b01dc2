package tcs

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/health"
	wire "github.com/berthd/berth/agent/wire/tcs"
	"github.com/berthd/berth/metrics"
)

// publish puts messages into the queue, now and then every 20 seconds.
func (c *Client) publish(ctx context.Context) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		for _, m := range c.messages(time.Now()) {
			c.enqueue(ctx, m)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// enqueue waits a second for room, and then drops the message. That is said
// once, and not every 20 seconds for as long as the service is away.
func (c *Client) enqueue(ctx context.Context, m wire.Message) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case c.queue <- message{m, time.Now()}:
		c.dropping = false
	case <-ctx.Done():
	case <-timer.C:
		if !c.dropping {
			c.log.Warn("telemetry is dropped until the service takes some", zap.String("type", m.MessageType()))
		}
		c.dropping = true
	}
}

// messages is everything there is to say at one tick.
func (c *Client) messages(now time.Time) []wire.Message {
	var all []wire.Message
	for _, m := range c.metrics(now) {
		all = append(all, m)
	}
	for _, m := range c.health(now) {
		all = append(all, m)
	}
	if m := c.status(now); m != nil {
		all = append(all, m)
	}
	return all
}

// overhead is more than what a message is without its tasks.
const overhead = 4096

// metrics is one cycle of PublishMetricsRequest, §5.5.
func (c *Client) metrics(now time.Time) []*wire.PublishMetricsRequest {
	var samples []Sample
	tracked := 0
	if c.cfg.Metrics != nil {
		samples, tracked = c.cfg.Metrics.Collect()
	}
	tasks := taskMetrics(samples)
	c.volumes(tasks)
	if tracked > 0 && len(tasks) == 0 {
		return nil // all of them are too young
	}
	id := uuid.NewString()
	make1 := func() *wire.PublishMetricsRequest {
		return &wire.PublishMetricsRequest{
			Metadata: wire.MetricsMetadata{
				Cluster: c.cfg.Cluster, ContainerInstance: c.cfg.ContainerInstanceARN, MessageID: id, Idle: tracked == 0,
			},
			Timestamp: wire.At(now),
		}
	}
	out := []*wire.PublishMetricsRequest{make1()}
	size := overhead
	for _, t := range tasks {
		body, err := json.Marshal(t)
		if err != nil {
			c.log.Warn("metrics of a task cannot be written", zap.String("task", t.TaskARN), zap.Error(err))
			continue
		}
		last := out[len(out)-1]
		if n := len(last.TaskMetrics); n > 0 && (n == wire.MaxTasks || size+len(body) > wire.MaxMessage) {
			last = make1()
			out = append(out, last)
			size = overhead
		}
		last.TaskMetrics = append(last.TaskMetrics, t)
		size += len(body) + 1
	}
	out[len(out)-1].Metadata.Fin = true
	return out
}

// taskMetrics groups samples, which are ordered by task.
func taskMetrics(samples []Sample) []wire.TaskMetric {
	var tasks []wire.TaskMetric
	for _, s := range samples {
		if s.Report.CPUPercent.SampleCount == 0 || s.Report.MemoryMiB.SampleCount == 0 {
			continue // both are mandatory
		}
		if n := len(tasks); n == 0 || tasks[n-1].TaskARN != s.Container.TaskARN {
			tasks = append(tasks, wire.TaskMetric{
				TaskARN: s.Container.TaskARN, TaskDefinitionFamily: s.Container.Family, TaskDefinitionVersion: s.Container.Revision,
			})
		}
		t := &tasks[len(tasks)-1]
		t.ContainerMetrics = append(t.ContainerMetrics, containerMetric(s))
	}
	return tasks
}

// volumes adds how full the EBS volumes of tasks are, a sample each.
func (c *Client) volumes(tasks []wire.TaskMetric) {
	if c.cfg.Volumes == nil {
		return
	}
	one := func(bytes uint64) *wire.Doubles {
		n := float64(bytes)
		return &wire.Doubles{Min: n, Max: n, Sum: n, SampleCount: 1}
	}
	for i := range tasks {
		for _, v := range c.cfg.Volumes(tasks[i].TaskARN) {
			tasks[i].VolumeMetrics = append(tasks[i].VolumeMetrics, wire.VolumeMetric{
				VolumeID: v.ID, VolumeName: v.Name, Utilized: one(v.Used), Size: one(v.Size),
			})
		}
	}
}

func containerMetric(s Sample) wire.ContainerMetric {
	r := &s.Report
	m := wire.ContainerMetric{
		ContainerName: s.Container.Name,
		CPU:           doubles(r.CPUPercent),
		Memory:        doubles(r.MemoryMiB),
		Storage:       &wire.Storage{ReadSizeBytes: counters(r.ReadBytes), WriteSizeBytes: counters(r.WriteBytes)},
	}
	if n := r.Network; n != nil {
		m.Network = &wire.Network{
			RxBytes: counters(n.RxBytes), RxPackets: counters(n.RxPackets), RxErrors: counters(n.RxErrors), RxDropped: counters(n.RxDropped),
			TxBytes: counters(n.TxBytes), TxPackets: counters(n.TxPackets), TxErrors: counters(n.TxErrors), TxDropped: counters(n.TxDropped),
			RxBytesPerSecond: doubles(n.RxBytesPerSecond), TxBytesPerSecond: doubles(n.TxBytesPerSecond),
		}
	}
	if s.RestartPolicy {
		m.Restart = &wire.Restarts{RestartCount: int64(r.Restarts)}
	}
	return m
}

// doubles is nil for a set without samples, which is left out.
func doubles(s metrics.Stats) *wire.Doubles {
	if s.SampleCount == 0 {
		return nil
	}
	return &wire.Doubles{Min: s.Min, Max: s.Max, Sum: s.Sum, SampleCount: int64(s.SampleCount)}
}

func counters(s metrics.UnsignedStats) *wire.Counters {
	if s.SampleCount == 0 {
		return nil
	}
	return wire.NewCounters(s.Min, s.Max, s.Sum, int64(s.SampleCount))
}

// health is one cycle of PublishHealthRequest, §5.6; none when no container has
// a check.
func (c *Client) health(now time.Time) []*wire.PublishHealthRequest {
	if c.cfg.Health == nil {
		return nil
	}
	id := uuid.NewString()
	var out []*wire.PublishHealthRequest
	for _, t := range c.cfg.Health() {
		if len(t.Containers) == 0 {
			continue
		}
		if n := len(out); n == 0 || len(out[n-1].Tasks) == wire.MaxTasks {
			out = append(out, &wire.PublishHealthRequest{
				Metadata:  wire.HealthMetadata{Cluster: c.cfg.Cluster, ContainerInstance: c.cfg.ContainerInstanceARN, MessageID: id},
				Timestamp: wire.At(now),
			})
		}
		h := wire.TaskHealth{TaskARN: t.ARN, TaskDefinitionFamily: t.Family, TaskDefinitionVersion: t.Version}
		for _, one := range t.Containers {
			since := one.Since
			if since.IsZero() {
				since = now
			}
			h.Containers = append(h.Containers, wire.ContainerHealth{
				ContainerName: one.Name, HealthStatus: one.Status, StatusSince: wire.At(since),
			})
		}
		last := out[len(out)-1]
		last.Tasks = append(last.Tasks, h)
	}
	if len(out) > 0 {
		out[len(out)-1].Metadata.Fin = true
	}
	return out
}

// status is the host's own health when it is due, §5.7. The container runtime
// is all that an EC2 host reports.
func (c *Client) status(now time.Time) wire.Message {
	if c.cfg.Status == nil || !c.statusDue.Swap(false) {
		return nil
	}
	m := &wire.PublishInstanceStatusRequest{
		Metadata: wire.InstanceStatusMetadata{
			Cluster: c.cfg.Cluster, ContainerInstance: c.cfg.ContainerInstanceARN, RequestID: uuid.NewString(),
		},
		Timestamp: wire.At(now),
	}
	for _, p := range c.cfg.Status() {
		if p.Type == health.ContainerRuntime {
			m.Statuses = append(m.Statuses, wire.InstanceStatus{
				Type: string(p.Type), Status: string(p.Status),
				LastUpdated: wire.At(p.Updated), LastStatusChange: wire.At(p.Changed),
			})
		}
	}
	if len(m.Statuses) == 0 {
		return nil
	}
	return m
}
