package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/awsapi"
	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/runtime/logs"
	"github.com/berthd/berth/runtime/logs/awslogs"
)

func (a *app) logd() *cobra.Command {
	var conf logs.ServerConfig
	var file, level string
	cmd := &cobra.Command{
		Use:   "logd",
		Short: "Carry the containers' output to their log drivers (berth-logs.service runs it)",
		Long: `The log process of this host: it reads the containers' pipes and writes to their log drivers, so that the
agent may come and go without a line being lost. berth-logs.service runs it; an agent without systemd starts
one by itself.`,
		Args:   args(0, 0),
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := config.Load(config.Options{File: file, Environ: a.env})
			if err != nil {
				return Terminal(err)
			}
			for _, d := range []struct {
				value *string
				is    string
			}{
				{&conf.Socket, c.Paths.LogSocket},
				{&conf.Dir, filepath.Join(c.Paths.Run, "logs")},
				{&conf.DataDir, filepath.Join(c.Paths.Data, "logs")},
				{&level, c.Agent.LogLevel},
			} {
				if *d.value == "" {
					*d.value = d.is
				}
			}
			log, err := newLogger(a.Err, level, "logfmt")
			if err != nil {
				return err
			}
			conf.Log, conf.QueueLimit, conf.Version = log, int64(c.Agent.LogQueueMB)<<20, ThisBuild().Version
			if conf.Drivers, err = logDrivers(&c, a.env, log); err != nil {
				return Terminal(err)
			}
			var background sync.WaitGroup
			defer background.Wait()
			ctx, cancel := context.WithCancelCause(cmd.Context())
			defer cancel(nil)
			conf.Ready = func() {
				background.Go(func() { keepTrim(ctx, log) })
				if err := systemd.Ready("reading the containers' output"); err != nil {
					log.Debug("cannot notify systemd", zap.Error(err))
				}
			}
			err = logs.Run(ctx, conf)
			if err != nil && cmd.Context().Err() == nil { // It was not told to stop.
				return fmt.Errorf("the log process ended: %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	f.StringVar(&conf.Socket, "log-socket", "", "`path` of the log process's socket (default: as the settings say)")
	f.StringVar(&conf.Dir, "dir", "", "`directory` of the containers' pipes (default: as the settings say)")
	f.StringVar(&conf.DataDir, "data", "", "`directory` of the log files (default: as the settings say)")
	f.DurationVar(&conf.IdleExit, "idle-exit", 0, "end after so long without a container or an agent; 0 never does")
	f.StringVar(&level, "log-level", "", "crit, error, warn, info or debug (default: as the settings say)")
	return cmd
}

// logDrivers are the drivers of a log process that need to know more than their
// container: the host's region and keys, or variables.
func logDrivers(c *config.Config, environ []string, log *zap.Logger) (map[string]logs.Factory, error) {
	roots, err := awsapi.Roots(c.AWS.CABundle)
	if err != nil {
		return nil, err
	}
	metadata := awsapi.NewMetadata(awsapi.MetadataConfig{
		Endpoint: c.AWS.MetadataEndpoint, Disabled: c.AWS.MetadataDisabled || c.External, Log: log.Named("metadata"),
	})
	if environ == nil {
		environ = config.Environ()
	}
	return map[string]logs.Factory{
		awslogs.Name: awslogs.New(awslogs.Config{
			Region: c.Region, Endpoint: c.AWS.Endpoints.Of("logs"), FIPS: c.AWS.FIPS,
			DualStack: c.AWS.DualStack || c.IPCompatibility == "ipv6", AgentSocket: c.Paths.Socket,
			Host: daemon.HostCredentials(c, metadata), Proxy: daemon.Proxy(c), Roots: roots,
		}),
		logs.DriverSplunk: logs.Splunk(func(name string) string {
			for _, entry := range slices.Backward(environ) {
				if value, ok := strings.CutPrefix(entry, name+"="); ok {
					return value
				}
			}
			return ""
		}),
	}, nil
}

// logdEnviron is the environment of a log process that an agent starts: what its
// settings and drivers read of the agent's, and how much memory it may take.
func logdEnviron(environ []string) []string {
	if environ == nil {
		environ = config.Environ()
	}
	out := []string{"GOMEMLIMIT=12MiB"}
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if slices.ContainsFunc([]string{"AWS_", "ECS_", "BERTH_", "SPLUNK_LOGGING_DRIVER_", "SSL_CERT_"}, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		}) || slices.Contains([]string{"HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}, strings.ToUpper(name)) {
			out = append(out, entry)
		}
	}
	return out
}

// logdCommand is how an agent starts a log process for its settings.
func logdCommand(self, file string, c *config.Config, idle time.Duration) []string {
	command := []string{
		self, "logd", "--log-socket", c.Paths.LogSocket, "--dir", filepath.Join(c.Paths.Run, "logs"),
		"--data", filepath.Join(c.Paths.Data, "logs"), "--idle-exit", idle.String(), "--log-level", c.Agent.LogLevel,
	}
	if file != "" {
		command = append(command, "--config", file)
	}
	return command
}
