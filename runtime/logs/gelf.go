package logs

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
)

// DriverGELF is the driver for Graylog's extended log format.
const DriverGELF = "gelf"

// The options of gelf, with Docker's names.
const (
	optGELFAddress   = "gelf-address"
	optGELFType      = "gelf-compression-type"
	optGELFLevel     = "gelf-compression-level"
	optGELFReconnect = "gelf-tcp-max-reconnect"
	optGELFDelay     = "gelf-tcp-reconnect-delay"
)

const (
	// gelfChunk is the largest datagram, gelfChunks the most that a message may
	// have. The head of each is a magic number, the message's id, its own number
	// and how many there are.
	gelfChunk, gelfChunks = 1420, 128
	gelfHead              = 2 + 8 + 1 + 1
	// The severities of syslog for stdout and stderr.
	gelfInfo, gelfError = 6, 3
)

func gelfOptions() []string {
	return []string{
		optGELFAddress, optGELFType, optGELFLevel, optGELFReconnect, optGELFDelay,
		optLabels, optLabelsRegex, optEnv, optEnvRegex, optTag,
	}
}

// gelfSettings are the options of gelf that Berth acts on. How often and when to
// connect again (gelf-tcp-max-reconnect, gelf-tcp-reconnect-delay) is checked
// and then without effect: lines wait on disk until they have been sent.
type gelfSettings struct {
	network, address string // "udp" or "tcp"
	// compression is "gzip", "zlib" or "none"; over TCP there is none.
	compression string
	level       int
}

// parseGELF reads the options.
func parseGELF(options map[string]string) (s gelfSettings, err error) {
	text := options[optGELFAddress]
	u, err := url.Parse(text)
	if text == "" || err != nil || u.Scheme != "udp" && u.Scheme != "tcp" || u.Path != "" || u.Hostname() == "" || u.Port() == "" {
		return s, fmt.Errorf("%w: %s=%q; write udp://host:port or tcp://host:port", ErrOptions, optGELFAddress, text)
	}
	s = gelfSettings{network: u.Scheme, address: u.Host, compression: "none", level: gzip.BestSpeed}
	for name, network := range map[string]string{
		optGELFType: "udp", optGELFLevel: "udp", optGELFReconnect: "tcp", optGELFDelay: "tcp",
	} {
		if _, there := options[name]; there && network != s.network {
			return s, fmt.Errorf("%w: %s is only for %s", ErrOptions, name, network)
		}
	}
	if s.network == "udp" {
		s.compression = "gzip"
	}
	switch kind := options[optGELFType]; kind {
	case "":
	case "gzip", "zlib", "none":
		s.compression = kind
	default:
		return s, fmt.Errorf("%w: %s=%q; it is gzip, zlib or none", ErrOptions, optGELFType, kind)
	}
	if text, there := options[optGELFLevel]; there {
		if s.level, err = parseLevel(optGELFLevel, text); err != nil {
			return s, err
		}
	}
	for _, name := range []string{optGELFReconnect, optGELFDelay} {
		if err := checkCount(options, name); err != nil {
			return s, err
		}
	}
	return s, nil
}

// parseLevel reads a level of gzip and zlib.
func parseLevel(option, text string) (int, error) {
	level, err := strconv.Atoi(text)
	if err != nil || level < gzip.DefaultCompression || level > gzip.BestCompression {
		return 0, fmt.Errorf("%w: %s=%q is not a number from -1 to 9", ErrOptions, option, text)
	}
	return level, nil
}

// gelf sends lines as GELF 1.1: over UDP compressed, in chunks where one
// datagram is too small; over TCP ended by a zero byte.
type gelf struct {
	gelfSettings

	rejected func(lines int, why error)

	link link
	head []byte // the JSON of all fields that do not change, without its last brace
	zips *sync.Pool
}

// zipper compresses one message after the other.
type zipper interface {
	io.WriteCloser
	Reset(w io.Writer)
}

// zipPools are the compressors that drivers share, by their settings: each takes
// a megabyte, and is needed for as long as a write.
type zipPools struct {
	mu    sync.Mutex // guards pools
	pools map[string]*sync.Pool
}

// of is the pool for a kind of compression; nil for none.
func (z *zipPools) of(kind string, level int) *sync.Pool {
	if kind == "none" {
		return nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	key := kind + strconv.Itoa(level)
	if z.pools == nil {
		z.pools = map[string]*sync.Pool{}
	}
	if z.pools[key] == nil {
		z.pools[key] = &sync.Pool{New: func() any {
			// The level was checked: neither can fail.
			if kind == "zlib" {
				w, _ := zlib.NewWriterLevel(io.Discard, level)
				return w
			}
			w, _ := gzip.NewWriterLevel(io.Discard, level)
			return w
		}}
	}
	return z.pools[key]
}

var _ Driver = (*gelf)(nil)

func gelfFactory() Factory {
	zips := &zipPools{}
	return Factory{
		Remote:  true,
		Options: gelfOptions(),
		Check: func(c Container) error {
			_, err := newGELF(c, zips, nil)
			return err
		},
		Open: func(_ context.Context, cfg DriverConfig) (Driver, error) {
			return newGELF(cfg.Container, zips, cfg.Rejected)
		},
	}
}

// newGELF makes the driver; nothing is connected before there is a line.
func newGELF(c Container, zips *zipPools, rejected func(int, error)) (*gelf, error) {
	settings, err := parseGELF(c.Options)
	if err != nil {
		return nil, err
	}
	d := &gelf{gelfSettings: settings, rejected: rejected}
	if d.head, err = gelfHeader(c); err != nil {
		return nil, err
	}
	d.zips = zips.of(d.compression, d.level)
	d.link.dial = func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, d.network, d.address)
	}
	return d, nil
}

// gelfHeader is what all messages of a container begin with.
func gelfHeader(c Container) ([]byte, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("cannot tell the host's name: %w", err)
	}
	tag, err := tagOf(c)
	if err != nil {
		return nil, err
	}
	attrs, err := extras(c)
	if err != nil {
		return nil, err
	}
	fields := map[string]any{}
	for name, value := range attrs {
		fields["_"+strings.TrimPrefix(name, "_")] = value
	}
	maps.Copy(fields, map[string]any{
		"version": "1.1", "host": host, "_tag": tag,
		"_container_id": c.ID, "_container_name": c.name(), "_image_id": c.ImageID, "_image_name": c.Image,
		"_command": strings.Join(c.Command, " "), "_created": c.Created.UTC(),
	})
	head, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("cannot encode log attributes: %w", err)
	}
	return bytes.TrimSuffix(head, []byte{'}'}), nil
}

// message appends an entry's message.
func (d *gelf) message(out []byte, e Entry) []byte {
	level := gelfInfo
	if e.Stream == Stderr {
		level = gelfError
	}
	out = append(out, d.head...)
	out = append(out, `,"short_message":`...)
	out = appendString(out, e.Text())
	out = append(out, `,"timestamp":`...)
	out = strconv.AppendFloat(out, float64(e.Time.UnixMilli())/1000, 'f', 3, 64)
	out = append(out, `,"level":`...)
	out = strconv.AppendInt(out, int64(level), 10)
	return append(out, '}')
}

// Write sends entries; empty lines are passed over, for Graylog refuses them.
func (d *gelf) Write(ctx context.Context, entries []Entry) (int, error) {
	if err := d.link.open(ctx); err != nil {
		return 0, err
	}
	if d.network == "tcp" {
		return d.stream(ctx, entries)
	}
	return d.datagrams(ctx, entries)
}

// stream sends a batch over TCP.
func (d *gelf) stream(ctx context.Context, entries []Entry) (int, error) {
	batch := takeBatch()
	defer batch.giveBack()
	out, taken := batch.out[:0], 0
	for _, e := range entries {
		if len(e.Text()) > 0 {
			out = append(d.message(out, e), 0)
		}
		if taken++; len(out) >= batchSize {
			break
		}
	}
	if batch.out = out; len(out) == 0 {
		return taken, nil
	}
	if err := d.link.send(ctx, out); err != nil {
		return 0, err
	}
	return taken, nil
}

// datagrams sends entries over UDP. Where the far end's host says that nobody
// listens, it says so to the next that sends; that one and the one before wait.
func (d *gelf) datagrams(ctx context.Context, entries []Entry) (int, error) {
	batch := takeBatch()
	defer batch.giveBack()
	defer d.link.bound(ctx)()
	for i, e := range entries {
		if len(e.Text()) == 0 {
			continue
		}
		batch.out = d.message(batch.out[:0], e)
		err := d.datagram(batch.out)
		if err == nil {
			err = d.refused()
		}
		if err != nil {
			d.link.drop()
			return max(i-1, 0), fmt.Errorf("cannot send to the log service: %w", err)
		}
	}
	return len(entries), nil
}

// refused asks for the answer to what was sent, which on the same host is there
// at once.
func (d *gelf) refused() (err error) {
	socket, err := raw(d.link.conn)
	if err != nil {
		return err
	}
	if ctlErr := socket.Control(func(fd uintptr) { err = pending(int(fd)) }); ctlErr != nil {
		return ctlErr
	}
	return err
}

// datagram sends a message, compressed, in chunks if need be. One that is too
// long even so is dropped: offered again it would be no shorter.
func (d *gelf) datagram(message []byte) error {
	if d.zips != nil {
		zip, ok := d.zips.Get().(zipper)
		if !ok {
			panic("logs: something else in the pool of compressors")
		}
		defer d.zips.Put(zip)
		var buf bytes.Buffer
		zip.Reset(&buf)
		_, err := zip.Write(message)
		if err := errors.Join(err, zip.Close()); err != nil {
			return err
		}
		message = buf.Bytes()
	}
	if len(message) <= gelfChunk {
		_, err := d.link.conn.Write(message)
		return err
	}
	const room = gelfChunk - gelfHead
	count := (len(message) + room - 1) / room
	if count > gelfChunks {
		d.rejected(1, fmt.Errorf("a message of %d bytes is too long for GELF over UDP", len(message)))
		return nil
	}
	chunk := make([]byte, 0, gelfChunk)
	chunk = append(chunk, 0x1e, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0)
	_, _ = rand.Read(chunk[2:]) // it never fails
	for i := range count {
		part := message[i*room : min((i+1)*room, len(message))]
		if _, err := d.link.conn.Write(append(append(chunk, byte(i), byte(count)), part...)); err != nil {
			return err
		}
	}
	return nil
}

// Mark is not needed: what was taken is the log service's.
func (d *gelf) Mark() Mark { return Mark{} }

// Sync has nothing to do.
func (d *gelf) Sync(context.Context) error { return nil }

// Close closes the connection.
func (d *gelf) Close(context.Context) error {
	d.link.drop()
	return nil
}
