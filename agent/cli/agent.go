package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/runtime/hostns"
	"github.com/berthd/berth/runtime/logs"
)

func (a *app) agent() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Join an ECS cluster and run its tasks (berth.service runs it)",
		Long: `Register this host with an Amazon ECS cluster, and run the cluster's tasks on containerd until told to stop.
Stopping the agent leaves its tasks running, and their ports served; the next agent takes them over.

SIGHUP (systemctl reload berth) has the settings read again: those about image clean-up, registry logins, spot
instances and the log level count at once, and the log names what else has changed and counts after a restart.

Settings are those of the ECS agent, in ` + config.DefaultFile + `; see berth config. Where no log process
runs (berth-logs.service) the agent starts one, which outlives it.`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := a.agentOptions(file)
			if err != nil {
				return Terminal(err)
			}
			var background sync.WaitGroup
			defer background.Wait()
			ctx, cancel := context.WithCancelCause(cmd.Context())
			defer cancel(nil)
			o.Ready = func() { background.Go(func() { keepTrim(ctx, o.Log) }) }
			hangup := make(chan os.Signal, 1) // One that comes while settings are read has them read once more.
			signal.Notify(hangup, unix.SIGHUP)
			defer signal.Stop(hangup)
			o.Hangup = hangup
			err = daemon.Run(ctx, *o)
			if _, ok := errors.AsType[*daemon.TerminalError](err); ok {
				return Terminal(err)
			}
			if _, ok := errors.AsType[*daemon.RestartError](err); ok {
				return &exitError{ExitUpdate, err}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	return cmd
}

// agentOptions reads the settings and says what is odd about them.
func (a *app) agentOptions(file string) (*daemon.Options, error) {
	c, warnings, err := config.Load(config.Options{File: file, Environ: a.env})
	if err != nil {
		return nil, err
	}
	log, level, err := newLoggerLive(a.Err, c.Agent.LogLevel, c.Agent.LogFormat)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		log.Warn("setting", zap.Stringer("about", w))
	}
	mounts, err := hostMounts(&c.Paths)
	if err != nil {
		return nil, err
	}
	if file != "" { // The log process is started elsewhere, and reads it too.
		if file, err = filepath.Abs(file); err != nil {
			return nil, fmt.Errorf("cannot find the settings file: %w", err)
		}
	}
	b := ThisBuild()
	o := &daemon.Options{Config: c, Version: b.Version, Revision: b.Revision, Log: log, LogLevel: level, ConfigFile: file, Environ: a.env, Mounts: mounts}
	spawner, err := logSpawner(o)
	if err != nil {
		return nil, err
	}
	// A log process of ours outlives us, and what we are shut in with.
	o.SpawnLogs = func() error { return mounts.Do(spawner.Start) }
	if systemd.Supervised() {
		o.SpawnLogs = func() error { return startLogUnit(spawner, log) }
	}
	o.Init = []string{spawner.Command[0], "init"}
	a.prepareUpdates(o)
	return o, nil
}

// hostMounts is the host's mount namespace if berth.service has handed it to us.
// What the settings name is writable then, as far as the unit does not know it.
func hostMounts(p *config.Paths) (*hostns.Namespace, error) {
	mounts, err := hostns.Handed(os.Stdin)
	if err != nil {
		return nil, err
	}
	dirs := []string{p.Data, p.Run, p.Updates, filepath.Dir(p.Socket)}
	if p.AuditLog != "" {
		dirs = append(dirs, filepath.Dir(p.AuditLog))
	}
	return mounts, mounts.Writable(dirs...)
}

// logUnit is the log process where systemd runs the agent.
const logUnit = "berth-logs.service"

// startLogUnit has systemd start the log process. One of the agent's own would
// lie in the agent's cgroup, and keep the unit from starting for as long as it
// lives; it is started only where there is no such unit.
func startLogUnit(spawner *logs.Spawner, log *zap.Logger) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), 5*time.Second, errors.New("systemd does not answer"))
	defer cancel()
	err := systemd.StartUnit(ctx, logUnit)
	if err == nil {
		return nil
	}
	log.Warn("cannot start the unit of the log process; starting one without", zap.String("unit", logUnit), zap.Error(err))
	return spawner.Start()
}

// logSpawner starts this binary as a log process that has nothing to do with
// its parent.
func logSpawner(o *daemon.Options) (*logs.Spawner, error) {
	c := &o.Config
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	if err := os.MkdirAll(c.Paths.Run, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make directory: %w", err)
	}
	return &logs.Spawner{
		Command: logdCommand(self, o.ConfigFile, c, time.Minute), Env: logdEnviron(o.Environ), Output: filepath.Join(c.Paths.Run, "logd.out"),
	}, nil
}
