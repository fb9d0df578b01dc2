package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/sys/mountinfo"

	"github.com/berthd/berth/agent/e2e/image"
	"github.com/berthd/berth/runtime/ctrd"
)

// pushMain is the program push-image REF [CONFIG.json [PROGRAM…]]: it pushes an
// image made of the host's static busybox, with the image configuration given, and
// programs of the host.
func pushMain() {
	if err := push(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "push-image:", err)
		os.Exit(1)
	}
}

func push(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: push-image REF [CONFIG.json [PROGRAM…]]")
	}
	config := v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}
	if len(args) > 1 {
		data, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &config); err != nil {
			return err
		}
	}
	return image.Push(args[0], config, args[min(2, len(args)):]...)
}

// slack is how much slower than ours a machine may be at a bad moment. A story says
// how long something takes; only a wait that fails takes longer for it.
const slack = 5

// eventuallyMain is the program eventually DURATION REGEXP COMMAND…: it runs the
// command until it succeeds with output that matches, and prints that.
func eventuallyMain() {
	if err := eventually(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "eventually:", err)
		os.Exit(1)
	}
}

func eventually(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: eventually DURATION REGEXP COMMAND…")
	}
	patience, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	want, err := regexp.Compile("(?ms)" + args[1])
	if err != nil {
		return err
	}
	patience *= slack
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, errors.New("out of patience"))
	defer cancel()
	var last []byte
	end := "there was none"
	// Those who wait leave the processors to those who work.
	for pause := 50 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 400*time.Millisecond) {
		var errs bytes.Buffer
		cmd := exec.CommandContext(ctx, args[2], args[3:]...)
		cmd.Stderr, cmd.WaitDelay = &errs, 10*time.Second
		out, err := cmd.Output()
		if err == nil && want.Match(out) {
			_, err := os.Stdout.Write(out)
			return err
		}
		if ctx.Err() == nil {
			last, end = append(out, errs.Bytes()...), "it succeeded"
			if err != nil {
				end = err.Error()
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return fmt.Errorf("not within %s: %v matches %q; the last answer (%s):\n%s", patience, args[2:], args[1], end, last)
}

// leftBehindMain is the program left-behind: it says what the story's agent left
// on the host, and fails if that is anything.
func leftBehindMain() {
	left, err := leftBehind(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "left-behind:", err)
		os.Exit(2)
	}
	for _, what := range left {
		fmt.Println(what)
	}
	if len(left) > 0 {
		os.Exit(1)
	}
}

func leftBehind(ctx context.Context) ([]string, error) {
	run, stageName, work := os.Getenv("RUN"), os.Getenv("STAGE"), os.Getenv("WORK")
	var left []string
	rt, err := ctrd.New(ctrd.Config{Address: os.Getenv("BERTH_CONTAINERD_ADDRESS"), Namespace: stageName, StateDir: filepath.Join(run, "look")})
	if err != nil {
		return nil, err
	}
	defer func() { _ = rt.Close() }()
	containers, err := rt.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		left = append(left, "container "+c.ID)
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(run))
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		left = append(left, "mount "+m.Mountpoint)
	}
	for kind, pattern := range map[string]string{
		"network namespace": "/netns/*", "name files": "/net/*", "log pipes": "/logs/*",
	} {
		paths, err := filepath.Glob(run + pattern)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			left = append(left, kind+" "+p)
		}
	}
	out, err := exec.CommandContext(ctx, "ip", "-n", stageName, "-o", "link", "show", "type", "veth").Output()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		left = append(left, "link "+strings.TrimSpace(line))
	}
	for _, dir := range taskCgroups(work) {
		left = append(left, "cgroup "+dir)
	}
	return left, nil
}
