package cli

import (
	"io"
	"strconv"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) images() *cobra.Command {
	return &cobra.Command{
		Use:   "images",
		Short: "List the images on this host",
		Args:  args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := a.client().Images(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(append([]hostapi.ImageView{}, images...), func(w io.Writer) error {
				rows := [][]string{{"IMAGE", "DIGEST", "SIZE", "PULLED", "USED", "CONTAINERS", "STAYS"}}
				for _, i := range images {
					rows = append(rows, []string{
						i.Name, shortDigest(i.Digest), units.HumanSize(float64(i.Size)), dash(short(a.now(), i.PulledAt)), dash(short(a.now(), i.LastUsed)), strconv.Itoa(i.InUse), dash(i.Stays),
					})
				}
				return table(w, rows)
			})
		},
	}
}

func shortDigest(d string) string { return d[:min(len(d), len("sha256:")+12)] }
