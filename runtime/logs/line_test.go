package logs

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAppendStringIsEncodingJSON(t *testing.T) {
	texts := []string{
		"", "plain\n", "\x00\x01\x1f\x7f", "tab\tquote\"back\\slash/\r\n\b\f", "<html>&amp;",
		"grüße, 世界 🎉", "\u2028\u2029\u202a", "bad \xff\xfe utf8 \xc3", "\xe2\x80", "\xed\xa0\x80", "\ufffd",
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := make([]byte, random.IntN(40))
		for i := range text {
			text[i] = byte(random.IntN(256))
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		want, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendString(nil, []byte(text)); string(got) != string(want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestAppendEntryIsDockersFormat(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.FixedZone("east", 3600))
	got := string(appendEntry(nil, Entry{Time: at, Stream: Stderr, Line: []byte("hello \"you\"\n")}, nil)) +
		string(appendEntry(nil, Entry{Time: at, Stream: Stdout, Line: []byte("part")}, []byte(`{"tag":"x"}`)))
	want := `{"log":"hello \"you\"\n","stream":"stderr","time":"2026-01-02T02:04:05.6789Z"}
{"log":"part","stream":"stdout","attrs":{"tag":"x"},"time":"2026-01-02T02:04:05.6789Z"}
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCut(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, tc := range []struct {
		name, data string
		final      bool
		want       []string
	}{
		{"whole lines and a beginning", "a\n\nbc\nrest", false, []string{"a\n", "\n", "bc\n"}},
		{"the end of a stream", "a\nrest", true, []string{"a\n", "rest"}},
		{"nothing yet", "rest", false, nil},
		{"one byte short of a part", long[1:], false, nil},
		{"a part", long, false, []string{long}},
		{"a part and its end", long + "y\n", false, []string{long, "y\n"}},
		{"just no part", long[1:] + "\n", false, []string{long[1:] + "\n"}},
		{"newline behind a full part", long + "\n", false, []string{long, "\n"}},
		{"no more than there is room for", "1\n2\n3\n4\n5\n6\n", false, []string{"1\n", "2\n", "3\n", "4\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, e := range cut(make([]Entry, 0, 4), []byte(tc.data), Stdout, tc.final) {
				got = append(got, string(e.Line))
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBackward(t *testing.T) {
	var want []string
	var content strings.Builder
	random := rand.New(rand.NewPCG(3, 4))
	for i := range 400 {
		line := strings.Repeat(string(rune('a'+i%26)), random.IntN(3000))
		want = append(want, line)
		content.WriteString(line + "\n")
	}
	text := content.String() + "unfinished"
	var got []string
	err := backward(strings.NewReader(text), int64(len(text)), func(end int64, line []byte) bool {
		if text[end-1] != '\n' || text[end-1-int64(len(line)):end-1] != string(line) {
			t.Fatalf("line of %d bytes does not end at %d", len(line), end)
		}
		got = append([]string{string(bytes.Clone(line))}, got...)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
