package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) top() *cobra.Command {
	var once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show what containers use",
		Long: `Show what containers use, busiest first. CPU is percent of the whole host, as ECS counts it; LIMIT is
percent of the container's own CPU limit; THROTTLED is the share of scheduling periods cut short by it.
MEMORY is the figure that ECS reports. Without a terminal it prints once.`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every <= 0 {
				return usage("cannot refresh every %s", every)
			}
			if _, ok := terminal(a.Out); !ok || once || a.json {
				return a.topOnce(cmd.Context())
			}
			return a.topLive(cmd.Context(), every)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print once, even to a terminal")
	cmd.Flags().DurationVar(&every, "interval", time.Second, "time between refreshes")
	return cmd
}

func (a *app) topOnce(ctx context.Context) error {
	stats, err := a.busiest(ctx)
	if err != nil {
		return err
	}
	return a.print(stats, func(w io.Writer) error { return listStats(w, stats) })
}

// topLive redraws until it is interrupted. It clears to the end of the screen after drawing, not before, so that nothing flickers.
func (a *app) topLive(ctx context.Context, every time.Duration) error {
	const home, clearLine, clearRest = "\x1b[H", "\x1b[K", "\x1b[J"
	if _, err := fmt.Fprint(a.Out, home+clearRest); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		stats, err := a.busiest(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var b strings.Builder
		if err := listStats(&b, stats); err != nil {
			return err
		}
		screen := home + strings.ReplaceAll(b.String(), "\n", clearLine+"\n") + clearRest
		if _, err := fmt.Fprint(a.Out, screen); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (a *app) busiest(ctx context.Context) ([]hostapi.StatsView, error) {
	stats, err := a.client().Stats(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(stats, func(x, y hostapi.StatsView) int {
		switch {
		case x.CPUPercent > y.CPUPercent:
			return -1
		case x.CPUPercent < y.CPUPercent:
			return 1
		default:
			return strings.Compare(x.Task+x.Container, y.Task+y.Container)
		}
	})
	return append([]hostapi.StatsView{}, stats...), nil
}

func listStats(w io.Writer, stats []hostapi.StatsView) error {
	rows := [][]string{{"TASK", "CONTAINER", "CPU", "LIMIT", "THROTTLED", "MEMORY", "OF", "NET RX", "NET TX", "READ", "WRITE", "PIDS"}}
	size := func(n uint64) string { return units.BytesSize(float64(n)) }
	for _, s := range stats {
		limit, of, pids := "-", "-", strconv.FormatUint(s.Pids, 10)
		if s.CPULimitPercent > 0 {
			limit = percent(s.CPULimitPercent)
		}
		if s.MemoryLimitBytes > 0 {
			of = size(s.MemoryLimitBytes)
		}
		if s.PidsLimit > 0 {
			pids += "/" + strconv.FormatUint(s.PidsLimit, 10)
		}
		rows = append(rows, []string{
			shortID(s.Task), s.Container, percent(s.CPUPercent), limit, percent(s.ThrottledPercent), size(s.MemoryBytes), of,
			size(s.NetRxBytes), size(s.NetTxBytes), size(s.BlockReadBytes), size(s.BlockWriteBytes), pids,
		})
	}
	return table(w, rows)
}

func percent(p float64) string { return strconv.FormatFloat(p, 'f', 1, 64) + "%" }
