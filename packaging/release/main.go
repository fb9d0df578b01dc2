// Command release makes signing keys, and signs a directory of releases that hosts can be updated from (berth update --source). It needs
// no network; the directory may then be put on any web server, into a bucket, or on a share.
//
//	release keys KEYS                          make keys, a file each: 3 for root (2 have to sign), 2 for targets (both have to),
//	                                           one for snapshot and timestamp; root's belong in a safe
//	release root REPO KEYS [OLDKEYS]           say whose signatures count; with OLDKEYS, from now on others than before. The file
//	                                           that it names is what a package has as /usr/lib/berth/root.json
//	release show ROOT                          say whose signatures a root asks for; fails for one that hosts could not begin with
//	release add REPO VERSION PLATFORM PROGRAM  copy a program in, for linux-amd64 or linux-arm64
//	release publish REPO KEYS                  sign all that was added
//	release refresh REPO KEYS                  sign anew what expires within a week; for a timer on the machine that has these two keys
package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/berthd/berth/agent/update"
	"github.com/berthd/berth/agent/update/sign"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// errUsage is a command line that is not understood.
var errUsage = errors.New("usage: release keys KEYS | root REPO KEYS [OLDKEYS] | show ROOT | add REPO VERSION PLATFORM PROGRAM | publish REPO KEYS | refresh REPO KEYS")

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	verb, args := args[0], args[1:]
	switch {
	case verb == "keys" && len(args) == 1:
		return makeKeys(args[0])
	case verb == "root" && (len(args) == 2 || len(args) == 3):
		return root(args)
	case verb == "show" && len(args) == 1:
		return show(args[0])
	case verb == "add" && len(args) == 4:
		if err := update.CheckVersion(args[1]); err != nil {
			return err
		}
		return (&sign.Repository{Dir: args[0]}).Add(args[1], args[2], args[3])
	case (verb == "publish" || verb == "refresh") && len(args) == 2:
		repo, err := open(args[0], args[1])
		if err != nil {
			return err
		}
		if verb == "refresh" {
			return repo.Refresh()
		}
		return repo.Publish()
	}
	return errUsage
}

// numbers is how many keys a role has.
func numbers(role string) (keys, threshold int) {
	switch role {
	case "root":
		return 3, 2
	case "targets":
		return 2, 2
	}
	return 1, 1
}

func keyFile(dir, role string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("%s-%d.pem", role, n))
}

// makeKeys makes all keys. It does not write over any.
func makeKeys(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make directory: %w", err)
	}
	for _, role := range sign.Roles() {
		count, _ := numbers(role)
		for n := range count {
			key, err := sign.NewKey(rand.Reader)
			if err != nil {
				return err
			}
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				return fmt.Errorf("cannot encode key: %w", err)
			}
			f, err := os.OpenFile(keyFile(dir, role, n+1), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return fmt.Errorf("cannot write key: %w", err)
			}
			err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
			if err = errors.Join(err, f.Close()); err != nil {
				return fmt.Errorf("cannot write key: %w", err)
			}
		}
	}
	return nil
}

// open is a repository with the keys that are in dir. Not all have to be: root's are in a safe.
func open(repo, dir string) (*sign.Repository, error) {
	r := &sign.Repository{Dir: repo, Roles: map[string]sign.Role{}}
	for _, role := range sign.Roles() {
		count, threshold := numbers(role)
		made := sign.Role{Threshold: threshold}
		for n := range count {
			key, err := readKey(keyFile(dir, role, n+1))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			made.Keys = append(made.Keys, key)
		}
		r.Roles[role] = made
	}
	return r, nil
}

func readKey(path string) (ed25519.PrivateKey, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("cannot read key: %s has none", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read key %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("cannot use key %s: it is no ed25519 key", path)
	}
	return key, nil
}

// root writes the next root metadata and prints its path.
func root(args []string) error {
	repo, err := open(args[0], args[1])
	if err != nil {
		return err
	}
	var before []ed25519.PrivateKey
	if len(args) == 3 {
		old, err := open(args[0], args[2])
		if err != nil {
			return err
		}
		before = slices.Clone(old.Roles["root"].Keys)
	}
	for _, role := range sign.Roles() { // All of them are named in it, also those that do not sign it.
		if have, want := len(repo.Roles[role].Keys), repo.Roles[role].Threshold; have < want {
			return fmt.Errorf("cannot write root: %s has %d keys in %s, and needs %d", role, have, args[1], want)
		}
	}
	path, err := repo.WriteRoot(before...)
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}

// errExpired: a host could begin with it, but would not believe anything until its owner signs the next.
var errExpired = errors.New("it has expired: release root writes the next one")

// show says what a root asks for.
func show(path string) error {
	r, err := sign.ReadRoot(path)
	if err != nil {
		return err
	}
	fmt.Printf("root %d, until %s:", r.Version, r.Expires.Format(time.DateOnly))
	for _, role := range sign.Roles() {
		fmt.Printf(" %s %d of %d", role, r.Threshold[role], r.Keys[role])
	}
	fmt.Println()
	if time.Now().After(r.Expires) {
		return fmt.Errorf("cannot use %s: %w", path, errExpired)
	}
	return nil
}
