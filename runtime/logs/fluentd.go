package logs

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
)

// DriverFluentd is the driver that speaks Fluentd's forward protocol.
const DriverFluentd = "fluentd"

// fluentd sends lines as messages of the forward protocol, each
//
//	[tag, time, {container_id, container_name, source, log, …}, options]
//
// as Docker does, so that whoever reads Docker's reads ours. Over a unix socket
// lines count as taken once the far end has read them; over TCP once it has
// acknowledged them with fluentd-request-ack, else once they are in its kernel.
type fluentd struct {
	fluentdSettings

	link  link
	tag   []byte // packed
	base  []byte // the packed fields that every record has
	bases int    // how many
	in    []byte // unread acknowledgements
}

var _ Driver = (*fluentd)(nil)

// fluentdFactory makes drivers of this name; roots, if set, replace the host's
// certificates.
func fluentdFactory(roots *x509.CertPool) Factory {
	return Factory{
		Remote:  true,
		Options: fluentdOptions(),
		Check: func(c Container) error {
			_, err := newFluentd(c, roots)
			return err
		},
		Open: func(_ context.Context, cfg DriverConfig) (Driver, error) { return newFluentd(cfg.Container, roots) },
	}
}

// newFluentd makes the driver; nothing is connected before there is a line.
func newFluentd(c Container, roots *x509.CertPool) (*fluentd, error) {
	settings, err := parseFluentd(c.Options)
	if err != nil {
		return nil, err
	}
	tag, err := tagOf(c)
	if err != nil {
		return nil, err
	}
	attrs, err := extras(c)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{"container_id": c.ID, "container_name": "/" + c.name()}
	maps.Copy(fields, attrs)
	d := &fluentd{fluentdSettings: settings, tag: packString(nil, tag), bases: len(fields)}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		d.base = packString(packString(d.base, name), fields[name])
	}
	d.link = link{timeout: settings.write, renew: settings.reconnect, dial: func(ctx context.Context) (net.Conn, error) {
		d.in = nil
		switch settings.network {
		case "unix":
			return dialUnix(ctx, settings.address)
		case "tls":
			return (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}).DialContext(ctx, "tcp", settings.address)
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", settings.address)
	}}
	return d, nil
}

// Write sends a batch of entries, and waits until the far end has them as far as
// it can tell.
func (d *fluentd) Write(ctx context.Context, entries []Entry) (int, error) {
	if err := d.link.open(ctx); err != nil {
		return 0, err
	}
	batch := takeBatch()
	defer batch.giveBack()
	out, taken := batch.out[:0], 0
	var acks []string
	for _, e := range entries {
		chunk := ""
		if d.ack {
			chunk = chunkID()
			acks = append(acks, chunk)
		}
		out = d.pack(out, e, chunk)
		if taken++; len(out) >= batchSize {
			break
		}
	}
	batch.out = out
	if err := d.link.send(ctx, out); err != nil {
		return 0, err
	}
	if err := d.arrived(ctx, acks); err != nil {
		return 0, err
	}
	return taken, nil
}

// pack appends an entry's message.
func (d *fluentd) pack(out []byte, e Entry, chunk string) []byte {
	out = append(packArray(out, 4), d.tag...)
	if d.subSecond {
		out = packTime(out, e.Time)
	} else {
		out = packSeconds(out, e.Time)
	}
	fields := d.bases + 2
	if e.Partial != nil {
		fields += 4
	}
	out = append(packMap(out, fields), d.base...)
	out = packString(packString(out, "source"), string(e.Stream))
	out = packString(packString(out, "log"), e.Text())
	if p := e.Partial; p != nil {
		for _, kv := range [...][2]string{
			{"partial_message", "true"},
			{"partial_id", p.ID},
			{"partial_ordinal", strconv.Itoa(p.Ordinal)},
			{"partial_last", strconv.FormatBool(p.Last)},
		} {
			out = packString(packString(out, kv[0]), kv[1])
		}
	}
	if chunk == "" {
		return packMap(out, 0)
	}
	return packString(packString(packMap(out, 1), "chunk"), chunk)
}

// arrived waits until the far end has taken what was sent.
func (d *fluentd) arrived(ctx context.Context, acks []string) error {
	if !d.ack {
		if d.network == "unix" {
			return d.link.drain(ctx)
		}
		return nil
	}
	if d.read > 0 {
		d.link.timeout = d.read
		defer func() { d.link.timeout = d.write }()
	}
	defer d.link.bound(ctx)()
	for len(acks) > 0 {
		got, err := d.acknowledged()
		if err != nil {
			d.link.drop()
			return fmt.Errorf("cannot get an acknowledgement from the log service: %w", err)
		}
		i := slices.Index(acks, got)
		if i < 0 {
			d.link.drop()
			return fmt.Errorf("cannot use the log service's acknowledgement of %q, which was not sent", got)
		}
		acks = slices.Delete(acks, i, i+1)
	}
	return nil
}

// acknowledged reads the next acknowledgement: {"ack": chunk}.
func (d *fluentd) acknowledged() (string, error) {
	for {
		chunk, size, err := unpackAck(d.in)
		if err != nil {
			return "", err
		}
		if size > 0 {
			d.in = d.in[size:]
			return chunk, nil
		}
		buf := make([]byte, 4096)
		n, err := d.link.conn.Read(buf)
		if d.in = append(d.in, buf[:n]...); err != nil && n == 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
	}
}

// unpackAck reads an acknowledgement at the front of p; size 0 says that there is
// not all of one yet.
func unpackAck(p []byte) (chunk string, size int, err error) {
	const head = "\x81\xa3ack"
	if n := min(len(p), len(head)); string(p[:n]) != head[:n] {
		return "", 0, fmt.Errorf("%q is no acknowledgement", p[:n])
	}
	if len(p) <= len(head)+1 {
		return "", 0, nil
	}
	var n int
	at := len(head) + 1
	switch form := p[len(head)]; {
	case form&0xe0 == 0xa0:
		n = int(form & 0x1f)
	case form == 0xd9:
		n, at = int(p[at]), at+1
	default:
		return "", 0, fmt.Errorf("an acknowledgement of the unknown form %#x", form)
	}
	if len(p) < at+n {
		return "", 0, nil
	}
	return string(p[at : at+n]), at + n, nil
}

// chunkID is 128 random bits in base64, as Fluentd's own clients send.
func chunkID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // it never fails
	return base64.StdEncoding.EncodeToString(id[:])
}

// Mark is not needed: what was taken is the log service's.
func (d *fluentd) Mark() Mark { return Mark{} }

// Sync has nothing to do.
func (d *fluentd) Sync(context.Context) error { return nil }

// Close closes the connection.
func (d *fluentd) Close(context.Context) error {
	d.link.drop()
	return nil
}
