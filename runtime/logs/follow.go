package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// followTick is how often a follower looks for more.
const followTick = 50 * time.Millisecond

// reader is one Read. It knows its place by the file it has open, not by its
// name: rotation renames files under it.
//
//	open oldest ─► lines ─► end of file ─┬─ rotated: its last lines, then next
//	                 ▲                   ├─ not closed, Follow: wait ─┐
//	                 └───────────────────┴────────────────────────────┘
//	                                     └─ else: done
type reader struct {
	req    ReadRequest
	path   string
	handle func(Line) error
	at     *logFile
}

// run reads to the end.
func (r *reader) run(ctx context.Context) error {
	if err := r.start(); err != nil {
		return err
	}
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	for {
		ended := !r.req.Follow || r.ended()
		if err := r.lines(ctx); err != nil {
			return err
		}
		next, err := r.next()
		if err != nil {
			return err
		}
		if next != nil {
			// What was written between the end we saw and the rotation.
			if err := r.lines(ctx); err != nil {
				return errors.Join(err, next.close())
			}
			r.close()
			r.at = next
			continue
		}
		if ended {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// AwaitEnd waits until nothing will be added any more to the log of a container that
// has ended, or until ctx ends. A container that was never known has no log to wait for.
func AwaitEnd(ctx context.Context, dir, id string) {
	r := reader{req: ReadRequest{Dir: dir, ID: id}}
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	for checkID(id) == nil && !r.ended() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ended says whether nothing will be added any more.
func (r *reader) ended() bool {
	dir := filepath.Join(r.req.Dir, r.req.ID)
	return exists(filepath.Join(dir, closedName)) || !exists(dir)
}

// start opens the file to begin with, at the right place.
func (r *reader) start() (err error) {
	if r.req.Tail != 0 {
		return r.listed(r.startTail)
	}
	r.at, err = r.next()
	return err
}

// listed calls do with the names of the files, oldest first, and again when
// they were renamed meanwhile.
func (r *reader) listed(do func(names []string) error) error {
	var err error
	for range 20 {
		before, beforeErr := os.Stat(r.path)
		names := oldFiles(r.path)
		if beforeErr == nil {
			names = append(names, r.path)
		}
		err = do(names)
		after, afterErr := os.Stat(r.path)
		same := beforeErr == nil && afterErr == nil && os.SameFile(before, after) || beforeErr != nil && afterErr != nil
		if same && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// lines hands over every whole line there is in the open file.
func (r *reader) lines(ctx context.Context) error {
	if r.at == nil {
		return nil
	}
	for ctx.Err() == nil {
		text, err := r.at.line()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read log: %w", err)
		}
		if l, ok := decode(text); ok && r.req.wants(l) {
			if err := r.handle(l); err != nil {
				return err
			}
		}
	}
	return context.Cause(ctx)
}

// next opens the file that follows on the open one, or answers nil when the
// open one is the last. A follower whose file has fallen off the end goes on
// with the oldest there is.
func (r *reader) next() (next *logFile, err error) {
	if r.at != nil {
		if last, err := r.at.named(r.path); last && err == nil {
			return nil, nil
		}
	}
	err = r.listed(func(names []string) (err error) {
		if next != nil {
			err = next.close()
			next = nil
		}
		from := 0
		for i := 0; i < len(names) && r.at != nil && err == nil; i++ {
			var own bool
			if own, err = r.at.named(names[i]); own {
				from = i + 1
			}
		}
		if err != nil || from == len(names) {
			return err
		}
		next, err = openLog(names[from])
		return err
	})
	return next, err
}

// close closes the open file; it was only read.
func (r *reader) close() {
	if r.at != nil {
		_ = r.at.close()
		r.at = nil
	}
}

// decode reads one entry; what is not one (a line torn by a host crash) is
// passed over.
func decode(text []byte) (Line, bool) {
	var l Line
	if err := json.Unmarshal(text, &l); err != nil || l.Stream == "" {
		return Line{}, false
	}
	return l, true
}

// oldFiles names the rotated files beside path, oldest first.
func oldFiles(path string) []string {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil
	}
	found, last := make(map[int]string), 0
	for _, entry := range entries {
		number, ok := strings.CutPrefix(entry.Name(), filepath.Base(path)+".")
		n, err := strconv.Atoi(strings.TrimSuffix(number, gzSuffix))
		if !ok || err != nil || n < 1 {
			continue
		}
		// The uncompressed one is whole; a compressed one beside it is a copy.
		if name := filepath.Join(filepath.Dir(path), entry.Name()); found[n] == "" || !strings.HasSuffix(name, gzSuffix) {
			found[n] = name
		}
		last = max(last, n)
	}
	var names []string
	for n := last; n >= 1; n-- {
		if found[n] != "" {
			names = append(names, found[n])
		}
	}
	return names
}

// logFile reads one file line by line, and more when more has been added.
type logFile struct {
	file   *os.File
	zipped io.Reader // nil for a plain file
	offset int64     // of what is read next
	buf    []byte
	rest   []byte // of buf, not handed out yet
}

// openLog opens a log file at its beginning.
func openLog(name string) (*logFile, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("cannot read log: %w", err)
	}
	f := &logFile{file: file}
	if strings.HasSuffix(name, gzSuffix) {
		zr, err := gzip.NewReader(file)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot read log %s: %w", name, err), file.Close())
		}
		f.zipped = zr
	}
	return f, nil
}

// named says whether name is this file, or a compressed copy of it: one that
// begins with the same line, time and all. (Inode numbers will not do: those of
// files that were compressed are used again.)
func (f *logFile) named(name string) (_ bool, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return false, fmt.Errorf("cannot read log: %w", err)
	}
	own, err := f.file.Stat()
	if err != nil {
		return false, fmt.Errorf("cannot read log: %w", err)
	}
	if os.SameFile(own, info) {
		return true, nil
	}
	if f.zipped != nil || !strings.HasSuffix(name, gzSuffix) {
		return false, nil
	}
	zipped, err := openLog(name)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, zipped.close()) }()
	theirs, err := zipped.line()
	if err != nil {
		return false, fmt.Errorf("cannot read log %s: %w", name, err)
	}
	ours, err := (&logFile{file: f.file}).line()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil && bytes.Equal(ours, theirs), err
}

// line is the next whole line without its newline, good until the next call, or
// io.EOF.
func (f *logFile) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(f.rest, '\n'); i >= 0 {
			text := f.rest[:i]
			f.rest = f.rest[i+1:]
			return text, nil
		}
		if err := f.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads more behind rest.
func (f *logFile) fill() error {
	if f.buf == nil {
		f.buf = make([]byte, 0, batchSize)
	}
	f.buf = append(f.buf[:0], f.rest...)
	if len(f.buf) > cap(f.buf)/2 {
		f.buf = append(make([]byte, 0, 2*cap(f.buf)), f.buf...)
	}
	room := f.buf[len(f.buf):cap(f.buf)]
	var n int
	var err error
	if f.zipped != nil {
		n, err = f.zipped.Read(room)
	} else if n, err = f.file.ReadAt(room, f.offset); n == 0 {
		f.shrunk()
	}
	f.offset += int64(n)
	f.buf = f.buf[:len(f.buf)+n]
	f.rest = f.buf
	if n > 0 {
		return nil
	}
	return err
}

// shrunk goes back to the end of a file that has become shorter: a write was
// taken back.
func (f *logFile) shrunk() {
	if info, err := f.file.Stat(); err == nil && info.Size() < f.offset {
		f.offset, f.buf = info.Size(), f.buf[:0]
	}
}

// seek goes to a place in the (uncompressed) content.
func (f *logFile) seek(offset int64) error {
	if f.zipped != nil {
		if _, err := io.CopyN(io.Discard, f.zipped, offset); err != nil {
			return fmt.Errorf("cannot read log: %w", err)
		}
	}
	f.offset = offset
	return nil
}

// close closes the file.
func (f *logFile) close() error { return f.file.Close() }
