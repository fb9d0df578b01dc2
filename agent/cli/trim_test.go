package cli

import (
	"fmt"
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

// resident is the memory of this process that is in use, in pages.
func resident(t *testing.T) (pages int64) {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages
}

// TestTrim lets go of this test's own program, which must go on after it.
func TestTrim(t *testing.T) {
	before := resident(t)
	if err := trim(); err != nil {
		t.Fatal(err)
	}
	if after := resident(t); after >= before {
		t.Errorf("%d pages in use before, %d after", before, after)
	}
}
