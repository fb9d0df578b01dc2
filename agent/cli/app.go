package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/berthd/berth/agent/config"
	"github.com/berthd/berth/agent/hostapi"
)

// Exit codes of every verb but exec, which has those of its process besides.
const (
	ExitOK = 0
	// ExitFailure means that it was understood and did not work; trying again may help.
	ExitFailure = 1
	// ExitUsage means that the command line is wrong.
	ExitUsage = 2
	// ExitTerminal means that the agent must not be started again before somebody mends its settings or state; berth.service has it
	// in RestartPreventExitStatus.
	ExitTerminal = 5
	// ExitUpdate means that the agent is to be started again at once, as another version: the ECS agent's code for that (spec/host.md
	// §5.2).
	ExitUpdate = 42
)

// Streams are where a command reads and writes. Terminal features are used if they are terminals.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// exitError ends the program with a code of its own; without an error it does so in silence.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Terminal marks err as one that starting again cannot help (ExitTerminal).
func Terminal(err error) error { return &exitError{ExitTerminal, err} }

func usage(format string, args ...any) error {
	return &exitError{ExitUsage, fmt.Errorf(format, args...)}
}

// app is what the verbs share.
type app struct {
	Streams

	socket string
	json   bool
	now    func() time.Time
	env    []string // environment for settings; nil means that of the process
}

// Main runs the command line args, without the program's name, and answers the exit code. Errors are already printed.
func Main(ctx context.Context, args []string, s Streams) int {
	a := &app{Streams: s, now: time.Now}
	return a.main(ctx, args)
}

func (a *app) main(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	code := ExitFailure
	if e, ok := errors.AsType[*exitError](err); ok {
		code, err = e.code, e.err
	}
	if err != nil {
		a.complain(err, code)
	}
	return code
}

// complain prints an error with what can be done about it.
func (a *app) complain(err error, code int) {
	e, ok := errors.AsType[*hostapi.Error](err)
	if a.json {
		if !ok {
			e = &hostapi.Error{Code: "Failed", Message: err.Error()}
			if code == ExitUsage {
				e.Code = "Usage"
			}
		}
		_ = json.NewEncoder(a.Err).Encode(map[string]*hostapi.Error{"error": e})
		return
	}
	_, _ = fmt.Fprintln(a.Err, "berth: "+err.Error())
	if !ok {
		return
	}
	for _, c := range e.Candidates {
		_, _ = fmt.Fprintln(a.Err, "  "+c)
	}
	if e.Hint != "" {
		_, _ = fmt.Fprintln(a.Err, "  "+e.Hint)
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "berth",
		Short: "Run Amazon ECS tasks on this host, straight on containerd",
		Long: `Berth runs the tasks of an Amazon ECS cluster on this host, straight on containerd.

A TASK is an ARN, an id, or enough of the beginning of an id. Where a container is wanted too, write
TASK/CONTAINER; a task with one container needs no more than TASK.

Exit codes: 0 done · 1 it did not work · 2 the command line is wrong · 5 (agent) the settings or the
state must be mended before it is started again · 42 (agent) it is to be started again, as another
version. exec answers with the exit code of its process.`,
		Example: `  berth ps                        what runs here
  berth why 4f2a                  what a task waits for
  berth logs -f 4f2a/web          follow a container's output
  berth exec -it 4f2a/web sh      a shell in a container
  berth doctor                    what this host lacks, and the commands that mend it`,
		SilenceUsage: true, SilenceErrors: true,
		Args:                       cobra.ArbitraryArgs,
		SuggestionsMinimumDistance: 2,
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		text := fmt.Sprintf("there is no verb %q", args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return usage("%s", text)
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%w (see %s --help)", err, cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", config.SocketPath(), "`path` of the agent's socket (BERTH_SOCKET)")
	flags.BoolVar(&a.json, "json", false, "print JSON for programs")
	root.AddCommand(a.verbs()...)
	return root
}

// Verbs lists the names of all verbs, for tests of files that call them.
func Verbs() []string {
	var names []string
	for _, c := range (&app{}).verbs() {
		names = append(names, c.Name())
	}
	return names
}

// client is the way to the agent.
func (a *app) client() *hostapi.Client { return hostapi.NewClient(a.socket) }

// args makes the positional arguments of a verb: at least so many, at most so many, and unlimited if most is negative.
func args(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		switch {
		case len(given) < least:
			return usage("%s needs more: %s", cmd.CommandPath(), cmd.UseLine())
		case most >= 0 && len(given) > most:
			return usage("%s: %q is too much: %s", cmd.CommandPath(), given[most], cmd.UseLine())
		default:
			return nil
		}
	}
}

// print writes v as JSON if that was asked for, and otherwise lets human write it.
func (a *app) print(v any, human func(w io.Writer) error) error {
	if a.json {
		return a.encode(v, "  ")
	}
	return human(a.Out)
}

func (a *app) encode(v any, indent string) error {
	enc := json.NewEncoder(a.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// table writes rows in columns; the first row is the head.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		// Without cells at the end that are empty, so that no line ends in blanks.
		for len(row) > 1 && row[len(row)-1] == "" {
			row = row[:len(row)-1]
		}
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("cannot print: %w", err)
	}
	return nil
}

// terminal answers the file behind a stream if it is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// short is how long ago t was, in its largest unit: 42s, 7m, 3h, 12d. Nothing for a time that is not known.
func short(now time.Time, t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	d := max(now.Sub(*t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
