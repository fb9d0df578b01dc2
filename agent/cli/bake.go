package cli

import (
	"errors"
	"fmt"
	"os"

	units "github.com/docker/go-units"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/runtime/container"
)

// bakedView is one image that was verified, for --json: one line each.
type bakedView struct {
	Image  string `json:"image"`
	Digest string `json:"digest"`
	Blobs  int    `json:"blobs"`
	Bytes  int64  `json:"bytes"`
}

func (a *app) bake() *cobra.Command {
	var file string
	var check bool
	cmd := &cobra.Command{
		Use:   "bake FILE...",
		Short: "Put images into containerd that are to be part of a machine image",
		Long: `Pull images for good: a FILE is a list of image references, one a line, or an OCI archive, or a directory of
such. All that containerd has of an image afterwards is read back and compared with its digests, then it is
marked to stay (io.berth/protected=true): no clean-up removes it, and berth seal keeps it. It fails with the
first image that cannot be had or is not what its digest says. It may be called again.

A reference with a tag and a digest is the image of the digest, and is found by the tag: that is what to write
into a list. An image in Amazon ECR is pulled with the role of this instance, one in another registry with what
ECS_ENGINE_AUTH_DATA says. Images of an archive are called what the archive calls them, in full.

Whether a task uses the image without asking its registry is for ECS_IMAGE_PULL_BEHAVIOR to say: prefer-cached
and once do, and default when the registry does not answer.

No agent needs to run. --check reads all protected images again, on an instance too.`,
		Example: `  echo public.ecr.aws/nginx/nginx:1.27@sha256:… >images && berth bake images
  berth bake --check`,
		Args: args(0, -1),
		RunE: func(cmd *cobra.Command, files []string) error {
			switch {
			case check == (len(files) > 0):
				return usage("give files with images, or --check")
			case os.Geteuid() != 0:
				return errors.New("needs root")
			}
			o, err := a.hostOptions(file, "bake")
			if err != nil {
				return err
			}
			var printing error
			tell := func(v container.Verified) { printing = errors.Join(printing, a.printBaked(v)) }
			if check {
				err = daemon.Baked(cmd.Context(), *o, tell)
			} else {
				err = daemon.Bake(cmd.Context(), *o, files, tell)
			}
			return errors.Join(err, printing)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	f.BoolVar(&check, "check", false, "compare what is here with its digests, and change nothing")
	return cmd
}

func (a *app) printBaked(v container.Verified) error {
	if a.json {
		return a.encode(bakedView{v.Ref, v.Digest, v.Blobs, v.Bytes}, "")
	}
	if _, err := fmt.Fprintf(a.Out, "%s  %s  %d blobs, %s, verified\n", v.Ref, v.Digest, v.Blobs, units.HumanSize(float64(v.Bytes))); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// hostOptions are the settings for a verb that works on the host itself, beside or instead of its agent.
func (a *app) hostOptions(file, verb string) (*daemon.Options, error) {
	c, _, err := config.Load(config.Options{File: file, Environ: a.env})
	if err != nil {
		return nil, err
	}
	log, err := newLogger(a.Err, "warn", c.Agent.LogFormat)
	if err != nil {
		return nil, err
	}
	b := ThisBuild()
	return &daemon.Options{
		Config: c, ConfigFile: file, Environ: a.env, Version: b.Version, Revision: b.Revision, Log: log.With(zap.String("verb", verb)),
	}, nil
}
