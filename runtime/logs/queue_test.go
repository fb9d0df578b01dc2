package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// smallQueue is a queue whose files hold about ten lines.
func smallQueue(t *testing.T, dir string, limit int64) *queue {
	t.Helper()
	q, err := openQueue(dir, rotation{maxSize: 1700, maxFiles: 2}, limit, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := q.write(Mark{}, false); err != nil {
		t.Fatal(err)
	}
	return q
}

// fill writes lines first to last.
func fill(t *testing.T, q *queue, first, last int) {
	t.Helper()
	entries, _ := lines(first, last)
	for len(entries) > 0 {
		n, err := q.Write(t.Context(), entries)
		if err != nil {
			t.Fatal(err)
		}
		entries = entries[n:]
	}
}

// drain reads everything there is, and moves the cursor after the n-th line of it.
func drain(t *testing.T, q *queue, n int) (texts []string) {
	t.Helper()
	s := newSource(q)
	defer s.close()
	for {
		text, ok, err := s.line()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return texts
		}
		e, err := parseRecord(text)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(e.Line))
		if len(texts) == n {
			if err := q.take(s.at); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What waits is kept over any number of rotations, found again from the cursor
// by the next process, and thrown away behind it but for the copy.
func TestQueueKeepsWhatWaits(t *testing.T) {
	dir := t.TempDir()
	q := smallQueue(t, dir, 1<<20)
	fill(t, q, 1, 95)
	_, want := lines(1, 95)
	if got := drain(t, q, 34); !slices.Equal(got, want) {
		t.Fatalf("%d lines of 95", len(got))
	}
	before := q.backlog()
	reopened := func() {
		t.Helper()
		if err := errors.Join(q.Close(t.Context()), q.shut()); err != nil {
			t.Fatal(err)
		}
		q = smallQueue(t, dir, 1<<20)
	}
	reopened()
	if got := q.backlog(); got != before || got == 0 {
		t.Errorf("%d bytes wait after a restart, %d before", got, before)
	}
	fill(t, q, 96, 100)
	_, want = lines(35, 100)
	if got := drain(t, q, len(want)); !slices.Equal(got, want) {
		t.Errorf("after a restart the first of %d lines is %.10s", len(got), got[0])
	}
	if left := q.backlog(); left != 0 {
		t.Errorf("%d bytes wait, and nothing does", left)
	}
	fill(t, q, 101, 130)
	_, want = lines(101, 130)
	if got := drain(t, q, 30); !slices.Equal(got, want) {
		t.Errorf("%d lines of 30", len(got))
	}
	if n := len(q.segments()); n != 2 {
		t.Errorf("%d files are kept of what was taken, want 2", n)
	}
	reopened()
	if got := drain(t, q, 0); len(got) != 0 {
		t.Errorf("%d lines are delivered again", len(got))
	}
	if err := errors.Join(q.Close(t.Context()), q.shut()); err != nil {
		t.Error(err)
	}
}

func TestQueueIsBounded(t *testing.T) {
	for _, drop := range []bool{false, true} {
		q := smallQueue(t, t.TempDir(), 4000)
		q.drop = drop
		entries, want := lines(1, 60)
		taken := 0
		for _, e := range entries {
			n, err := q.Write(t.Context(), []Entry{e})
			if drop && (n != 1 || err != nil) || !drop && (n == 0) != errors.Is(err, errFull) {
				t.Fatal(n, err)
			}
			taken += n
		}
		got := drain(t, q, 1)
		if kept := len(got); kept >= 40 || kept < 20 || !slices.Equal(got, want[:kept]) ||
			drop && (taken != 60 || q.tally.count() != int64(60-kept)) || !drop && taken != kept {
			t.Errorf("drop %v: %d kept, %d taken, %d dropped", drop, kept, taken, q.tally.count())
		}
		// One line taken makes room for one.
		if n, err := q.Write(t.Context(), entries[:1]); n != 1 || err != nil {
			t.Error(n, err)
		}
		if err := errors.Join(q.Close(t.Context()), q.shut()); err != nil {
			t.Error(err)
		}
	}
}

// Writes that a killed process did not give up are taken back, and the cursor
// with them.
func TestQueueTakesBack(t *testing.T) {
	dir := t.TempDir()
	q := smallQueue(t, dir, 1<<20)
	fill(t, q, 1, 3)
	mark := q.Mark()
	fill(t, q, 4, 5)
	drain(t, q, 5) // delivered, and killed before they were given up
	if err := q.shut(); err != nil {
		t.Fatal(err)
	}
	q, err := openQueue(dir, rotation{maxSize: 1700, maxFiles: 2}, 1<<20, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := q.write(mark, false); err != nil {
		t.Fatal(err)
	}
	fill(t, q, 4, 6)
	_, want := lines(4, 6)
	if got := drain(t, q, 0); !slices.Equal(got, want) {
		t.Errorf("%.10q", got)
	}
	if err := errors.Join(q.Close(t.Context()), q.shut()); err != nil {
		t.Error(err)
	}
}

// A line that a host crash has torn is passed over, and what comes behind it is
// not.
func TestQueueWithATornLine(t *testing.T) {
	dir := t.TempDir()
	torn := "{\"log\":\"half a"
	if err := os.WriteFile(filepath.Join(dir, logName+".1"), []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	q := smallQueue(t, dir, 1<<20)
	fill(t, q, 1, 2)
	_, want := lines(1, 2)
	if got := drain(t, q, 2); !slices.Equal(got, want) || q.backlog() != 0 {
		t.Errorf("%.10q, and %d bytes wait", got, q.backlog())
	}
	if err := errors.Join(q.Close(t.Context()), q.shut()); err != nil {
		t.Error(err)
	}
}

func TestRecords(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	for _, text := range []string{
		"plain\n", "", "\n", "no newline", `quote " and \ back` + "\n", "tab\tand\rreturn\b\f\n", "käse ☃ \U0001f600\n",
		"<html>&\n", "\x00\x01\x1f\n", "\u2028\u2029\n", "caf\xe9\n", "\xff\xfe", strings.Repeat("x", maxLine),
	} {
		for _, stream := range []Stream{Stdout, Stderr} {
			e := Entry{Time: at, Stream: stream, Line: []byte(text)}
			record := appendRecord(nil, e)
			if bytes.Count(record, []byte{'\n'}) != 1 {
				t.Fatalf("%q is not one line", record)
			}
			got, err := parseRecord(bytes.TrimSuffix(record, []byte{'\n'}))
			if err != nil || !got.Time.Equal(at) || got.Stream != stream || string(got.Line) != text {
				t.Errorf("%q came back as %+v, %v", text, got, err)
			}
			if l, ok := decode(record[:len(record)-1]); !ok || l.Log != strings.ToValidUTF8(text, "\ufffd") && !strings.Contains(text, "\xff") {
				t.Errorf("%q is read as %q", text, l.Log)
			}
		}
	}
	for _, bad := range []string{"", "{", `{"log":"x`, `{"log":1}`, "null and void"} {
		if e, err := parseRecord([]byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, e)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("a line\n"), true)
	f.Fuzz(func(t *testing.T, text []byte, stderr bool) {
		e := Entry{Time: time.Unix(1, 0), Stream: Stdout, Line: text}
		if stderr {
			e.Stream = Stderr
		}
		got, err := parseRecord(bytes.TrimSuffix(appendRecord(nil, e), []byte{'\n'}))
		if err != nil || !bytes.Equal(got.Line, text) || got.Stream != e.Stream {
			t.Errorf("%q came back as %+v, %v", text, got, err)
		}
	})
}

func TestCacheOptions(t *testing.T) {
	for _, tc := range []struct {
		options map[string]string
		want    string
	}{
		{nil, "5242880 4"},
		{map[string]string{"cache-max-size": "1m", "cache-max-file": "7", "cache-compress": "true"}, "1048576 7"},
		{map[string]string{"cache-disabled": "true"}, "5242880 1"},
		{map[string]string{"cache-disabled": "maybe"}, `invalid log configuration: cache-disabled="maybe" is not true or false`},
		{map[string]string{"cache-max-size": "0"}, `invalid log configuration: cache-max-size="0" must be positive`},
		{map[string]string{"cache-max-file": "0"}, `invalid log configuration: cache-max-file="0" is not a number of files`},
	} {
		rules, err := parseCache(tc.options)
		got := fmt.Sprint(rules.maxSize, rules.maxFiles)
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%v: %s, want %s", tc.options, got, tc.want)
		}
	}
}
