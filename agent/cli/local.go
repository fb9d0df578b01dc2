package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/localcluster"
	"github.com/berthd/berth/runtime/vpc"
)

func (a *app) local() *cobra.Command {
	var conf localcluster.Config
	var state, level, subnet string
	cmd := &cobra.Command{
		Use:   "local",
		Short: "Run a one-host ECS on loopback, to develop and test against",
		Long: `Run an ECS control plane of your own on loopback: the ECS API, the agent's two websockets, and an image
registry, on one port. The aws command line and any number of berth agents can use it as they use Amazon ECS.

State is kept in --state: clusters, task definitions, instances and tasks in one file, pushed images beside it.
Any access key is believed, unless --access-key and --secret-key name the one that is.

With --awsvpc, tasks of network mode awsvpc can be placed: they get network interfaces in a subnet of this host,
made for them and attached where the agent finds them. It needs root, like the agent.`,
		Example: `  berth local &
  ECS_BACKEND_HOST=http://127.0.0.1:4580 berth agent &
  aws --endpoint-url http://127.0.0.1:4580 ecs list-container-instances`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLogger(a.Err, level, "logfmt")
			if err != nil {
				return err
			}
			conf.Log = log
			if state != "" {
				if err := os.MkdirAll(state, 0o700); err != nil {
					return fmt.Errorf("cannot make the state directory: %w", err)
				}
				conf.StateFile, conf.RegistryDir = filepath.Join(state, "state.json"), filepath.Join(state, "registry")
			}
			var interfaces *interfaceSource
			if subnet != "" {
				if interfaces, err = newInterfaceSource(subnet, conf.Region, log); err != nil {
					return err
				}
				defer interfaces.close()
				conf.Interfaces = interfaces.attach
			}
			server, err := localcluster.New(conf)
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(a.Out, "ECS and registry  %s\nagents            ECS_BACKEND_HOST=%[1]s AWS_DEFAULT_REGION=%s berth agent\nimages            %s/NAME:TAG\n",
				server.URL(), conf.Region, server.Addr()); err != nil {
				return errors.Join(err, server.Close())
			}
			if interfaces != nil {
				defer interfaces.follow(cmd.Context(), server)()
			}
			err = server.Run(cmd.Context())
			if cmd.Context().Err() != nil {
				return nil // It was told to stop.
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&conf.Listen, "listen", "127.0.0.1:4580", "`address` to listen on")
	f.StringVar(&state, "state", "", "`directory` that keeps the state; without it everything is in memory")
	f.StringVar(&conf.Region, "region", "us-east-1", "region in ARNs")
	f.StringVar(&conf.AccountID, "account", "000000000000", "account in ARNs")
	f.StringVar(&conf.AccessKey, "access-key", "", "the only access `key` that is believed")
	f.StringVar(&conf.SecretKey, "secret-key", "", "its secret `key`")
	f.StringVar(&subnet, "awsvpc", "", "give awsvpc tasks network interfaces in a `subnet` of this host")
	f.Lookup("awsvpc").NoOptDefVal = vpc.DefaultSubnet().String()
	f.StringVar(&conf.AgentUpdate, "agent-update", "", "the `file` that update-container-agent has agents told of")
	f.StringVar(&level, "log-level", "warn", "crit, error, warn, info or debug")
	return cmd
}
