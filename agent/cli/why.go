package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) why() *cobra.Command {
	return &cobra.Command{
		Use:   "why TASK",
		Short: "Say what a task waits for",
		Long: `Say what a task waits for, first things first: an image that is pulled, a dependency that is not
healthy yet, a port that somebody holds, a network interface that has not arrived.`,
		Args:              args(1, 1),
		ValidArgsFunction: a.completeTasks,
		RunE: func(cmd *cobra.Command, given []string) error {
			t, err := a.client().Task(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			waits, err := a.client().Why(cmd.Context(), t.ID)
			if err != nil {
				return err
			}
			return a.print(append([]hostapi.Wait{}, waits...), func(w io.Writer) error { return a.showWaits(w, t, waits) })
		},
	}
}

func (a *app) showWaits(w io.Writer, t hostapi.TaskView, waits []hostapi.Wait) error {
	if len(waits) == 0 {
		text := fmt.Sprintf("task %s waits for nothing: it is %s", shortID(t.ID), t.KnownStatus)
		if t.Reason != "" {
			text += ", because: " + t.Reason
		}
		_, err := fmt.Fprintln(w, text)
		return err
	}
	for i, wait := range waits {
		line := fmt.Sprintf("%d. ", i+1)
		if wait.Container != "" {
			line += wait.Container + ": "
		}
		line += wait.What
		if wait.Since != nil {
			line += fmt.Sprintf(" (for %s)", short(a.now(), wait.Since))
		}
		if wait.Hint != "" {
			line += "\n   " + wait.Hint
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
	}
	return nil
}
