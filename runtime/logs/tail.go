package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// startTail opens the file in which the last req.Tail lines begin, at the first
// of them. It looks at files from the newest on, and at plain ones from their
// end, so that it reads little of a long log.
func (r *reader) startTail(names []string) error {
	t := &tail{want: max(r.req.Tail, 0), req: r.req}
	for _, name := range slices.Backward(names) {
		f, err := openLog(name)
		if err != nil {
			return err
		}
		offset, found, err := t.find(f)
		if err != nil {
			return errors.Join(err, f.close())
		}
		r.close()
		if f, err = reopen(f, name, offset); err != nil {
			return err
		}
		r.at = f
		if found {
			return nil
		}
	}
	return nil
}

// reopen puts a file at an offset; a compressed one is opened anew for it.
func reopen(f *logFile, name string, offset int64) (*logFile, error) {
	if f.zipped != nil {
		err := f.close()
		if err == nil {
			f, err = openLog(name)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := f.seek(offset); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

// tail counts lines from the end. Parts of a line count as the one line.
type tail struct {
	want int
	req  ReadRequest
	seen int
}

// find says where in f the wanted lines begin; found is false when they begin
// in an older file.
func (t *tail) find(f *logFile) (offset int64, found bool, err error) {
	if f.zipped != nil {
		return t.findForward(f)
	}
	info, err := f.file.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("cannot read log: %w", err)
	}
	begin := int64(0)
	err = backward(f.file, info.Size(), func(end int64, text []byte) bool {
		if t.enough(text) {
			begin, found = end, true
		}
		return !found
	})
	return begin, found, err
}

// findForward is find for a file that can be read in one direction only.
func (t *tail) findForward(f *logFile) (int64, bool, error) {
	type entry struct {
		end  int64
		text []byte
	}
	// Only as many as are wanted are kept, and the one before them.
	var last []entry
	keep, ended := t.want-t.seen+1, 0
	end := int64(0)
	for {
		text, err := f.line()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, false, fmt.Errorf("cannot read log: %w", err)
		}
		end += int64(len(text)) + 1
		if l, ok := decode(text); !ok || !t.req.wants(l) {
			continue
		} else if l.Log == "" || l.Log[len(l.Log)-1] == '\n' {
			ended++
		}
		last = append(last, entry{end, bytes.Clone(text)})
		for ended > keep && len(last) > keep {
			if l, ok := decode(last[0].text); ok && bytes.HasSuffix([]byte(l.Log), []byte{'\n'}) {
				ended--
			}
			last = last[1:]
		}
	}
	for _, e := range slices.Backward(last) {
		if t.enough(e.text) {
			return e.end, true, nil
		}
	}
	return 0, false, nil
}

// enough takes in one entry more, going back, and says whether it is one too
// many: the wanted lines begin behind it.
func (t *tail) enough(text []byte) bool {
	if t.want == 0 {
		return true
	}
	l, ok := decode(text)
	if !ok || !t.req.wants(l) {
		return false
	}
	whole := len(l.Log) > 0 && l.Log[len(l.Log)-1] == '\n'
	if whole || t.seen == 0 {
		if t.seen == t.want {
			return true
		}
		t.seen++
	}
	return false
}

// backward calls fn with each line of the first size bytes, the last first, and
// with where it ends, until fn answers false.
func backward(f io.ReaderAt, size int64, fn func(end int64, text []byte) bool) error {
	var tail []byte // begins at pos, and has no newline but perhaps its last byte
	for pos := size; pos > 0; {
		n := min(int64(batchSize), pos)
		block := make([]byte, n, n+int64(len(tail)))
		if _, err := f.ReadAt(block, pos-n); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read log: %w", err)
		}
		pos -= n
		tail = append(block, tail...)
		for len(tail) > 0 {
			body := bytes.TrimSuffix(tail, []byte{'\n'})
			i := bytes.LastIndexByte(body, '\n')
			if i < 0 && pos > 0 {
				break // it begins in an earlier block
			}
			// An unfinished line at the end of the file is passed over.
			if len(body) < len(tail) && !fn(pos+int64(len(tail)), body[i+1:]) {
				return nil
			}
			tail = tail[:i+1]
		}
	}
	return nil
}
