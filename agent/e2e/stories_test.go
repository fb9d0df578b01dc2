package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berthd/berth/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"push-image":  pushMain,
		"eventually":  eventuallyMain,
		"left-behind": leftBehindMain,
		"shut-in":     shutInMain,
		"aws-standin": standinMain,
		"log-server":  logServerMain,

		"try-examples": tryExamplesMain,
	})
}

// Stories with a containerd of their own: one stops and kills it, another fills
// its disk. Those of updates need further versions of the program.
const (
	restarting = "testdata/containerd.txtar"
	filling    = "testdata/watermark.txtar"
	updating   = "testdata/update.txtar"
	fetching   = "testdata/updatebucket.txtar"
)

// TestStories runs every story but those. They share a containerd, and some run at
// once.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	tell(t, slices.DeleteFunc(files, func(f string) bool { return slices.Contains([]string{restarting, filling, updating, fetching}, f) }), t.TempDir())
}

// TestContainerdRestarts runs the story that restarts containerd, with one of its
// own: the others must not notice.
func TestContainerdRestarts(t *testing.T) { tell(t, []string{restarting}, t.TempDir()) }

// TestDiskFills runs the story that fills the disk that images are kept on, with a
// small one.
func TestDiskFills(t *testing.T) {
	needPrograms(t)
	small := t.TempDir()
	if err := syscall.Mount("berth-story", small, "tmpfs", 0, "size=100m"); err != nil {
		t.Fatalf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(small, syscall.MNT_DETACH); err != nil {
			t.Errorf("cannot unmount %s: %v", small, err)
		}
	})
	tell(t, []string{filling}, small)
}

// tell runs stories on a containerd that is theirs, with its images below root, and
// with variables NAME=VALUE besides the usual ones.
func tell(t *testing.T, files []string, root string, env ...string) {
	t.Helper()
	needPrograms(t)
	binary, router := build(t)
	folder, err := filepath.Abs(examples)
	if err != nil {
		t.Fatal(err)
	}
	daemon := runtimetest.NewContainerdAt(t, "containerd", root)
	testscript.Run(t, testscript.Params{
		Files:               files,
		RequireExplicitExec: true,
		TestWork:            os.Getenv("BERTH_TEST_KEEP") != "",
		Setup: func(e *testscript.Env) error {
			s, err := newStage(e, binary, daemon.Address)
			if err != nil {
				return err
			}
			for _, v := range env {
				name, value, _ := strings.Cut(v, "=")
				e.Setenv(name, value)
			}
			e.Setenv("AGENT_CAPABILITIES", agentCapabilities(t))
			e.Setenv("ROUTER", router)
			e.Setenv("EXAMPLES", folder)
			e.Defer(func() { s.strike(t, e.T()) })
			e.Setenv("CONTAINERD_DIRS", strings.Join(daemon.Dirs(), " "))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"containerd": func(ts *testscript.TestScript, _ bool, args []string) {
				switch strings.Join(args, " ") {
				case "stop":
					daemon.Stop()
				case "kill":
					daemon.Kill()
				case "start":
					daemon.Start()
				default:
					ts.Fatalf("usage: containerd stop|kill|start")
				}
			},
		},
	})
}

// needPrograms skips where a story could not run, and says what is missing.
func needPrograms(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the stories make network namespaces and containers")
	}
	for _, program := range []string{"containerd", "runc", "ip", "nsenter", "nft", awsCLI, "jq", "curl", "busybox", "go"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: %v (make deps installs it)", program, err)
		}
	}
}

// awsCLI is Debian's, whatever else stands in PATH.
const awsCLI = "/usr/bin/aws"

// build builds the binary under test, and the log router, as berth is released:
// static.
func build(t *testing.T) (berth, router string) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", dir+"/",
		"github.com/berthd/berth/agent/cmd/berth", "github.com/berthd/berth/agent/e2e/router")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build berth: %v\n%s", err, out)
	}
	return filepath.Join(dir, "berth"), filepath.Join(dir, "router")
}

// write makes an executable shell script.
func writeScript(path, format string, args ...any) error {
	return os.WriteFile(path, []byte("#!/bin/sh\n"+fmt.Sprintf(format, args...)+"\n"), 0o755)
}
