package cli

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/daemon"
	"github.com/berthd/berth/runtime/container"
)

// bom is a bill of materials in CycloneDX 1.5, as far as we say something.
type bom struct {
	Format       string      `json:"bomFormat"`
	SpecVersion  string      `json:"specVersion"`
	SerialNumber string      `json:"serialNumber"`
	Version      int         `json:"version"`
	Metadata     bomMetadata `json:"metadata"`
	Components   []component `json:"components"`
}

type bomMetadata struct {
	Tools     bomTools  `json:"tools"`
	Component component `json:"component"`
}

type bomTools struct {
	Components []component `json:"components"`
}

// component is one part: a package, a module, an image, the operating system.
type component struct {
	Type    string    `json:"type"`
	Ref     string    `json:"bom-ref,omitempty"`
	Name    string    `json:"name"`
	Version string    `json:"version,omitempty"`
	PURL    string    `json:"purl,omitempty"`
	Hashes  []bomHash `json:"hashes,omitempty"`
}

type bomHash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

func (a *app) sbom() *cobra.Command {
	var file, root string
	cmd := &cobra.Command{
		Use:   "sbom",
		Short: "Print a bill of materials of this host, in CycloneDX",
		Long: `Print as JSON what a machine image consists of (CycloneDX 1.5): the operating system, every package that dpkg
or rpm has installed, the Go modules in this program, and the images that berth bake put into containerd. It
says no time and nothing of who made it: of the same image it is the same text.`,
		Example: `  berth sbom >/usr/share/berth/sbom.json`,
		Args:    args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			system, packages, err := systemComponents(cmd.Context(), root)
			if err != nil {
				return err
			}
			o, err := a.hostOptions(file, "sbom")
			if err != nil {
				return err
			}
			// A host without a containerd has nothing in it. One whose containerd does not answer cannot be told of.
			var baked []container.ImageRecord
			if _, err := os.Stat(o.Config.Containerd.Address); err == nil {
				if baked, err = daemon.Protected(cmd.Context(), *o); err != nil {
					return err
				}
			}
			build, ok := debug.ReadBuildInfo()
			if !ok {
				return errors.New("this program does not say what it was built from")
			}
			return a.encode(newBOM(system, slices.Concat(packages, moduleComponents(build), imageComponents(baked))), "  ")
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	f.StringVar(&root, "root", "/", "`directory` with the system whose packages are listed")
	return cmd
}

// newBOM puts components in order and gives the whole a number that follows from them.
func newBOM(system component, components []component) bom {
	for i := range components {
		components[i].Ref = components[i].PURL
	}
	slices.SortFunc(components, func(a, b component) int { return strings.Compare(a.PURL, b.PURL) })
	components = slices.CompactFunc(components, func(a, b component) bool { return a.PURL == b.PURL })
	refs := make([]string, 0, len(components)+1)
	for _, c := range append([]component{system}, components...) {
		refs = append(refs, c.PURL+" "+c.Name+" "+c.Version)
	}
	b := ThisBuild()
	return bom{
		Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		SerialNumber: uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.Join(refs, "\n"))).URN(),
		Metadata: bomMetadata{
			Tools:     bomTools{Components: []component{{Type: "application", Name: "berth", Version: b.Version}}},
			Component: system,
		},
		Components: components,
	}
}

// moduleComponents are what the program was built from.
func moduleComponents(build *debug.BuildInfo) []component {
	module := func(path, version string) component {
		return component{Type: "library", Name: path, Version: version, PURL: "pkg:golang/" + escapePath(path) + "@" + escape(version)}
	}
	out := []component{module("stdlib", strings.TrimPrefix(build.GoVersion, "go")), module(build.Main.Path, ThisBuild().Version)}
	for _, m := range build.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		out = append(out, module(m.Path, m.Version))
	}
	return out
}

// imageComponents are images by their digests.
func imageComponents(images []container.ImageRecord) []component {
	var out []component
	for _, image := range images {
		name, _, _ := strings.Cut(image.Ref, "@")
		repository, tag := name, ""
		if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
			repository, tag = name[:i], "&tag="+escape(name[i+1:])
		}
		last := repository[strings.LastIndex(repository, "/")+1:]
		out = append(out, component{
			Type: "container", Name: repository, Version: image.Digest,
			PURL:   fmt.Sprintf("pkg:oci/%s@%s?repository_url=%s%s", escape(last), escape(image.Digest), escapePath(repository), tag),
			Hashes: []bomHash{{Algorithm: "SHA-256", Content: strings.TrimPrefix(image.Digest, "sha256:")}},
		})
	}
	return out
}
