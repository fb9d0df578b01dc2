package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"go.uber.org/zap"
)

// cursorName is the file that says how far the far end has taken a queue.
const cursorName = "cursor"

// errFull is why a queue takes nothing more.
var errFull = errors.New("as many lines wait for the log service as may")

// queue is where the lines for a remote driver wait, and where they can be read
// back: files in json-file's format, which a worker appends to and a shipper
// reads. The cursor is the shipper's place in them.
//
//	json.log.3   json.log.2   json.log.1   json.log
//	├── the copy: taken ──┤ ▲ ├── waiting: limit ──┤ ◄ worker
//	                      cursor ► shipper
//
// Files that the far end has taken are kept for reading back as far as the rules
// of the copy go; files that it has not are kept in any case.
type queue struct {
	dir   string
	rules rotation
	limit int64 // bytes that may wait
	// drop says what to do at the limit: drop and count the line, or let the
	// writer wait.
	drop  bool
	tally *tally
	log   *zap.Logger
	// more tells the shipper that there is something to read; one note is enough.
	more chan struct{}

	mu      sync.Mutex // guards what follows, and the names of the files
	file    *jsonFile  // nil while no container writes
	inode   uint64     // of the newest file, and its size
	size    int64
	at      position // the cursor
	cursor  *os.File
	waiting int64 // bytes behind the cursor
}

var _ Driver = (*queue)(nil)

// position is a place in the files of a queue: behind the first offset bytes of
// the file with this inode. total orders positions: how many bytes there are
// before it, counted from where the queue was opened.
type position struct {
	inode  uint64
	offset int64
	total  int64
}

// openQueue opens the queue in a directory without its writing end.
func openQueue(dir string, rules rotation, limit int64, log *zap.Logger) (_ *queue, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("cannot make log directory: %w", err)
	}
	q := &queue{dir: dir, rules: rules, limit: limit, log: log, more: make(chan struct{}, 1)}
	q.tally = &tally{log: log, what: "lines dropped: as many as may wait for the log service"}
	if q.cursor, err = os.OpenFile(filepath.Join(dir, cursorName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("cannot open cursor of log: %w", err)
	}
	if err := q.restore(); err != nil {
		return nil, errors.Join(err, q.cursor.Close())
	}
	return q, nil
}

// path is the newest file.
func (q *queue) path() string { return filepath.Join(q.dir, logName) }

// segment is a file of a queue; number 0 is the newest.
type segment struct {
	number int
	name   string
}

// segments are the files there may be, newest first.
func (q *queue) segments() []segment {
	found := []segment{{0, q.path()}}
	for _, name := range slices.Backward(oldFiles(q.path())) {
		if n, err := strconv.Atoi(name[len(q.path())+1:]); err == nil {
			found = append(found, segment{n, name})
		}
	}
	return found
}

// find is the place in a list of segments of the file with this inode, or -1.
func find(list []segment, inode uint64) int {
	return slices.IndexFunc(list, func(s segment) bool {
		info, err := os.Stat(s.name)
		return err == nil && inodeOf(info) == inode
	})
}

// restore reads the cursor and looks at the files. The caller holds mu, or is
// alone.
func (q *queue) restore() error {
	var note [16]byte
	if n, err := q.cursor.ReadAt(note[:], 0); n == len(note) {
		q.at.inode = binary.LittleEndian.Uint64(note[:8])
		q.at.offset = int64(binary.LittleEndian.Uint64(note[8:]))
	} else if n != 0 {
		return fmt.Errorf("cannot read cursor of log: %w", err)
	}
	q.waiting, q.size, q.inode = 0, 0, 0
	found := false
	for _, segment := range q.segments() {
		info, err := os.Stat(segment.name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot look at log: %w", err)
		}
		if segment.number == 0 {
			q.inode, q.size = inodeOf(info), info.Size()
		}
		q.waiting += info.Size()
		if found = inodeOf(info) == q.at.inode; found {
			// What a killed process wrote without giving it up has been taken back.
			q.at.offset = min(q.at.offset, info.Size())
			q.waiting -= q.at.offset
			break
		}
	}
	if !found {
		q.at.inode, q.at.offset = 0, 0 // from the oldest file on
	}
	return nil
}

// write opens the writing end, for the container that begins or goes on.
func (q *queue) write(mark Mark, drop bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop = drop
	if q.file != nil {
		return nil
	}
	d := &jsonFile{path: q.path(), rules: q.rules, log: q.log, keep: q.keep, encode: appendRecord}
	if err := d.open(); err != nil {
		return err
	}
	if err := d.rewind(mark); err != nil {
		return errors.Join(err, d.file.Close())
	}
	q.file = d
	// The file may have become shorter.
	total := q.at.total
	if err := q.restore(); err != nil {
		return err
	}
	q.at.total = total
	return nil
}

// Write appends entries, and drops or refuses them at the limit.
func (q *queue) Write(ctx context.Context, entries []Entry) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= q.limit {
		if !q.drop {
			return 0, fmt.Errorf("%w: %d bytes", errFull, q.waiting)
		}
		q.tally.add(int64(len(entries)))
		return len(entries), nil
	}
	n, err := q.file.Write(ctx, entries)
	if n > 0 {
		grown := q.file.size
		if q.file.inode == q.inode {
			grown -= q.size
		}
		q.waiting += grown
		q.wake()
	}
	q.inode, q.size = q.file.inode, q.file.size
	return n, err
}

// wake tells the shipper.
func (q *queue) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// Mark is the position of the file.
func (q *queue) Mark() Mark {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.file.Mark()
}

// Sync writes the file through to the disk.
func (q *queue) Sync(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.file.Sync(ctx)
}

// Close ends the writing end; what waits goes on waiting.
func (q *queue) Close(ctx context.Context) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.file == nil {
		return nil
	}
	err := q.file.Close(ctx)
	q.file = nil
	q.tally.tell()
	q.wake()
	return err
}

// shut gives back what openQueue took. Nothing writes any more.
func (q *queue) shut() error {
	if err := q.cursor.Close(); err != nil {
		return fmt.Errorf("cannot close cursor of log: %w", err)
	}
	return nil
}

// backlog is how many bytes of files the far end has not taken.
func (q *queue) backlog() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// position is the cursor.
func (q *queue) position() position {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.at
}

// take moves the cursor: the far end has everything before it.
func (q *queue) take(to position) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var note [16]byte
	binary.LittleEndian.PutUint64(note[:8], to.inode)
	binary.LittleEndian.PutUint64(note[8:], uint64(to.offset))
	if _, err := q.cursor.WriteAt(note[:], 0); err != nil {
		return fmt.Errorf("cannot keep cursor of log: %w", err)
	}
	q.waiting -= to.total - q.at.total
	moved := to.inode != q.at.inode
	q.at = to
	if !moved {
		return nil
	}
	return q.trim()
}

// keep is how many files a rotation must leave, the new one among them: those of
// the copy, and all from the cursor's on. The caller holds mu.
func (q *queue) keep() int {
	list := q.segments()
	i := find(list, q.at.inode)
	if i < 0 {
		i = len(list) - 1 // nothing was taken yet
	}
	return max(q.rules.maxFiles, list[i].number+2)
}

// trim removes files that are neither of the copy nor waiting. The caller holds
// mu.
func (q *queue) trim() error {
	list := q.segments()
	i := find(list, q.at.inode)
	if i < 0 {
		return nil
	}
	for _, s := range list[i+1:] {
		if s.number < q.rules.maxFiles {
			continue
		}
		if err := removeAll(s.name); err != nil {
			return fmt.Errorf("cannot trim log: %w", err)
		}
	}
	return nil
}

// extent says how far the file with this inode may be read, and whether it is
// the newest: then it may still grow.
func (q *queue) extent(inode uint64) (size int64, newest bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if inode == q.inode {
		return q.size, true
	}
	return math.MaxInt64, false
}

// open opens the file with this inode or, with next, the one that follows it;
// the oldest for 0, or when there is no such file any more. It answers
// fs.ErrNotExist when there is none.
func (q *queue) open(inode uint64, next bool) (*os.File, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := q.segments()
	i := len(list)
	if at := find(list, inode); inode != 0 && at >= 0 {
		i = at
		if !next {
			i++
		}
	}
	for ; i > 0; i-- {
		f, err := os.Open(list[i-1].name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the newest, which is not made yet
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read queued lines: %w", err)
		}
		return f, nil
	}
	return nil, fs.ErrNotExist
}
