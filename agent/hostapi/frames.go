package hostapi

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// An exec session, once upgraded, is frames in both directions:
//
//	┌──────┬────────────────┬─────────┐
//	│ kind │ length, 32 bit │ payload │   numbers are big-endian
//	└──────┴────────────────┴─────────┘
//
//	stdin  →   bytes; an empty one is the end of stdin
//	resize →   width, height, 16 bit each
//	stdout ←   bytes
//	stderr ←   bytes
//	exit   ←   exit code, 32 bit; the last frame
//	error  ←   Error as JSON; the last frame, instead of exit
//
// A side that closes the connection early ends the session: the server then ends the process.
type frameKind byte

const (
	frameStdin  frameKind = 0
	frameStdout frameKind = 1
	frameStderr frameKind = 2
	frameResize frameKind = 3
	frameExit   frameKind = 4
	frameError  frameKind = 5
)

// upgradeProtocol names the frames in the Upgrade header.
const upgradeProtocol = "berth-exec/1"

// maxFrame bounds what a peer can make us hold in memory.
const maxFrame = 1 << 20

// chunk is the most that one frame of bytes carries when we write it.
const chunk = 32 << 10

// frameWriter writes frames; several goroutines may use it at once.
type frameWriter struct {
	mu sync.Mutex // keeps frames whole
	w  io.Writer
}

func (f *frameWriter) frame(kind frameKind, payload []byte) error {
	buf := make([]byte, 5, 5+len(payload))
	buf[0] = byte(kind)
	binary.BigEndian.PutUint32(buf[1:], uint32(len(payload)))
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.w.Write(append(buf, payload...)); err != nil {
		return fmt.Errorf("cannot write frame: %w", err)
	}
	return nil
}

func (f *frameWriter) resize(s Size) error {
	return f.frame(frameResize, binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, s.Width), s.Height))
}

func (f *frameWriter) exit(code int) error {
	return f.frame(frameExit, binary.BigEndian.AppendUint32(nil, uint32(int32(code))))
}

func (f *frameWriter) fail(err error) error {
	payload, jsonErr := json.Marshal(asError(err))
	if jsonErr != nil {
		return fmt.Errorf("cannot encode error: %w", jsonErr)
	}
	return f.frame(frameError, payload)
}

// stream is an io.Writer that turns writes into frames of one kind.
type stream struct {
	frames *frameWriter
	kind   frameKind
}

// Write implements io.Writer.
func (s stream) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		part := p[:min(len(p), chunk)]
		if err := s.frames.frame(s.kind, part); err != nil {
			return n, err
		}
		n, p = n+len(part), p[len(part):]
	}
	return n, nil
}

var errFrame = errors.New("malformed frame")

// readFrame reads one frame. io.EOF means that the peer closed between frames.
func readFrame(r io.Reader) (frameKind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, fmt.Errorf("%w: cut off: %w", errFrame, err)
	}
	return frameKind(head[0]), payload, nil
}

func sizeOf(payload []byte) (Size, error) {
	if len(payload) != 4 {
		return Size{}, fmt.Errorf("%w: resize of %d bytes", errFrame, len(payload))
	}
	return Size{Width: binary.BigEndian.Uint16(payload), Height: binary.BigEndian.Uint16(payload[2:])}, nil
}

func exitCode(payload []byte) (int, error) {
	if len(payload) != 4 {
		return 0, fmt.Errorf("%w: exit of %d bytes", errFrame, len(payload))
	}
	return int(int32(binary.BigEndian.Uint32(payload))), nil
}
