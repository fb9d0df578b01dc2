package cli

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/config"
)

func (a *app) config() *cobra.Command {
	var file string
	var check, running, changed bool
	cmd := &cobra.Command{
		Use:   "config [FILE]",
		Short: "Show the settings and where each comes from",
		Long: `Show the settings as the files and this environment give them now, and where each comes from. Secrets
are shown as ***. --running shows what counts in the agent instead.

--check says what is wrong with them, and which setting a misspelt name may have meant; with a FILE (of
NAME=VALUE lines, or JSON if its name ends in .json) it looks at that file alone. It exits with 0 if there is
nothing to say, 1 if the agent would start and something was passed over, and 5 if it would not start.
Settings of the ECS agent that Berth knows and has no use for are named and no reason for 1.`,
		Example: `  berth config --changed
  berth config --check new.config && install -m 600 new.config /etc/ecs/ecs.config && systemctl reload berth
  diff <(berth config) <(berth config --running)`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			switch {
			case check && running:
				return usage("--check looks at the files, --running at the agent: take one")
			case len(given) > 0 && (!check || file != ""):
				return usage("a FILE is for --check; --config names the settings file otherwise")
			case len(given) > 0:
				return a.checkFile(given[0])
			case check:
				return a.checkSettings(config.Options{File: file, Environ: a.env})
			}
			if running {
				settings, err := a.client().Settings(cmd.Context())
				if err != nil {
					return err
				}
				return a.showSettings(settings, changed)
			}
			c, warnings, err := config.Load(config.Options{File: file, Environ: a.env})
			for _, w := range warnings {
				if _, err := fmt.Fprintln(a.Err, "warning: "+w.String()); err != nil {
					return fmt.Errorf("cannot print: %w", err)
				}
			}
			if err != nil {
				return err
			}
			return a.showSettings(c.Settings(), changed)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	f.BoolVar(&check, "check", false, "say what is wrong with the settings, or with FILE")
	f.BoolVar(&running, "running", false, "ask the agent what counts")
	f.BoolVar(&changed, "changed", false, "leave out what is at its default")
	return cmd
}

func (a *app) showSettings(settings []config.Setting, changed bool) error {
	if changed {
		settings = slices.DeleteFunc(slices.Clone(settings), func(s config.Setting) bool { return s.Source == config.SourceDefault })
	}
	return a.print(append([]config.Setting{}, settings...), func(w io.Writer) error {
		rows := [][]string{{"NAME", "VALUE", "SOURCE"}}
		for _, s := range settings {
			source := s.Source
			if s.Reason != "" {
				if s.Source == config.SourceDefault {
					continue // not set, and of no use
				}
				source += ", not honoured: " + s.Reason
			}
			rows = append(rows, []string{s.Name, dash(s.Value), source})
		}
		return table(w, rows)
	})
}
