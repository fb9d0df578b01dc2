// Package metrics holds the words of measurement: what one reading of one container is (Sample), how readings become the
// minimum, maximum, sum and count that Amazon ECS is sent (Series, Report, Stats), and which readings are too odd to believe.
//
// The package is pure: it reads no file, no clock and takes no lock. The adapters metrics/cgroup and metrics/netns fill a Sample,
// the conductor metrics/sampler adds it to a Series each second, metrics/prom prints the readings.
//
//	cgroup files ─┐
//	              ├─► Sample ─► Series.Add ─► Series.Collect ─► Report   (every 20 s, to ECS)
//	netns links ──┘                 └───────► Reading                    (metadata, berth top, OpenMetrics)
//
// The numbers sent to ECS are those of the ECS agent to the byte, among them its idea of "memory used", which differs between
// cgroup versions (Sample.ECSMemoryMiB). The figures an engineer wants instead, such as the working set, anonymous memory and
// throttling, stand beside them in the Sample.
//
// No type here is safe for concurrent use unless it is only read.
package metrics
