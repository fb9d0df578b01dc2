package cli

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/berthd/berth/agent/config"
)

// checkFile says what is wrong with one file, whatever the environment and the other files say.
func (a *app) checkFile(path string) error {
	if _, err := os.Stat(path); err != nil { // A JSON file that does not exist would say nothing.
		return fmt.Errorf("cannot read settings: %w", err)
	}
	o := config.Options{File: path, JSONFile: os.DevNull, Environ: []string{}}
	if filepath.Ext(path) == ".json" {
		o.File, o.JSONFile = os.DevNull, path
	}
	return a.checkSettings(o)
}

// checked is what a check found.
type checked struct {
	Warnings    []config.Warning `json:"warnings"`
	NotHonoured []config.Setting `json:"notHonoured"`
	Error       string           `json:"error,omitempty"`
}

// checkSettings says what is wrong with settings. Its exit code is 0, 1 for what is passed over and ExitTerminal for what keeps the
// agent from starting.
func (a *app) checkSettings(o config.Options) error {
	c, warnings, err := config.Load(o)
	found := checked{Warnings: append([]config.Warning{}, warnings...), NotHonoured: append([]config.Setting{}, c.NotHonoured()...)}
	if err != nil {
		found.Error = err.Error()
	}
	if a.json {
		if perr := a.encode(found, "  "); perr != nil {
			return perr
		}
	} else {
		var lines []string
		for _, s := range found.NotHonoured {
			lines = append(lines, "note: "+s.Name+" is not honoured: "+s.Reason)
		}
		for _, w := range warnings {
			lines = append(lines, "warning: "+w.String())
		}
		for _, line := range lines {
			if _, perr := fmt.Fprintln(a.Err, line); perr != nil {
				return fmt.Errorf("cannot print: %w", perr)
			}
		}
	}
	switch {
	case err != nil && a.json:
		return &exitError{code: ExitTerminal}
	case err != nil:
		return Terminal(err)
	case len(warnings) > 0:
		return &exitError{code: ExitFailure}
	default:
		return nil
	}
}
