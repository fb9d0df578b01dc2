package logs

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// gelfServer reads GELF from a UDP socket and puts chunks together.
type gelfServer struct {
	t      *testing.T
	conn   net.PacketConn
	chunks map[string][][]byte
}

func serveGELF(t *testing.T, address string) *gelfServer {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &gelfServer{t: t, conn: conn, chunks: map[string][][]byte{}}
}

// next is the next whole message, unpacked, and how it was compressed.
func (s *gelfServer) next() (map[string]any, string) {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	for {
		buf := make([]byte, 1<<16)
		n, _, err := s.conn.ReadFrom(buf)
		if err != nil {
			s.t.Fatal(err)
		}
		if n > gelfChunk {
			s.t.Errorf("a datagram of %d bytes", n)
		}
		p := buf[:n]
		if p[0] != 0x1e || p[1] != 0x0f {
			return s.unpack(p)
		}
		id, number, count := string(p[2:10]), int(p[10]), int(p[11])
		if s.chunks[id] == nil {
			s.chunks[id] = make([][]byte, count)
		}
		s.chunks[id][number] = p[12:]
		if all := bytes.Join(s.chunks[id], nil); !hasEmpty(s.chunks[id]) {
			return s.unpack(all)
		}
	}
}

func hasEmpty(chunks [][]byte) bool {
	for _, c := range chunks {
		if c == nil {
			return true
		}
	}
	return false
}

func (s *gelfServer) unpack(p []byte) (map[string]any, string) {
	s.t.Helper()
	var r io.Reader = bytes.NewReader(p)
	kind, err := "none", error(nil)
	switch {
	case p[0] == 0x1f && p[1] == 0x8b:
		kind = "gzip"
		r, err = gzip.NewReader(r)
	case p[0] == 0x78:
		kind = "zlib"
		r, err = zlib.NewReader(r)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return decodeGELF(s.t, r), kind
}

func decodeGELF(t *testing.T, r io.Reader) map[string]any {
	t.Helper()
	message := map[string]any{}
	if err := json.NewDecoder(r).Decode(&message); err != nil {
		t.Fatal(err)
	}
	return message
}

// gelfMessage is what is wanted of someContainer.
func gelfMessage(t *testing.T, line string, level float64, more map[string]any) map[string]any {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"version": "1.1", "host": host, "short_message": line, "timestamp": 1772600767.123, "level": level,
		"_container_id": "0123456789abcdef0123456789abcdef", "_container_name": "ecs-web-7-app",
		"_image_id": "sha256:" + strings.Repeat("ab", 32), "_image_name": "shop:7",
		"_command": "/serve --port 80", "_created": "2026-03-04T05:06:07.008Z", "_tag": "0123456789ab",
	}
	maps.Copy(want, more)
	return want
}

func TestGELFOverUDP(t *testing.T) {
	for _, kind := range []string{"", "gzip", "zlib", "none"} {
		t.Run("compression "+kind, func(t *testing.T) {
			s := serveGELF(t, "127.0.0.1:0")
			options := map[string]string{
				"gelf-address": "udp://" + s.conn.LocalAddr().String(), "labels": "team", "env-regex": "^MO", "tag": "{{.Name}}",
			}
			if kind != "" {
				options["gelf-compression-type"], options["gelf-compression-level"] = kind, "9"
			}
			d := openDriver(t, gelfFactory(), someContainer(DriverGELF, options))
			// Noise cannot be compressed: it makes chunks.
			noise := make([]byte, maxLine-1)
			for i := range noise {
				noise[i] = ' ' + byte(rand.IntN(90)) //nolint:gosec // no secret
			}
			writeAll(t, d, entry(Stdout, "out\n"), entry(Stdout, "\n"), entry(Stderr, "err \x01 \"q\"\n"), entry(Stdout, string(noise)+"\n"))
			more := map[string]any{"_team": "red", "_MODE": "prod", "_tag": "ecs-web-7-app"}
			for _, want := range []map[string]any{
				gelfMessage(t, "out", 6, more), gelfMessage(t, "err \x01 \"q\"", 3, more), gelfMessage(t, string(noise), 6, more),
			} {
				got, compressed := s.next()
				if compressed != kind && kind != "" || compressed != "gzip" && kind == "" {
					t.Errorf("compressed with %s", compressed)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("message (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// TestGELFNobodyListens: on the same host the kernel tells at once, and the line
// waits.
func TestGELFNobodyListens(t *testing.T) {
	s := serveGELF(t, "127.0.0.1:0")
	address := s.conn.LocalAddr().String()
	if err := s.conn.Close(); err != nil {
		t.Fatal(err)
	}
	d := openDriver(t, gelfFactory(), someContainer(DriverGELF, map[string]string{"gelf-address": "udp://" + address}))
	if n, err := d.Write(t.Context(), []Entry{entry(Stdout, "one\n"), entry(Stdout, "two\n")}); n != 0 || err == nil {
		t.Errorf("while nobody listens %d are taken, error %v", n, err)
	}
	s = serveGELF(t, address)
	writeAll(t, d, entry(Stdout, "one\n"))
	if got, _ := s.next(); got["short_message"] != "one" {
		t.Errorf("message is %v", got)
	}
}

// TestGELFTooLong gives up a message that would need too many chunks.
func TestGELFTooLong(t *testing.T) {
	s := serveGELF(t, "127.0.0.1:0")
	c := someContainer(DriverGELF, map[string]string{
		"gelf-address": "udp://" + s.conn.LocalAddr().String(), "gelf-compression-type": "none", "labels": "team",
	})
	c.Labels["team"] = strings.Repeat("x", gelfChunks*gelfChunk)
	var gaveUp int
	d, err := newGELF(c, &zipPools{}, func(n int, _ error) { gaveUp += n })
	if err != nil {
		t.Fatal(err)
	}
	n, err := d.Write(t.Context(), []Entry{entry(Stdout, "one\n")})
	if n != 1 || err != nil || gaveUp != 1 {
		t.Errorf("%d taken, %d given up, error %v", n, gaveUp, err)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestGELFOverTCP(t *testing.T) {
	listener := listenOn(t, "tcp", "127.0.0.1:0")
	address := listener.Addr().String()
	d := openDriver(t, gelfFactory(), someContainer(DriverGELF, map[string]string{
		"gelf-address": "tcp://" + address, "gelf-tcp-max-reconnect": "3", "gelf-tcp-reconnect-delay": "1",
	}))
	serve := func(l net.Listener, lines ...Entry) (got []map[string]any) {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("slow"))
			defer cancel()
			n, err := d.Write(ctx, lines)
			if err == nil && n != len(lines) {
				err = io.ErrShortWrite
			}
			done <- err
		}()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		for range lines {
			p, err := r.ReadBytes(0)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, decodeGELF(t, bytes.NewReader(bytes.TrimSuffix(p, []byte{0}))))
		}
		if err := errors.Join(<-done, conn.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := []map[string]any{gelfMessage(t, "one", 6, nil), gelfMessage(t, "two", 3, nil)}
	if diff := cmp.Diff(want, serve(listener, entry(Stdout, "one\n"), entry(Stderr, "two\n"))); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	// The far end has gone: that is seen before anything is sent to nobody.
	if n, err := d.Write(t.Context(), []Entry{entry(Stdout, "three\n")}); n != 0 || err == nil {
		t.Errorf("after the far end has gone %d are taken, error %v", n, err)
	}
	if diff := cmp.Diff([]map[string]any{gelfMessage(t, "three", 6, nil)}, serve(listenOn(t, "tcp", address), entry(Stdout, "three\n"))); diff != "" {
		t.Errorf("messages after the return (-want +got):\n%s", diff)
	}
}

func TestGELFOptions(t *testing.T) {
	for _, tt := range []struct{ options, want string }{
		{"", `gelf-address=""; write udp://host:port or tcp://host:port`},
		{"gelf-address=http://h:1", `gelf-address="http://h:1"; write udp://host:port or tcp://host:port`},
		{"gelf-address=udp://h", `gelf-address="udp://h"; write udp://host:port or tcp://host:port`},
		{"gelf-address=tcp://h:1 gelf-compression-type=gzip", `gelf-compression-type is only for udp`},
		{"gelf-address=udp://h:1 gelf-tcp-max-reconnect=1", `gelf-tcp-max-reconnect is only for tcp`},
		{"gelf-address=udp://h:1 gelf-compression-type=lz4", `gelf-compression-type="lz4"; it is gzip, zlib or none`},
		{"gelf-address=udp://h:1 gelf-compression-level=10", `gelf-compression-level="10" is not a number from -1 to 9`},
		{"gelf-address=tcp://h:1 gelf-tcp-reconnect-delay=x", `gelf-tcp-reconnect-delay="x" is not a number of 0 or more`},
	} {
		err := check(map[string]Factory{DriverGELF: gelfFactory()}, someContainer(DriverGELF, optionsOf(tt.options)))
		if want := ErrOptions.Error() + ": " + tt.want; !errors.Is(err, ErrOptions) || err.Error() != want {
			t.Errorf("%s: %v, want %s", tt.options, err, want)
		}
	}
}
