package cli

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestClean(t *testing.T) {
	const smaps = `00400000-01000000 r-xp 00000000 fe:00 1 /usr/bin/berth
Size:              12288 kB
Rss:                8000 kB
Anonymous:             0 kB
01000000-01200000 r--p 00c00000 fe:00 1 /usr/bin/berth
Anonymous:             8 kB
01200000-01300000 rw-p 00e00000 fe:00 1 /usr/bin/berth
Anonymous:             0 kB
c000000000-c000400000 rw-p 00000000 00:00 0
Anonymous:           400 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 2 /lib/other.so
Anonymous:             0 kB
`
	got, err := clean(strings.NewReader(smaps), "/usr/bin/berth")
	if err != nil {
		t.Fatal(err)
	}
	if want := []span{{0x400000, 0x1000000}}; !slices.Equal(got, want) {
		t.Errorf("clean mappings %x, want %x: neither changed, writable nor foreign ones", got, want)
	}
}

// TestTrim lets go of this test's own program, which must go on after it.
func TestTrim(t *testing.T) {
	resident := func() string {
		data, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(data), "RssFile:")
		line, _, _ := strings.Cut(rest, "\n")
		return strings.TrimSpace(line)
	}
	before := resident()
	if err := trim(); err != nil {
		t.Fatal(err)
	}
	if after := resident(); len(after) > len(before) || len(after) == len(before) && after >= before {
		t.Errorf("pages of files before %s, after %s", before, after)
	}
}
