package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the unit of CPU times in /proc: USER_HZ is 100 on every Linux.
const clockTick = 10 * time.Millisecond

// usage is what processes use: bytes of resident memory, those of it that are no
// pages of files, and CPU time so far.
type usage struct {
	count     int
	memory    int64
	anonymous int64
	cpu       time.Duration
}

// kinds are the processes that a run has, by what they are.
type kinds map[string]usage

// The kinds of processes.
const (
	kindAgent      = "agent"
	kindLogs       = "logs"
	kindContainerd = "containerd"
	kindShims      = "shims"
	kindSleepers   = "sleepers" // One in each container, once that can obey.
)

// look reads what the processes of each kind use. Only those of our own process
// namespace are in /proc.
func look(proc string) (kinds, error) {
	dirs, err := filepath.Glob(filepath.Join(proc, "[0-9]*"))
	if err != nil {
		return nil, err
	}
	found := kinds{}
	for _, dir := range dirs {
		kind, u, err := process(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // It has ended.
		}
		if err != nil {
			return nil, err
		}
		if kind != "" {
			sum := found[kind]
			found[kind] = usage{sum.count + 1, sum.memory + u.memory, sum.anonymous + u.anonymous, sum.cpu + u.cpu}
		}
	}
	return found, nil
}

// process reads one process; kind is "" for one that is not ours to count.
func process(dir string) (kind string, u usage, err error) {
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return "", u, err
	}
	if kind = kindOf(strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")); kind == "" {
		return "", u, nil
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return "", u, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return "", u, err
	}
	if u.memory, err = memory(string(status), "VmRSS:"); err != nil {
		return "", u, fmt.Errorf("%s/status: %w", dir, err)
	}
	if u.anonymous, err = memory(string(status), "RssAnon:"); err != nil {
		return "", u, fmt.Errorf("%s/status: %w", dir, err)
	}
	if u.cpu, err = cpuTime(string(stat)); err != nil {
		return "", u, fmt.Errorf("%s/stat: %w", dir, err)
	}
	return kind, u, nil
}

func kindOf(args []string) string {
	switch name := filepath.Base(args[0]); {
	case name == "containerd-shim-runc-v2":
		return kindShims
	case name == "containerd":
		return kindContainerd
	case name == "sleep":
		return kindSleepers
	case len(args) > 1 && args[1] == "agent":
		return kindAgent
	case len(args) > 1 && args[1] == "logd":
		return kindLogs
	default:
		return ""
	}
}

// memory is a line of /proc/PID/status, in bytes.
func memory(status, name string) (int64, error) {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fs.ErrNotExist // A process that is ending has no memory any more.
}

// cpuTime is user and system time of /proc/PID/stat. What comes before the last
// parenthesis is a name that may hold anything.
func cpuTime(stat string) (time.Duration, error) {
	_, rest, ok := strings.Cut(stat[max(0, strings.LastIndexByte(stat, ')')):], ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("cannot read %q", stat)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * clockTick, err
}

// percentile is the smallest of the values that a share of them does not exceed.
func percentile(values []time.Duration, share float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// median is the middle one of the values.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
