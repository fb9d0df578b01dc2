package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/health"
	"github.com/berthd/berth/agent/hostapi"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/metrics/prom"
	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/logs"
)

// serveHost is the API on the unix socket. Once it listens the agent is ready:
// its tasks are adopted, and a person can ask about them.
func (a *agent) serveHost(ctx context.Context) error {
	listener, err := hostapi.Listen(ctx, a.options.Config.Paths.Socket, config.Group)
	if err != nil {
		return err
	}
	server := hostapi.NewServer(hostapi.Providers{
		Instance: instanceAPI{a}, Tasks: tasksAPI{a.engine, a.parts.VolumeViews, a.host.logStatus}, Executor: execAPI{a.host.runtime},
		Logs: logsAPI{a.options.Config.Paths, a.reportedStopped}, Stats: statsAPI{a.observer.sampler}, Images: imagesAPI{a},
		Puller: pullAPI{a}, Events: a.observer.events, Settings: a.settings.list,
		Credentials: roleCredentials{a.meta}, Drainer: drainAPI{a}, Checks: newSelfTest(a).look,
	}, a.log.Named("api"))
	a.log.Info("ready", zap.Int("tasks", len(a.engine.Tasks())), zap.Duration("after", time.Since(a.started).Round(time.Millisecond)))
	tell(a.log, systemd.Ready(fmt.Sprintf("%d tasks adopted", len(a.engine.Tasks()))))
	if a.options.Ready != nil {
		a.options.Ready()
	}
	return server.Serve(ctx, listener)
}

// serveIntrospection is the API that ECS hosts have on port 51678. A port that
// is taken is no reason to run no tasks: it is tried again.
func (a *agent) serveIntrospection(ctx context.Context) error {
	c := &a.options.Config
	server := hostapi.IntrospectionServer(hostapi.IntrospectionConfig{
		Instance: instanceAPI{a}, Tasks: tasksAPI{engine: a.engine, volumes: a.parts.VolumeViews},
		Health:  a.verdict,
		Metrics: prom.Handler(a.page), License: license, Profiling: c.Metadata.Profiling,
	})
	listener, err := a.listenIntrospection(ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1) // The server's end, heard once.
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return fmt.Errorf("cannot serve the introspection API: %w", err)
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), time.Second, errStopped)
	defer cancel()
	err = server.Shutdown(bounded)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

func (a *agent) listenIntrospection(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	address := a.options.Config.Metadata.Introspection
	for first := true; ; first = false {
		listener, err := lc.Listen(ctx, "tcp", address)
		if err == nil {
			return listener, nil
		}
		if first {
			a.log.Warn("cannot listen for the introspection API; trying again", zap.String("address", address), zap.Error(err))
		}
		if !backoff.Wait(ctx, 5*time.Second) {
			return nil, context.Cause(ctx)
		}
	}
}

// license is what /license says; the text itself is in the repository and the
// package.
const license = "Berth is licensed under the Apache License, Version 2.0: http://www.apache.org/licenses/LICENSE-2.0\n"

// instanceAPI tells about the agent as a whole.
type instanceAPI struct{ agent *agent }

// Status is the agent as it is now.
func (i instanceAPI) Status() hostapi.StatusView {
	a := i.agent
	v := hostapi.StatusView{
		Version: a.options.Version, AgentVersion: fmt.Sprintf("Berth - %s (%s)", a.options.Version, a.hash()),
		Cluster: a.options.Config.Cluster, ContainerInstanceARN: a.host.store.Meta().ContainerInstanceARN,
		Region: a.options.Config.Region, StartedAt: a.started, Health: a.verdict(), Drain: a.drainView(),
	}
	for _, name := range []string{"acs", "tcs"} {
		up, since, why := a.sessions.link(name).Status()
		connection := hostapi.ConnectionView{Name: name, Connected: up, Since: since}
		if why != nil && !up {
			connection.Reason = why.Error()
		}
		v.Connections = append(v.Connections, connection)
	}
	return v
}

// execAPI runs processes in containers.
type execAPI struct{ runtime container.Runtime }

// Exec runs a process and answers its exit code.
func (e execAPI) Exec(ctx context.Context, r hostapi.ExecRequest, s hostapi.Streams) (int, error) {
	req := container.ExecRequest{
		Args: r.Args, Env: r.Env, User: r.User, WorkingDir: r.WorkingDir, Terminal: r.Terminal,
		Stdout: s.Stdout, Stderr: s.Stderr,
	}
	if r.Stdin {
		req.Stdin = s.Stdin
	}
	if r.Terminal {
		sizes := make(chan container.Size, 1) // The newest size is enough.
		req.Resize = sizes
		if r.Size != (hostapi.Size{}) {
			sizes <- container.Size(r.Size)
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		go func() {
			for {
				select {
				case size := <-s.Resize:
					select {
					case sizes <- container.Size(size):
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	code, err := e.runtime.Exec(ctx, r.Container, req)
	switch {
	case errors.Is(err, container.ErrNotFound):
		err = fmt.Errorf("%w: %w", hostapi.ErrNotFound, err)
	case errors.Is(err, container.ErrNotRunning):
		err = fmt.Errorf("%w: %w", hostapi.ErrConflict, err)
	}
	return code, err
}

// lastLines bounds the wait for the last lines of a container that has ended.
const lastLines = 10 * time.Second

// logsAPI reads what containers wrote.
type logsAPI struct {
	paths config.Paths
	// stopped says whether the container of an id has ended for good, and ECS was told.
	stopped func(id string) bool
}

// Logs reads a container's log. Who was told that a container has stopped finds its
// last line there: the log process may not have read that far.
func (l logsAPI) Logs(ctx context.Context, r hostapi.LogRequest, emit func(hostapi.LogLine) error) error {
	req := logs.ReadRequest{
		Dir: filepath.Join(l.paths.Run, "logs"), DataDir: filepath.Join(l.paths.Data, "logs"),
		ID: r.Container, Follow: r.Follow, Since: r.Since,
	}
	if l.stopped(r.Container) {
		patience, cancel := context.WithTimeoutCause(ctx, lastLines, errors.New("the log process does not end the log"))
		logs.AwaitEnd(patience, req.Dir, req.ID)
		cancel()
	}
	switch {
	case r.Tail == 0:
		req.Tail = -1
	case r.Tail > 0:
		req.Tail = r.Tail
	}
	err := logs.Read(ctx, req, func(line logs.Line) error {
		return emit(hostapi.LogLine{Time: line.Time, Stream: string(line.Stream), Log: strings.TrimSuffix(line.Log, "\n")})
	})
	switch {
	case errors.Is(err, logs.ErrNoLog):
		return fmt.Errorf("%w: %w", hostapi.ErrNotFound, err)
	case errors.Is(err, logs.ErrNotReadable):
		return fmt.Errorf("%w: %w", hostapi.ErrConflict, err)
	default:
		return err
	}
}

// reportedStopped says whether ECS was told that the container of an id has stopped.
func (a *agent) reportedStopped(id string) bool {
	for _, t := range a.engine.Tasks() {
		for i := range t.State.Containers {
			if c := &t.State.Containers[i]; t.ContainerID(c.Name) == id {
				return c.Sent == task.ReportStopped
			}
		}
	}
	return false
}

// verdict is the agent's health now.
func (a *agent) verdict() health.Verdict { return a.board.Verdict(time.Now()) }

// hash is the build's revision as ECS wants it: eight hexadecimal digits.
func (a *agent) hash() string {
	if len(a.options.Revision) >= 8 {
		return a.options.Revision[:8]
	}
	return "00000000"
}

// osFamily is the setting, else what os-release says.
func osFamily(a *agent) string {
	if f := a.options.Config.Instance.DetailedOSFamily; f != "" {
		return f
	}
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		fields[key] = strings.Trim(value, `"'`)
	}
	if fields["ID"] == "" {
		return ""
	}
	return strings.TrimSuffix(fields["ID"]+"_"+fields["VERSION_ID"], "_")
}

// architecture is this machine's in ECS's words.
func architecture() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "386":
		return "i386"
	default:
		return runtime.GOARCH
	}
}
