package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
)

const (
	// programPatience is how long one program may take, and exhibitBytes how much of one output or log is kept: its end.
	programPatience = 20 * time.Second
	exhibitBytes    = 8 << 20
)

// exhibit is one file of a bundle. read may answer text and an error: then the text is not all there is.
type exhibit struct {
	name string
	read func(ctx context.Context) (string, error)
}

// collector gathers exhibits.
type collector struct {
	*scrubber

	app     *app
	now     time.Time
	config  config.Config
	broken  error // why the settings could not be read
	file    string
	logs    []string
	missing []string
}

func (a *app) collector(file string, logs []string) *collector {
	c := &collector{app: a, now: a.now(), file: file, logs: logs}
	c.config, _, c.broken = config.Load(config.Options{File: file, Environ: a.env})
	if c.broken != nil {
		// The defaults alone cannot be invalid.
		c.config, _, _ = config.Load(config.Options{File: os.DevNull, JSONFile: os.DevNull, Environ: []string{}})
	}
	c.scrubber = newScrubber(&c.config)
	return c
}

// exhibits lists them: first what says most.
func (c *collector) exhibits() []exhibit {
	all := []exhibit{
		{"version.json", func(context.Context) (string, error) { return encoded(ThisBuild()) }},
		{"agent/status.json", answered(c.app.client().Status)},
		{"agent/tasks.json", answered(c.app.client().Tasks)},
		{"agent/waits.json", c.waits},
		{"agent/events.json", c.events},
		{"agent/stats.json", answered(c.app.client().Stats)},
		{"agent/images.json", answered(c.app.client().Images)},
		{"agent/settings.json", answered(c.app.client().Settings)},
		{"settings.json", c.settings},
		{"doctor.json", c.doctor},
		{"agent/journal.txt", program("journalctl", "--no-pager", "--output=short-iso-precise", "--since=-24h", "--lines=20000",
			"--unit=berth.service", "--unit=berth-logs.service", "--unit=berth-shutdown.service", "--unit=containerd.service")},
		{"agent/units.txt", program("systemctl", "--no-pager", "--full", "status", "berth.service", "berth-logs.service", "berth-shutdown.service",
			"containerd.service", "berth.slice", "ecstasks.slice")},
		{"agent/logd.txt", fileEnd(filepath.Join(c.config.Paths.Run, "logd.out"))},
		{"agent/directories.txt", c.directories},
		{"containerd/version.txt", func(ctx context.Context) (string, error) {
			version, err := containerdVersion(ctx, c.config.Containerd.Address)
			if err != nil {
				return "", err
			}
			return version + "\n", nil
		}},
		{"containerd/containers.txt", c.listed("containers")},
		{"containerd/tasks.txt", c.listed("tasks")},
		{"containerd/snapshots.txt", c.listed("snapshots")},
		{"containerd/leases.txt", c.listed("leases")},
		{"network/nftables.txt", program("nft", "list", "ruleset")},
		{"network/iptables.txt", program("iptables-save")},
		{"network/links.txt", program("ip", "-details", "address")},
		{"network/routes.txt", program("ip", "route", "show", "table", "all")},
		{"network/rules.txt", program("ip", "rule")},
		{"network/namespaces.txt", program("ip", "netns", "list")},
		{"network/listeners.txt", program("ss", "-lntu")},
		{"host/inhibitors.txt", program("systemd-inhibit", "--list", "--no-pager")},
		{"host/cgroups.txt", c.controlGroups},
		{"host/disks.txt", program("df", "--all", "--print-type", "--human-readable")},
		{"host/inodes.txt", program("df", "--inodes")},
		{"host/kernel-log.txt", program("dmesg", "--ctime", "--level=emerg,alert,crit,err,warn")},
	}
	for _, path := range []string{
		"/proc/version", "/proc/cmdline", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/mounts", "/proc/cgroups", "/proc/modules",
		"/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_local_reserved_ports",
		"/proc/sys/net/ipv4/ip_local_port_range", "/etc/os-release", "/etc/resolv.conf", "/etc/containerd/config.toml",
	} {
		all = append(all, exhibit{"host" + path, fileEnd(path)})
	}
	for i, path := range c.logs {
		all = append(all, exhibit{fmt.Sprintf("logs/%d-%s", i+1, filepath.Base(path)), fileEnd(path)})
	}
	return all
}

// answered is what the agent answers.
func answered[T any](ask func(context.Context) (T, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, checkWait, errors.New("the agent does not answer"))
		defer cancel()
		v, err := ask(ctx)
		if err != nil {
			return "", err
		}
		return encoded(v)
	}
}

func encoded(v any) (string, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return "", fmt.Errorf("cannot encode: %w", err)
	}
	return string(text) + "\n", nil
}

// waits is what each task that does not run waits for.
func (c *collector) waits(ctx context.Context) (string, error) {
	return answered(func(ctx context.Context) (map[string][]hostapi.Wait, error) {
		tasks, err := c.app.client().Tasks(ctx)
		if err != nil {
			return nil, err
		}
		out := map[string][]hostapi.Wait{}
		for _, t := range tasks {
			if t.KnownStatus == "STOPPED" || t.KnownStatus == "RUNNING" && t.DesiredStatus == "RUNNING" {
				continue
			}
			if out[t.ID], err = c.app.client().Why(ctx, t.ID); err != nil {
				return out, err
			}
		}
		return out, nil
	})(ctx)
}

// events are those that the agent has kept.
func (c *collector) events(ctx context.Context) (string, error) {
	return answered(func(ctx context.Context) ([]hostapi.Event, error) {
		var all []hostapi.Event
		err := c.app.client().Events(ctx, false, func(e hostapi.Event) error {
			all = append(all, e)
			return nil
		})
		return all, err
	})(ctx)
}

// settings are what files and environment say now; secrets are masked by the list itself.
func (c *collector) settings(context.Context) (string, error) {
	if c.broken != nil {
		return "", c.broken
	}
	return encoded(c.config.Settings())
}

// doctor is what the doctor says.
func (c *collector) doctor(ctx context.Context) (string, error) {
	p := c.app.patient(c.file)
	return encoded(examine(ctx, p))
}

// directories are the names, sizes and modes of what the agent keeps, and nothing of what is in it.
func (c *collector) directories(ctx context.Context) (string, error) {
	var out strings.Builder
	var errs []error
	for _, dir := range []string{c.config.Paths.Data, c.config.Paths.Run} {
		const most = 5000
		seen := 0
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case err != nil:
				_, _ = fmt.Fprintf(&out, "%s: %s\n", path, err) // It may have gone meanwhile.
				return nil
			case seen > most:
				return fs.SkipAll
			}
			seen++
			info, err := d.Info()
			if err != nil {
				return nil //nolint:nilerr // It has gone meanwhile.
			}
			_, _ = fmt.Fprintf(&out, "%s %12d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.RFC3339), path)
			// What a volume holds is the task's.
			if d.IsDir() && filepath.Base(filepath.Dir(filepath.Dir(path))) == "volumes" {
				return fs.SkipDir
			}
			return nil
		})
		errs = append(errs, err)
	}
	return out.String(), errors.Join(errs...)
}

// controlGroups are the limits and the use of the tasks' control groups, of either version.
func (c *collector) controlGroups(ctx context.Context) (string, error) {
	wanted := map[string]bool{
		"cgroup.controllers": true, "cgroup.procs": true, "cpu.max": true, "cpu.weight": true, "cpu.stat": true, "memory.max": true, "memory.current": true,
		"memory.events": true, "pids.max": true, "pids.current": true, "cpu.shares": true, "cpu.cfs_quota_us": true, "cpu.cfs_period_us": true,
		"memory.limit_in_bytes": true, "memory.usage_in_bytes": true, "memory.oom_control": true,
	}
	var out strings.Builder
	err := filepath.WalkDir(c.config.Cgroup.Root, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || d.IsDir() || !wanted[filepath.Base(path)] || !strings.Contains(path, "/ecstasks") && !strings.Contains(path, "/ecs/") || out.Len() > exhibitBytes {
			return nil //nolint:nilerr // Groups come and go.
		}
		if text, err := os.ReadFile(path); err == nil {
			_, _ = fmt.Fprintf(&out, "%s: %s\n", path, strings.Join(strings.Fields(string(text)), " "))
		}
		return nil
	})
	return out.String(), err
}

// listed is a list of what containerd has in our namespace: names and states, and no specification.
func (c *collector) listed(what string) func(context.Context) (string, error) {
	list := program("ctr", "--address", c.config.Containerd.Address, "--namespace", c.config.Containerd.Namespace, what, "list")
	return func(ctx context.Context) (string, error) {
		if _, err := containerdVersion(ctx, c.config.Containerd.Address); err != nil {
			return "", err // ctr would wait for long
		}
		return list(ctx)
	}
}

// program is what a program says, if the host has it.
func program(args ...string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		path, err := exec.LookPath(args[0])
		if err != nil {
			return "", fmt.Errorf("this host has no %s", args[0])
		}
		ctx, cancel := context.WithTimeoutCause(ctx, programPatience, fmt.Errorf("%s takes too long", args[0]))
		defer cancel()
		cmd := exec.CommandContext(ctx, path, args[1:]...)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("%s: %w: %s", args[0], err, oneLine(stderr.String()))
		}
		return string(out[max(0, len(out)-exhibitBytes):]), err
	}
}

// fileEnd is the end of a file; one that does not exist says nothing.
func fileEnd(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("cannot read: %w", err)
		}
		defer func() { _ = f.Close() }()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > exhibitBytes {
			if _, err := f.Seek(-exhibitBytes, io.SeekEnd); err != nil {
				return "", fmt.Errorf("cannot read: %w", err)
			}
		}
		text, err := io.ReadAll(io.LimitReader(f, exhibitBytes))
		if err != nil {
			return string(text), fmt.Errorf("cannot read: %w", err)
		}
		return string(text), nil
	}
}
