// Package sign makes repositories of signed releases, as agent/update reads them: metadata and targets of The Update Framework, with
// ed25519 keys and consistent snapshots. It is for the release tool (packaging/release) and for tests; the program never signs.
package sign

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/berthd/berth/runtime/durable"
)

// Roles are the four of TUF, the most trusted first.
func Roles() []string {
	return []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP}
}

// Role is who signs what, for how long, and how many of them have to.
type Role struct {
	Keys      []ed25519.PrivateKey
	Threshold int           // zero is 1
	Expires   time.Duration // zero is a year for root and targets, a week for the others
}

// Repository is a directory of releases and those who sign it. One goroutine uses it.
type Repository struct {
	Dir   string
	Roles map[string]Role
	// Now is when it is signed; nil is time.Now.
	Now func() time.Time
}

func (r *Repository) expires(role string) time.Time {
	now := time.Now
	if r.Now != nil {
		now = r.Now
	}
	d := r.Roles[role].Expires
	if d == 0 {
		d = 7 * 24 * time.Hour
		if role == metadata.ROOT || role == metadata.TARGETS {
			d = 365 * 24 * time.Hour
		}
	}
	return now().UTC().Add(d).Truncate(time.Second)
}

// WriteRoot writes the next version of the root metadata, which says whose signatures count; before are the root keys of the version
// before, without which no host would follow. It answers the file's path: what hosts are given to begin with.
func (r *Repository) WriteRoot(before ...ed25519.PrivateKey) (path string, err error) {
	last, err := r.last(metadata.ROOT)
	if err != nil {
		return "", err
	}
	root := metadata.Root(r.expires(metadata.ROOT))
	root.Signed.Version = last + 1
	for _, role := range Roles() {
		for _, key := range r.Roles[role].Keys {
			public, err := metadata.KeyFromPublicKey(key.Public())
			if err != nil {
				return "", fmt.Errorf("cannot use key: %w", err)
			}
			if err := root.Signed.AddKey(public, role); err != nil {
				return "", fmt.Errorf("cannot use key: %w", err)
			}
		}
		root.Signed.Roles[role].Threshold = max(1, r.Roles[role].Threshold)
	}
	signers := slices.Clone(r.Roles[metadata.ROOT].Keys)
	for _, key := range before {
		if !slices.ContainsFunc(signers, func(k ed25519.PrivateKey) bool { return key.Equal(k) }) {
			signers = append(signers, key)
		}
	}
	name := strconv.FormatInt(last+1, 10) + ".root.json"
	return filepath.Join(r.metadata(), name), write(r, root, signers, name)
}

// Root is whose signatures count, as a root metadata file says.
type Root struct {
	Version int64
	Expires time.Time
	// Keys and Threshold are how many keys each role has, and how many of them have to sign.
	Keys, Threshold map[string]int
}

// ReadRoot reads a root that hosts could begin with: signed by enough of its own keys. Whether it has expired is for the caller to see.
func ReadRoot(path string) (Root, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Root{}, fmt.Errorf("cannot read root: %w", err)
	}
	m, err := metadata.Root().FromBytes(data)
	if err == nil {
		err = m.VerifyDelegate(metadata.ROOT, m)
	}
	if err != nil {
		return Root{}, fmt.Errorf("cannot use %s as root: %w", path, err)
	}
	r := Root{m.Signed.Version, m.Signed.Expires, map[string]int{}, map[string]int{}}
	for name, role := range m.Signed.Roles {
		r.Keys[name], r.Threshold[name] = len(role.KeyIDs), role.Threshold
	}
	return r, nil
}

// Add copies a program into the repository, as that version for that platform (linux-amd64). Publish makes it known.
func (r *Repository) Add(version, platform, program string) error {
	data, err := os.ReadFile(program)
	if err != nil {
		return fmt.Errorf("cannot read program: %w", err)
	}
	sum := sha256.Sum256(data)
	dir := filepath.Join(r.Dir, "targets", version, platform)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot add release: %w", err)
	}
	return durable.ReplaceWhole(filepath.Join(dir, hex.EncodeToString(sum[:])+".berth"), data, 0o644)
}

// Publish signs what is in the repository: every program that was added, and nothing else.
func (r *Repository) Publish() error {
	targets := metadata.Targets(r.expires(metadata.TARGETS))
	if err := r.collect(targets); err != nil {
		return err
	}
	last, err := r.last(metadata.TARGETS)
	if err != nil {
		return err
	}
	targets.Signed.Version = last + 1
	if err := write(r, targets, r.Roles[metadata.TARGETS].Keys, strconv.FormatInt(last+1, 10)+".targets.json"); err != nil {
		return err
	}
	return r.Refresh()
}

// Refresh signs anew what expires soonest, snapshot and timestamp, over the targets as they are.
func (r *Repository) Refresh() error {
	targets, err := r.last(metadata.TARGETS)
	if err != nil {
		return err
	}
	last, err := r.last(metadata.SNAPSHOT)
	if err != nil {
		return err
	}
	snapshot := metadata.Snapshot(r.expires(metadata.SNAPSHOT))
	snapshot.Signed.Version = last + 1
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(targets)
	if err := write(r, snapshot, r.Roles[metadata.SNAPSHOT].Keys, strconv.FormatInt(last+1, 10)+".snapshot.json"); err != nil {
		return err
	}
	timestamp := metadata.Timestamp(r.expires(metadata.TIMESTAMP))
	timestamp.Signed.Version = last + 1
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(last + 1)
	return write(r, timestamp, r.Roles[metadata.TIMESTAMP].Keys, "timestamp.json")
}

// collect lists the programs.
func (r *Repository) collect(targets *metadata.Metadata[metadata.TargetsType]) error {
	base := filepath.Join(r.Dir, "targets")
	return filepath.WalkDir(base, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), durable.Leftover) {
			return err
		}
		relative, err := filepath.Rel(base, path)
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(filepath.Base(path), ".")
		target := filepath.ToSlash(filepath.Join(filepath.Dir(relative), name))
		file, err := metadata.TargetFile().FromFile(path, "sha256")
		if err != nil {
			return fmt.Errorf("cannot sign %s: %w", path, err)
		}
		file.Path = target
		if targets.Signed.Targets[target] != nil {
			return fmt.Errorf("cannot sign %s: there are two programs for it", target)
		}
		targets.Signed.Targets[target] = file
		return nil
	})
}

func (r *Repository) metadata() string { return filepath.Join(r.Dir, "metadata") }

// last is the highest version of a role's metadata; 0 when there is none.
func (r *Repository) last(role string) (int64, error) {
	files, err := filepath.Glob(filepath.Join(r.metadata(), "*."+role+".json"))
	if err != nil {
		return 0, err
	}
	var highest int64
	for _, f := range files {
		text, _, _ := strings.Cut(filepath.Base(f), ".")
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			highest = max(highest, n)
		}
	}
	return highest, nil
}

// write signs and writes.
func write[T metadata.Roles](r *Repository, m *metadata.Metadata[T], keys []ed25519.PrivateKey, name string) error {
	for _, key := range keys {
		signer, err := signature.LoadSigner(key, crypto.Hash(0))
		if err != nil {
			return fmt.Errorf("cannot sign %s: %w", name, err)
		}
		if _, err := m.Sign(signer); err != nil {
			return fmt.Errorf("cannot sign %s: %w", name, err)
		}
	}
	if err := os.MkdirAll(r.metadata(), 0o755); err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	data, err := m.ToBytes(true)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	// Whoever mirrors the directory sees the old or the new.
	return durable.ReplaceWhole(filepath.Join(r.metadata(), name), data, 0o644)
}

// NewKey makes a key.
func NewKey(random io.Reader) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, fmt.Errorf("cannot make key: %w", err)
	}
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("cannot make key")
	}
	return key, nil
}
