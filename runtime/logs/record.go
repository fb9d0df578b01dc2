package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// appendRecord appends an entry to a queue: as json-file writes it, so that it
// can be read back the same way, and with the bytes themselves where JSON cannot
// hold them.
func appendRecord(buf []byte, e Entry) []byte {
	if utf8.Valid(e.Line) {
		return appendEntry(buf, e, nil)
	}
	buf = appendEntry(buf, e, nil)
	buf = append(buf[:len(buf)-len("}\n")], `,"raw":`...)
	raw, err := json.Marshal(e.Line)
	if err != nil {
		panic(err) // it is a []byte
	}
	return append(append(buf, raw...), "}\n"...)
}

// The fixed parts of a record.
const (
	recordLog    = `{"log":"`
	recordStream = `","stream":"`
	recordTime   = `","time":"`
	recordEnd    = `"}`
)

// parseRecord reads what appendRecord wrote, less its newline. The entry's line
// is the caller's.
func parseRecord(text []byte) (Entry, error) {
	if e, ok := parseQuick(text); ok {
		return e, nil
	}
	var record struct {
		Log    string    `json:"log"`
		Stream Stream    `json:"stream"`
		Time   time.Time `json:"time"`
		Raw    []byte    `json:"raw"`
	}
	if err := json.Unmarshal(text, &record); err != nil {
		return Entry{}, fmt.Errorf("cannot read queued line: %w", err)
	}
	if record.Raw == nil {
		record.Raw = []byte(record.Log)
	}
	return Entry{Time: record.Time, Stream: record.Stream, Line: record.Raw}, nil
}

// parseQuick reads a record whose text needs no unescaping but of the simple
// kinds; ok is false for any other.
func parseQuick(text []byte) (_ Entry, ok bool) {
	rest, ok := bytes.CutPrefix(text, []byte(recordLog))
	if !ok {
		return Entry{}, false
	}
	buf := make([]byte, 0, len(rest))
	for {
		i := bytes.IndexAny(rest, `"\`)
		if i < 0 || i+1 >= len(rest) {
			return Entry{}, false
		}
		buf = append(buf, rest[:i]...)
		if rest[i] == '"' {
			rest = rest[i:]
			break
		}
		c, known := unescape(rest[i+1])
		if !known {
			return Entry{}, false
		}
		buf = append(buf, c)
		rest = rest[i+2:]
	}
	stream, rest, ok := bytes.Cut(bytes.TrimPrefix(rest, []byte(recordStream)), []byte(recordTime))
	at, rest, ended := bytes.Cut(rest, []byte(recordEnd))
	if !ok || !ended || len(rest) > 0 || string(stream) != string(Stdout) && string(stream) != string(Stderr) {
		return Entry{}, false
	}
	when, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return Entry{}, false
	}
	e := Entry{Time: when, Stream: Stdout, Line: slices.Clip(buf)}
	if string(stream) == string(Stderr) {
		e.Stream = Stderr
	}
	return e, true
}

// unescape is the byte behind a backslash in a JSON string; \u is not known.
func unescape(c byte) (byte, bool) {
	switch c {
	case '"', '\\', '/':
		return c, true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	}
	return 0, false
}
