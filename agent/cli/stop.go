package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// stopTick is how often a stop that is waited for is looked at.
const stopTick = 200 * time.Millisecond

func (a *app) stop() *cobra.Command {
	var reason string
	var wait bool
	cmd := &cobra.Command{
		Use:   "stop TASK…",
		Short: "Stop tasks",
		Long: `Stop tasks: SIGTERM to each container in the order of their dependencies, SIGKILL after its stop
timeout. ECS hears of it, and a service starts another task, here or elsewhere.`,
		Example: `  berth stop 4f2a
  berth stop --wait --reason "disk is being replaced" 4f2a 77b0`,
		Args:              args(1, -1),
		ValidArgsFunction: a.completeTasks,
		RunE: func(cmd *cobra.Command, given []string) error {
			return a.stopAll(cmd.Context(), given, reason, wait)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "Task stopped by a person on the host", "what ECS shows as the reason")
	cmd.Flags().BoolVarP(&wait, "wait", "w", false, "return once the tasks have stopped")
	return cmd
}

// stopAll finds all tasks before it stops the first one, so that a slip in the last does no harm.
func (a *app) stopAll(ctx context.Context, refs []string, reason string, wait bool) error {
	client := a.client()
	var ids []string
	for _, ref := range refs {
		t, err := client.Task(ctx, ref)
		if err != nil {
			return err
		}
		ids = append(ids, t.ID)
	}
	var failed []error
	for _, id := range ids {
		if err := client.Stop(ctx, id, reason); err != nil {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil || !wait {
		return errors.Join(err, a.printIDs(ids, err))
	}
	for _, id := range ids {
		if err := a.waitStopped(ctx, id); err != nil {
			return err
		}
	}
	return a.printIDs(ids, nil)
}

func (a *app) printIDs(ids []string, failed error) error {
	if failed != nil {
		return nil //nolint:nilerr // the caller has it already
	}
	if a.json {
		return a.encode(ids, "  ")
	}
	for _, id := range ids {
		if _, err := fmt.Fprintln(a.Out, id); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
	}
	return nil
}

func (a *app) waitStopped(ctx context.Context, id string) error {
	ticker := time.NewTicker(stopTick)
	defer ticker.Stop()
	for {
		t, err := a.client().Task(ctx, id)
		if err != nil {
			return err
		}
		if t.KnownStatus == "STOPPED" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped waiting for task %s: %w", shortID(id), context.Cause(ctx))
		case <-ticker.C:
		}
	}
}
