package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/berthd/berth/runtime/runtimetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"push-image":  pushMain,
		"eventually":  eventuallyMain,
		"left-behind": leftBehindMain,
	})
}

// TestStories runs every story. They share one containerd, which they restart
// at will, so they run one after the other.
func TestStories(t *testing.T) {
	needPrograms(t)
	binary := build(t)
	daemon := runtimetest.NewContainerd(t, "containerd")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		TestWork:            os.Getenv("BERTH_TEST_KEEP") != "",
		Setup: func(e *testscript.Env) error {
			s, err := newStage(e, binary, daemon.Address)
			if err != nil {
				return err
			}
			e.Defer(func() { s.strike(t) })
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

// build builds the binary under test as it is released: static.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "berth")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, "github.com/berthd/berth/agent/cmd/berth")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build berth: %v\n%s", err, out)
	}
	return binary
}

// write makes an executable shell script.
func writeScript(path, format string, args ...any) error {
	return os.WriteFile(path, []byte("#!/bin/sh\n"+fmt.Sprintf(format, args...)+"\n"), 0o755)
}
