// Package hostapitest is a host to try the host API on: tasks, logs, images and pulls that are kept in memory and really change when
// the API is told to change them. The tests of the API and of the command line share it, so that both see the same host.
package hostapitest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/hostapi"
)

// Start is when everything on the host began: all times of the host are counted from it.
func Start() time.Time { return time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC) }

// Host is a host with a few tasks on it. Fields may be changed before Serve; after that, only through the API.
type Host struct {
	View   hostapi.StatusView
	Lines  map[string][]hostapi.LogLine // by container id
	Events *hostapi.Events

	mu      sync.Mutex // guards all below
	tasks   []hostapi.TaskView
	waits   map[string][]hostapi.Wait
	samples []hostapi.StatsView
	images  []hostapi.ImageView
	pulls   []hostapi.PullView
	follow  chan hostapi.LogLine
}

var (
	_ hostapi.Instance  = (*Host)(nil)
	_ hostapi.Tasks     = (*Host)(nil)
	_ hostapi.Executor  = (*Host)(nil)
	_ hostapi.LogReader = (*Host)(nil)
	_ hostapi.Stats     = (*Host)(nil)
	_ hostapi.Images    = (*Host)(nil)
	_ hostapi.Puller    = (*Host)(nil)
)

// New makes the host: a web task with a sidecar that runs, one that waits for its image, and one that has stopped.
func New() *Host {
	h := &Host{
		Lines: map[string][]hostapi.LogLine{}, Events: &hostapi.Events{}, waits: map[string][]hostapi.Wait{},
		follow: make(chan hostapi.LogLine),
	}
	h.View = hostapi.StatusView{
		Version: "1.2.3", AgentVersion: "Berth - v1.2.3 (abcdef0)", Cluster: "blue", Region: "eu-north-1", StartedAt: Start(),
		ContainerInstanceARN: "arn:aws:ecs:eu-north-1:123456789012:container-instance/blue/4c1d", Containerd: "1.6.20",
		Health: health.Verdict{Status: health.OK, Parts: []health.Part{
			{Name: "containerd", Type: health.ContainerRuntime, Status: health.OK, Changed: Start(), Updated: Start()},
		}},
		Connections: []hostapi.ConnectionView{
			{Name: "acs", Connected: true, Since: Start()},
			{Name: "tcs", Connected: true, Since: Start()},
		},
	}
	h.addTasks()
	h.Lines["web-1"] = []hostapi.LogLine{
		{Time: at(1), Stream: "stdout", Log: "listening on :80"},
		{Time: at(2), Stream: "stderr", Log: "no <config>, using defaults"},
		{Time: at(3), Stream: "stdout", Log: "GET /"},
	}
	h.Lines["log-1"] = []hostapi.LogLine{{Time: at(2), Stream: "stdout", Log: "forwarding"}}
	h.samples = []hostapi.StatsView{
		{
			Task: WebTask, Container: "web", ID: "web-1", Time: at(60), CPUPercent: 12.34, CPULimitPercent: 49.36, ThrottledPercent: 1.5,
			MemoryBytes: 100 << 20, MemoryLimitBytes: 512 << 20, NetRxBytes: 3 << 20, NetTxBytes: 1536, BlockReadBytes: 4096, Pids: 7, PidsLimit: 100,
		},
		{Task: WebTask, Container: "log", ID: "log-1", Time: at(60), CPUPercent: 0.5, MemoryBytes: 20 << 20, Pids: 2},
	}
	used := at(30)
	h.images = []hostapi.ImageView{
		{Name: "docker.io/library/nginx:1.27", Digest: digest, Size: 71_300_000, PulledAt: stamp(-3600), LastUsed: &used, InUse: 1, Stays: "in use by task " + WebTask},
		{Name: "docker.io/library/busybox:1", Digest: digest, Size: 4_300_000},
	}
	h.Events.Publish(hostapi.Event{Time: at(0), Task: WebTask, What: "task received", Detail: "web:7"})
	h.Events.Publish(hostapi.Event{Time: at(1), Task: WebTask, Container: "web", What: "started"})
	return h
}

// Ids of the tasks. Two begin alike, so that a prefix can be ambiguous.
const (
	WebTask     = "0123456789abcdef0123456789abcdef"
	PendingTask = "01ffffffffffffffffffffffffffffff"
	StoppedTask = "fedcba9876543210fedcba9876543210"

	digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func at(seconds int) time.Time { return Start().Add(time.Duration(seconds) * time.Second) }

func stamp(seconds int) *time.Time { t := at(seconds); return &t }

func arn(id string) string { return "arn:aws:ecs:eu-north-1:123456789012:task/blue/" + id }

func (h *Host) addTasks() {
	code := 137
	restarts := 2
	h.tasks = []hostapi.TaskView{
		{
			ID: WebTask, ARN: arn(WebTask), Family: "web", Revision: "7", KnownStatus: "RUNNING", DesiredStatus: "RUNNING", Origin: "ecs",
			NetworkMode: "bridge", CreatedAt: stamp(0), StartedAt: stamp(1),
			Containers: []hostapi.ContainerView{
				{
					ID: "web-1", Name: "web", RuntimeName: "ecs-web-7-web-1", Image: "nginx:1.27", ImageID: digest, Digest: digest, Status: "RUNNING",
					Health: "HEALTHY", Essential: true, CreatedAt: stamp(0), StartedAt: stamp(1), Addresses: []string{"172.31.240.2"},
					Ports: []hostapi.PortView{{ContainerPort: 80, HostPort: 32768, Protocol: "tcp", HostIP: "0.0.0.0"}},
				},
				{
					ID: "log-1", Name: "log", RuntimeName: "ecs-web-7-log-1", Image: "fluent-bit:3", Status: "RUNNING", RestartCount: &restarts,
					CreatedAt: stamp(0), StartedAt: stamp(1), Volumes: []hostapi.VolumeView{{Source: "/var/log", Destination: "/logs"}},
				},
				{ID: "pause-1", Name: "~internal", Image: "pause", Status: "RUNNING", Internal: true},
			},
		},
		{
			ID: PendingTask, ARN: arn(PendingTask), Family: "batch", Revision: "1", KnownStatus: "PENDING", DesiredStatus: "RUNNING", Origin: "ecs",
			CreatedAt:  stamp(50),
			Containers: []hostapi.ContainerView{{Name: "job", Image: "r.example/job:9", Status: "NONE", Essential: true}},
		},
		{
			ID: StoppedTask, ARN: arn(StoppedTask), Family: "old", Revision: "3", KnownStatus: "STOPPED", DesiredStatus: "STOPPED", Origin: "local",
			Reason: "Essential container in task exited", StopCode: "EssentialContainerExited", CreatedAt: stamp(-600), StoppedAt: stamp(-60),
			Containers: []hostapi.ContainerView{{
				ID: "old-1", Name: "app", Image: "app:3", Status: "STOPPED", Essential: true, ExitCode: &code,
				Reason: "OutOfMemoryError: Container killed due to memory usage", CreatedAt: stamp(-600), StartedAt: stamp(-599), FinishedAt: stamp(-60),
			}},
		},
	}
	h.waits[PendingTask] = []hostapi.Wait{
		{Container: "job", What: "image r.example/job:9 is being pulled, 10 of 40 MB", Since: stamp(52)},
		{What: "container job has to start", Hint: "nothing to do: it follows the pull"},
	}
}

// Providers is everything the host offers.
func (h *Host) Providers() hostapi.Providers {
	return hostapi.Providers{
		Instance: h, Tasks: h, Executor: h, Logs: h, Stats: h, Images: h, Puller: h, Events: h.Events,
		Checks: func(context.Context) []hostapi.CheckView {
			return []hostapi.CheckView{{Check: "metadata, bridge mode", Status: "OK", Why: "containers reach it"}}
		},
		Settings: func() []config.Setting {
			return []config.Setting{
				{Name: "ECS_CLUSTER", Value: "blue", Source: "/etc/ecs/ecs.config:1"},
				{Name: "ECS_CONTAINER_STOP_TIMEOUT", Value: "30s", Source: config.SourceDefault},
				{Name: "DOCKER_HOST", Value: "unix:///d.sock", Source: config.SourceEnvironment, Reason: "Berth has no Docker"},
			}
		},
	}
}

// Serve answers the providers on a socket of the test until the test ends, and returns the socket's path.
func Serve(t *testing.T, p hostapi.Providers) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.sock")
	l, err := hostapi.Listen(t.Context(), path, "no-such-group")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	done := make(chan error, 1) // one: the server ends even if nobody asks
	go func() { done <- hostapi.NewServer(p, nil).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel(errors.New("test ends"))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

// Status implements hostapi.Instance.
func (h *Host) Status() hostapi.StatusView { return h.View }

// Tasks implements hostapi.Tasks.
func (h *Host) Tasks() []hostapi.TaskView {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.tasks)
}

// Stop implements hostapi.Tasks: the task is stopped at once.
func (h *Host) Stop(_ context.Context, id, reason string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.tasks, func(t hostapi.TaskView) bool { return t.ID == id })
	if i < 0 {
		return fmt.Errorf("cannot stop task %s: %w", id, hostapi.ErrNotFound)
	}
	t := &h.tasks[i]
	t.DesiredStatus, t.KnownStatus, t.Reason = "STOPPED", "STOPPED", reason
	return nil
}

// Why implements hostapi.Tasks.
func (h *Host) Why(id string) ([]hostapi.Wait, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waits[id], nil
}

// Exec implements hostapi.Executor with a few commands: "echo WORD…", "cat", "fail TEXT" to stderr, "exit N", "size N" that waits for N
// resizes, "hang" that waits for its end, and "broken", which cannot be started.
func (h *Host) Exec(ctx context.Context, r hostapi.ExecRequest, s hostapi.Streams) (int, error) {
	switch r.Args[0] {
	case "echo":
		_, err := fmt.Fprintln(s.Stdout, strings.Join(r.Args[1:], " "))
		return 0, err
	case "cat":
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 0, err
	case "fail":
		_, err := fmt.Fprintln(s.Stderr, strings.Join(r.Args[1:], " "))
		return 1, err
	case "exit":
		return strconv.Atoi(r.Args[1])
	case "size":
		return 0, printSizes(ctx, r, s)
	case "hang":
		if _, err := fmt.Fprintln(s.Stdout, "hanging"); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, context.Cause(ctx)
	case "ask":
		line, err := bufio.NewReader(s.Stdin).ReadString('\n')
		if err != nil {
			return 1, nil //nolint:nilerr // a process says so with its exit code
		}
		_, err = fmt.Fprintf(s.Stdout, "hello %s", line)
		return 0, err
	default:
		return 0, fmt.Errorf("%w: executable %q not found", hostapi.ErrInvalid, r.Args[0])
	}
}

func printSizes(ctx context.Context, r hostapi.ExecRequest, s hostapi.Streams) error {
	n, err := strconv.Atoi(r.Args[1])
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.Stdout, "%dx%d\n", r.Size.Width, r.Size.Height); err != nil {
		return err
	}
	for range n {
		select {
		case size := <-s.Resize:
			if _, err := fmt.Fprintf(s.Stdout, "%dx%d\n", size.Width, size.Height); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Logs implements hostapi.LogReader. A follower gets what Say says.
func (h *Host) Logs(ctx context.Context, r hostapi.LogRequest, emit func(hostapi.LogLine) error) error {
	all, ok := h.Lines[r.Container]
	if !ok {
		return fmt.Errorf("cannot read logs of %s: %w", r.Container, hostapi.ErrNotFound)
	}
	var lines []hostapi.LogLine
	for _, l := range all {
		if !l.Time.Before(r.Since) {
			lines = append(lines, l)
		}
	}
	if r.Tail >= 0 && len(lines) > r.Tail {
		lines = lines[len(lines)-r.Tail:]
	}
	for _, l := range lines {
		if err := emit(l); err != nil {
			return err
		}
	}
	for r.Follow {
		select {
		case <-ctx.Done():
			return nil
		case l, ok := <-h.follow:
			if !ok {
				return nil
			}
			if err := emit(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// Say gives a line to one follower of logs and waits until it took it.
func (h *Host) Say(line hostapi.LogLine) { h.follow <- line }

// Hush ends what followers of logs read, as the end of their container does.
func (h *Host) Hush() { close(h.follow) }

// Stats implements hostapi.Stats.
func (h *Host) Stats() []hostapi.StatsView {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.samples)
}

// Images implements hostapi.Images.
func (h *Host) Images(context.Context) ([]hostapi.ImageView, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.images), nil
}

// Pull implements hostapi.Puller: everything can be pulled but what is called "missing".
func (h *Host) Pull(_ context.Context, image string, progress func(hostapi.PullView)) (hostapi.ImageView, error) {
	progress(hostapi.PullView{Image: image, Phase: "downloading", BytesDone: 50, BytesTotal: 100, Layers: 2, LayersDone: 1})
	if strings.Contains(image, "missing") {
		return hostapi.ImageView{}, fmt.Errorf("cannot pull %s: %w", image, hostapi.ErrNotFound)
	}
	view := hostapi.ImageView{Name: image, Digest: digest, Size: 100}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.images = append(h.images, view)
	return view, nil
}

// Pulls implements hostapi.Puller.
func (h *Host) Pulls() []hostapi.PullView {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.pulls)
}

// ShowPulls sets what Pulls answers.
func (h *Host) ShowPulls(p ...hostapi.PullView) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pulls = p
}
