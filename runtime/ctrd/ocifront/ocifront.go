// Package ocifront stands in front of the OCI runtime for containers that have
// variables which must never reach a disk. containerd keeps a container's OCI
// spec in its database and writes it into the bundle; a variable in there is on
// the disk. So the spec goes without them, they wait in a file in memory that
// root alone can read, and the front adds them where the process is made:
//
//	containerd ── spec without secrets ──► shim ──► front ──► runc
//	                                                 ▲
//	agent ── <state>/secrets/<container>/env ────────┘  (tmpfs)
//
// The front is this same program under another name: containerd is given the
// path of a link in the state directory as the runtime's binary, for the
// containers that have such variables and for no others. It works on `create` and
// `exec`, passes everything else on, and becomes the real runtime by execve.
package ocifront

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/berthd/berth/runtime/durable"
)

// Name is the name of the link, and so the front's argv[0].
const Name = "oci-runtime"

// realName is the link to the runtime that the front becomes.
const realName = "oci-runtime.real"

// secretsDir is below the state directory, a file system in memory.
const secretsDir = "secrets"

// Dir is where the files of all containers are, for the state directory.
func Dir(state string) string { return filepath.Join(state, secretsDir) }

// Install makes the front's link in the state directory and answers with its
// path: binary is an executable that calls Run when Called, runtime the OCI
// runtime's own path. Installing again changes nothing, or where the links lead.
func Install(state, binary, runtime string) (string, error) {
	if err := os.MkdirAll(state, 0o711); err != nil {
		return "", fmt.Errorf("cannot make directory: %w", err)
	}
	front := filepath.Join(state, Name)
	for link, target := range map[string]string{filepath.Join(state, realName): runtime, front: binary} {
		if have, err := os.Readlink(link); err == nil && have == target {
			continue
		}
		beside := fmt.Sprintf("%s.%d", link, os.Getpid())
		if err := os.Symlink(target, beside); err != nil {
			return "", fmt.Errorf("cannot make link: %w", err)
		}
		if err := os.Rename(beside, link); err != nil {
			return "", fmt.Errorf("cannot make link: %w", err)
		}
	}
	return front, nil
}

// Write keeps a container's secret variables K=V until Remove. Dir must be in
// memory: the caller sees to that.
func Write(state, id string, env []string) error {
	dir := filepath.Join(Dir(state), id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make directory: %w", err)
	}
	text, err := json.Marshal(env)
	if err != nil {
		return fmt.Errorf("cannot encode secret variables: %w", err)
	}
	return replace(filepath.Join(dir, "env"), text)
}

// Names are the names of a container's secret variables; fs.ErrNotExist when it
// has no file.
func Names(state, id string) ([]string, error) {
	env, err := read(state, id)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(env))
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	return names, nil
}

// Remove forgets a container's variables. Absent ones are no error.
func Remove(state, id string) error {
	if err := os.RemoveAll(filepath.Join(Dir(state), id)); err != nil {
		return fmt.Errorf("cannot remove secret variables: %w", err)
	}
	return nil
}

// Containers are the IDs that variables are kept for.
func Containers(state string) ([]string, error) {
	entries, err := os.ReadDir(Dir(state))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list secret variables: %w", err)
	}
	ids := make([]string, 0, len(entries))
	for _, e := range entries {
		if e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// read reads a container's secret variables.
func read(state, id string) ([]string, error) {
	if !filepath.IsLocal(id) || strings.ContainsRune(id, filepath.Separator) {
		return nil, fmt.Errorf("invalid container ID %q", id)
	}
	text, err := os.ReadFile(filepath.Join(Dir(state), id, "env"))
	if err != nil {
		return nil, fmt.Errorf("cannot read secret variables: %w", err)
	}
	var env []string
	if err := json.Unmarshal(text, &env); err != nil {
		// The error's own words could hold a part of the text.
		return nil, errors.New("cannot decode secret variables")
	}
	return env, nil
}

// replace writes a file that is there whole or not at all. It needs no sync: it
// does not outlive the power either way.
func replace(path string, content []byte) error {
	if err := durable.ReplaceUnsynced(path, content, 0o600); err != nil {
		return fmt.Errorf("cannot write secret variables: %w", err)
	}
	return nil
}
