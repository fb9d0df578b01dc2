package tcs

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// EncodeFrame puts signed header lines, sorted by name, and an empty line
// before a JSON envelope.
func EncodeFrame(header http.Header, body []byte) []byte {
	names := make([]string, 0, len(header))
	size := len(body) + 2
	for name, values := range header {
		names = append(names, name)
		for _, v := range values {
			size += len(name) + len(v) + 4
		}
	}
	slices.Sort(names)
	frame := make([]byte, 0, size)
	for _, name := range names {
		for _, v := range header[name] {
			frame = append(frame, name...)
			frame = append(frame, ": "...)
			frame = append(frame, v...)
			frame = append(frame, "\r\n"...)
		}
	}
	frame = append(frame, "\r\n"...)
	return append(frame, body...)
}

// DecodeFrame splits a frame at its first empty line. Lines may end in CRLF or
// in LF. A frame that begins with an object has no header block. The body is
// part of frame, not a copy.
func DecodeFrame(frame []byte) (header http.Header, body []byte, err error) {
	header = http.Header{}
	rest := frame
	if bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte("{")) {
		return header, rest, nil
	}
	for {
		line, after, ok := bytes.Cut(rest, []byte("\n"))
		if !ok {
			return nil, nil, errors.New("cannot decode frame: no empty line after the header")
		}
		rest = after
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) == 0 {
			return header, rest, nil
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok || name == "" {
			return nil, nil, fmt.Errorf("cannot decode frame: %q is not a header line", line)
		}
		header.Add(name, strings.TrimSpace(value))
	}
}
