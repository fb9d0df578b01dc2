package cli

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/agent/hostapi"
)

// logFlags are the flags of logs.
type logFlags struct {
	follow, timestamps bool
	tail               int
	since              string
}

func (a *app) logs() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use:   "logs TASK[/CONTAINER]",
		Short: "Print what containers wrote",
		Long: `Print what the containers of a task wrote to stdout and stderr. With more than one container each line
begins with its name, and lines are in the order of their times.`,
		Example: `  berth logs 4f2a/web
  berth logs -f --tail 20 4f2a
  berth logs --since 10m --timestamps 4f2a/web`,
		Args:              args(1, 1),
		ValidArgsFunction: a.completeContainer,
		RunE: func(cmd *cobra.Command, given []string) error {
			since, err := parseSince(f.since, a.now())
			if err != nil {
				return err
			}
			_, containers, err := a.containers(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			var sources []logSource
			for _, c := range containers {
				if err := a.tellLog(c); err != nil {
					return err
				}
				if c.ID != "" {
					sources = append(sources, logSource{name: c.Name, req: hostapi.LogRequest{Container: c.ID, Follow: f.follow, Tail: f.tail, Since: since}})
				}
			}
			if len(sources) == 0 {
				return fmt.Errorf("task has not created a container yet: berth why %s says what it waits for", given[0])
			}
			if f.follow {
				return a.followLogs(cmd.Context(), sources, f)
			}
			return a.mergeLogs(cmd.Context(), sources, f)
		},
	}
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on until the containers end")
	cmd.Flags().BoolVarP(&f.timestamps, "timestamps", "t", false, "begin each line with its time")
	cmd.Flags().IntVarP(&f.tail, "tail", "n", -1, "only the last `lines` of each container")
	cmd.Flags().StringVar(&f.since, "since", "", "only from this `time` on: 10m (ago), or 2026-01-02T15:04:05Z")
	return cmd
}

// tellLog says what is wrong with a container's log.
func (a *app) tellLog(c hostapi.ContainerView) error {
	l := c.Log
	if l == nil {
		return nil
	}
	for _, what := range []struct {
		is   bool
		text string
	}{
		{l.DroppedLines > 0, fmt.Sprintf("%d lines were dropped for want of room", l.DroppedLines)},
		{l.RejectedLines > 0, fmt.Sprintf("%d lines were rejected by the log service", l.RejectedLines)},
		{l.StuckSince != nil, fmt.Sprintf("%d bytes wait for the log service: %s", l.WaitingBytes, l.Reason)},
	} {
		if !what.is {
			continue
		}
		if _, err := fmt.Fprintf(a.Err, "berth: log of %s (%s): %s\n", c.Name, l.Driver, what.text); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
	}
	return nil
}

func parseSince(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return time.Time{}, usage("cannot use --since %q: want 10m or 2026-01-02T15:04:05Z", s)
	}
	return t, nil
}

// logSource is one container whose lines are wanted.
type logSource struct {
	name string
	req  hostapi.LogRequest
}

// printLog prints one line; which is the container's name, or empty if there is only one.
func (a *app) printLog(which string, l hostapi.LogLine, timestamps bool) error {
	if a.json {
		return a.encode(struct {
			Container string `json:"container,omitempty"`
			hostapi.LogLine
		}{which, l}, "")
	}
	var b strings.Builder
	if which != "" {
		b.WriteString(which + " | ")
	}
	if timestamps {
		b.WriteString(l.Time.UTC().Format("2006-01-02T15:04:05.000Z") + " ")
	}
	b.WriteString(l.Log + "\n")
	out := a.Out
	if l.Stream == "stderr" && which == "" {
		out = a.Err // so that a redirection parts them as it would without a container
	}
	if _, err := fmt.Fprint(out, b.String()); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// followLogs prints lines as they come.
func (a *app) followLogs(ctx context.Context, sources []logSource, f logFlags) error {
	var mu sync.Mutex // keeps lines whole
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range sources {
		group.Go(func() error {
			return a.client().Logs(ctx, s.req, func(l hostapi.LogLine) error {
				mu.Lock()
				defer mu.Unlock()
				return a.printLog(label(s.name, sources), l, f.timestamps)
			})
		})
	}
	return group.Wait()
}

func label(name string, sources []logSource) string {
	if len(sources) == 1 {
		return ""
	}
	return name
}

// mergeLogs prints the lines of several containers in the order of their times, holding one line of each.
func (a *app) mergeLogs(outer context.Context, sources []logSource, f logFlags) error {
	group, ctx := errgroup.WithContext(outer)
	streams := make([]chan hostapi.LogLine, len(sources))
	for i, s := range sources {
		streams[i] = make(chan hostapi.LogLine)
		group.Go(func() error {
			defer close(streams[i])
			return a.client().Logs(ctx, s.req, func(l hostapi.LogLine) error {
				select {
				case streams[i] <- l:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		})
	}
	group.Go(func() error {
		heads := make([]*hostapi.LogLine, len(streams))
		for i := range streams {
			heads[i] = receive(streams[i])
		}
		for {
			i := earliest(heads)
			if i < 0 {
				return nil
			}
			if err := a.printLog(label(sources[i].name, sources), *heads[i], f.timestamps); err != nil {
				return err
			}
			heads[i] = receive(streams[i])
		}
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if outer.Err() != nil {
		return fmt.Errorf("stopped in the middle: %w", context.Cause(outer))
	}
	return nil
}

func receive(c <-chan hostapi.LogLine) *hostapi.LogLine {
	l, ok := <-c
	if !ok {
		return nil
	}
	return &l
}

// earliest answers the index of the line with the smallest time, the first of several, or -1 if there is none.
func earliest(heads []*hostapi.LogLine) int {
	best := -1
	for i, h := range heads {
		if h != nil && (best < 0 || h.Time.Before(heads[best].Time)) {
			best = i
		}
	}
	return best
}
