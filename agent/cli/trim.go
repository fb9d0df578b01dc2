package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// A long-running process lets go of its program's unused pages every trimPeriod,
// which costs some hundred page faults without a read, and collects garbage for
// the sake of the host every collectEvery-th time.
const (
	trimPeriod   = 10 * time.Second
	collectEvery = 6
)

// keepTrim gives memory back, now and every trimPeriod, until ctx ends. The agent
// and the log process map the same large binary and touch most of it only when
// they start or have much to do; without this those pages count as theirs for
// ever.
func keepTrim(ctx context.Context, log *zap.Logger) {
	debug.SetGCPercent(50)
	ticker := time.NewTicker(trimPeriod)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%collectEvery == 0 {
			debug.FreeOSMemory()
		}
		if err := trim(); err != nil {
			log.Debug("cannot give memory back", zap.Error(err))
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// trim lets go of the pages of this program's file that are mapped and can be
// read again.
func trim() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("cannot find this program: %w", err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("cannot read memory map: %w", err)
	}
	ranges, err := clean(bytes.NewReader(smaps), self)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range ranges {
		errs = append(errs, dontNeed(r))
	}
	return errors.Join(errs...)
}

// span is a range of addresses.
type span struct{ from, to uintptr }

// clean finds the mappings of a file that cannot be written and of which no page
// differs from the file: the kernel can read those again at any time.
func clean(smaps io.Reader, path string) ([]span, error) {
	var found []span
	var at span
	ours := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			ours = len(fields) == 6 && fields[5] == path && !strings.Contains(fields[1], "w")
			if !ours {
				continue
			}
			if _, err := fmt.Sscanf(fields[0], "%x-%x", &at.from, &at.to); err != nil {
				return nil, fmt.Errorf("cannot read memory map: %w", err)
			}
		case ours && len(fields) == 3 && fields[0] == "Anonymous:":
			if fields[1] == "0" {
				found = append(found, at)
			}
			ours = false
		}
	}
	return found, lines.Err()
}

// dontNeed lets go of the pages of a mapping. The next use reads them back.
func dontNeed(s span) error {
	_, _, errno := unix.Syscall(unix.SYS_MADVISE, s.from, s.to-s.from, unix.MADV_DONTNEED)
	if errno != 0 {
		return fmt.Errorf("cannot let go of pages: %w", errno)
	}
	return nil
}
