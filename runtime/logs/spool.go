package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Layout of a spool file.
const (
	spoolMagic  = 0x6265727468_01 // "berth", version 1
	spoolHeader = 4096
	spoolBuffer = 32 << 10 // per stream; more than twice maxLine less one, see tidy
	spoolSize   = spoolHeader + 2*spoolBuffer
)

// spool holds what was read from a container's pipes and is not written yet,
// such as the beginning of a line. It is a file mapped into memory, so it
// outlives the process at whatever instruction it is killed: the kernel reads
// a pipe straight into it.
//
// Its state is kept twice; a commit fills the copy not in use and then turns
// one word. A buffer is zero beyond what it holds, so bytes found there when a
// spool is opened were being read when the process was killed. (Zero bytes at
// the very end of such a read are taken for nothing.)
//
// The buffers belong to the reader of their stream, the state to whoever holds
// the worker's lock.
type spool struct {
	mem  []byte
	head *spoolHead
}

// spoolHead is the mapped header.
type spoolHead struct {
	magic  uint64
	inUse  uint64 // which of states holds; written atomically
	states [2]spoolState
}

// spoolState is everything that changes together.
type spoolState struct {
	streams [2]spoolRange
	mark    Mark
}

// spoolRange is where a buffer's content lies: [off, end). From end to stale
// there is what tidy has not cleared yet.
type spoolRange struct{ off, end, stale uint64 }

// openSpool opens the spool at path, or makes an empty one. A file that is no
// spool is replaced; recovered says how many bytes it held.
func openSpool(path string) (_ *spool, recovered int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot open spool: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// All space is taken now: a mapped file that cannot grow kills its process.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, spoolSize); err != nil {
		return nil, 0, fmt.Errorf("cannot reserve spool %s: %w", path, err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, spoolSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot map spool %s: %w", path, err)
	}
	s := &spool{mem: mem, head: (*spoolHead)(unsafe.Pointer(unsafe.SliceData(mem)))}
	if !s.sound() {
		clear(s.mem)
		s.head.magic = spoolMagic
	}
	for i := range 2 {
		recovered += s.recover(i)
	}
	return s, recovered, nil
}

// sound says whether the header can be believed.
func (s *spool) sound() bool {
	if s.head.magic != spoolMagic || s.head.inUse > 1 {
		return false
	}
	for _, r := range s.state().streams {
		if r.off > r.end || r.end > spoolBuffer || r.stale > spoolBuffer {
			return false
		}
	}
	return true
}

// recover takes in what a killed process had read without saying so, and
// returns how much the stream holds.
func (s *spool) recover(i int) int {
	r := s.state().streams[i]
	if r.stale <= r.end {
		rest := bytes.TrimRight(s.buffer(i)[r.end:], "\x00")
		s.grow(i, len(rest))
	}
	s.tidy(i)
	return len(s.held(i))
}

// state is the state in use.
func (s *spool) state() *spoolState {
	return &s.head.states[atomic.LoadUint64(&s.head.inUse)&1]
}

// change commits what edit makes of the state, at once.
func (s *spool) change(edit func(*spoolState)) {
	next := 1 - atomic.LoadUint64(&s.head.inUse)&1
	s.head.states[next] = s.head.states[1-next]
	edit(&s.head.states[next])
	atomic.StoreUint64(&s.head.inUse, next)
}

// buffer is the whole buffer of a stream.
func (s *spool) buffer(i int) []byte {
	at := spoolHeader + i*spoolBuffer
	return s.mem[at : at+spoolBuffer : at+spoolBuffer]
}

// held is what a stream holds.
func (s *spool) held(i int) []byte {
	r := s.state().streams[i]
	return s.buffer(i)[r.off:r.end]
}

// room is where the stream's next bytes are read to. It is zero, and not empty
// as long as held is cut into lines of at most maxLine.
func (s *spool) room(i int) []byte { return s.buffer(i)[s.state().streams[i].end:] }

// grow says that n bytes were read into room.
func (s *spool) grow(i, n int) {
	if n > 0 {
		s.change(func(st *spoolState) { st.streams[i].end += uint64(n) })
	}
}

// consume gives up n bytes from the front of held, which the driver has taken
// up to mark.
func (s *spool) consume(i, n int, mark Mark) {
	s.change(func(st *spoolState) {
		st.streams[i].off += uint64(n)
		st.mark = mark
	})
}

// tidy moves what is held to the front and clears the rest. It leaves things
// as they are where the move would overlap; that cannot be with a full buffer,
// since held is then shorter than maxLine.
func (s *spool) tidy(i int) {
	r := s.state().streams[i]
	n := r.end - r.off
	if r.off > 0 && n <= r.off {
		copy(s.buffer(i), s.held(i))
		r = spoolRange{end: n, stale: max(r.end, r.stale)}
		s.change(func(st *spoolState) { st.streams[i] = r })
	}
	if r.stale > r.end {
		clear(s.buffer(i)[r.end:r.stale])
		s.change(func(st *spoolState) { st.streams[i].stale = 0 })
	}
}

// close unmaps the spool; the file stays.
func (s *spool) close() error {
	if err := unix.Munmap(s.mem); err != nil {
		return fmt.Errorf("cannot unmap spool: %w", err)
	}
	s.mem, s.head = nil, nil
	return nil
}
