package update

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

const (
	// maxProgram bounds a program, in bytes, whoever signed it.
	maxProgram = 256 << 20
	// metadataTime is how long all metadata may take, programTime a program (as the ECS agent's, spec/host.md §5.1).
	metadataTime, programTime = time.Minute, 15 * time.Minute
)

var (
	errSlowMetadata = fmt.Errorf("the source took longer than %s", metadataTime)
	errSlowProgram  = fmt.Errorf("the source took longer than %s", programTime)
)

// ErrNoRoot: nobody has said whose releases this host is to believe.
var ErrNoRoot = errors.New("there is no root of trust")

// Release is a program that was signed for this platform.
type Release struct {
	Version string `json:"version"`
	// SHA256 is that of the program in hexadecimal, Size its length in bytes.
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`

	target string // its path in the repository
}

// RepositoryConfig is what a Repository is made of.
type RepositoryConfig struct {
	Source Source
	// RootKey is the path of the root metadata that came with the package.
	RootKey string
	// Dir keeps the newest metadata that was believed, so that older is refused later.
	Dir string
	// Platform is linux-amd64 or the like.
	Platform string
	// Now is when it is, for expiry; nil is time.Now.
	Now func() time.Time
}

// Repository is a source seen through what is signed. One goroutine uses it.
type Repository struct{ cfg RepositoryConfig }

// NewRepository reads nothing yet.
func NewRepository(c RepositoryConfig) *Repository {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Repository{c}
}

// fetch is a source as go-tuf asks it.
type fetch func(name string, limit int64) ([]byte, error)

// DownloadFile answers a file of metadata, at most limit bytes.
func (f fetch) DownloadFile(name string, limit int64, _ time.Duration) ([]byte, error) {
	return f(name, limit)
}

// missingError is that a file is not there, for go-tuf and for a person, who reads the words of the source alone.
type missingError struct {
	error

	status *metadata.ErrDownloadHTTP
}

// Unwrap gives both.
func (e missingError) Unwrap() []error { return []error{e.error, e.status} }

// fetchMetadata is the source for go-tuf, which knows errors of HTTP only.
func (r *Repository) fetchMetadata(ctx context.Context) fetch {
	return func(name string, limit int64) ([]byte, error) {
		var data bytes.Buffer
		err := r.cfg.Source.Fetch(ctx, name, limit, &data)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, missingError{err, &metadata.ErrDownloadHTTP{StatusCode: http.StatusNotFound, URL: name}}
		}
		return data.Bytes(), err
	}
}

// Releases fetches and verifies the metadata, and answers the releases for this platform, the newest first.
func (r *Repository) Releases(ctx context.Context) ([]Release, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, metadataTime, errSlowMetadata)
	defer cancel()
	targets, err := r.refresh(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("cannot believe the releases at %s: %w", r.cfg.Source, explain(err))
	}
	var found []Release
	for target, file := range targets {
		version, rest, _ := strings.Cut(target, "/")
		sum := file.Hashes["sha256"]
		if rest != r.cfg.Platform+"/"+programName || CheckVersion(version) != nil || len(sum) != sha256.Size || file.Length > maxProgram {
			continue
		}
		found = append(found, Release{Version: version, SHA256: hex.EncodeToString(sum), Size: file.Length, target: target})
	}
	slices.SortFunc(found, func(a, b Release) int { return Compare(b.Version, a.Version) })
	return found, nil
}

// refresh is the client workflow of the TUF specification.
func (r *Repository) refresh(ctx context.Context) (map[string]*metadata.TargetFiles, error) {
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	root, err := r.root()
	if err != nil {
		return nil, err
	}
	c, err := config.New("metadata", root)
	if err != nil {
		return nil, err
	}
	c.LocalMetadataDir, c.LocalTargetsDir = r.cfg.Dir, r.cfg.Dir
	c.Fetcher = r.fetchMetadata(ctx)
	client, err := updater.New(c)
	if err != nil {
		return nil, err
	}
	client.UnsafeSetRefTime(r.cfg.Now())
	if err := client.Refresh(); err != nil {
		return nil, err
	}
	return client.GetTopLevelTargets(), nil
}

// root is where belief begins: the newest root that was ever believed, or the package's if that is newer. go-tuf would begin with the
// package's each time, and a mirror could hide from it that its keys were replaced.
func (r *Repository) root() ([]byte, error) {
	packaged, err := os.ReadFile(r.cfg.RootKey)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w at %s: the package was built without one; get the root.json of whoever signs these releases, "+
			"by a way that you trust, and name it in BERTH_UPDATE_ROOT", ErrNoRoot, r.cfg.RootKey)
	case err != nil:
		return nil, fmt.Errorf("cannot read the root of trust: %w", err)
	}
	given, err := metadata.Root().FromBytes(packaged)
	if err != nil {
		return nil, fmt.Errorf("%s is no root of trust: %w", r.cfg.RootKey, err)
	}
	kept, err := os.ReadFile(filepath.Join(r.cfg.Dir, metadata.ROOT+".json"))
	if err != nil {
		return packaged, nil //nolint:nilerr // The first time, or somebody tidied up.
	}
	believed, err := metadata.Root().FromBytes(kept)
	if err != nil || believed.Signed.Version <= given.Signed.Version {
		return packaged, nil //nolint:nilerr // A file that was cut short: begin anew, as after an installation.
	}
	return kept, nil
}

// explain says what go-tuf's errors mean to a person.
func explain(err error) error {
	switch {
	case errors.Is(err, &metadata.ErrExpiredMetadata{}):
		return fmt.Errorf("they have expired: the mirror is out of date or held back, or this host's clock is wrong: %w", err)
	case errors.Is(err, &metadata.ErrUnsignedMetadata{}):
		return fmt.Errorf("they are not signed by those whom this host believes: %w", err)
	case errors.Is(err, &metadata.ErrBadVersionNumber{}):
		return fmt.Errorf("they are older than what this host has seen: %w", err)
	}
	return err
}

// fetchProgram writes a release's program to w, verified. After an error what was written is worth nothing.
func (r *Repository) fetchProgram(ctx context.Context, rel Release, w io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, programTime, errSlowProgram)
	defer cancel()
	sum := sha256.New()
	count := &counter{}
	// A repository with consistent snapshots has a file's hash in its name.
	name := path.Join("targets", path.Dir(rel.target), rel.SHA256+"."+path.Base(rel.target))
	if err := r.cfg.Source.Fetch(ctx, name, rel.Size, io.MultiWriter(w, sum, count)); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("cannot fetch version %s: %w", rel.Version, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != rel.SHA256 || count.n != rel.Size {
		return fmt.Errorf("cannot use version %s: %s gave %d bytes with SHA-256 %s, signed are %d with %s",
			rel.Version, r.cfg.Source, count.n, got, rel.Size, rel.SHA256)
	}
	return nil
}

// counter counts bytes.
type counter struct{ n int64 }

// Write counts.
func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
