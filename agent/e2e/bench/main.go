package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	berth    string
	json     bool
	starts   int
	rounds   int
	idle     time.Duration
	profiles string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is one of three processes: the one that was called, the first process of
// the namespaces it makes, and the one that measures in them.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	o, stage, err := parse(args[1:], progress)
	if err != nil {
		return err
	}
	switch stage {
	case "":
		return confine(ctx, o, args)
	case stageInit:
		return initProcess(args)
	default:
		return measureAll(ctx, o, out, progress)
	}
}

func parse(args []string, progress io.Writer) (o options, stage string, err error) {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(progress)
	f.StringVar(&o.berth, "berth", filepath.Join("bin", "berth"), "the binary to measure, stripped as it is released")
	f.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	f.IntVar(&o.starts, "n", 30, "how many tasks are started and stopped one after the other")
	f.IntVar(&o.rounds, "rounds", 3, "how many bursts of tasks, and how many restarts")
	f.DurationVar(&o.idle, "idle", 20*time.Second, "how long idle tasks are watched")
	f.StringVar(&o.profiles, "profile", "", "directory for CPU and heap profiles of the agent; empty takes none")
	f.StringVar(&stage, "stage", "", "for the command's own use")
	if err := f.Parse(args); err != nil {
		return o, "", err
	}
	if f.NArg() > 0 || o.starts < 1 || o.rounds < 1 || o.idle <= 0 {
		return o, "", errors.New("usage: bench [-berth FILE] [-json] [-n 30] [-rounds 3] [-idle 20s] [-profile DIR]")
	}
	if o.berth, err = filepath.Abs(o.berth); err != nil {
		return o, "", err
	}
	return o, stage, check(o)
}

// check says what is missing before anything is begun.
func check(o options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: it makes namespaces and containers")
	}
	if _, err := os.Stat(o.berth); err != nil {
		return fmt.Errorf("cannot measure (make build makes the binary): %w", err)
	}
	for _, program := range []string{"containerd", "runc", "ip", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("needs %s (make deps installs it): %w", program, err)
		}
	}
	return nil
}
