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
		Use:   "config",
		Short: "Show the settings and where each comes from",
		Long: `Show the settings as the files and this environment give them now, and where each comes from. Secrets
are shown as ***. --running shows what the agent started with instead.`,
		Example: `  berth config --changed
  berth config --check        exit 1 if the agent would not start with these settings
  diff <(berth config) <(berth config --running)`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check && running {
				return usage("--check looks at the files, --running at the agent: take one")
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
			if err != nil || check {
				return err
			}
			return a.showSettings(c.Settings(), changed)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	f.BoolVar(&check, "check", false, "print warnings and errors only")
	f.BoolVar(&running, "running", false, "ask the agent what it started with")
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
