package update_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/berthd/berth/agent/update"
	"github.com/berthd/berth/agent/update/sign"
)

// What each test shows is a line of the threat model in the package comment, and each line there has one.
func TestEveryAttackHasATest(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("attacks_test.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^//   - ([^:]+):`).FindAllStringSubmatch(string(text), -1)
	if len(lines) < 10 {
		t.Fatalf("the threat model has %d lines", len(lines))
	}
	for _, line := range lines {
		name := "Test"
		for word := range strings.FieldsSeq(line[1]) {
			name += strings.ToUpper(word[:1]) + word[1:]
		}
		if !strings.Contains(string(tests), "\nfunc "+name+"(t *testing.T)") {
			t.Errorf("there is no %s for %q", name, line[1])
		}
	}
}

func TestHonestRepository(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.stages("1.1.0")
	got, err := os.ReadFile(filepath.Join(w.install, "versions/1.1.0/berth"))
	if err != nil || !bytes.Equal(got, program("1.1.0")) {
		t.Errorf("%q: %v", got, err)
	}
}

func TestArbitrarySoftware(t *testing.T) {
	t.Run("program", func(t *testing.T) {
		w := newWorld(t)
		w.add("1.1.0")
		ran := filepath.Join(t.TempDir(), "ran")
		evil := []byte("#!/bin/sh\ntouch " + ran + "\n")
		// As long as the signed one, so that the hash alone decides.
		evil = append(evil, bytes.Repeat([]byte("#"), 200)...)[:len(program("1.1.0"))]
		w.serve(func(rw http.ResponseWriter, r *http.Request) bool {
			lies := strings.Contains(r.URL.Path, "/targets/")
			if lies {
				_, _ = rw.Write(evil)
			}
			return lies
		})
		w.refuses(update.Choice{}, "SHA-256")
		if _, err := os.Stat(ran); err == nil {
			t.Error("it was executed")
		}
	})
	t.Run("metadata", func(t *testing.T) {
		w := newWorld(t)
		other := newWorld(t)
		other.add("9.9.9")
		w.repo.Dir, w.source = other.repo.Dir, other.repo.Dir
		w.refuses(update.Choice{}, "not signed by those whom this host believes")
	})
}

func TestThreshold(t *testing.T) {
	w := newWorld(t)
	targets := w.repo.Roles[metadata.TARGETS]
	targets.Keys = []ed25519.PrivateKey{targets.Keys[0], targets.Keys[0]} // One stolen key, used twice.
	w.repo.Roles[metadata.TARGETS] = targets
	w.add("1.1.0")
	w.refuses(update.Choice{}, "cannot believe")
	targets.Keys = targets.Keys[:1]
	w.repo.Roles[metadata.TARGETS] = targets
	w.must(w.repo.Publish())
	w.refuses(update.Choice{}, "not signed by those whom this host believes")
}

func TestRollback(t *testing.T) {
	t.Run("metadata", func(t *testing.T) {
		w := newWorld(t)
		w.add("1.1.0")
		old := w.keep()
		w.add("1.2.0")
		if s, err := w.updater().Check(t.Context()); err != nil || s.Available != "1.2.0" {
			t.Fatalf("%+v: %v", s, err)
		}
		old()
		w.refuses(update.Choice{}, "older than what this host has seen")
	})
	t.Run("program", func(t *testing.T) {
		w := newWorld(t)
		w.add("0.9.0")
		w.refuses(update.Choice{}, update.ErrNewest)
	})
	t.Run("person", func(t *testing.T) {
		w := newWorld(t)
		w.add("0.9.0")
		if got, err := w.updater().Stage(t.Context(), update.Choice{Version: "0.9.0"}); err != nil || got.Version != "0.9.0" {
			t.Errorf("a person may: %v", err)
		}
	})
}

func TestFreeze(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.now = w.now.Add(8 * 24 * time.Hour)
	w.refuses(update.Choice{}, "expired")
	w.must(w.repo.Refresh())
	w.stages("1.1.0")
	// Also when all was believed before it expired.
	w.add("1.2.0")
	w.now = w.now.Add(8 * 24 * time.Hour)
	if _, err := w.updater().Check(t.Context()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("%v", err)
	}
}

func TestMixAndMatch(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.add("1.2.0")
	// The snapshot says version 3 of targets; the mirror gives version 2 under that name.
	dir := filepath.Join(w.repo.Dir, "metadata")
	old, err := os.ReadFile(filepath.Join(dir, "2.targets.json"))
	w.must(err)
	w.must(os.WriteFile(filepath.Join(dir, "3.targets.json"), old, 0o600))
	w.refuses(update.Choice{}, "older than what this host has seen")
}

func TestEndlessData(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	endless := func(path string) {
		w.serve(func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, path) {
				return false
			}
			for chunk := bytes.Repeat([]byte(" "), 1<<16); ; {
				if _, err := rw.Write(chunk); err != nil {
					return true // The client has had enough; otherwise this test would not end.
				}
			}
		})
	}
	for _, path := range []string{"timestamp.json", "/targets/"} {
		endless(path)
		w.refuses(update.Choice{}, update.ErrTooLong)
	}
}

// trickle is a source that never ends and never stops, once the file is asked for.
type trickle struct {
	update.Source

	file string
}

// Fetch gives a byte each ten seconds.
func (s trickle) Fetch(ctx context.Context, name string, limit int64, w io.Writer) error {
	if !strings.Contains(name, s.file) {
		return s.Source.Fetch(ctx, name, limit, w)
	}
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if _, err := w.Write([]byte(" ")); err != nil {
				return err
			}
		}
	}
}

func TestSlowData(t *testing.T) {
	for file, limit := range map[string]time.Duration{"timestamp.json": time.Minute, "targets/": 15 * time.Minute} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.add("1.1.0")
				w.through = func(s update.Source) update.Source { return trickle{s, file} }
				began := time.Now()
				w.refuses(update.Choice{}, "the source took longer than "+limit.String())
				if took := time.Since(began); took != limit {
					t.Errorf("it was waited for %s", took)
				}
			})
		})
	}
}

func TestArbitraryFile(t *testing.T) {
	t.Run("written", func(t *testing.T) {
		w := newWorld(t)
		// Nothing that leads out of versions names a version, whoever signed it or asks for it.
		for _, evil := range []string{"..", ".", "", "/etc", "../../evil", "1.1.0/../..", "1.1.0-a/b", "1.1.0\x00"} {
			if update.CheckVersion(evil) == nil {
				t.Errorf("%q can name a version", evil)
			}
		}
		w.refuses(update.Choice{Version: "../../evil"}, update.ErrNoRelease)
	})
	t.Run("read", func(t *testing.T) {
		w := newWorld(t)
		w.add("1.1.0")
		secret := filepath.Join(t.TempDir(), "secret")
		w.must(os.WriteFile(secret, program("1.1.0"), 0o600))
		files, err := filepath.Glob(filepath.Join(w.repo.Dir, "targets/1.1.0", platform, "*.berth"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		w.must(errors.Join(os.Remove(files[0]), os.Symlink(secret, files[0])))
		w.refuses(update.Choice{}, "escapes")
	})
}

func TestWrongSoftware(t *testing.T) {
	t.Run("platform", func(t *testing.T) {
		w := newWorld(t)
		path := filepath.Join(t.TempDir(), "berth")
		w.must(os.WriteFile(path, program("1.1.0"), 0o600))
		w.must(w.repo.Add("1.1.0", "linux-arm64", path))
		w.must(w.repo.Publish())
		w.refuses(update.Choice{}, update.ErrNewest)
		w.refuses(update.Choice{Version: "1.1.0"}, update.ErrNoRelease)
	})
	t.Run("version", func(t *testing.T) {
		w := newWorld(t)
		w.addProgram("1.1.0", program("1.0.0"))
		w.refuses(update.Choice{}, `says that it is version "1.0.0"`)
	})
	t.Run("no program", func(t *testing.T) {
		w := newWorld(t)
		w.addProgram("1.1.0", []byte("\x7fELF it is not"))
		w.refuses(update.Choice{}, "does not run on this host")
	})
	t.Run("name", func(t *testing.T) {
		w := newWorld(t)
		for _, evil := range []string{"..", "1.1.0..", "latest", "v1.1.0"} {
			if update.CheckVersion(evil) == nil {
				t.Errorf("%q can name a version", evil)
			}
		}
		w.add("latest")
		w.refuses(update.Choice{}, update.ErrNewest)
	})
}

func TestStolenRootKeys(t *testing.T) {
	w := newWorld(t)
	before := w.repo.Roles[metadata.ROOT].Keys
	stolen := w.repo.Roles[metadata.TARGETS]
	// The owner replaces root and targets keys.
	w.repo.Roles[metadata.ROOT] = w.withKeys(metadata.ROOT, 3)
	w.repo.Roles[metadata.TARGETS] = w.withKeys(metadata.TARGETS, 2)
	_, err := w.repo.WriteRoot(before...)
	w.must(err)
	w.add("1.1.0")
	if s, err := w.updater().Check(t.Context()); err != nil || s.Available != "1.1.0" {
		t.Fatalf("%+v: %v", s, err)
	}
	// The thief signs with what he has.
	w.repo.Roles[metadata.TARGETS] = stolen
	w.add("6.6.6")
	w.refuses(update.Choice{}, "not signed by those whom this host believes")
}

func TestWrongRoot(t *testing.T) {
	t.Run("below the threshold", func(t *testing.T) {
		w := newWorld(t)
		before := w.repo.Roles[metadata.ROOT].Keys
		w.repo.Roles[metadata.ROOT] = w.withKeys(metadata.ROOT, 3)
		_, err := w.repo.WriteRoot(before[0])
		w.must(err)
		w.add("1.1.0")
		w.refuses(update.Choice{}, "not signed by those whom this host believes")
	})
	t.Run("another's", func(t *testing.T) {
		w, other := newWorld(t), newWorld(t)
		_, err := other.repo.WriteRoot() // Its number would be the next.
		w.must(err)
		other.add("9.9.9")
		w.source = other.repo.Dir
		w.refuses(update.Choice{}, "not signed by those whom this host believes")
	})
	t.Run("one left out", func(t *testing.T) {
		w := newWorld(t)
		second, err := w.repo.WriteRoot()
		w.must(err)
		third, err := w.repo.WriteRoot()
		w.must(err)
		w.add("1.1.0")
		w.must(os.Rename(third, second))
		w.refuses(update.Choice{}, "older than what this host has seen")
	})
	t.Run("expired", func(t *testing.T) {
		w := newWorld(t)
		w.add("1.1.0")
		w.now = w.now.Add(366 * 24 * time.Hour)
		w.must(w.repo.Publish())
		w.refuses(update.Choice{}, "expired")
		// Its owner signs another in time, and hosts that were off meanwhile follow.
		_, err := w.repo.WriteRoot()
		w.must(err)
		w.stages("1.1.0")
	})
	t.Run("none", func(t *testing.T) {
		w := newWorld(t)
		w.add("1.1.0")
		w.must(os.Remove(filepath.Join(w.install, "root.json")))
		w.refuses(update.Choice{}, update.ErrNoRoot)
	})
	t.Run("no root at all", func(t *testing.T) {
		w := newWorld(t)
		w.add("1.1.0")
		w.must(os.WriteFile(filepath.Join(w.install, "root.json"), []byte("{}"), 0o600))
		w.refuses(update.Choice{}, "is no root of trust")
	})
}

func TestKeyRotationTakenBack(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	old := w.keep()
	before := w.repo.Roles[metadata.ROOT].Keys
	stolen := w.repo.Roles[metadata.TIMESTAMP]
	w.repo.Roles[metadata.TIMESTAMP] = w.withKeys(metadata.TIMESTAMP, 1)
	_, err := w.repo.WriteRoot(before...)
	w.must(err)
	w.must(w.repo.Publish())
	if _, err := w.updater().Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The mirror hides the second root, and serves what the stolen key signs.
	old()
	w.repo.Roles[metadata.TIMESTAMP] = stolen
	for range 5 {
		w.must(w.repo.Publish()) // Higher numbers than those believed.
	}
	w.refuses(update.Choice{}, "not signed by those whom this host believes")
}

func TestFastForward(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	// A thief of the two keys that are online numbers so high that nothing of the owner's would be newer.
	for range 5 {
		w.must(w.repo.Refresh())
	}
	if _, err := w.updater().Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"[3-9].snapshot.json", "timestamp.json"} {
		files, err := filepath.Glob(filepath.Join(w.repo.Dir, "metadata", pattern))
		w.must(err)
		for _, f := range files {
			w.must(os.Remove(f))
		}
	}
	w.must(w.repo.Refresh())
	w.refuses(update.Choice{}, "older than what this host has seen")
	// New keys for the two make hosts forget the numbers.
	before := w.repo.Roles[metadata.ROOT].Keys
	for _, role := range []string{metadata.SNAPSHOT, metadata.TIMESTAMP} {
		w.repo.Roles[role] = w.withKeys(role, 1)
	}
	_, err := w.repo.WriteRoot(before...)
	w.must(err)
	w.must(w.repo.Refresh())
	w.stages("1.1.0")
}

// withKeys is a role with new keys.
func (w *world) withKeys(role string, n int) sign.Role {
	w.Helper()
	r := w.repo.Roles[role]
	r.Keys = keys(w.T, n)
	return r
}

func TestAControlPlaneThatSaysWhereToFetch(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.add("1.2.0")
	of := func(version string) string {
		files, err := filepath.Glob(filepath.Join(w.repo.Dir, "targets", version, platform, "*.berth"))
		if err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		sum, _, _ := strings.Cut(filepath.Base(files[0]), ".")
		return strings.ToUpper(sum)
	}
	if got, err := w.updater().Stage(t.Context(), update.Choice{SHA256: of("1.1.0")}); err != nil || got.Version != "1.1.0" {
		t.Errorf("%+v: %v", got, err)
	}
	// A hash that nobody signed says no more than that there is something new.
	if got, err := w.updater().Stage(t.Context(), update.Choice{SHA256: strings.Repeat("ab", 32)}); err != nil || got.Version != "1.2.0" {
		t.Errorf("%+v: %v", got, err)
	}
	// It cannot take a host back.
	if _, err := w.updater().Stage(t.Context(), update.Choice{SHA256: of("1.0.0")}); err == nil {
		t.Error("the current version was staged")
	}
}

// The source is away: nothing changes, and it is said.
func TestSourceIsAway(t *testing.T) {
	w := newWorld(t)
	w.add("1.1.0")
	w.serve(func(rw http.ResponseWriter, _ *http.Request) bool {
		http.Error(rw, "no", http.StatusBadGateway)
		return true
	})
	w.refuses(update.Choice{}, "502 Bad Gateway")
	w.source = filepath.Join(t.TempDir(), "nowhere")
	w.refuses(update.Choice{}, os.ErrNotExist)
}
