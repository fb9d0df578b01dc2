package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/systemd"
	"github.com/berthd/berth/agent/update"
)

// agentUnit is the agent where systemd runs it.
const agentUnit = "berth.service"

// updateFlags are those of berth update.
type updateFlags struct {
	file, source, to      string
	check, rollback, stay bool
	// What units, packages and the agent use.
	guard, sha256    string
	stageOnly, prove bool
}

func (a *app) update() *cobra.Command {
	var f updateFlags
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Replace this program by another version, and take that back if it is no good",
		Long: `Fetch a signed release, verify it, put it in the place of this version, restart the agent, and wait until it
has proved itself: containerd answers, every task that ran is taken over, ACS is connected, metrics flow, and the
log process is of the new version. If that is not so in time (BERTH_UPDATE_DEADLINE), or the new version cannot even
start, this version comes back by itself. Tasks, their connections and their logs go on all the while.

Releases come from BERTH_UPDATE_SOURCE in ` + config.DefaultFile + `, or from --source: https://HOST/PATH,
s3://BUCKET/PREFIX, or a directory. They are believed if those have signed them whom the package's root.json names, or
another one in BERTH_UPDATE_ROOT.

A version that came back is not the newest any more; --to tries it again. ECS can order an update too: aws ecs
update-container-agent. Hosts that it is ordered of at one moment take turns, within BERTH_UPDATE_SPREAD (30s).`,
		Example: `  berth update --check            is there a newer release
  berth update                    update to it
  berth update --to 1.4.2         to that one, which may be older
  berth update --rollback         to the version before this one`,
		Args: args(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.check && f.rollback || f.rollback && f.to != "" {
				return usage("--check, --rollback and --to do not go together")
			}
			return a.runUpdate(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.file, "config", "", "`path` of the settings file (default "+config.DefaultFile+")")
	flags.StringVar(&f.source, "source", "", "`place` of the releases (default BERTH_UPDATE_SOURCE)")
	flags.StringVar(&f.to, "to", "", "`version` to update to (default the newest)")
	flags.BoolVar(&f.check, "check", false, "say what there is, and how the last update went; change nothing")
	flags.BoolVar(&f.rollback, "rollback", false, "go back to the version before this one")
	flags.BoolVar(&f.stay, "no-restart", false, "leave the restart of the agent to somebody else, and do not wait for it")
	// What units, packages and the agent itself call.
	flags.StringVar(&f.guard, "guard", "", "look on: start before the agent starts, stop after it has ended")
	flags.BoolVar(&f.prove, "prove", false, "have the current version prove itself, after a package has switched to it")
	flags.BoolVar(&f.stageOnly, "stage-only", false, "fetch and verify, and no more")
	flags.StringVar(&f.sha256, "sha256", "", "the release with that `hash`, or else the newest")
	for _, name := range []string{"guard", "prove", "stage-only", "sha256"} {
		if err := flags.MarkHidden(name); err != nil {
			panic(err) // A name that is not above.
		}
	}
	return cmd
}

// runUpdate does what the flags say.
func (a *app) runUpdate(ctx context.Context, f updateFlags) error {
	c, _, err := config.Load(config.Options{File: f.file, Environ: a.env})
	if err != nil && f.guard == "" {
		return err // But a new version that cannot read the settings is looked on nevertheless, by the defaults.
	}
	in, err := findInstall()
	if err != nil {
		return err
	}
	if f.source != "" {
		c.Agent.UpdateSource = f.source
	}
	u, _, err := a.updater(&c, in)
	if err != nil {
		return err
	}
	switch {
	case f.guard != "":
		return a.guard(ctx, u, f.guard)
	case f.check:
		return a.checkUpdate(ctx, u)
	case f.prove:
		return u.Prove(a.before(ctx))
	case f.stageOnly:
		staged, err := u.Stage(ctx, update.Choice{Version: f.to, SHA256: f.sha256})
		if err != nil {
			return err
		}
		return a.print(staged, func(w io.Writer) error { return say(w, "version %s is here", staged.Version) })
	}
	version, err := a.change(ctx, u, f)
	if errors.Is(err, update.ErrNewest) && f.to == "" && !f.rollback {
		return say(a.Out, "%v", err)
	}
	if err != nil {
		return err
	}
	return a.settle(ctx, u, &c, version, f.stay)
}

// change makes another version current and answers which.
func (a *app) change(ctx context.Context, u *update.Updater, f updateFlags) (string, error) {
	if f.rollback {
		return u.Rollback(a.before(ctx))
	}
	staged, err := u.Stage(ctx, update.Choice{Version: f.to})
	if err != nil {
		return "", err
	}
	return staged.Version, u.Switch(staged.Version, a.before(ctx))
}

// before is how the host is now, if the agent can say.
func (a *app) before(ctx context.Context) update.Before {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errors.New("the agent does not answer"))
	defer cancel()
	var b update.Before
	if status, err := a.client().Status(ctx); err == nil {
		for _, c := range status.Connections {
			b.Connected = b.Connected || c.Name == "acs" && c.Connected
		}
	}
	if tasks, err := a.client().Tasks(ctx); err == nil {
		for _, t := range tasks {
			if t.KnownStatus != "STOPPED" && t.DesiredStatus != "STOPPED" {
				b.Tasks = append(b.Tasks, t.ID)
			}
		}
	}
	return b
}

// settle restarts the agent and waits until the update has ended, one way or the other.
func (a *app) settle(ctx context.Context, u *update.Updater, c *config.Config, version string, stay bool) error {
	if stay || !systemd.Booted() {
		return say(a.Out, "version %s is current; the agent is to be restarted", version)
	}
	if err := systemd.RestartUnit(ctx, agentUnit); err != nil {
		return err
	}
	if err := say(a.Out, "version %s is started and has to prove itself", version); err != nil {
		return err
	}
	// The guard needs longer than the gate: systemd gives a start five minutes.
	ctx, cancel := context.WithTimeoutCause(ctx, c.Agent.UpdateDeadline+10*time.Minute, errors.New("nobody says how the update went; journalctl -u "+agentUnit))
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		s, err := u.Outcome()
		if err != nil {
			return err
		}
		switch s.Phase {
		case update.Confirmed:
			return say(a.Out, "updated from %s to %s in %s", s.From, s.To, s.Took().Round(100*time.Millisecond))
		case update.Returned:
			return fmt.Errorf("cannot update to version %s, %s is back: %s; berth update --to %[1]s tries it again", s.To, s.From, s.Reason)
		case update.Switched:
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// guard looks on for the unit of the agent.
func (a *app) guard(ctx context.Context, u *update.Updater, when string) error {
	switch when {
	case "start":
		r, returned, err := u.GuardStart()
		if err != nil || !returned {
			return err
		}
		return say(a.Err, "berth: version %s is started again: %s", r.From, r.Reason)
	case "stop":
		env := a.env
		if env == nil {
			env = config.Environ()
		}
		r, returned, err := u.GuardStop(update.Stopped{
			Result: variable(env, "SERVICE_RESULT"), Code: variable(env, "EXIT_CODE"), Status: variable(env, "EXIT_STATUS"),
		})
		if err != nil || !returned {
			return err
		}
		if err := say(a.Err, "berth: version %s is back: %s", r.From, r.Reason); err != nil || !systemd.Booted() {
			return err
		}
		// After exit code 5 systemd would not start it. Nor would it for a start that is asked for now, while the one that failed is not yet
		// over: the two are the same to it.
		return systemd.RestartUnit(ctx, agentUnit)
	}
	return usage("--guard is start or stop")
}

// variable is the value of a variable, or "".
func variable(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// checkUpdate says what there is.
func (a *app) checkUpdate(ctx context.Context, u *update.Updater) error {
	s, err := u.Check(ctx)
	if err != nil {
		return err
	}
	return a.print(s, func(w io.Writer) error {
		lines := []string{"this is version " + s.Current}
		returned := s.Last.Phase == update.Returned && s.Last.From == s.Current
		switch {
		case s.Newer && returned && s.Last.To == s.Available:
			lines = append(lines, "version "+s.Available+" is available, but came back: berth update --to "+s.Available+" tries it again")
		case s.Newer:
			lines = append(lines, "version "+s.Available+" is available: berth update")
		case s.Available != "":
			lines = append(lines, "there is no newer release")
		default:
			lines = append(lines, "no source of releases is set (BERTH_UPDATE_SOURCE)")
		}
		if s.Previous != "" && s.Previous != s.Current {
			lines = append(lines, "version "+s.Previous+" is kept: berth update --rollback")
		}
		switch s.Last.Phase {
		case update.Switched:
			lines = append(lines, "version "+s.Last.To+" has yet to prove itself")
		case update.Returned:
			lines = append(lines, "the last update, to version "+s.Last.To+", came back: "+s.Last.Reason)
		case update.Confirmed:
		}
		return say(w, "%s", strings.Join(lines, "\n"))
	})
}

// say prints a line.
func say(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format+"\n", args...); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}
