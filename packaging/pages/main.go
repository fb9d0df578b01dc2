// Command pages writes what the packages make of the command line itself: man pages below DIR/man, completions below DIR.
//
//	pages DIR SECONDS
//
// SECONDS since 1970 is the date of the pages, so that the same source makes the same pages.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/berthd/berth/agent/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "pages: "+err.Error())
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: pages DIR SECONDS")
	}
	seconds, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return fmt.Errorf("%q is no time: %w", args[1], err)
	}
	if err := cli.Manual(filepath.Join(args[0], "man"), time.Unix(seconds, 0)); err != nil {
		return err
	}
	return cli.Completions(args[0])
}
