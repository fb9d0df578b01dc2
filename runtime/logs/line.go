package logs

import (
	"bytes"
	"time"
	"unicode/utf8"
)

// cut appends the lines at the front of data to entries, at most as many as
// entries has room for, and returns them. An unfinished line is cut off at
// maxLine, and given out as it is when final is set; otherwise it stays.
func cut(entries []Entry, data []byte, stream Stream, final bool) []Entry {
	now := time.Now()
	for len(data) > 0 && len(entries) < cap(entries) {
		n := bytes.IndexByte(data[:min(len(data), maxLine)], '\n') + 1
		if n == 0 {
			if len(data) < maxLine && !final {
				break
			}
			n = min(len(data), maxLine)
		}
		entries = append(entries, Entry{Time: now, Stream: stream, Line: data[:n:n]})
		data = data[n:]
	}
	return entries
}

// appendEntry appends an entry as Docker's json-file driver writes it, one JSON
// object and a newline. attrs is a JSON object or empty.
func appendEntry(buf []byte, e Entry, attrs []byte) []byte {
	buf = append(buf, `{"log":`...)
	buf = appendString(buf, e.Line)
	buf = append(buf, `,"stream":"`...)
	buf = append(buf, e.Stream...)
	buf = append(buf, '"')
	if len(attrs) > 0 {
		buf = append(buf, `,"attrs":`...)
		buf = append(buf, attrs...)
	}
	buf = append(buf, `,"time":"`...)
	buf = e.Time.UTC().AppendFormat(buf, time.RFC3339Nano)
	return append(buf, "\"}\n"...)
}

// appendString appends text as a JSON string, byte for byte as encoding/json
// does; what is not UTF-8 becomes U+FFFD.
func appendString(buf, text []byte) []byte {
	const hex = "0123456789abcdef"
	buf = append(buf, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			buf = append(buf, text[start:i]...)
			switch c {
			case '"', '\\':
				buf = append(buf, '\\', c)
			case '\n':
				buf = append(buf, '\\', 'n')
			case '\r':
				buf = append(buf, '\\', 'r')
			case '\t':
				buf = append(buf, '\\', 't')
			case '\b':
				buf = append(buf, '\\', 'b')
			case '\f':
				buf = append(buf, '\\', 'f')
			default:
				buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			buf = append(append(buf, text[start:i]...), `\ufffd`...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			buf = append(append(buf, text[start:i]...), `\u202`...)
			buf = append(buf, hex[r&15])
			start = i + size
		}
		i += size
	}
	buf = append(buf, text[start:]...)
	return append(buf, '"')
}
