package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// sideBySide is how many examples are tried at once.
	sideBySide = 4
	// examplePatience is how long one may take.
	examplePatience = slack * 90 * time.Second
)

// tryExamplesMain is the program try-examples DIR [NAME…]: it gives the examples in
// DIR, or the named ones, to berth run, and says what becomes of each. It fails if
// that is not the verdict.
func tryExamplesMain() {
	if err := tryExamples(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "try-examples:", err)
		os.Exit(1)
	}
}

func tryExamples(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: try-examples DIR [NAME…]")
	}
	expected, names := verdicts(), args[1:]
	if len(names) == 0 {
		for name := range expected {
			names = append(names, name)
		}
	}
	group := new(errgroup.Group)
	group.SetLimit(sideBySide)
	wrong := make([]error, len(names))
	for i, name := range names {
		group.Go(func() error {
			begun := time.Now()
			outcome, err := tryExample(filepath.Join(args[0], name+".json"), 20000+20*i)
			switch {
			case err != nil:
				wrong[i] = fmt.Errorf("%s: %w", name, err)
			case (expected[name] == runs) != (outcome == runs) || !strings.Contains(outcome, expected[name]):
				wrong[i] = fmt.Errorf("%s: it is refused with %q, want %q", name, outcome, expected[name])
			case outcome == runs:
				fmt.Printf("%s runs (%.1fs)\n", name, time.Since(begun).Seconds())
			default:
				fmt.Printf("%s is refused: %s\n", name, outcome)
			}
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(wrong...))
}

// tryExample runs a task definition until all its containers have run, and stops
// it. The outcome is "", or the text of the refusal.
func tryExample(file string, port int) (outcome string, err error) {
	d, err := readExample(file)
	if err != nil {
		return "", err
	}
	work := os.Getenv("WORK")
	localised(d, port, filepath.Join(work, "host"))
	text, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), examplePatience, errors.New("it takes too long"))
	defer cancel()
	cmd := exec.CommandContext(ctx, "berth", "run", "--json", "-")
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(text), &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	ran, reason, readErr := watchExample(out, len(d.ContainerDefinitions), func() error { return cmd.Process.Signal(syscall.SIGINT) })
	ended := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("%w: %s", context.Cause(ctx), errs.String())
	case readErr != nil:
		return "", readErr
	case ran && reason == "":
		return runs, nil
	case ended == nil:
		return "", errors.New("it ended well, and not all of its containers ran")
	}
	return strings.TrimSpace(reason + " " + errs.String()), nil
}

// exampleEvent is what of a line of berth run --json is looked at.
type exampleEvent struct {
	Event     string            `json:"event"`
	Container *exampleContainer `json:"container"`
	Task      *struct {
		Reason     string             `json:"reason"`
		Containers []exampleContainer `json:"containers"`
	} `json:"task"`
}

type exampleContainer struct {
	Name      string     `json:"name"`
	Status    string     `json:"status"`
	Internal  bool       `json:"internal"`
	ExitCode  *int       `json:"exitCode"`
	Reason    string     `json:"reason"`
	StartedAt *time.Time `json:"startedAt"`
}

// watchExample reads what happens to a task, and stops it once all its containers
// have run. ran says that they did; reason has why one of them did not.
func watchExample(out io.Reader, containers int, stop func() error) (ran bool, reason string, err error) {
	started := map[string]bool{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e exampleEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return false, "", fmt.Errorf("%w: %s", err, lines.Text())
		}
		if c := e.Container; c != nil && !c.Internal && (c.Status == "RUNNING" || c.ExitCode != nil) && !started[c.Name] {
			started[c.Name] = true
			if len(started) == containers {
				if err := stop(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					return false, "", err
				}
			}
		}
		if e.Event == "result" && e.Task != nil {
			reason = e.Task.Reason
			for _, c := range e.Task.Containers {
				reason = strings.TrimSpace(reason + " " + c.Reason)
			}
		}
	}
	return len(started) == containers, reason, lines.Err()
}
