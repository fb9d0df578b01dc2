package logs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// journal takes entries at a socket as systemd-journald does.
type journal struct {
	path string
	conn *net.UnixConn
}

func newJournal(t *testing.T) *journal {
	t.Helper()
	dir, err := os.MkdirTemp("", "journal-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	j := &journal{path: filepath.Join(dir, "socket")}
	j.listen(t)
	return j
}

func (j *journal) listen(t *testing.T) {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: j.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	j.conn = conn
}

// next is the fields of the next entry; passed says that it came as a file.
func (j *journal) next(t *testing.T) (fields map[string]string, passed bool) {
	t.Helper()
	if err := j.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	data, control := make([]byte, 1<<20), make([]byte, 256)
	n, controls, _, _, err := j.conn.ReadMsgUnix(data, control)
	if err != nil {
		t.Fatal(err)
	}
	data = data[:n]
	if controls > 0 {
		passed, data = true, received(t, control[:controls])
	}
	fields = map[string]string{}
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte{'\n'})
		name, value, plain := strings.Cut(string(line), "=")
		if !plain {
			size := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+size]), rest[8+size+1:]
		}
		fields[name], data = value, rest
	}
	return fields, passed
}

// received is the content of a file that was passed on, if nobody can change it.
func received(t *testing.T, control []byte) []byte {
	t.Helper()
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatal(fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close() //nolint:errcheck // it was only read
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_WRITE == 0 {
		t.Errorf("the file can be written to: %x %v", seals, err)
	}
	content, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<24))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestJournald(t *testing.T) {
	j := newJournal(t)
	c := Container{
		ID: "0123456789abcdef", Name: "web", Image: "shop:7", Driver: DriverJournald,
		Labels: map[string]string{"com.example/team": "blue", "other": "x"}, Env: []string{"_SHARD=7", "MULTI=a\nb"},
		Options: map[string]string{"tag": "{{.Name}}/{{.ID}}", "labels": "com.example/team", "env": "_SHARD,MULTI"},
	}
	factory := journaldFactory(j.path)
	if err := check(map[string]Factory{DriverJournald: factory}, c); err != nil {
		t.Fatal(err)
	}
	d, err := factory.Open(t.Context(), DriverConfig{Container: c})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC)
	long := strings.Repeat("x", 400<<10) // more than a datagram holds
	entries := []Entry{
		{Time: at, Stream: Stdout, Line: []byte("hello\n")},
		{Time: at, Stream: Stderr, Line: []byte("two\nlines\n"), Partial: &Partial{ID: "p", Ordinal: 1}},
		{Time: at, Stream: Stdout, Line: []byte(long), Partial: &Partial{ID: "p", Ordinal: 2, Last: true}},
	}
	always := map[string]string{
		"CONTAINER_ID": "0123456789ab", "CONTAINER_ID_FULL": c.ID, "CONTAINER_NAME": "web", "CONTAINER_TAG": "web/0123456789ab",
		"SYSLOG_IDENTIFIER": "web/0123456789ab", "IMAGE_NAME": "shop:7", "COM_EXAMPLE_TEAM": "blue", "SHARD": "7", "MULTI": "a\nb",
		"SYSLOG_TIMESTAMP": "2026-03-04T05:06:07.000000008Z",
	}
	for i, own := range []map[string]string{
		{"PRIORITY": "6", "MESSAGE": "hello"},
		{
			"PRIORITY": "3", "MESSAGE": "two\nlines", "CONTAINER_PARTIAL_MESSAGE": "true", "CONTAINER_PARTIAL_ID": "p",
			"CONTAINER_PARTIAL_ORDINAL": "1", "CONTAINER_PARTIAL_LAST": "false",
		},
		{
			"PRIORITY": "6", "MESSAGE": long, "CONTAINER_PARTIAL_ID": "p", "CONTAINER_PARTIAL_ORDINAL": "2",
			"CONTAINER_PARTIAL_LAST": "true",
		},
	} {
		if n, err := d.Write(t.Context(), entries[i:i+1]); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		maps.Copy(own, always)
		got, passed := j.next(t)
		if diff := cmp.Diff(own, got); diff != "" {
			t.Errorf("entry %d: %.2000s", i, diff)
		}
		if passed != (i == 2) {
			t.Errorf("entry %d was passed as a file: %v", i, passed)
		}
	}
	// The journal is restarted.
	if err := j.conn.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Write(t.Context(), entries[:1]); n != 0 || err == nil {
		t.Error("a journal that is away took an entry", n, err)
	}
	_ = os.Remove(j.path) // the listener may have done it
	j.listen(t)
	if n, err := d.Write(t.Context(), entries[:1]); n != 1 || err != nil {
		t.Error(n, err)
	}
	if got, _ := j.next(t); got["MESSAGE"] != "hello" {
		t.Errorf("%v", got)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestJournalFields(t *testing.T) {
	var got []string
	for _, name := range []string{"a", "com.example-x/y", "__private", "9lives", "ü"} {
		got = append(got, fmt.Sprintf("%s:%s", name, journalField(name)))
	}
	want := []string{"a:A", "com.example-x/y:COM_EXAMPLE_X_Y", "__private:PRIVATE", "9lives:LIVES", "ü:"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
