package packaging_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berthd/berth/agent/cli"
	"github.com/berthd/berth/agent/update/sign"
)

// packages are those of one version, built for this machine's architecture.
type packages struct{ dir, deb, rpm string }

// built has each version's packages, once for all tests. TestMain removes them.
var built = struct {
	mu       sync.Mutex // guards the rest
	dir      string
	owner    owner // whose releases they believe
	versions map[string]packages
}{versions: map[string]packages{}}

func TestMain(m *testing.M) {
	for name, program := range map[string]func(string) error{pushName: pushImage, loadName: bear} {
		if argument := os.Getenv(name); argument != "" {
			if err := program(argument); err != nil {
				_, _ = fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// build builds the packages of a version as make release does, once.
func build(t *testing.T, version string) packages {
	t.Helper()
	built.mu.Lock()
	defer built.mu.Unlock()
	if p, ok := built.versions[version]; ok {
		return p
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "berth-packages-")
		if err != nil {
			t.Fatal(err)
		}
		built.dir, built.owner = dir, newOwner(t, dir)
	}
	nfpm := nfpmPath(t)
	if version != "1.0.0" {
		nfpm = hurriedNFPM(t, "deb", "rpm")
	}
	p := buildIn(t, nfpm, filepath.Join(built.dir, version), version)
	built.versions[version] = p
	return p
}

// hurriedNFPM is an nfpm that does not press hard, for packages that are there to be installed once. It makes only what is wanted.
func hurriedNFPM(t *testing.T, wanted ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nfpm")
	script := fmt.Sprintf("#!/bin/sh\n# package --config FILE --packager FORMAT --target DIR\ncase ' %s ' in *\" $5 \"*) ;; *) exit 0 ;; esac\n"+
		"sed -i 's/compression: xz/compression: gzip/' \"$3\" && exec %s \"$@\"\n", strings.Join(wanted, " "), nfpmPath(t))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func buildIn(t *testing.T, nfpm, dir, version string) packages {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "./build.sh", "--nfpm", nfpm, "--out", dir, "--version", version,
		"--root", built.owner.root, "--repo", filepath.Join(dir, "releases"), runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build packages: %v\n%s", err, out)
	}
	one := func(pattern string) string {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v %v", pattern, found, err)
		}
		return found[0]
	}
	return packages{dir: dir, deb: one("*.deb"), rpm: one("*.rpm")}
}

func nfpmPath(t *testing.T) string {
	t.Helper()
	path := os.Getenv("BERTH_TEST_NFPM")
	if path == "" {
		t.Skip("needs nfpm in BERTH_TEST_NFPM (make test builds it)")
	}
	return path
}

// output runs a program of the host and answers what it printed.
func output(t *testing.T, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s: %v (make deps installs it)", program, err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s%s", program, args, err, out, stderr.Bytes())
	}
	return string(out)
}

// unpack takes a .deb apart: the files below dir, and the scripts in dir/DEBIAN.
func unpack(t *testing.T, deb string) string {
	t.Helper()
	dir := t.TempDir()
	output(t, "dpkg-deb", "--raw-extract", deb, dir)
	return dir
}

func TestPackagesAreReproducible(t *testing.T) {
	first := build(t, "1.0.0")
	again := buildIn(t, nfpmPath(t), t.TempDir(), "1.0.0")
	for _, pair := range [][2]string{{first.deb, again.deb}, {first.rpm, again.rpm}} {
		a, err := os.ReadFile(pair[0])
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(pair[1])
		if err != nil {
			t.Fatal(err)
		}
		if sha256.Sum256(a) != sha256.Sum256(b) {
			t.Errorf("%s is another when it is built again", filepath.Base(pair[0]))
		}
	}
	if host := output(t, "rpm", "-qp", "--queryformat", "%{BUILDHOST} %{BUILDTIME}", first.rpm); !strings.HasPrefix(host, "localhost ") {
		t.Errorf("the rpm says where it was built: %s", host)
	}
}

// Every exception is in lintian/berth, with its reason. Errors, warnings and whatever lintian cannot explain fail.
func TestLintianIsSilent(t *testing.T) {
	if out := output(t, "lintian", "--allow-root", "--fail-on", "error,warning", build(t, "1.0.0").deb); strings.TrimSpace(out) != "" {
		t.Errorf("lintian says:\n%s", out)
	}
	text, err := os.ReadFile("lintian/berth")
	if err != nil {
		t.Fatal(err)
	}
	reason := false
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") && !reason {
			t.Errorf("an exception without a reason: %s", line)
		}
		reason = strings.HasPrefix(line, "#")
	}
}

func TestRPMIsWellFormed(t *testing.T) {
	p := build(t, "1.0.0")
	if out := output(t, "rpm", "-K", "--nosignature", p.rpm); !strings.HasSuffix(strings.TrimSpace(out), "digests OK") {
		t.Errorf("rpm -K: %s", out)
	}
	// rpm would call what is not there on the host that installs it.
	scripts := output(t, "rpm", "-qp", "--scripts", p.rpm)
	for _, want := range []string{"postinstall", "preuninstall", "postuninstall"} {
		if !strings.Contains(scripts, want) {
			t.Errorf("there is no %s script:\n%s", want, scripts)
		}
	}
	if changes := output(t, "rpm", "-qp", "--changelog", p.rpm); !strings.Contains(changes, "1.0.0") {
		t.Errorf("the changelog says %q", changes)
	}
}

// The two packages have the same files, but for where each distribution has its own.
func TestPackagesHaveTheSameFiles(t *testing.T) {
	p := build(t, "1.0.0")
	rename := strings.NewReplacer("/zsh/site-functions/", "/zsh/vendor-completions/")
	var inRPM, inDeb []string
	for path := range strings.FieldsSeq(output(t, "rpm", "-qpl", p.rpm)) {
		inRPM = append(inRPM, rename.Replace(path))
	}
	dir := unpack(t, p.deb)
	walk(t, dir, func(path string) {
		inDeb = append(inDeb, strings.TrimPrefix("/usr"+strings.TrimPrefix(path, "/usr"), ""))
	})
	own := regexp.MustCompile(`^/usr/share/(doc|lintian|licenses)/|^/usr/(lib|share)/berth(/package)?$`)
	filter := func(paths []string) []string {
		paths = slices.DeleteFunc(paths, own.MatchString)
		slices.Sort(paths)
		return paths
	}
	inRPM, inDeb = filter(inRPM), filter(inDeb)
	if !slices.Equal(inRPM, inDeb) {
		t.Errorf("only in one:\nrpm %v\ndeb %v", inRPM, inDeb)
	}
}

// walk calls visit with every file below dir that a package installs.
func walk(t *testing.T, dir string, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(path, filepath.Join(dir, "DEBIAN")) {
			return err
		}
		visit(strings.TrimPrefix(path, dir))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The program in the package is what the tests know: its verbs have pages, its unit files are installed, and it is static.
func TestPackageIsComplete(t *testing.T) {
	p := build(t, "1.0.0")
	dir := unpack(t, p.deb)
	var files []string
	walk(t, dir, func(path string) { files = append(files, path) })
	for _, verb := range cli.Verbs() {
		section := "1"
		if verb == "agent" || verb == "logd" {
			section = "8"
		}
		if page := "/usr/share/man/man" + section + "/berth-" + verb + "." + section + ".gz"; verb != "init" && !slices.Contains(files, page) {
			t.Errorf("there is no %s", page)
		}
	}
	units, err := filepath.Glob("systemd/*[a-z].s[el]*e")
	if err != nil || len(units) < 5 {
		t.Fatalf("units: %v %v", units, err)
	}
	for _, unit := range units {
		if path := "/lib/systemd/system/" + filepath.Base(unit); !slices.Contains(files, path) {
			t.Errorf("%s is not in the package", path)
		}
	}
	for _, path := range []string{"/usr/lib/sysusers.d/berth.conf", "/usr/lib/tmpfiles.d/berth.conf", "/usr/lib/sysctl.d/10-berth.conf"} {
		if !slices.Contains(files, path) {
			t.Errorf("%s is not in the package", path)
		}
	}
	if link, err := os.Readlink(filepath.Join(dir, binary)); link != "../lib/berth/current/berth" {
		t.Errorf("%s leads to %s (%v)", binary, link, err)
	}
	if root, err := sign.ReadRoot(filepath.Join(dir, "/usr/lib/berth/root.json")); err != nil || root.Version != 1 || len(root.Keys) != 4 {
		t.Errorf("the root of trust is %+v (%v)", root, err)
	}
	program := filepath.Join(dir, "/usr/lib/berth/package/berth")
	if got := output(t, program, "version"); !strings.HasPrefix(got, "berth 1.0.0 (") {
		t.Errorf("the program says it is %s", got)
	}
	if said := output(t, "file", "--brief", program); !strings.Contains(said, "statically linked") || !strings.Contains(said, "stripped") || strings.Contains(said, "not stripped") {
		t.Errorf("the program is: %s", said)
	}
	if info, err := os.Stat(program); err != nil || info.Size() > 45e6 {
		t.Errorf("the program has %d bytes (%v)", info.Size(), err)
	}
	// Nothing in it is of whoever built it.
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	// What is signed for updates is the same program.
	if _, err := os.Stat(filepath.Join(p.dir, fmt.Sprintf("releases/targets/1.0.0/linux-%s/%x.berth", runtime.GOARCH, sha256.Sum256(text)))); err != nil {
		t.Errorf("the program to sign is another: %v", err)
	}
	own, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte(own+"/agent")) {
		t.Errorf("the program names %s", own)
	}
}

// Pages have no mistakes that a formatter would stumble over, and name every verb and setting they are of.
func TestManPages(t *testing.T) {
	dir := unpack(t, build(t, "1.0.0").deb)
	pages, err := filepath.Glob(filepath.Join(dir, "usr/share/man/man?/*.gz"))
	if err != nil || len(pages) < len(cli.Verbs()) {
		t.Fatalf("pages: %v %v", pages, err)
	}
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skipf("needs groff: %v (make deps installs it)", err)
	}
	for _, page := range pages {
		ctx, cancel := context.WithCancelCause(t.Context())
		cmd := exec.CommandContext(ctx, "sh", "-c", `zcat "$1" | groff -man -ww -z -Kutf8`, "sh", page)
		out, err := cmd.CombinedOutput()
		cancel(nil)
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(page), err, out)
		}
	}
}

// What hosts could not begin with gets into no package.
func TestWrongRootIsNotPackaged(t *testing.T) {
	out := t.TempDir()
	for _, wrong := range []string{"nfpm.yaml", filepath.Join(out, "nothing.json"), ""} {
		cmd := exec.CommandContext(t.Context(), "./build.sh", "--out", out, "--version", "1.0.0", "--root", wrong)
		if said, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(said, []byte("root")) {
			t.Errorf("%q: %v: %s", wrong, err, said)
		}
	}
}
