package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
)

func (a *app) purge() *cobra.Command {
	var file string
	var yes bool
	cmd := &cobra.Command{
		Use:   "purge",
		Short: "Remove from this host all that Berth made there",
		Long: `Kill the containers of all tasks, and remove them with their network, volumes, cgroups and images, and all
state, sockets and logs: what is left is a host that Berth never ran on, but for the package and the settings.
ECS is not told; drain the host first if its cluster should place its tasks elsewhere.

The agent must not run (systemctl stop berth berth-logs). Volumes of shared scope are removed with what is in them.`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("needs root")
			}
			o, err := a.hostOptions(file, "purge")
			if err != nil {
				return err
			}
			if !yes {
				return usage("this kills the containers of all tasks here, and removes %s and %s with all volumes: say --yes", o.Config.Paths.Data, o.Config.Paths.Run)
			}
			removed, err := daemon.PurgeAll(cmd.Context(), *o)
			// What was removed is said even when not all was.
			return errors.Join(a.print(removed, func(w io.Writer) error { return printRemoved(w, removed) }), err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	f.BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func printRemoved(w io.Writer, r daemon.Removed) error {
	_, err := fmt.Fprintf(w, "removed %d containers, and the network, volumes and cgroups of tasks\n", r.Containers)
	for _, i := range r.Images {
		_, e := fmt.Fprintln(w, "removed image "+i)
		err = errors.Join(err, e)
	}
	for _, d := range r.Directories {
		_, e := fmt.Fprintln(w, "removed "+d)
		err = errors.Join(err, e)
	}
	if r.Unknown != "" {
		_, e := fmt.Fprintln(w, r.Unknown)
		err = errors.Join(err, e)
	}
	if err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}
