package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/berthd/berth/agent/update"
)

// A host that was given the root believes what was signed with the keys, and what is signed after the keys were replaced.
func TestHostsBelieveWhatIsSigned(t *testing.T) {
	dir := t.TempDir()
	repo, keys, others := filepath.Join(dir, "repo"), filepath.Join(dir, "keys"), filepath.Join(dir, "others")
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) {
		t.Helper()
		if err := run(args); err != nil {
			t.Fatalf("release %v: %v", args, err)
		}
	}
	newest := func() string {
		t.Helper()
		source, err := update.ParseSource(repo, update.SourceConfig{})
		if err != nil {
			t.Fatal(err)
		}
		releases, err := update.NewRepository(update.RepositoryConfig{
			Source: source, RootKey: filepath.Join(repo, "metadata/1.root.json"), Dir: filepath.Join(dir, "host"), Platform: "linux-amd64",
		}).Releases(t.Context())
		if err != nil || len(releases) == 0 {
			t.Fatalf("%v: %v", releases, err)
		}
		return releases[0].Version
	}
	do("keys", keys)
	do("root", repo, keys)
	do("show", filepath.Join(repo, "metadata/1.root.json"))
	do("add", repo, "1.0.0", "linux-amd64", program)
	do("publish", repo, keys)
	if v := newest(); v != "1.0.0" {
		t.Errorf("newest %s", v)
	}
	do("keys", others)
	do("root", repo, others, keys)
	do("add", repo, "1.1.0", "linux-amd64", program)
	do("publish", repo, others)
	do("refresh", repo, others)
	if v := newest(); v != "1.1.0" {
		t.Errorf("newest %s", v)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := run([]string{"keys", keys}); err != nil {
		t.Fatal(err)
	}
	// A root that too few of its own keys have signed.
	root := filepath.Join(dir, "repo/metadata/1.root.json")
	if err := run([]string{"root", filepath.Join(dir, "repo"), keys}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	weak := filepath.Join(dir, "weak.json")
	if err := os.WriteFile(weak, bytes.Replace(text, []byte(`"threshold": 2`), []byte(`"threshold": 4`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"nothing": nil, "unknown": {"sing", "x"}, "too few": {"add", dir}, "over keys": {"keys", keys},
		"version": {"add", dir, "../1.0.0", "linux-amd64", "/bin/true"}, "no keys": {"root", dir, dir},
		"weak root": {"show", weak}, "no root": {"show", filepath.Join(keys, "root-1.pem")},
	} {
		if err := run(args); err == nil {
			t.Errorf("%s: %v worked", name, args)
		}
	}
}
