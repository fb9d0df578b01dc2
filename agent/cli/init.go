package cli

import (
	"github.com/spf13/cobra"

	"github.com/berthd/berth/runtime/ctrd/initproc"
)

func (a *app) init() *cobra.Command {
	return &cobra.Command{
		Use:                "init -- COMMAND [ARG...]",
		Short:              "Be PID 1 of a container: forward signals and reap (initProcessEnabled)",
		Hidden:             true,
		DisableFlagParsing: true,
		Args:               cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, given []string) error {
			if code := initproc.Run(given); code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}
