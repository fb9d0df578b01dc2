package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/config"
)

func (a *app) bundle() *cobra.Command {
	var file string
	var logs []string
	cmd := &cobra.Command{
		Use:   "bundle [FILE]",
		Short: "Collect what support needs to know of this host, without secrets, in one archive",
		Long: `Collect what support needs into a .tar.gz: what the agent says of itself, its tasks, events, images and
measurements; the settings, and what doctor says; the journal of the last day; nftables, links, addresses and
routes; mounts, disks and control groups; versions, and what is in containerd's namespace. It works without
an agent, too, and then holds what can be had; MANIFEST says what is missing and why.

Environments of containers, options of log drivers, registry credentials and what containers write are never
read, and whatever looks like a secret in the rest is replaced by ***. Look into it before you give it away all
the same. FILE - is standard output.`,
		Example: `  berth bundle
  berth bundle --log /var/log/berth.log support.tar.gz`,
		Args: args(0, 1),
		RunE: func(cmd *cobra.Command, given []string) error {
			name, _ := os.Hostname() // Without one it is a bundle all the same.
			stem := fmt.Sprintf("berth-bundle-%s-%s", name, a.now().UTC().Format("20060102T150405Z"))
			path := stem + ".tar.gz"
			if len(given) > 0 {
				path = given[0]
			}
			c := a.collector(file, logs)
			if path == "-" {
				return c.write(cmd.Context(), a.Out, stem)
			}
			return a.bundleTo(cmd.Context(), c, path, stem)
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	cmd.Flags().StringArrayVar(&logs, "log", nil, "add the end of a log `file`, where the agent's is not in the journal")
	return cmd
}

// bundleTo writes the archive to a file that nobody else may read, and that is whole when it has its name.
func (a *app) bundleTo(ctx context.Context, c *collector, path, stem string) error {
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write bundle: %w", err)
	}
	err = c.write(ctx, f, stem)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(path+".part", path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write bundle: %w", err), os.Remove(path+".part"))
	}
	return a.print(struct {
		File    string   `json:"file"`
		Missing []string `json:"missing,omitempty"`
	}{path, c.missing}, func(w io.Writer) error {
		for _, m := range c.missing {
			if _, err := fmt.Fprintln(a.Err, "not in it: "+m); err != nil {
				return fmt.Errorf("cannot print: %w", err)
			}
		}
		_, err := fmt.Fprintln(w, path)
		return err
	})
}

// write collects everything and writes the archive.
func (c *collector) write(ctx context.Context, w io.Writer, stem string) error {
	zipped := gzip.NewWriter(w)
	archive := tar.NewWriter(zipped)
	put := func(name, text string) error {
		header := &tar.Header{Name: stem + "/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: c.now, Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("cannot write bundle: %w", err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			return fmt.Errorf("cannot write bundle: %w", err)
		}
		return nil
	}
	var contents []string
	for _, e := range c.exhibits() {
		text, err := e.read(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("cannot write bundle: %w", context.Cause(ctx))
		}
		if err != nil {
			c.missing = append(c.missing, c.scrub(e.name+": "+oneLine(err.Error())))
		}
		if text == "" {
			continue
		}
		contents = append(contents, e.name)
		if err := put(e.name, c.scrub(text)); err != nil {
			return err
		}
	}
	manifest := fmt.Sprintf("made %s by berth %s\n\nin it:\n  %s\n\nnot in it:\n  %s\n", c.now.UTC().Format(time.RFC3339), ThisBuild().Version,
		strings.Join(contents, "\n  "), strings.Join(append(c.missing, "environments, log options, credentials, what containers write: never read"), "\n  "))
	return errors.Join(put("MANIFEST", manifest), archive.Close(), zipped.Close())
}

// oneLine makes one line of an error of several.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
