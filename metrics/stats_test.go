package metrics_test

import (
	"math"
	"testing"
	"time"

	"github.com/berthd/berth/metrics"
)

func TestStatsAdd(t *testing.T) {
	tests := []struct {
		name   string
		values []float64
		want   metrics.Stats
	}{
		{"none", nil, metrics.Stats{}},
		{"one", []float64{-2}, metrics.Stats{Min: -2, Max: -2, Sum: -2, SampleCount: 1}},
		{"zero is a value", []float64{3, 0}, metrics.Stats{Min: 0, Max: 3, Sum: 3, SampleCount: 2}},
		{"rising and falling", []float64{2, 5, 1, 4}, metrics.Stats{Min: 1, Max: 5, Sum: 12, SampleCount: 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got metrics.Stats
			for _, v := range tt.values {
				got.Add(v)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	s := metrics.Stats{Sum: 12, SampleCount: 4}
	if got := s.Average(); got != 3 {
		t.Errorf("average is %v, want 3", got)
	}
	if got := new(metrics.Stats).Average(); got != 0 {
		t.Errorf("average of nothing is %v, want 0", got)
	}
}

func TestUnsignedStatsAdd(t *testing.T) {
	tests := []struct {
		name   string
		values []uint64
		want   metrics.UnsignedStats
	}{
		{"none", nil, metrics.UnsignedStats{}},
		{"some", []uint64{7, 0, 9}, metrics.UnsignedStats{Min: 0, Max: 9, Sum: 16, SampleCount: 3}},
		{
			"the sum stops at the top",
			[]uint64{math.MaxUint64, 2, 3},
			metrics.UnsignedStats{Min: 2, Max: math.MaxUint64, Sum: math.MaxUint64, SampleCount: 3},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got metrics.UnsignedStats
			for _, v := range tt.values {
				got.Add(v)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestMemoryFormulas(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name       string
		version    metrics.Version
		memory     metrics.Memory
		wantBytes  uint64
		wantMiB    uint64
		workingSet uint64
	}{
		{"v2 subtracts inactive_file", metrics.V2, metrics.Memory{Usage: 100 * mib, InactiveFile: 30*mib + 1}, 70*mib - 1, 69, 70*mib - 1},
		{"v2 ignores an inactive_file of the whole usage", metrics.V2, metrics.Memory{Usage: 8 * mib, InactiveFile: 8 * mib}, 8 * mib, 8, 0},
		{"v2 ignores an inactive_file above the usage", metrics.V2, metrics.Memory{Usage: 8 * mib, InactiveFile: 9 * mib}, 8 * mib, 8, 0},
		{"v2 without the key is the usage", metrics.V2, metrics.Memory{Usage: 8*mib + 7}, 8*mib + 7, 8, 8*mib + 7},
		{"v2 does not subtract the active file cache", metrics.V2, metrics.Memory{Usage: 8 * mib, File: 4 * mib, ActiveFile: 4 * mib}, 8 * mib, 8, 8 * mib},
		{"v1 subtracts cache, not inactive_file", metrics.V1, metrics.Memory{Usage: 100 * mib, Cache: 60 * mib, InactiveFile: 10 * mib}, 40 * mib, 40, 90 * mib},
		{"v1 ignores a cache of the whole usage", metrics.V1, metrics.Memory{Usage: 6 * mib, Cache: 6 * mib}, 6 * mib, 6, 6 * mib},
		{"v1 without cache is the usage", metrics.V1, metrics.Memory{Usage: 6 * mib, InactiveFile: mib}, 6 * mib, 6, 5 * mib},
		{"less than a MiB is none", metrics.V2, metrics.Memory{Usage: mib - 1}, mib - 1, 0, mib - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := metrics.Sample{Time: time.Unix(1, 0), Version: tt.version, Memory: tt.memory}
			if got := s.ECSMemory(); got != tt.wantBytes {
				t.Errorf("ECS memory is %d, want %d", got, tt.wantBytes)
			}
			if got := s.ECSMemoryMiB(); got != tt.wantMiB {
				t.Errorf("ECS memory is %d MiB, want %d", got, tt.wantMiB)
			}
			if got := s.WorkingSet(); got != tt.workingSet {
				t.Errorf("working set is %d, want %d", got, tt.workingSet)
			}
		})
	}
}

func TestTaskID(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:ecs:eu-west-1:111122223333:task/blue/9ab0": "9ab0",
		"arn:aws:ecs:eu-west-1:111122223333:task/9ab0":      "9ab0",
		"9ab0": "9ab0",
		"":     "",
	} {
		c := metrics.Container{TaskARN: arn}
		if got := c.TaskID(); got != want {
			t.Errorf("task id of %q is %q, want %q", arn, got, want)
		}
	}
}
