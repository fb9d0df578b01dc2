package cli

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) pull() *cobra.Command {
	return &cobra.Command{
		Use:   "pull IMAGE",
		Short: "Pull an image, so that a task finds it here",
		Long: `Pull an image as the agent does for a task, and ask its registry even if the image is here already. With --json
each line is a step; the last one has "done".`,
		Example: `  berth pull public.ecr.aws/nginx/nginx:1.27`,
		Args:    args(1, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			var bars *pullBars
			if f, ok := terminal(a.Err); ok && !a.json {
				bars = newPullBars(f)
				defer bars.update(nil)
			}
			var last hostapi.PullView
			err := a.client().Pull(cmd.Context(), given[0], func(p hostapi.PullView) error {
				last = p
				switch {
				case a.json:
					return a.encode(p, "")
				case bars != nil && !p.Done:
					bars.update([]hostapi.PullView{p})
				}
				return nil
			})
			switch {
			case err != nil:
				return err
			case !last.Done:
				return fmt.Errorf("pull of %s was interrupted", given[0])
			case a.json:
				return nil
			}
			if bars != nil {
				bars.update(nil)
			}
			if _, err := fmt.Fprintf(a.Out, "%s  %s  %s\n", last.Image, last.Digest, units.HumanSize(float64(last.BytesTotal))); err != nil {
				return fmt.Errorf("cannot print: %w", err)
			}
			return nil
		},
	}
}

// pullBars are progress bars on a terminal, one for each pull, which vanish when it is done. Its methods must not be called at once.
type pullBars struct {
	terminal io.Writer
	progress *mpb.Progress // nil while there is no bar
	bars     map[string]*pullBar
}

type pullBar struct {
	*mpb.Bar

	phase atomic.Value // string; read by the goroutine that draws
}

func newPullBars(terminal io.Writer) *pullBars {
	return &pullBars{terminal: terminal, bars: map[string]*pullBar{}}
}

// update shows these pulls and no others.
func (b *pullBars) update(pulls []hostapi.PullView) {
	under := map[string]bool{}
	for _, p := range pulls {
		under[p.Image] = true
		bar := b.bars[p.Image]
		if bar == nil {
			bar = b.add(p.Image)
		}
		bar.phase.Store(p.Phase)
		bar.SetTotal(p.BytesTotal, false)
		bar.SetCurrent(p.BytesDone)
	}
	for image, bar := range b.bars {
		if !under[image] {
			bar.Abort(true)
			delete(b.bars, image)
		}
	}
	if b.progress != nil && len(b.bars) == 0 {
		b.progress.Wait()
		b.progress = nil
	}
}

func (b *pullBars) add(image string) *pullBar {
	if b.progress == nil {
		b.progress = mpb.New(mpb.WithOutput(b.terminal), mpb.WithAutoRefresh())
	}
	bar := &pullBar{}
	bar.phase.Store("")
	bar.Bar = b.progress.AddBar(0,
		mpb.BarWidth(30),
		mpb.PrependDecorators(decor.Name(image, decor.WCSyncSpaceR), decor.Any(func(decor.Statistics) string {
			phase, _ := bar.phase.Load().(string)
			return phase
		}, decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f")),
	)
	b.bars[image] = bar
	return bar
}

// writer writes above the bars, if there are any; w is what to write to if there are none.
func (b *pullBars) writer(w io.Writer) io.Writer {
	if b.progress == nil {
		return w
	}
	return b.progress
}
