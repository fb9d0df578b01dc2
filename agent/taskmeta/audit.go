package taskmeta

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// AuditConfig says where the audit log is and when it is rolled over. The zero
// value writes none.
type AuditConfig struct {
	// Path is the file; "" writes nothing.
	Path string
	// Hourly rolls over each hour, by the pattern 2006-01-02-15; otherwise the file
	// is rolled over before it is longer than MaxBytes.
	Hourly   bool
	MaxBytes int64
	// Keep is how many files that were rolled over are kept.
	Keep int
}

// hourPattern names the files of an hour.
const hourPattern = "2006-01-02-15"

// auditLog is a file of lines. A line that cannot be written is not worth an
// answer to a container: it is said in the agent's log, once until writing works
// again.
type auditLog struct {
	cfg AuditConfig
	log *zap.Logger

	mu      sync.Mutex // guards what follows
	file    *os.File
	size    int64
	hour    string // of the last line
	failing bool
}

func newAuditLog(c AuditConfig, log *zap.Logger) *auditLog { return &auditLog{cfg: c, log: log} }

// write adds a line.
func (a *auditLog) write(line string, now time.Time) {
	if a.cfg.Path == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.add(line+"\n", now.UTC())
	if err != nil && !a.failing {
		a.log.Error("cannot write the audit log; requests are answered all the same", zap.String("path", a.cfg.Path), zap.Error(err))
	}
	a.failing = err != nil
}

func (a *auditLog) add(line string, now time.Time) error {
	if err := a.open(); err != nil {
		return err
	}
	hour := now.Format(hourPattern)
	due := a.size > 0 && a.cfg.MaxBytes > 0 && a.size+int64(len(line)) > a.cfg.MaxBytes
	if a.cfg.Hourly {
		due = a.size > 0 && a.hour != hour
	}
	if due {
		if err := a.roll(); err != nil {
			return err
		}
	}
	a.hour = hour
	n, err := a.file.WriteString(line)
	a.size += int64(n)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot write: %w", err), a.shut())
	}
	return nil
}

// open opens the file, unless it is open and still the one of that name: others
// may rotate it too.
func (a *auditLog) open() error {
	if a.file != nil {
		is, err := os.Stat(a.cfg.Path)
		was, errWas := a.file.Stat()
		if err == nil && errWas == nil && os.SameFile(is, was) {
			return nil
		}
		if err := a.shut(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(a.cfg.Path), 0o755); err != nil {
		return fmt.Errorf("cannot make directory: %w", err)
	}
	f, err := os.OpenFile(a.cfg.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("cannot open: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("cannot open: %w", err), f.Close())
	}
	a.file, a.size = f, info.Size()
	if a.size > 0 {
		a.hour = info.ModTime().UTC().Format(hourPattern)
	}
	return nil
}

func (a *auditLog) shut() error {
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file = nil
	if err != nil {
		return fmt.Errorf("cannot close: %w", err)
	}
	return nil
}

// roll gives the file another name, begins a new one, and removes the oldest.
func (a *auditLog) roll() error {
	if err := a.shut(); err != nil {
		return err
	}
	rolled, err := a.rolled()
	if err != nil {
		return err
	}
	name := a.cfg.Path + "." + a.hour
	if !a.cfg.Hourly {
		last := 0
		if len(rolled) > 0 {
			last = number(a.cfg.Path, rolled[len(rolled)-1])
		}
		name = a.cfg.Path + "." + strconv.Itoa(last+1)
	}
	if err := os.Rename(a.cfg.Path, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot roll over: %w", err)
	}
	if !slices.Contains(rolled, name) {
		rolled = append(rolled, name)
	}
	for len(rolled) > a.cfg.Keep {
		if err := os.Remove(rolled[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove old file: %w", err)
		}
		rolled = rolled[1:]
	}
	return a.open()
}

// rolled are the files that were rolled over, the oldest first.
func (a *auditLog) rolled() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(a.cfg.Path))
	if err != nil {
		return nil, fmt.Errorf("cannot list old files: %w", err)
	}
	var all []string
	for _, e := range entries {
		path := filepath.Join(filepath.Dir(a.cfg.Path), e.Name())
		suffix, ours := strings.CutPrefix(path, a.cfg.Path+".")
		if !ours {
			continue
		}
		if _, err := time.Parse(hourPattern, suffix); err == nil == a.cfg.Hourly && (a.cfg.Hourly || number(a.cfg.Path, path) > 0) {
			all = append(all, path)
		}
	}
	slices.SortFunc(all, func(x, y string) int {
		if d := number(a.cfg.Path, x) - number(a.cfg.Path, y); d != 0 {
			return d
		}
		return strings.Compare(x, y)
	})
	return all, nil
}

// number is that behind the dot, 0 for none.
func number(path, rolled string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(rolled, path+"."))
	if err != nil {
		return 0
	}
	return n
}

// close closes the file.
func (a *auditLog) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.shut()
}
