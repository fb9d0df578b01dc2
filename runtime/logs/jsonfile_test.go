package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// newJSONFile opens the driver in dir.
func newJSONFile(t *testing.T, dir string, options map[string]string, mark Mark) Driver {
	t.Helper()
	d, err := openJSONFile(t.Context(), DriverConfig{Container: Container{ID: "c", Options: options}, DataDir: dir, Mark: mark, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// put writes one line each for numbers from first to last, all of them however
// many calls it takes.
func put(t *testing.T, d Driver, first, last int) {
	t.Helper()
	var entries []Entry
	for i := first; i <= last; i++ {
		entries = append(entries, Entry{Time: time.Unix(int64(i), 0), Stream: Stdout, Line: fmt.Appendf(nil, "line %d\n", i)})
	}
	for len(entries) > 0 {
		n, err := d.Write(t.Context(), entries)
		if err != nil {
			t.Fatal(err)
		}
		entries = entries[n:]
	}
}

// readAll reads the log back from dir, which is the container's data directory.
func readAll(t *testing.T, dir string, req ReadRequest) []string {
	t.Helper()
	req.Dir, req.DataDir, req.ID = t.TempDir(), filepath.Dir(dir), filepath.Base(dir)
	var got []string
	if err := Read(t.Context(), req, func(l Line) error {
		got = append(got, strings.TrimSuffix(l.Log, "\n"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// numbered is what put wrote.
func numbered(first, last int) (lines []string) {
	for i := first; i <= last; i++ {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	return lines
}

func TestRotationKeepsCountAndSize(t *testing.T) {
	for _, compress := range []string{"false", "true"} {
		t.Run("compress="+compress, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "c")
			d := newJSONFile(t, dir, map[string]string{"max-size": "1k", "max-file": "3", "compress": compress}, Mark{})
			put(t, d, 1, 100)
			if err := d.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
				info, err := e.Info()
				if err != nil || info.Size() == 0 || info.Size() > 2*1024+100 || info.Mode().Perm() != 0o640 {
					t.Errorf("%s: %v %v %v", e.Name(), info.Size(), info.Mode(), err)
				}
			}
			want := []string{"json.log", "json.log.1", "json.log.2"}
			if compress == "true" {
				want = []string{"json.log", "json.log.1.gz", "json.log.2.gz"}
			}
			if !slices.Equal(names, want) {
				t.Fatalf("files %v, want %v", names, want)
			}
			all := numbered(1, 100)
			got := readAll(t, dir, ReadRequest{})
			if len(got) < 25 || !slices.Equal(got, all[100-len(got):]) {
				t.Errorf("read back %d lines: %v", len(got), got)
			}
			for _, n := range []int{1, 5, 11, 12, 13, 17, 24, len(got), 99} {
				want := got[max(0, len(got)-n):]
				if tail := readAll(t, dir, ReadRequest{Tail: n}); !slices.Equal(tail, want) {
					t.Errorf("tail %d: %v, want %v", n, tail, want)
				}
			}
		})
	}
}

func TestOneFileIsBegunAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	d := newJSONFile(t, dir, map[string]string{"max-size": "1k"}, Mark{})
	put(t, d, 1, 50)
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, dir, ReadRequest{})
	if len(got) == 0 || len(got) > 15 || got[len(got)-1] != "line 50" {
		t.Errorf("%v", got)
	}
}

// What a killed process wrote without giving the entries up is offered again,
// so it must go from the file.
func TestRewindToMark(t *testing.T) {
	rotating := map[string]string{"max-size": "300", "max-file": "3"}
	compressing := map[string]string{"max-size": "300", "max-file": "3", "compress": "true"}
	for _, tc := range []struct {
		name     string
		options  map[string]string
		kept     int // given up
		written  int
		tearLast bool
	}{
		{name: "nothing new", kept: 3, written: 3},
		{name: "a batch", kept: 3, written: 5},
		{name: "a rotation, and a batch in the new file", options: rotating, kept: 5, written: 7},
		{name: "the same, compressed", options: compressing, kept: 5, written: 7},
		{name: "half a line after a host crash", kept: 3, written: 3, tearLast: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "c")
			d := newJSONFile(t, dir, tc.options, Mark{})
			put(t, d, 1, tc.kept)
			mark := d.Mark()
			if tc.written > tc.kept {
				put(t, d, tc.kept+1, tc.written)
			}
			if err := d.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if tc.tearLast {
				mark = Mark{}
				f, err := os.OpenFile(filepath.Join(dir, logName), os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(`{"log":"to`); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			d = newJSONFile(t, dir, tc.options, mark)
			put(t, d, tc.kept+1, tc.written+2)
			if err := d.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := readAll(t, dir, ReadRequest{}); !slices.Equal(got, numbered(1, tc.written+2)) {
				t.Errorf("%v", got)
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small tmpfs")
	}
	mount := t.TempDir()
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(mount, "c")
	d := newJSONFile(t, dir, nil, Mark{})
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	done, err := 0, error(nil)
	for err == nil && done < 10000 {
		var n int
		n, err = d.Write(t.Context(), []Entry{{Stream: Stdout, Time: time.Unix(1, 0), Line: fmt.Appendf(nil, "line %d\n", done+1)}})
		done += n
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("after %d lines: %v", done, err)
	}
	// The file ends with a whole line, and goes on from there once there is room.
	if got := readAll(t, dir, ReadRequest{}); !slices.Equal(got, numbered(1, done)) {
		t.Fatalf("%d lines, %d read back", done, len(got))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	put(t, d, done+1, done+10)
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, dir, ReadRequest{}); !slices.Equal(got, numbered(1, done+10)) {
		t.Errorf("%d lines read back", len(got))
	}
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	type options = map[string]string
	for _, tc := range []struct {
		driver  string
		options options
		want    string // "" is right
	}{
		{"", nil, ""},
		{"none", options{"anything": "goes"}, ""},
		{"json-file", options{"max-size": "10m", "max-file": "3", "compress": "true", "tag": "{{.Name}}/{{ .ID }}", "mode": "non-blocking", "max-buffer-size": "4m"}, ""},
		{"json-file", options{"max-size": "-1"}, ""},
		{"json-file", options{"labels": "a,b", "labels-regex": "^x", "env": "A", "env-regex": "^B"}, ""},
		{"smoke", nil, `unknown log driver "smoke"; there are fluentd, gelf, journald, json-file, `},
		{"", options{"max-sise": "1m"}, `unknown log option "max-sise" for driver json-file`},
		{"", options{"max-size": "big"}, `max-size="big" is not a size such as 10m`},
		{"", options{"max-size": "0"}, `max-size="0" must be positive`},
		{"", options{"max-file": "0"}, `max-file="0" is not a number of files`},
		{"", options{"compress": "true"}, `compress needs max-size and max-file of 2 or more`},
		{"", options{"compress": "maybe"}, `compress="maybe" is not true or false`},
		{"", options{"tag": "{{.Foo}}"}, `tag="{{.Foo}}": cannot expand {{.Foo}}`},
		{"", options{"env-regex": "("}, `env-regex="("`},
		{"", options{"mode": "fast"}, `mode="fast"; it is blocking or non-blocking`},
		{"", options{"max-buffer-size": "1m"}, `max-buffer-size is only for mode=non-blocking`},
		{"", options{"mode": "non-blocking", "max-buffer-size": "0"}, `max-buffer-size="0" must be positive`},
	} {
		err := check(builtin(), Container{ID: "c", Driver: tc.driver, Options: tc.options})
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s %v: %v", tc.driver, tc.options, err)
			}
			continue
		}
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %v: %v, want %s", tc.driver, tc.options, err, tc.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "1k": 1024, "10m": 10 << 20, "2G": 2 << 30, "1.5kb": 1536, "3 MiB": 3 << 20, "1t": 1 << 40,
	} {
		if got, err := parseSize("x", text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "k", "-1", "1x", "NaN", "9e30", "m1"} {
		if got, err := parseSize("x", text); !errors.Is(err, ErrOptions) {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

func TestAttributes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	d, err := openJSONFile(t.Context(), DriverConfig{DataDir: dir, Container: Container{
		ID: "0123456789abcdef", Name: "web", Image: "nginx:1",
		Labels:  map[string]string{"team": "blue", "x-1": "y", "other": "no"},
		Env:     []string{"STAGE=prod", "SECRET=s"},
		Options: map[string]string{"labels": "team", "labels-regex": "^x-", "env": "STAGE", "tag": "{{.ImageName}}/{{.Name}}/{{.ID}}"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	put(t, d, 1, 1)
	if err := d.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, logName))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"log":"line 1\n","stream":"stdout","attrs":{"STAGE":"prod","tag":"nginx:1/web/0123456789ab","team":"blue","x-1":"y"},"time":"1970-01-01T00:00:01Z"}` + "\n"
	if string(got) != want {
		t.Errorf("%s", got)
	}
	if _, err := os.Stat(filepath.Join(dir, logName+".1")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
