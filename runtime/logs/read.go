package logs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// Errors of Read.
var (
	// ErrNoLog: there is no log of that container.
	ErrNoLog = errors.New("no log")
	// ErrNotReadable: the container's driver keeps nothing that could be read
	// back.
	ErrNotReadable = errors.New("log driver keeps nothing on this host")
)

// ReadRequest asks for lines of a container.
type ReadRequest struct {
	// Dir and DataDir are those of the log process; empty ones are the defaults.
	Dir, DataDir string
	// ID is the container's.
	ID string
	// Follow waits for more at the end, until the container's log is closed or
	// removed.
	Follow bool
	// Tail begins at so many lines from the end; zero begins at the beginning,
	// less than zero at the end.
	Tail int
	// Since and Until bound the time, both included; zero ones do not.
	Since, Until time.Time
	// Stdout and Stderr choose streams; neither means both.
	Stdout, Stderr bool
}

// Line is a line that was read back, or a part of one that is longer than
// 16 KiB: Log ends in a newline unless the next line of the stream continues it.
type Line struct {
	Time   time.Time         `json:"time"`
	Stream Stream            `json:"stream"`
	Log    string            `json:"log"`
	Attrs  map[string]string `json:"attrs,omitempty"`
}

// wants says whether a line was asked for.
func (r ReadRequest) wants(l Line) bool {
	switch {
	case !r.Since.IsZero() && l.Time.Before(r.Since), !r.Until.IsZero() && l.Time.After(r.Until):
		return false
	case !r.Stdout && !r.Stderr:
		return true
	case l.Stream == Stderr:
		return r.Stderr
	}
	return r.Stdout
}

// Read reads a container's log back, oldest line first, from its files: the log
// process takes no part. It returns nil at the end, or the first error of
// handle, or ctx's cause. It needs the right to read the files. A follower may
// see the last few lines before a kill -9 of the log process twice, once before
// they were taken back and once as written again.
func Read(ctx context.Context, req ReadRequest, handle func(Line) error) error {
	if req.Dir == "" {
		req.Dir = DefaultDir
	}
	if req.DataDir == "" {
		req.DataDir = DefaultDataDir
	}
	if err := checkID(req.ID); err != nil {
		return err
	}
	c, err := loadContainer(filepath.Join(req.Dir, req.ID))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known := err == nil
	path := filepath.Join(req.DataDir, req.ID, logName)
	switch {
	case known && (c.driver() == DriverNone || copyDisabled(c.Options)):
		return fmt.Errorf("cannot read log of %s: %w: %s", req.ID, ErrNotReadable, c.driver())
	case !known && !exists(path) && len(oldFiles(path)) == 0:
		return fmt.Errorf("cannot read log of %s: %w", req.ID, ErrNoLog)
	}
	r := &reader{req: req, path: path, handle: handle}
	defer r.close()
	return r.run(ctx)
}
