package fakert_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/berthd/berth/runtime/container"
	"github.com/berthd/berth/runtime/fakert"
	"github.com/berthd/berth/runtime/runtimetest"
)

// TestConformance lets the fake pass the suite that containerd passes.
func TestConformance(t *testing.T) {
	runtimetest.Run(t, runtimetest.Harness{
		New: func(*testing.T) container.Runtime {
			return fakert.New(fakert.Config{Image: image, Container: script})
		},
		Image:   "registry.test/busybox:1",
		Missing: "registry.test/missing:1",
	})
}

func image(req container.PullRequest) fakert.Image {
	if strings.Contains(req.Ref, "missing") {
		return fakert.Image{ResolveErr: fmt.Errorf("%s: %w", req.Ref, container.ErrNotFound)}
	}
	return fakert.Image{}
}

func script(spec container.Spec) fakert.Script {
	s := fakert.Script{Exec: execute}
	var code int
	act := spec.Labels[runtimetest.ActLabel]
	switch _, err := fmt.Sscanf(act, "exit %d", &code); {
	case err == nil:
		s.ExitAfter, s.ExitCode = 1, code
	case act == "deaf":
		s.IgnoreTerm = true
	}
	return s
}

// execute stands for the programs of busybox that the suite runs.
func execute(ctx context.Context, req container.ExecRequest) (int, error) {
	line := strings.Join(req.Args, " ")
	var code int
	switch {
	case line == "cat":
		_, err := io.Copy(req.Stdout, req.Stdin)
		return 0, err
	case strings.Contains(line, "sleep"):
		<-ctx.Done()
		return 137, nil
	}
	if _, err := fmt.Sscanf(line, "sh -c exit %d", &code); err != nil {
		return 0, nil //nolint:nilerr // any other program succeeds
	}
	return code, nil
}
