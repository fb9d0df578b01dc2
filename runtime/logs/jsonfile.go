package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"go.uber.org/zap"
)

// logName is the current file of the json-file driver; older ones are
// logName.1 and so on, the oldest with the highest number, with .gz behind when
// compressed.
const logName = "json.log"

// The options of json-file.
const (
	optMaxSize     = "max-size"
	optMaxFile     = "max-file"
	optCompress    = "compress"
	optLabels      = "labels"
	optLabelsRegex = "labels-regex"
	optEnv         = "env"
	optEnvRegex    = "env-regex"
	optTag         = "tag"
)

func jsonFileOptions() []string {
	return []string{optMaxSize, optMaxFile, optCompress, optLabels, optLabelsRegex, optEnv, optEnvRegex, optTag}
}

// rotation says when a file is full (0: never), how many are kept, and whether
// all but the current one are compressed.
type rotation struct {
	maxSize  int64
	maxFiles int
	compress bool
}

// parseRotation reads max-size, max-file and compress.
func parseRotation(options map[string]string) (r rotation, err error) {
	r.maxFiles = 1
	if text, ok := options[optMaxSize]; ok && text != "-1" {
		if r.maxSize, err = parseSize(optMaxSize, text); err != nil {
			return r, err
		}
		if r.maxSize == 0 {
			return r, fmt.Errorf("%w: %s=%q must be positive", ErrOptions, optMaxSize, text)
		}
	}
	if text, ok := options[optMaxFile]; ok {
		if r.maxFiles, err = strconv.Atoi(text); err != nil || r.maxFiles < 1 {
			return r, fmt.Errorf("%w: %s=%q is not a number of files", ErrOptions, optMaxFile, text)
		}
	}
	if text, ok := options[optCompress]; ok {
		if r.compress, err = strconv.ParseBool(text); err != nil {
			return r, fmt.Errorf("%w: %s=%q is not true or false", ErrOptions, optCompress, text)
		}
	}
	if r.compress && (r.maxFiles < 2 || r.maxSize == 0) {
		return r, fmt.Errorf("%w: %s needs %s and %s of 2 or more", ErrOptions, optCompress, optMaxSize, optMaxFile)
	}
	return r, nil
}

// checkJSONFile says what is wrong with the values of a container's options.
func checkJSONFile(c Container) error {
	if _, err := parseRotation(c.Options); err != nil {
		return err
	}
	_, err := attributes(c)
	return err
}

// jsonFile writes Docker's json-file format.
type jsonFile struct {
	path  string
	rules rotation
	attrs []byte
	// keep, if set, answers before a rotation how many files it leaves, rather
	// than the rules; encode, if set, is used instead of appendEntry.
	keep   func() int
	encode func(buf []byte, e Entry) []byte

	file  *os.File
	inode uint64
	size  int64
	log   *zap.Logger
	// compress waits for the compression of the newest old file; busy says that
	// it is under way.
	compress sync.WaitGroup
	busy     atomic.Bool
}

var _ Driver = (*jsonFile)(nil)

// openJSONFile opens the current file of a container for appending, without
// what was written to it beyond the mark.
func openJSONFile(_ context.Context, cfg DriverConfig) (Driver, error) {
	rules, err := parseRotation(cfg.Container.Options)
	if err != nil {
		return nil, err
	}
	attrs, err := attributes(cfg.Container)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o750); err != nil {
		return nil, fmt.Errorf("cannot make log directory: %w", err)
	}
	d := &jsonFile{path: filepath.Join(cfg.DataDir, logName), rules: rules, log: cfg.Log}
	if len(attrs) > 0 {
		if d.attrs, err = json.Marshal(attrs); err != nil {
			return nil, fmt.Errorf("cannot encode log attributes: %w", err)
		}
	}
	if err := d.open(); err != nil {
		return nil, err
	}
	if err := d.rewind(cfg.Mark); err != nil {
		return nil, errors.Join(err, d.file.Close())
	}
	return d, nil
}

// open opens the current file and notes which it is.
func (d *jsonFile) open() error {
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("cannot open log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("cannot open log: %w", err), f.Close())
	}
	d.file, d.size, d.inode = f, info.Size(), inodeOf(info)
	return nil
}

// rewind undoes writes of a killed process that were not given up.
func (d *jsonFile) rewind(mark Mark) error {
	keep := d.size
	switch {
	case mark.A == d.inode:
		keep = min(keep, int64(mark.B))
	case mark.A != 0 && d.rotatedFrom(mark.A):
		keep = 0 // rotated and begun, and then killed
	}
	if keep < d.size {
		if err := d.truncate(keep); err != nil {
			return err
		}
	}
	if keep == 0 {
		return nil
	}
	// A host crash can leave half a line.
	last := make([]byte, 1)
	if _, err := d.file.ReadAt(last, keep-1); err != nil {
		return fmt.Errorf("cannot read log: %w", err)
	}
	if last[0] == '\n' {
		return nil
	}
	n, err := d.file.WriteString("\n")
	d.size += int64(n)
	if err != nil {
		return fmt.Errorf("cannot end a torn line of log: %w", err)
	}
	return nil
}

// rotatedFrom says whether the newest old file was the one with this inode.
func (d *jsonFile) rotatedFrom(inode uint64) bool {
	info, err := os.Stat(d.path + ".1")
	if errors.Is(err, fs.ErrNotExist) {
		was, err := compressedInode(d.path + ".1.gz")
		return err == nil && was == inode
	}
	return err == nil && inodeOf(info) == inode
}

// Write appends entries, a batch at most, and rotates first when the file is
// full. A write that failed half way is undone.
func (d *jsonFile) Write(_ context.Context, entries []Entry) (int, error) {
	limit := d.limit()
	if d.size >= limit {
		if err := d.rotate(); err != nil {
			return 0, err
		}
	}
	batch := takeBatch()
	defer batch.giveBack()
	out, taken := batch.out[:0], 0
	for _, e := range entries {
		if d.encode != nil {
			out = d.encode(out, e)
		} else {
			out = appendEntry(out, e, d.attrs)
		}
		taken++
		if len(out) >= batchSize || d.size+int64(len(out)) >= limit {
			break
		}
	}
	batch.out = out
	n, err := d.file.Write(out)
	if err != nil {
		err = fmt.Errorf("cannot write log: %w", err)
		if n > 0 {
			err = errors.Join(err, d.truncate(d.size))
		}
		return 0, err
	}
	d.size += int64(n)
	return taken, nil
}

// limit is the size at which the file is full. It may grow to twice max-size
// rather than let the writer wait for a slow disk to take the compressed file.
func (d *jsonFile) limit() int64 {
	switch {
	case d.rules.maxSize == 0:
		return math.MaxInt64
	case d.busy.Load():
		return 2 * d.rules.maxSize
	}
	return d.rules.maxSize
}

// truncate cuts the file off at size.
func (d *jsonFile) truncate(size int64) error {
	if err := d.file.Truncate(size); err != nil {
		return fmt.Errorf("cannot take back a part of log: %w", err)
	}
	d.size = size
	return nil
}

// Mark is the current file and its size.
func (d *jsonFile) Mark() Mark { return Mark{A: d.inode, B: uint64(d.size)} }

// Sync writes the file through to the disk.
func (d *jsonFile) Sync(context.Context) error {
	if err := d.file.Sync(); err != nil {
		return fmt.Errorf("cannot sync log: %w", err)
	}
	return nil
}

// Close syncs and closes the file. A compression under way is waited for.
func (d *jsonFile) Close(ctx context.Context) error {
	err := errors.Join(d.Sync(ctx), d.file.Close())
	d.compress.Wait()
	return err
}

// inodeOf is the number of a file on its disk.
func inodeOf(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
