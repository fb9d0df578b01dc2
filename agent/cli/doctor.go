package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
)

// verdict is how a check came out.
type verdict string

const (
	good verdict = "OK"
	// poor works, but not as it should, or not for long.
	poor verdict = "WARN"
	// bad keeps tasks from running.
	bad verdict = "FAIL"
)

// finding is the outcome of one check.
type finding struct {
	Check  string  `json:"check"`
	Status verdict `json:"status"`
	Why    string  `json:"why"`
	Mend   string  `json:"mend,omitempty"` // a command to run, or the exact thing to change
}

func pass(why string, args ...any) finding {
	return finding{Status: good, Why: fmt.Sprintf(why, args...)}
}

func warn(mend, why string, args ...any) finding {
	return finding{Status: poor, Why: fmt.Sprintf(why, args...), Mend: mend}
}

func fail(mend, why string, args ...any) finding {
	return finding{Status: bad, Why: fmt.Sprintf(why, args...), Mend: mend}
}

// patient is the host as the checks see it; tests give another root directory and other answers.
type patient struct {
	root    string // put before every path below /proc, /sys, /etc and kin
	uid     int
	now     time.Time
	file    string // settings file, empty for the default
	env     []string
	client  *hostapi.Client
	config  config.Config
	statfs  func(path string) (unix.Statfs_t, error)
	adjtime func() (synced bool, err error)
	nftable func() error
}

func (p *patient) path(name string) string { return filepath.Join(p.root, name) }

func (p *patient) read(name string) (string, error) {
	text, err := os.ReadFile(p.path(name))
	return string(text), err
}

func (p *patient) exists(name string) bool {
	_, err := os.Stat(p.path(name))
	return err == nil
}

// check is one thing to look at.
type check struct {
	name string
	look func(context.Context, *patient) finding
}

// checks lists them in the order in which a person would mend things.
func checks() []check {
	return []check{
		{"root", checkRoot},
		{"settings", checkSettings},
		{"group", checkGroup},
		{"containerd", checkContainerd},
		{"runc", checkRunc},
		{"overlayfs", checkOverlay},
		{"cgroups", checkCgroups},
		{"nftables", checkNftables},
		{"ip_forward", checkForward},
		{"bridge subnet", checkSubnet},
		{"reserved ports", checkReserved},
		{"other agents", checkOthers},
		{"data disk", func(_ context.Context, p *patient) finding { return checkDisk(p, p.config.Paths.Data) }},
		{"image disk", func(_ context.Context, p *patient) finding { return checkDisk(p, "/var/lib/containerd") }},
		{"clock", checkClock},
		{"unit", checkUnit},
		{"updates", checkUpdates},
		{"log process", checkLogs},
		{"agent", checkAgent},
		{"connections", checkConnections},
	}
}

func (a *app) doctor() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what this host lacks, and say how to mend it",
		Long: `Check what this host needs to run tasks. Each line says OK, WARN or FAIL and why; below a WARN or FAIL
stands the command that mends it. Exits with 1 if anything is FAIL. It changes nothing: where containers
have to reach something, the agent looks from a network namespace like theirs, which it makes for that and
removes again.`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.report(examine(cmd.Context(), a.patient(file)))
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	return cmd
}

// patient is this host.
func (a *app) patient(file string) *patient {
	return &patient{
		root: "/", uid: os.Geteuid(), now: a.now(), file: file, env: a.env, client: a.client(),
		statfs: statfs, adjtime: clockSynced, nftable: nftablesAnswer,
	}
}

// examine runs all checks. Settings that cannot be loaded are one of the findings; the other checks then go by the defaults.
func examine(ctx context.Context, p *patient) []finding {
	c, _, err := config.Load(config.Options{File: p.file, Environ: p.env})
	if err != nil {
		// The defaults alone cannot be invalid.
		c, _, err = config.Load(config.Options{File: os.DevNull, JSONFile: os.DevNull, Environ: []string{}})
		if err != nil {
			return []finding{{Check: "settings", Status: bad, Why: err.Error()}}
		}
	}
	p.config = c
	var out []finding
	for _, one := range checks() {
		f := one.look(ctx, p)
		f.Check = one.name
		out = append(out, f)
	}
	return append(out, checkFromWithin(ctx, p)...)
}

func (a *app) report(all []finding) error {
	failed := false
	for _, f := range all {
		failed = failed || f.Status == bad
	}
	err := a.print(all, func(w io.Writer) error {
		var rows [][]string
		for _, f := range all {
			rows = append(rows, []string{string(f.Status), f.Check, f.Why})
			if f.Status != good && f.Mend != "" {
				rows = append(rows, []string{"", "", "→ " + f.Mend})
			}
		}
		return table(w, rows)
	})
	if err == nil && failed {
		return &exitError{code: ExitFailure}
	}
	return err
}

func statfs(path string) (unix.Statfs_t, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return s, fmt.Errorf("cannot look at file system of %s: %w", path, err)
	}
	return s, nil
}

// clockSynced asks the kernel, which every time daemon tells.
func clockSynced() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, fmt.Errorf("cannot read state of clock: %w", err)
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}
