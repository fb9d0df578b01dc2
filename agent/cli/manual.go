package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/berthd/berth/agent/config"
)

// Manual writes the man pages of the program below dir: berth(1), a page for each verb, and berth.config(5). Their text is that of
// --help, so that there is one. date is what the pages say they are of.
func Manual(dir string, date time.Time) error {
	a := &app{Streams: Streams{In: os.Stdin, Out: io.Discard, Err: io.Discard}, now: time.Now}
	root := a.root()
	b := ThisBuild()
	pages := []page{{name: "berth", section: 1, text: manual(root)}, {name: "berth.config", section: 5, text: settingsManual()}}
	for _, c := range root.Commands() {
		if c.Name() == "init" { // containers call it, people never
			continue
		}
		section := 1
		if c.Name() == "agent" || c.Name() == "logd" {
			section = 8
		}
		pages = append(pages, page{name: "berth-" + c.Name(), section: section, text: manual(c)})
	}
	for _, p := range pages {
		head := fmt.Sprintf(".TH %q %d %q %q %q\n.nh\n.ad l\n", strings.ToUpper(p.name), p.section, date.UTC().Format(time.DateOnly), "berth "+b.Version, "Berth")
		others := ".SH SEE ALSO\n" + references(pages, p.name) + "\n"
		file := filepath.Join(dir, fmt.Sprintf("man%d", p.section), fmt.Sprintf("%s.%d", p.name, p.section))
		if err := writePage(file, head+p.text+others); err != nil {
			return err
		}
	}
	return nil
}

// Completions writes what bash, zsh and fish need to complete command lines, below dir and where each looks for it there.
func Completions(dir string) error {
	a := &app{Streams: Streams{In: os.Stdin, Out: io.Discard, Err: io.Discard}, now: time.Now}
	root := a.root()
	for file, generate := range map[string]func(io.Writer) error{
		"bash-completion/completions/berth":    func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh/vendor-completions/_berth":        root.GenZshCompletion,
		"fish/vendor_completions.d/berth.fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
	} {
		var text bytes.Buffer
		if err := generate(&text); err != nil {
			return fmt.Errorf("cannot generate %s: %w", file, err)
		}
		if err := writePage(filepath.Join(dir, file), text.String()); err != nil {
			return err
		}
	}
	return nil
}

// page is one man page.
type page struct {
	name    string
	section int
	text    string
}

// references lists all pages but one.
func references(pages []page, but string) string {
	var names []string
	for _, p := range pages {
		if p.name != but {
			names = append(names, fmt.Sprintf("\\fB%s\\fP(%d)", roff(p.name), p.section))
		}
	}
	slices.Sort(names)
	return strings.Join(append(names, "\\fBsystemctl\\fP(1)"), ",\n")
}

func writePage(file, text string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("cannot make directory: %w", err)
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("cannot write page: %w", err)
	}
	if _, err = f.WriteString(text); err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("cannot write page: %w", err)
	}
	return nil
}

// manual is the body of the page of one verb, or of the program.
func manual(c *cobra.Command) string {
	var b strings.Builder
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", strings.ReplaceAll(roff(c.CommandPath()), " ", "\\-"), roff(lowered(c.Short)))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n\\fB%s\\fP\n", roff(c.UseLine()))
	b.WriteString(".SH DESCRIPTION\n")
	for paragraph := range strings.SplitSeq(long, "\n\n") {
		fmt.Fprintf(&b, ".PP\n%s\n", roff(paragraph))
	}
	if c.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				fmt.Fprintf(&b, ".TP\n\\fB%s\\fP\n%s\n", roff(sub.Name()), roff(sub.Short))
			}
		}
	}
	if flags := c.LocalFlags().FlagUsages() + c.InheritedFlags().FlagUsages(); flags != "" {
		fmt.Fprintf(&b, ".SH OPTIONS\n.nf\n%s.fi\n", roff(flags))
	}
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	return b.String()
}

// settingsManual is the body of berth.config(5).
func settingsManual() string {
	var b strings.Builder
	b.WriteString(".SH NAME\nberth.config \\- settings of the Berth agent\n")
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s\n.br\n%s\n", config.DefaultFile, config.DefaultJSONFile)
	fmt.Fprintf(&b, ".SH DESCRIPTION\n%s\n.PP\n%s\n", roff(
		"Lines of NAME=VALUE, as the ECS agent reads them; in the JSON file the names are those of the ECS agent too. The environment comes "+
			"before the files."), roff("berth config shows what they say now, and berth config --check what is wrong with them."))
	b.WriteString(".SH SETTINGS\n")
	for _, s := range config.Reference() {
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fP\n%s", roff(s.Name), roff(upper(s.Form)))
		if s.Default != "" {
			fmt.Fprintf(&b, " The default is %s.", roff(s.Default))
		}
		b.WriteString("\n")
	}
	b.WriteString(".SH FILES\n")
	for _, path := range []string{
		config.DefaultFile, config.DefaultJSONFile, config.DefaultDataDir, config.DefaultRunDir, config.DefaultCacheDir, config.DefaultAuditLog,
	} {
		fmt.Fprintf(&b, "%s\n.br\n", path)
	}
	return b.String()
}

// lowered begins with a small letter, as the line under NAME does.
func lowered(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// upper makes a sentence of it.
func upper(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}

// roff makes text that troff prints as it is.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\[u2026]`, "·", `\(bu`, "→", `\(->`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
