package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) ps() *cobra.Command {
	var all, full bool
	cmd := &cobra.Command{
		Use:   "ps [TASK]",
		Short: "List tasks and containers, or show one task",
		Example: `  berth ps               what runs or is about to
  berth ps --all         stopped tasks too
  berth ps 4f2a          all about one task
  berth ps --json | jq -r '.[] | select(.knownStatus == "RUNNING") | .arn'`,
		Args:              args(0, 1),
		ValidArgsFunction: a.completeTasks,
		RunE: func(cmd *cobra.Command, given []string) error {
			if len(given) == 1 {
				t, err := a.client().Task(cmd.Context(), given[0])
				if err != nil {
					return err
				}
				return a.print(t, func(w io.Writer) error { return showTask(w, t, a.now()) })
			}
			tasks, err := a.client().Tasks(cmd.Context())
			if err != nil {
				return err
			}
			shown := []hostapi.TaskView{}
			for _, t := range tasks {
				if all || t.KnownStatus != "STOPPED" {
					shown = append(shown, t)
				}
			}
			return a.print(shown, func(w io.Writer) error { return listTasks(w, shown, a.now(), full) })
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "stopped tasks too")
	cmd.Flags().BoolVar(&full, "full", false, "whole ids and image names")
	return cmd
}

func listTasks(w io.Writer, tasks []hostapi.TaskView, now time.Time, full bool) error {
	rows := [][]string{{"TASK", "FAMILY", "CONTAINER", "STATUS", "UP", "PORTS", "IMAGE"}}
	for _, t := range tasks {
		id := shortID(t.ID)
		if full {
			id = t.ID
		}
		for _, c := range t.Containers {
			if c.Internal {
				continue
			}
			up := ""
			if c.FinishedAt == nil {
				up = short(now, c.StartedAt)
			}
			image := c.Image
			if !full {
				image = clip(image, 50)
			}
			rows = append(rows, []string{id, t.Family + ":" + t.Revision, c.Name, state(c) + logState(c.Log), dash(up), dash(ports(c.Ports)), image})
		}
	}
	return table(w, rows)
}

// state is a container's status in ECS's words, with its exit code or health.
func state(c hostapi.ContainerView) string {
	switch {
	case c.ExitCode != nil:
		return fmt.Sprintf("%s (%d)", c.Status, *c.ExitCode)
	case c.Health != "" && c.Status == "RUNNING":
		return c.Status + " (" + strings.ToLower(c.Health) + ")"
	case c.Status == "NONE" || c.Status == "":
		return "PENDING"
	default:
		return c.Status
	}
}

// logState is what is wrong with a container's log, behind its status.
func logState(l *hostapi.LogView) string {
	var out string
	if l != nil && l.StuckSince != nil {
		out = ", log waits"
	}
	if l != nil && l.DroppedLines+l.RejectedLines > 0 {
		out += fmt.Sprintf(", %d lines lost", l.DroppedLines+l.RejectedLines)
	}
	return out
}

func ports(all []hostapi.PortView) string {
	var out []string
	for _, p := range all {
		s := fmt.Sprintf("%d/%s", p.ContainerPort, p.Protocol)
		if p.HostPort != 0 {
			s = fmt.Sprintf("%d->%s", p.HostPort, s)
		}
		// IPv4 and IPv6 bindings of one port are one thing to a reader.
		if len(out) == 0 || out[len(out)-1] != s {
			out = append(out, s)
		}
	}
	return strings.Join(out, ",")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clip keeps the end of a long image name: the registry at the front is the same for all.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return "…" + s[len(s)-most+1:]
}

// showTask prints everything about one task, as lines of "key: value".
func showTask(w io.Writer, t hostapi.TaskView, now time.Time) error {
	rows := [][]string{
		{"Task:", t.ID},
		{"ARN:", t.ARN},
		{"Definition:", t.Family + ":" + t.Revision},
		{"Status:", t.KnownStatus + ", wanted " + t.DesiredStatus},
		{"Origin:", t.Origin},
	}
	add := func(key, value string) {
		if value != "" {
			rows = append(rows, []string{key, value})
		}
	}
	add("Network:", t.NetworkMode)
	add("Stopped:", strings.TrimSuffix(t.StopCode+": "+t.Reason, ": "))
	add("Created:", ago(now, t.CreatedAt))
	add("Started:", ago(now, t.StartedAt))
	add("Ended:", ago(now, t.StoppedAt))
	for _, c := range t.Containers {
		rows = append(rows, []string{""}, []string{"Container:", c.Name})
		add("  Status:", state(c))
		add("  Reason:", c.Reason)
		if c.Log != nil {
			add("  Log:", strings.TrimPrefix(logState(c.Log), ", "))
			add("  Log waits for:", c.Log.Reason)
		}
		add("  Image:", c.Image)
		add("  Digest:", c.Digest)
		add("  ID:", c.ID)
		add("  Ports:", ports(c.Ports))
		add("  Addresses:", strings.Join(c.Addresses, ", "))
		if c.RestartCount != nil {
			add("  Restarts:", fmt.Sprint(*c.RestartCount))
		}
		add("  Started:", ago(now, c.StartedAt))
		add("  Finished:", ago(now, c.FinishedAt))
	}
	return table(w, rows)
}

// ago is a time with its distance, 2026-01-02T15:04:05Z (3m ago).
func ago(now time.Time, t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format(time.RFC3339), short(now, t))
}
