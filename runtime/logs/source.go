package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// source reads a queue from its cursor on. One goroutine uses it.
type source struct {
	q    *queue
	file *os.File
	at   position // of the line that comes next
	buf  []byte   // read and not handed out: from begin on
	// begin is an index in buf; end is the offset in the file behind buf.
	begin int
	end   int64
}

// newSource begins at the cursor.
func newSource(q *queue) *source { return &source{q: q, at: q.position()} }

// line is the next line without its newline, good until the next call; ok is
// false while there is none.
func (s *source) line() (text []byte, ok bool, err error) {
	for {
		if i := bytes.IndexByte(s.buf[s.begin:], '\n'); i >= 0 {
			text := s.buf[s.begin : s.begin+i]
			s.begin += i + 1
			s.at.offset += int64(i) + 1
			s.at.total += int64(i) + 1
			return text, true, nil
		}
		more, err := s.fill()
		if err != nil || !more {
			return nil, false, err
		}
	}
}

// fill reads more, from the next file when this one is at its end.
func (s *source) fill() (more bool, err error) {
	if s.file == nil {
		if err := s.open(false); err != nil {
			return false, ignoreAbsent(err)
		}
	}
	// Asked first: what is older than the newest file does not grow any more.
	size, newest := s.q.extent(s.at.inode)
	n := min(size-s.end, batchSize)
	if n <= 0 {
		return false, nil
	}
	s.buf = append(s.buf[:0], s.buf[s.begin:]...)
	s.begin = 0
	had := len(s.buf)
	s.buf = append(s.buf, make([]byte, n)...)
	got, err := s.file.ReadAt(s.buf[had:], s.end)
	s.buf = s.buf[:had+got]
	s.end += int64(got)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return false, fmt.Errorf("cannot read queued lines: %w", err)
	case got > 0:
		return true, nil
	case newest:
		return false, nil // it was cut off by somebody
	}
	// A line that a host crash left torn is passed over.
	s.at.total += int64(len(s.buf))
	if err := s.open(true); err != nil {
		return false, ignoreAbsent(err)
	}
	return true, nil
}

// open opens the file of the next line, or with next the file after it.
func (s *source) open(next bool) error {
	f, err := s.q.open(s.at.inode, next)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("cannot read queued lines: %w", err), f.Close())
	}
	s.close()
	s.file = f
	if inode := inodeOf(info); inode != s.at.inode || next {
		s.at.inode, s.at.offset = inode, 0
	}
	s.buf, s.begin, s.end = s.buf[:0], 0, s.at.offset
	return nil
}

// rest gives back memory while there is nothing to read.
func (s *source) rest() {
	if s.begin == len(s.buf) {
		s.buf, s.begin = nil, 0
	}
}

// close closes the file; it was only read.
func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close()
		s.file = nil
	}
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
