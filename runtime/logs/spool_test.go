package logs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// reopened maps the same file again, as the next process does: what the first
// mapping did until now is there.
func reopened(t *testing.T, path string) *spool {
	t.Helper()
	s, _, err := openSpool(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSpoolAfterKill(t *testing.T) {
	mark := Mark{A: 7, B: 9}
	for _, tc := range []struct {
		name string
		do   func(s *spool)
		want string
		mark Mark
	}{
		{"read, and killed before saying so", func(s *spool) {
			copy(s.room(0), "line\nbeg")
		}, "line\nbeg", Mark{}},
		{"read", func(s *spool) {
			s.grow(0, copy(s.room(0), "line\nbeg"))
		}, "line\nbeg", Mark{}},
		{"read twice, the second time without saying so", func(s *spool) {
			s.grow(0, copy(s.room(0), "line\nbeg"))
			copy(s.room(0), "in\n")
		}, "line\nbegin\n", Mark{}},
		{"given up", func(s *spool) {
			s.grow(0, copy(s.room(0), "line\nbeg"))
			s.consume(0, 5, mark)
		}, "beg", mark},
		{"moved, and killed before it was cleared behind", func(s *spool) {
			s.grow(0, copy(s.room(0), "line\nbeg"))
			s.consume(0, 5, mark)
			copy(s.buffer(0), "beg")
			s.change(func(st *spoolState) { st.streams[0] = spoolRange{end: 3, stale: 8} })
		}, "beg", mark},
		{"killed while clearing behind", func(s *spool) {
			s.grow(0, copy(s.room(0), "line\nbeg"))
			s.consume(0, 5, mark)
			copy(s.buffer(0), "beg")
			s.change(func(st *spoolState) { st.streams[0] = spoolRange{end: 3, stale: 8} })
			clear(s.buffer(0)[3:6])
		}, "beg", mark},
		{"killed before the turn of a change", func(s *spool) {
			s.grow(0, copy(s.room(0), "line\nbeg"))
			s.head.states[1-s.head.inUse] = spoolState{mark: mark}
		}, "line\nbeg", Mark{}},
		{"tidy", func(s *spool) {
			s.grow(0, copy(s.room(0), "line\nbeg"))
			s.consume(0, 5, mark)
			s.tidy(0)
			copy(s.room(0), "in\n")
		}, "begin\n", mark},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), spoolName)
			s := reopened(t, path)
			s.grow(1, copy(s.room(1), "the other stream"))
			tc.do(s)
			s = reopened(t, path)
			if got := string(s.held(0)); got != tc.want {
				t.Errorf("held %q, want %q", got, tc.want)
			}
			if got := string(s.held(1)); got != "the other stream" {
				t.Errorf("the other stream holds %q", got)
			}
			if got := s.state().mark; got != tc.mark {
				t.Errorf("mark %v, want %v", got, tc.mark)
			}
			if rest := strings.Trim(string(s.room(0)), "\x00"); rest != "" {
				t.Errorf("room is not clear: %q", rest)
			}
		})
	}
}

func TestSpoolIsReplacedWhenUnsound(t *testing.T) {
	path := filepath.Join(t.TempDir(), spoolName)
	if err := os.WriteFile(path, []byte(strings.Repeat("garbage", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := reopened(t, path)
	if len(s.held(0)) != 0 || len(s.room(0)) != spoolBuffer {
		t.Errorf("holds %d with room for %d", len(s.held(0)), len(s.room(0)))
	}
}

// A full buffer always leaves room once it is cut into lines.
func TestSpoolNeverFills(t *testing.T) {
	s := reopened(t, filepath.Join(t.TempDir(), spoolName))
	for round := range 50 {
		room := s.room(0)
		if len(room) == 0 {
			t.Fatalf("no room in round %d", round)
		}
		for i := range room {
			room[i] = 'x'
		}
		room[len(room)*round/50] = '\n'
		s.grow(0, len(room))
		for {
			entries := cut(make([]Entry, 0, 1), s.held(0), Stdout, false)
			if len(entries) == 0 {
				break
			}
			s.consume(0, len(entries[0].Line), Mark{})
		}
		s.tidy(0)
	}
}
