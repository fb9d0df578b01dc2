package update_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/berthd/berth/agent/update"
	"github.com/berthd/berth/agent/update/sign"
)

const platform = "linux-amd64"

// world is a repository, and a host that has version 1.0.0 installed.
type world struct {
	*testing.T

	repo    *sign.Repository
	install string
	state   string
	now     time.Time
	source  string
	// through may put something between the host and the source.
	through func(update.Source) update.Source
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, install: t.TempDir(), state: t.TempDir(), now: time.Now()}
	w.repo = &sign.Repository{Dir: t.TempDir(), Now: func() time.Time { return w.now }, Roles: map[string]sign.Role{
		metadata.ROOT:      {Keys: keys(t, 3), Threshold: 2},
		metadata.TARGETS:   {Keys: keys(t, 2), Threshold: 2},
		metadata.SNAPSHOT:  {Keys: keys(t, 1)},
		metadata.TIMESTAMP: {Keys: keys(t, 1)},
	}}
	w.source = w.repo.Dir
	root, err := w.repo.WriteRoot()
	w.must(err)
	data, err := os.ReadFile(root)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(w.install, "root.json"), data, 0o600))
	w.place("1.0.0")
	w.must(os.Symlink("versions/1.0.0", filepath.Join(w.install, "current")))
	w.add("1.0.0")
	return w
}

func keys(t *testing.T, n int) []ed25519.PrivateKey {
	t.Helper()
	var out []ed25519.PrivateKey
	for range n {
		key, err := sign.NewKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, key)
	}
	return out
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// program is what a version's program is here: a script that says its version.
func program(version string) []byte {
	return fmt.Appendf(nil, "#!/bin/sh\necho '{\"version\":\"%s\"}'\n", version)
}

// place puts a version where the package would.
func (w *world) place(version string) {
	w.Helper()
	dir := filepath.Join(w.install, "versions", version)
	w.must(os.MkdirAll(dir, 0o755))
	w.must(os.WriteFile(filepath.Join(dir, "berth"), program(version), 0o755))
}

// add publishes a version.
func (w *world) add(version string) { w.Helper(); w.addProgram(version, program(version)) }

func (w *world) addProgram(version string, content []byte) {
	w.Helper()
	path := filepath.Join(w.TempDir(), "berth")
	w.must(os.WriteFile(path, content, 0o600))
	w.must(w.repo.Add(version, platform, path))
	w.must(w.repo.Publish())
}

// updater is that of the host; a new one each time, as each process has its own.
func (w *world) updater() *update.Updater {
	w.Helper()
	install, err := update.OpenInstall(w.install)
	w.must(err)
	state, err := update.OpenState(w.state)
	w.must(err)
	source, err := update.ParseSource(w.source, update.SourceConfig{})
	w.must(err)
	if w.through != nil {
		source = w.through(source)
	}
	return update.New(update.Config{Install: install, State: state, Now: func() time.Time { return w.now }, Repository: update.NewRepository(update.RepositoryConfig{
		Source: source, RootKey: install.RootKey(), Dir: filepath.Join(w.state, "tuf"), Platform: platform, Now: func() time.Time { return w.now },
	})})
}

// current is the version that would be started.
func (w *world) current() string {
	w.Helper()
	link, err := os.Readlink(filepath.Join(w.install, "current"))
	w.must(err)
	return filepath.Base(link)
}

// stages stages a version, which has to work.
func (w *world) stages(version string) {
	w.Helper()
	got, err := w.updater().Stage(w.Context(), update.Choice{})
	if err != nil || got.Version != version {
		w.Fatalf("staged %q, want %q: %v", got.Version, version, err)
	}
}

// refuses stages, which must not work, and leave nothing behind.
func (w *world) refuses(choice update.Choice, want any) {
	w.Helper()
	got, err := w.updater().Stage(w.Context(), choice)
	if err == nil {
		w.Fatalf("version %s was staged", got.Version)
	}
	switch want := want.(type) {
	case error:
		if !errors.Is(err, want) {
			w.Errorf("%v, want %v", err, want)
		}
	case string:
		if !bytes.Contains([]byte(err.Error()), []byte(want)) {
			w.Errorf("%v does not say %q", err, want)
		}
	}
	entries, err := os.ReadDir(filepath.Join(w.install, "versions"))
	w.must(err)
	if len(entries) != 1 || entries[0].Name() != "1.0.0" || w.current() != "1.0.0" {
		w.Errorf("left behind: %v, current %s", entries, w.current())
	}
}

// keep copies the repository's metadata as it is now, for an attacker to serve later.
func (w *world) keep() (restore func()) {
	w.Helper()
	kept := filepath.Join(w.TempDir(), "kept")
	w.must(os.CopyFS(kept, os.DirFS(filepath.Join(w.repo.Dir, "metadata"))))
	return func() {
		dir := filepath.Join(w.repo.Dir, "metadata")
		w.must(os.RemoveAll(dir))
		w.must(os.CopyFS(dir, os.DirFS(kept)))
	}
}

// serve puts the repository behind a web server that may lie.
func (w *world) serve(lie func(http.ResponseWriter, *http.Request) bool) {
	files := http.FileServer(http.Dir(w.repo.Dir))
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !lie(rw, r) {
			files.ServeHTTP(rw, r)
		}
	}))
	w.Cleanup(s.Close)
	w.source = s.URL
}
