package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Build is what is known about this binary.
type Build struct {
	Version  string `json:"version"` // v1.2.3, or (devel)
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"` // built from a tree with changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// stamped is the version and revision that packages are built with: -ldflags "-X github.com/berthd/berth/agent/cli.stamped=1.2.3@REVISION".
// The linker sets it and nothing else does. A package must not depend on the tags of whoever builds it.
var stamped string //nolint:gochecknoglobals // the linker knows no other way

// ThisBuild reads what was stamped into the binary, by the packages or else by the Go tool.
func ThisBuild() Build {
	b := Build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	if stamped != "" {
		b.Version, b.Revision, _ = strings.Cut(stamped, "@")
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  args(0, 0),
		RunE: func(*cobra.Command, []string) error {
			b := ThisBuild()
			return a.print(b, func(w io.Writer) error {
				line := "berth " + b.Version
				if b.Revision != "" {
					line += " (" + b.Revision[:min(len(b.Revision), 8)] + ")"
				}
				_, err := fmt.Fprintf(w, "%s %s %s\n", line, b.Go, b.Platform)
				return err
			})
		},
	}
}
