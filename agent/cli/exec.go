package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/berthd/berth/agent/hostapi"
)

func (a *app) exec() *cobra.Command {
	var r hostapi.ExecRequest
	cmd := &cobra.Command{
		Use:   "exec [-it] TASK[/CONTAINER] COMMAND [ARG…]",
		Short: "Run a command in a running container",
		Long: `Run a command in a running container and exit with its exit code. With -i it reads this command's
stdin; with -t it gets a terminal. Everything after the container belongs to the command.`,
		Example: `  berth exec -it 4f2a/web sh
  berth exec 4f2a/db pg_dump app > app.sql
  tar c conf | berth exec -i 4f2a/web tar x -C /etc`,
		Args:              args(2, -1),
		ValidArgsFunction: a.completeContainer,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.container(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			r.Container, r.Args = c.ID, command(given[1:])
			if len(r.Args) == 0 {
				return usage("%s needs a command: %s", cmd.CommandPath(), cmd.UseLine())
			}
			code, err := a.runExec(cmd.Context(), r)
			if err != nil {
				return err
			}
			if code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.BoolVarP(&r.Stdin, "interactive", "i", false, "give it this command's stdin")
	f.BoolVarP(&r.Terminal, "tty", "t", false, "give it a terminal")
	f.StringVarP(&r.User, "user", "u", "", "run it as `user` or uid[:gid]")
	f.StringVarP(&r.WorkingDir, "workdir", "w", "", "run it in this `directory`")
	f.StringArrayVarP(&r.Env, "env", "e", nil, "set `NAME=VALUE` for it")
	return cmd
}

// command takes the -- away that people put before the command out of habit.
func command(given []string) []string {
	if len(given) > 0 && given[0] == "--" {
		return given[1:]
	}
	return given
}

// runExec connects the process to our streams, and to our terminal if both want one.
func (a *app) runExec(ctx context.Context, r hostapi.ExecRequest) (int, error) {
	s := hostapi.Streams{Stdin: a.In, Stdout: a.Out, Stderr: a.Err}
	if !r.Terminal {
		return a.client().Exec(ctx, r, s)
	}
	in, ok := terminal(a.In)
	if !ok {
		return 0, usage("-t needs a terminal to stand on; leave it out when stdin is a pipe or a file")
	}
	r.Size = sizeOf(in)
	if name := terminalName(r.Env); name != "" {
		r.Env = append(r.Env, name)
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return 0, fmt.Errorf("cannot set up terminal: %w", err)
	}
	resizes, done := watchSize(ctx, in)
	s.Resize = resizes
	code, err := a.client().Exec(ctx, r, s)
	done()
	return code, errors.Join(err, term.Restore(int(in.Fd()), before))
}

// terminalName says which terminal the process has, unless the caller said so: programs print plainly without one.
func terminalName(env []string) string {
	for _, e := range env {
		if len(e) >= 5 && e[:5] == "TERM=" {
			return ""
		}
	}
	return "TERM=xterm-256color"
}

func sizeOf(f *os.File) hostapi.Size {
	w, h, err := term.GetSize(int(f.Fd()))
	if err != nil || w < 0 || h < 0 || w > 0xffff || h > 0xffff {
		return hostapi.Size{}
	}
	return hostapi.Size{Width: uint16(w), Height: uint16(h)}
}

// watchSize sends the terminal's size each time it changes until done is called.
func watchSize(ctx context.Context, f *os.File) (sizes <-chan hostapi.Size, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	changed := make(chan os.Signal, 1) // one: only that it changed matters
	signal.Notify(changed, unix.SIGWINCH)
	out := make(chan hostapi.Size)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer signal.Stop(changed)
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			select {
			case <-ctx.Done():
				return
			case out <- sizeOf(f):
			}
		}
	}()
	return out, func() { cancel(io.EOF); <-gone }
}
