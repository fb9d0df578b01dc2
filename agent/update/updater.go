package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// tryTime is how long a new program may take to say which version it is.
const tryTime = 20 * time.Second

var (
	// ErrNewest: there is no newer release than the current version.
	ErrNewest = errors.New("there is no newer release")
	// ErrNoRelease: the one that was asked for was not signed, or not for this platform.
	ErrNoRelease = errors.New("there is no such release for this host")
	// ErrUnproven: an update that was made before has neither been confirmed nor returned.
	ErrUnproven = errors.New("the last update has yet to prove itself")
	// ErrCameBack: the newest release is the one that came back from the last update. It has to be asked for by name.
	ErrCameBack = errors.New("it came back from the last update")
	// ErrNoPrevious: there is nothing to go back to.
	ErrNoPrevious = errors.New("there is no previous version")
	errSlowTry    = fmt.Errorf("it took longer than %s", tryTime)
)

// Config is what an Updater is made of. All is needed but Repository, without which nothing can be staged.
type Config struct {
	Install    *Install
	State      *State
	Repository *Repository
	// Now is when it is; nil is time.Now.
	Now func() time.Time
}

// Updater makes updates of one Install. Its methods may be called by several processes at once: one changes something, the others answer
// ErrBusy.
type Updater struct{ cfg Config }

// New makes an Updater.
func New(c Config) *Updater {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Updater{c}
}

// Choice says which release is wanted; the zero value is the newest.
type Choice struct {
	// Version is what a person asked for by name, which may be an older one.
	Version string
	// SHA256 is what ECS named: the signed release with that hash, if there is one, and else the newest.
	SHA256 string
}

// Status is what --check shows.
type Status struct {
	Current  string `json:"current"`
	Previous string `json:"previous,omitempty"`
	// Available is the newest release, also when it is the current version; "" without a source.
	Available string `json:"available,omitempty"`
	Newer     bool   `json:"newer"`
	Last      Record `json:"last,omitzero"`
}

// Check says what there is; it changes nothing but the memory of metadata.
func (u *Updater) Check(ctx context.Context) (Status, error) {
	var s Status
	var err error
	if s.Current, err = u.cfg.Install.Current(); err != nil {
		return s, err
	}
	if s.Previous, err = u.cfg.Install.Previous(); err != nil {
		return s, err
	}
	if s.Last, err = u.cfg.State.Record(); err != nil {
		return s, err
	}
	if u.cfg.Repository == nil {
		return s, nil
	}
	releases, err := u.cfg.Repository.Releases(ctx)
	if err != nil {
		return s, err
	}
	if len(releases) > 0 {
		s.Available = releases[0].Version
		s.Newer = Compare(s.Available, s.Current) > 0
	}
	return s, nil
}

// Stage fetches a release and verifies it, and answers once its program lies beside the current one. One that lies there already is not
// fetched again.
func (u *Updater) Stage(ctx context.Context, want Choice) (Release, error) {
	release, err := u.cfg.State.lock()
	if err != nil {
		return Release{}, err
	}
	defer release()
	if u.cfg.Repository == nil {
		return Release{}, errors.New("cannot fetch an update: no source of signed releases is set (BERTH_UPDATE_SOURCE)")
	}
	chosen, err := u.choose(ctx, want)
	if err != nil {
		return chosen, err
	}
	in := u.cfg.Install
	if sum, err := hashOf(in.Program(chosen.Version)); err == nil && sum == chosen.SHA256 {
		return chosen, nil
	}
	for _, used := range []func() (string, error){in.Current, in.Previous} {
		if v, err := used(); err != nil || v == chosen.Version {
			return chosen, errors.Join(err, fmt.Errorf("cannot stage version %s: it is in use, and its program is not the signed one", chosen.Version))
		}
	}
	if err := in.prune(); err != nil { // Room for this one, and nothing left of one that was broken off.
		return chosen, err
	}
	dir, err := in.stage()
	if err != nil {
		return chosen, err
	}
	if err = u.fill(ctx, dir, chosen); err == nil {
		err = in.keep(dir, chosen.Version)
	}
	if err != nil {
		return chosen, errors.Join(err, os.RemoveAll(dir))
	}
	return chosen, nil
}

// choose finds the release that is wanted among those that are signed.
func (u *Updater) choose(ctx context.Context, want Choice) (Release, error) {
	current, err := u.cfg.Install.Current()
	if err != nil {
		return Release{}, err
	}
	releases, err := u.cfg.Repository.Releases(ctx)
	if err != nil {
		return Release{}, err
	}
	at := -1
	switch {
	case want.Version != "":
		if at = slices.IndexFunc(releases, func(r Release) bool { return r.Version == want.Version }); at < 0 {
			return Release{}, fmt.Errorf("cannot update to version %s: %w", want.Version, ErrNoRelease)
		}
	case want.SHA256 != "":
		at = slices.IndexFunc(releases, func(r Release) bool { return strings.EqualFold(r.SHA256, want.SHA256) })
	}
	if at < 0 {
		at = 0
	}
	if len(releases) == 0 {
		return Release{}, fmt.Errorf("cannot update: %w", ErrNoRelease)
	}
	chosen := releases[at]
	// A timer that updates to whatever is newest does not make a host suffer the same again each night.
	if r, err := u.cfg.State.Record(); err == nil && want == (Choice{}) && r.Phase == Returned && r.To == chosen.Version {
		return chosen, fmt.Errorf("cannot update to version %s: %w", chosen.Version, r.CameBack())
	}
	if newer := Compare(chosen.Version, current); newer == 0 || newer < 0 && want.Version == "" {
		return chosen, fmt.Errorf("cannot update to version %s: %s is current: %w", chosen.Version, current, ErrNewest)
	}
	return chosen, nil
}

// fill fetches a program into dir and tries it.
func (u *Updater) fill(ctx context.Context, dir string, rel Release) error {
	path := filepath.Join(dir, programName)
	// Not executable before it is verified.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot stage update: %w", err)
	}
	err = u.cfg.Repository.fetchProgram(ctx, rel, f)
	if err == nil {
		err = f.Chmod(0o755)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return try(ctx, path, rel.Version)
}

// try starts a program and has it say which version it is, before anything depends on it.
func try(ctx context.Context, path, version string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tryTime, errSlowTry)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version", "--json")
	cmd.Env = []string{}
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot use version %s: its program does not run on this host: %w", version, err)
	}
	var said struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(out, &said); err != nil || strings.TrimPrefix(said.Version, "v") != version {
		return fmt.Errorf("cannot use version %s: its program says that it is version %q", version, said.Version)
	}
	return nil
}

// Before is how the host was when a version was switched to.
type Before struct {
	Tasks     []string
	Connected bool
	// Order is the id of ECS's message that has it switched to; empty for a person.
	Order string
}

// Switch makes a staged version current, and from then on that version has to prove itself. The caller restarts the agent.
func (u *Updater) Switch(version string, before Before) error {
	release, err := u.cfg.State.lock()
	if err != nil {
		return err
	}
	defer release()
	return u.switchTo(version, before)
}

func (u *Updater) switchTo(version string, before Before) error {
	current, err := u.cfg.Install.Current()
	if err != nil {
		return err
	}
	last, err := u.cfg.State.Record()
	if err != nil {
		return err
	}
	switch {
	case last.Pending(current):
		return fmt.Errorf("cannot switch to version %s: %w", version, ErrUnproven)
	case version == current:
		return fmt.Errorf("cannot switch to version %s: it is current: %w", version, ErrNewest)
	case !u.cfg.Install.Has(version):
		return fmt.Errorf("cannot switch to version %s: it is not here", version)
	}
	if err := u.cfg.State.save(Record{
		Phase: Switched, From: current, To: version, At: u.cfg.Now(), Tasks: before.Tasks, Connected: before.Connected, Order: before.Order,
	}); err != nil {
		return err
	}
	return u.cfg.Install.switchTo(version, current)
}

// Rollback makes the previous version current again because a person said so. It has to prove itself like any other.
func (u *Updater) Rollback(before Before) (version string, err error) {
	release, err := u.cfg.State.lock()
	if err != nil {
		return "", err
	}
	defer release()
	in := u.cfg.Install
	if version, err = in.Previous(); err != nil {
		return "", err
	}
	current, err := in.Current()
	if err != nil {
		return "", err
	}
	r, err := u.cfg.State.Record()
	if err != nil {
		return "", err
	}
	switch {
	case r.Phase == Returned && r.From == current: // The person may not know yet that this is what a rollback would have led to.
		return "", fmt.Errorf("cannot go back: version %s is back already, since %s. Of version %s: %w", current, r.Ended.Format(time.RFC3339), r.To, r.CameBack())
	case version == "" || version == current || !in.Has(version):
		return "", ErrNoPrevious
	case r.Pending(current): // A version that a person does not want need not prove itself any more.
		return version, u.back(&r, "somebody asked for it (berth update --rollback)")
	}
	return version, u.switchTo(version, before)
}

// Prove has the current version prove itself against the previous one, for a package that has switched by itself. There is nothing to
// prove where there was no other version before, or it is gone.
func (u *Updater) Prove(before Before) error {
	release, err := u.cfg.State.lock()
	if err != nil {
		return err
	}
	defer release()
	in := u.cfg.Install
	current, err := in.Current()
	if err != nil {
		return err
	}
	previous, err := in.Previous()
	if err != nil || previous == "" || previous == current || !in.Has(previous) {
		return err
	}
	if r, err := u.cfg.State.Record(); err != nil || r.Pending(current) || r.Phase == Confirmed && r.To == current {
		return err
	}
	return u.cfg.State.save(Record{
		Phase: Switched, From: previous, To: current, At: u.cfg.Now(), Tasks: before.Tasks, Connected: before.Connected,
	})
}

// hashOf is a file's SHA-256 in hexadecimal.
func hashOf(path string) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
