package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) events() *cobra.Command {
	var follow bool
	var task string
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened: tasks, containers, images, connections",
		Example: `  berth events
  berth events -f --task 4f2a`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.client().Events(cmd.Context(), follow, func(e hostapi.Event) error {
				if task != "" && !strings.HasPrefix(e.Task, task) {
					return nil
				}
				if a.json {
					return a.encode(e, "")
				}
				_, err := fmt.Fprintln(a.Out, eventLine(e))
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on")
	cmd.Flags().StringVar(&task, "task", "", "only of the task with this `id` or beginning of one")
	return cmd
}

func eventLine(e hostapi.Event) string {
	parts := []string{e.Time.UTC().Format(time.RFC3339)}
	if e.Task != "" {
		who := shortID(e.Task)
		if e.Container != "" {
			who += "/" + e.Container
		}
		parts = append(parts, who)
	}
	line := strings.Join(append(parts, e.What), "  ")
	if e.Detail != "" {
		line += ": " + e.Detail
	}
	return line
}
