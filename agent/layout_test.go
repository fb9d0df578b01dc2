package agent_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/berthd/berth"

// topLevel are the directories of the repository's root: the layout is the
// owner's, and a newcomer finds the same few names every time.
var topLevel = []string{"agent", "ami", "ipam", "metrics", "packaging", "runtime"}

// doors are the foreign libraries that only some packages may import, so that a
// library can be replaced, and its habits are known in one place. The longest
// prefix that matches counts. "*" is any package but words. Tests, and packages
// for tests, may import what they like.
var doors = map[string][]string{
	"github.com/aws/":                        {"agent/awsapi"},
	"github.com/aws/aws-sdk-go-v2/aws":       {"agent/awsapi", "agent/localcluster", "runtime/logs/awslogs"}, // the second checks signatures
	"github.com/coder/websocket":             {"agent/control/ws", "agent/localcluster"},
	"github.com/containerd/":                 {"runtime/ctrd"},
	"github.com/containerd/fifo":             {"runtime/ctrd", "runtime/logs"},
	"github.com/coreos/go-systemd":           {"agent/systemd", "runtime/cgroups"},
	"github.com/godbus/dbus":                 {"agent/systemd", "runtime/cgroups"},
	"github.com/distribution/reference":      {"runtime/ctrd"},
	"github.com/docker/go-units":             {"agent/cli", "agent/control/acs"},
	"github.com/google/go-cmp":               {}, // tests only
	"github.com/google/go-containerregistry": {"agent/localcluster"},
	"github.com/google/nftables":             {"runtime/network", "runtime/vpc"},
	"github.com/mdlayher/netlink":            {"runtime/network"},
	"github.com/google/uuid":                 {"*"},
	"github.com/moby/sys":                    {"*"},
	"github.com/opencontainers/":             {"runtime/ctrd", "agent/localcluster"},
	"github.com/prometheus/":                 {"metrics/prom"},
	"github.com/rogpeppe/go-internal":        {}, // tests only
	"github.com/spf13/":                      {"agent/cli", "agent/cmd/berth"},
	"github.com/theupdateframework/go-tuf":   {"agent/update"},
	"github.com/vbauerster/mpb":              {"agent/cli"},
	"github.com/vishvananda/":                {"runtime/network", "runtime/vpc", "metrics/netns"},
	"go.etcd.io/bbolt":                       {"agent/store"},
	"go.uber.org/zap":                        {"*"},
	"golang.org/x/":                          {"*"},
	"google.golang.org/grpc":                 {"runtime/ctrd"},
	"google.golang.org/protobuf":             {"runtime/ctrd"},
	"tags.cncf.io/":                          {"runtime/ctrd"},
}

// grabBags are names that say nothing and so attract everything.
var grabBags = []string{"base", "common", "helper", "helpers", "misc", "shared", "types", "util", "utils"}

// A pkg is a package of the module as the go command sees it.
type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	Doc          string
	Imports      []string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string

	path string // without the module
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// packages are the module's, by path.
func packages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json", "./...")
	cmd.Dir = root(t)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list the packages: %v", err)
	}
	found := make(map[string]pkg)
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p.path = strings.TrimPrefix(p.ImportPath, module+"/")
		found[p.path] = p
	}
	if len(found) < 10 {
		t.Fatalf("the go command lists only %d packages", len(found))
	}
	return found
}

// letters are the packages on the map in doc.go with their letters.
func letters(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\t([a-z0-9/]+) +([A-Z])  (.+)$`)
	found := make(map[string]string)
	for _, m := range line.FindAllStringSubmatch(file.Doc.Text(), -1) {
		if found[m[1]] != "" {
			t.Errorf("agent/doc.go lists %s twice", m[1])
		}
		if !strings.Contains("WACRT", m[2]) {
			t.Errorf("agent/doc.go gives %s the letter %s, which is not explained", m[1], m[2])
		}
		found[m[1]] = m[2]
	}
	return found
}

// letterOf is the letter of a package; packages below agent/e2e share its one.
func letterOf(letters map[string]string, path string) string {
	if below(path, "agent/e2e") {
		path = "agent/e2e"
	}
	return letters[path]
}

// below says whether path is dir or lies in it.
func below(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func TestMapIsComplete(t *testing.T) {
	found, mapped := packages(t), letters(t)
	for path := range found {
		if path != "agent" && letterOf(mapped, path) == "" {
			t.Errorf("%s is not on the map: give it a line in agent/doc.go, so that a newcomer finds it", path)
		}
	}
	for path := range mapped {
		if _, ok := found[path]; !ok {
			t.Errorf("agent/doc.go lists %s, which does not exist: a map must not promise", path)
		}
	}
}

func TestPackagesAreDocumented(t *testing.T) {
	for path, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment: the first thing a reader looks for is what a package is", path)
		}
	}
}

func TestNamesSaySomething(t *testing.T) {
	for path := range packages(t) {
		for name := range strings.SplitSeq(path, "/") {
			if slices.Contains(grabBags, name) {
				t.Errorf("%s: %q says nothing and attracts everything; name it after what it does", path, name)
			}
		}
	}
}

func TestTopLevel(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && e.Name() != "dist" &&
			!slices.Contains(topLevel, e.Name()) {
			t.Errorf("/%s: the top level has %s and nothing else", e.Name(), strings.Join(topLevel, ", "))
		}
	}
}

// reach are the packages of ours that p imports, itself or through others, each
// with the chain that leads there.
func reach(all map[string]pkg, from string) map[string]string {
	chains := map[string]string{}
	var visit func(path, chain string)
	visit = func(path, chain string) {
		for _, imported := range all[path].Imports {
			next, ours := strings.CutPrefix(imported, module+"/")
			if !ours || chains[next] != "" {
				continue
			}
			chains[next] = chain + " → " + next
			visit(next, chains[next])
		}
	}
	visit(from, from)
	return chains
}

func TestImportsGoOneWay(t *testing.T) {
	all, mapped := packages(t), letters(t)
	for path := range all {
		letter := letterOf(mapped, path)
		for next, chain := range reach(all, path) {
			for _, rule := range broken(path, letter, next, letterOf(mapped, next)) {
				t.Errorf("%s: %s", chain, rule)
			}
		}
		for _, imported := range all[path].Imports {
			next, ours := strings.CutPrefix(imported, module+"/")
			if !ours || letter != "A" && letter != "C" {
				continue
			}
			if rule := neighbour(path, letter, next, letterOf(mapped, next)); rule != "" {
				t.Errorf("%s → %s: %s", path, next, rule)
			}
		}
	}
}

// broken are the rules that path breaks by reaching next, directly or not.
func broken(path, letter, next, nextLetter string) []string {
	var rules []string
	rule := func(violated bool, why string) {
		if violated {
			rules = append(rules, why)
		}
	}
	host := below(path, "runtime") || below(path, "ipam") || below(path, "metrics")
	rule(host && below(next, "agent"), "runtime, ipam and metrics serve the agent; they never import it")
	rule(letter == "W" && nextLetter != "W", "words import only words")
	rule(nextLetter == "T" && letter != "T", "what is for tests does not go into the binary")
	rule(nextLetter == "R" && letter != "R" && letter != "T", "only cmd and cli start the daemon")
	for _, adapter := range []string{"agent/wire", "agent/store", "agent/control", "runtime/ctrd", "runtime/network"} {
		rule(path == "agent/engine" && below(next, adapter), "the engine declares what it needs; the daemon hands it in")
	}
	rule(path == "agent/localcluster" && !below(next, "agent/wire"),
		"a server that shares the client's code cannot find the client's mistakes: wire only")
	return rules
}

// neighbour is the rule that path breaks by importing next itself, or "".
func neighbour(path, letter, next, nextLetter string) string {
	switch {
	case nextLetter == "W" || nextLetter == "T" || nextLetter == "R":
		return ""
	case letter == "C" && below(next, path):
		return ""
	case letter == "C":
		return "a conductor declares the interfaces it needs; the daemon hands the adapters in"
	case next == "agent/control/ws" && below(path, "agent/control"):
		return ""
	case next == "runtime/logs" && below(path, "runtime/logs"):
		return "" // a driver in a package of its own, because of its library
	}
	return "adapters do not import adapters: take an interface, or say it in words"
}

func TestForeignLibrariesHaveOneDoor(t *testing.T) {
	mapped := letters(t)
	for path, p := range packages(t) {
		for _, imported := range p.Imports {
			first, _, _ := strings.Cut(imported, "/")
			if !strings.Contains(first, ".") || below(imported, module) {
				continue
			}
			if letterOf(mapped, path) == "W" {
				t.Errorf("%s imports %s: words import the standard library and other words", path, imported)
				continue
			}
			if letterOf(mapped, path) == "T" {
				continue // what is for tests and tools knocks where it likes
			}
			prefix, allowed := doorOf(imported)
			open := slices.ContainsFunc(allowed, func(dir string) bool { return dir == "*" || below(path, dir) })
			switch {
			case prefix == "":
				t.Errorf("%s imports %s, which is new: give it a door in agent/layout_test.go", path, imported)
			case !open:
				t.Errorf("%s imports %s: its door is %v", path, imported, allowed)
			}
		}
	}
}

// doorOf finds the longest prefix in doors.
func doorOf(imported string) (prefix string, allowed []string) {
	for candidate, dirs := range doors {
		if strings.HasPrefix(imported, candidate) && len(candidate) > len(prefix) {
			prefix, allowed = candidate, dirs
		}
	}
	return prefix, allowed
}

// goFiles calls visit with each Go file of the repository, by its path in it.
func goFiles(t *testing.T, visit func(path string, content []byte)) {
	t.Helper()
	top := root(t)
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // an editor's file that came and went
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(top, path)
		visit(relative, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreNotLong(t *testing.T) {
	const limit = 600
	goFiles(t, func(path string, content []byte) {
		if lines := strings.Count(string(content), "\n"); lines > limit {
			t.Errorf("%s has %d lines: over %d a file is two nouns; split it", path, lines, limit)
		}
	})
}

// TestTestsDoNotSleep finds calls of time.Sleep in tests, but for files that use
// testing/synctest: there time is not real, and Sleep is how it passes.
func TestTestsDoNotSleep(t *testing.T) {
	goFiles(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, where := range sleeps(t, path, content) {
			t.Errorf("%s: a test that sleeps is slow or wrong; use testing/synctest, or wait for the event itself", where)
		}
	})
}

// sleeps are the places where a file calls time.Sleep outside of synctest.
func sleeps(t *testing.T, path string, content []byte) []string {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, content, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, imported := range file.Imports {
		if imported.Path.Value == `"testing/synctest"` {
			return nil
		}
	}
	var found []string
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if name, ok := call.X.(*ast.Ident); ok && name.Name == "time" && call.Sel.Name == "Sleep" {
			found = append(found, fmt.Sprint(files.Position(call.Pos())))
		}
		return true
	})
	return found
}

// TestRulesFire plants one violation of each rule of direction: a rule that
// cannot fail holds nothing.
func TestRulesFire(t *testing.T) {
	for _, planted := range []struct{ path, letter, next, nextLetter string }{
		{"runtime/ctrd", "A", "agent/task", "W"},
		{"ipam", "W", "agent/task", "W"},
		{"metrics/prom", "A", "agent/config", "W"},
		{"agent/task", "W", "agent/store", "A"},
		{"agent/store", "A", "runtime/runtimetest", "T"},
		{"agent/hostapi", "A", "agent/daemon", "R"},
		{"agent/engine", "C", "agent/wire/acs", "W"},
		{"agent/engine", "C", "agent/store", "A"},
		{"agent/engine", "C", "runtime/network", "A"},
		{"agent/engine", "C", "runtime/ctrd", "A"},
		{"agent/localcluster", "A", "agent/task", "W"},
		{"agent/localcluster", "A", "agent/control/ws", "A"},
	} {
		if len(broken(planted.path, planted.letter, planted.next, planted.nextLetter)) == 0 {
			t.Errorf("%s may import %s, and must not", planted.path, planted.next)
		}
	}
	for _, planted := range []struct{ path, letter, next, nextLetter string }{
		{"runtime/logs", "A", "runtime/ctrd", "A"},
		{"agent/engine", "C", "agent/systemd", "A"},
		{"agent/control", "C", "agent/awsapi", "A"},
		{"agent/hostapi", "A", "agent/control/ws", "A"},
	} {
		if neighbour(planted.path, planted.letter, planted.next, planted.nextLetter) == "" {
			t.Errorf("%s may import %s, and must not", planted.path, planted.next)
		}
	}
	for _, fine := range []struct{ path, letter, next, nextLetter string }{
		{"agent/control/acs", "A", "agent/control/ws", "A"},
		{"agent/control", "C", "agent/control/acs", "A"},
		{"agent/engine", "C", "runtime/container", "W"},
	} {
		rules := broken(fine.path, fine.letter, fine.next, fine.nextLetter)
		if why := neighbour(fine.path, fine.letter, fine.next, fine.nextLetter); why != "" || len(rules) > 0 {
			t.Errorf("%s must not import %s (%s %v), and may", fine.path, fine.next, why, rules)
		}
	}
	chains := reach(map[string]pkg{
		"a": {Imports: []string{module + "/b", "fmt"}},
		"b": {Imports: []string{module + "/c"}},
		"c": {Imports: []string{module + "/a"}},
	}, "a")
	if chains["c"] != "a → b → c" {
		t.Errorf("an import through another is not seen: %v", chains)
	}
	if prefix, allowed := doorOf("github.com/aws/aws-sdk-go-v2/aws/signer/v4"); len(allowed) != 3 {
		t.Errorf("the door of the signer is %s %v", prefix, allowed)
	}
	if found := sleeps(t, "x_test.go", []byte("package x\nfunc f() { time.Sleep(1) } // time.Sleep(2)\n")); len(found) != 1 {
		t.Errorf("a sleep is not seen once: %v", found)
	}
	bubble := "package x\nimport \"testing/synctest\"\nfunc f() { synctest.Test(t, func(*testing.T) { time.Sleep(1) }) }\n"
	if found := sleeps(t, "x_test.go", []byte(bubble)); len(found) != 0 {
		t.Errorf("time that is not real was taken for a sleep: %v", found)
	}
}
