package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

// drainPatience is how long ECS is waited for to accept an order, without --wait.
const drainPatience = 15 * time.Second

// draining is one call of berth drain.
type draining struct {
	*app

	request   hostapi.DrainRequest
	wait, all bool
	last      string // the line of progress that was printed last
}

func (a *app) drain() *cobra.Command {
	d := &draining{app: a}
	var cancel bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Take this host out of service, or put it back",
		Long: `Take this host out of service: its container instance becomes DRAINING. ECS then places nothing more on
it, and stops the tasks of services as soon as others run elsewhere. Tasks that no service started run on.
The order survives restarts of the agent and of the host, until --cancel.

With --timeout the agent stops whatever still runs after so long, in the order of dependencies, whether
somebody waits or not; --timeout 0s stops all at once. Without it nothing is stopped here.

--wait shows progress and returns when no task of a service is left; with --timeout or --all, when no task
at all is left. Interrupting it changes nothing about the drain. Exits with 0 when ECS has accepted and what
was waited for has come, and with 1 otherwise.`,
		Example: `  berth drain --wait && reboot
  berth drain --wait --timeout 10m --reason "new kernel"
  berth drain --cancel`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			timed := cmd.Flags().Changed("timeout")
			switch {
			case cancel && (d.wait || d.all || timed):
				return usage("--cancel goes with none of --wait, --all and --timeout")
			case d.all && !d.wait:
				return usage("--all says what --wait waits for")
			case timeout < 0:
				return usage("--timeout %s is in the past", timeout)
			}
			d.request.Cancel = cancel
			if timed {
				seconds := timeout.Seconds()
				d.request.StopAfter, d.all = &seconds, true
			}
			return d.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&d.wait, "wait", "w", false, "show progress, and return when the host is drained")
	f.BoolVar(&d.all, "all", false, "with --wait: until tasks that no service started have ended, too")
	f.DurationVar(&timeout, "timeout", 0, "after so `long` (90s, 10m) stop what still runs")
	f.BoolVar(&cancel, "cancel", false, "put the host back into service: its container instance becomes ACTIVE")
	f.StringVar(&d.request.Reason, "reason", "a person at the host says so", "what events and logs show as the reason")
	return cmd
}

// run gives the order and waits for what was asked for.
func (d *draining) run(ctx context.Context) error {
	client := d.client()
	view, err := client.Drain(ctx, d.request)
	if err != nil {
		return err
	}
	if view, err = d.accepted(ctx, view); err != nil {
		return err
	}
	if !d.wait {
		return d.print(view, nil)
	}
	left, err := d.left(ctx)
	if err != nil {
		return err
	}
	return d.print(view, left)
}

// accepted waits until ECS has taken the order; with --wait for as long as it takes.
func (d *draining) accepted(ctx context.Context, view hostapi.DrainView) (hostapi.DrainView, error) {
	if !d.wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, drainPatience, fmt.Errorf("no answer within %s", drainPatience))
		defer cancel()
	}
	ticker := time.NewTicker(stopTick)
	defer ticker.Stop()
	trouble := ""
	for !view.Accepted {
		if view.Trouble != "" && view.Trouble != trouble {
			trouble = view.Trouble
			d.progress("ECS has not accepted it yet: " + trouble)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if trouble == "" {
				trouble = context.Cause(ctx).Error()
			}
			return view, fmt.Errorf("ECS has not accepted it yet (%s); the agent keeps trying, berth status shows how it fares", trouble)
		}
		s, err := d.client().Status(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			continue
		case err != nil:
			return view, err
		case s.Drain == nil || s.Drain.Status != view.Status:
			return view, errors.New("somebody else has ordered otherwise meanwhile: see berth status")
		}
		view = *s.Drain
	}
	return view, nil
}

// left waits until the host is drained, and answers what may run on.
func (d *draining) left(ctx context.Context) ([]hostapi.TaskView, error) {
	ticker := time.NewTicker(stopTick)
	defer ticker.Stop()
	for {
		tasks, err := d.client().Tasks(ctx)
		if err != nil && ctx.Err() == nil {
			return nil, err
		}
		var service, others []hostapi.TaskView
		for _, t := range tasks {
			switch {
			case t.KnownStatus == "STOPPED" && t.StoppedAt != nil:
			case t.Service != "":
				service = append(service, t)
			default:
				others = append(others, t)
			}
		}
		waited := service
		if d.all {
			waited = append(waited, others...)
		}
		if err == nil && len(waited) == 0 {
			return others, nil
		}
		if s, err := d.client().Status(ctx); err == nil && (s.Drain == nil || s.Drain.Status != "DRAINING") {
			return nil, errors.New("somebody has cancelled the drain meanwhile")
		}
		d.progress(waitingFor(service, others, d.all))
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("stopped waiting, the host stays DRAINING: %s: %w", waitingFor(service, others, d.all), context.Cause(ctx))
		}
	}
}

// waitingFor is what is left, in words.
func waitingFor(service, others []hostapi.TaskView, all bool) string {
	text := fmt.Sprintf("%d of services", len(service))
	if all {
		text += fmt.Sprintf(" and %d others", len(others))
	}
	var names []string
	for _, t := range service {
		names = append(names, shortID(t.ID)+" ("+t.Service+")")
	}
	if all {
		for _, t := range others {
			names = append(names, shortID(t.ID)+" ("+t.Family+")")
		}
	}
	const most = 5
	if len(names) > most {
		names = append(names[:most], "…")
	}
	if len(names) == 0 {
		return "tasks left: " + text
	}
	return "tasks left: " + text + ": " + strings.Join(names, ", ")
}

// progress says where it stands, when that has changed.
func (d *draining) progress(line string) {
	if line == d.last || d.json {
		return
	}
	d.last = line
	_, _ = fmt.Fprintln(d.Err, line) // Progress that cannot be shown is no reason to stop.
}

// print says how it ended.
func (d *draining) print(view hostapi.DrainView, others []hostapi.TaskView) error {
	if d.json {
		return d.encode(struct {
			hostapi.DrainView

			Left []string `json:"tasksThatRunOn,omitempty"`
		}{view, taskIDs(others)}, "  ")
	}
	lines := []string{"the container instance is " + view.Status}
	switch {
	case d.wait && d.all:
		lines = append(lines, "no task is left")
	case d.wait:
		lines = append(lines, "no task of a service is left")
	case view.StopAt != nil && !d.request.Cancel:
		lines = append(lines, "what still runs is stopped at "+view.StopAt.Local().Format(time.RFC3339))
	}
	if len(others) > 0 {
		lines = append(lines, fmt.Sprintf("%d tasks that no service started run on (%s): berth stop ends them", len(others), strings.Join(taskIDs(others), " ")))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(d.Out, line); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
	}
	return nil
}

func taskIDs(tasks []hostapi.TaskView) []string {
	var ids []string
	for _, t := range tasks {
		ids = append(ids, shortID(t.ID))
	}
	return ids
}
