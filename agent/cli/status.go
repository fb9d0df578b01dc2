package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the agent: its cluster, its lines to ECS, its health, and whether the host drains",
		Args:  args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.client().Status(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(s, func(w io.Writer) error { return table(w, statusRows(&s, a.now())) })
		},
	}
}

// statusRows is the agent in lines.
func statusRows(s *hostapi.StatusView, now time.Time) [][]string {
	rows := [][]string{
		{"version", s.Version},
		{"cluster", s.Cluster},
		{"region", dash(s.Region)},
		{"container instance", dash(s.ContainerInstanceARN)},
		{"running for", short(now, &s.StartedAt)},
		{"health", s.Health.Summary()},
	}
	for _, c := range s.Connections {
		text := "connected for " + short(now, &c.Since)
		if !c.Connected {
			text = "down for " + short(now, &c.Since)
			if c.Reason != "" {
				text += ": " + c.Reason
			}
		}
		rows = append(rows, []string{c.Name, text})
	}
	if d := s.Drain; d != nil {
		rows = append(rows, []string{"drain", drainText(d, now)})
	}
	return rows
}

// drainText is the order to drain in one line.
func drainText(d *hostapi.DrainView, now time.Time) string {
	text := fmt.Sprintf("%s for %s, ordered by %s: %s", d.Status, short(now, &d.Since), d.By, d.Reason)
	if !d.Accepted {
		text += "; ECS has not accepted it yet"
		if d.Trouble != "" {
			text += " (" + d.Trouble + ")"
		}
	}
	if d.StopAt != nil {
		text += "; what still runs is stopped at " + d.StopAt.UTC().Format(time.RFC3339)
	}
	return text
}
