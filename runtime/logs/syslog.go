package logs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"
)

// DriverSyslog is the driver that speaks the syslog protocol.
const DriverSyslog = "syslog"

// The severities of syslog that lines of a stream get.
const (
	severityError = 3
	severityInfo  = 6
)

// syslogFactory makes drivers of this name.
func syslogFactory() Factory {
	return Factory{
		Options: syslogOptions(),
		Remote:  true,
		Check: func(c Container) error {
			_, err := newSyslog(c)
			return err
		},
		Open: func(_ context.Context, cfg DriverConfig) (Driver, error) { return newSyslog(cfg.Container) },
	}
}

// syslog sends the lines of one container as syslog messages: over TCP and unix
// streams one after the other, ended by a newline, or by their length with
// rfc5424 and TLS (RFC 5425); else one a datagram.
type syslog struct {
	syslogSettings

	tag, host, pid string
	link           link
}

var _ Driver = (*syslog)(nil)

// newSyslog makes the driver; nothing is connected before there is a line.
func newSyslog(c Container) (*syslog, error) {
	settings, err := parseSyslog(c.Options)
	if err != nil {
		return nil, err
	}
	tag, err := tagOf(c)
	if err != nil {
		return nil, err
	}
	if _, err := extras(c); err != nil { // syslog has no place for them; they must be good all the same
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "-"
	}
	d := &syslog{syslogSettings: settings, tag: tag, host: host, pid: strconv.Itoa(os.Getpid())}
	d.link = link{dial: d.dial}
	return d, nil
}

// dial connects to the address or, without one, to the host's own syslog.
func (d *syslog) dial(ctx context.Context) (net.Conn, error) {
	if d.network == "" {
		return dialLocalSyslog(ctx)
	}
	if d.tls != nil {
		return (&tls.Dialer{Config: d.tls}).DialContext(ctx, "tcp", d.address)
	}
	return (&net.Dialer{}).DialContext(ctx, d.network, d.address)
}

// dialLocalSyslog connects to whichever socket of the host's syslog there is.
func dialLocalSyslog(ctx context.Context) (net.Conn, error) {
	var errs []error
	for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		for _, network := range []string{"unixgram", "unix"} {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, path)
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
	}
	if len(errs) == 0 {
		return nil, errors.New("there is no syslog on this host")
	}
	return nil, errors.Join(errs...)
}

// Write sends a batch of entries, and waits until the far end has them as far as
// it can tell.
func (d *syslog) Write(ctx context.Context, entries []Entry) (int, error) {
	if err := d.link.open(ctx); err != nil {
		return 0, err
	}
	switch d.link.conn.LocalAddr().Network() {
	case "udp", "unixgram":
		return d.datagrams(ctx, entries)
	}
	batch := takeBatch()
	defer batch.giveBack()
	out, taken := batch.out[:0], 0
	for _, e := range entries {
		out = d.frame(out, e)
		if taken++; len(out) >= batchSize {
			break
		}
	}
	batch.out = out
	if err := d.link.send(ctx, out); err != nil {
		return 0, err
	}
	if err := d.link.drain(ctx); err != nil {
		return 0, err
	}
	return taken, nil
}

// datagrams sends a message at a time.
func (d *syslog) datagrams(ctx context.Context, entries []Entry) (int, error) {
	batch := takeBatch()
	defer batch.giveBack()
	for i, e := range entries {
		batch.out = d.message(batch.out[:0], e)
		if err := d.link.send(ctx, batch.out); err != nil {
			return i, err
		}
	}
	return len(entries), nil
}

// frame appends an entry's message as it goes over a stream.
func (d *syslog) frame(out []byte, e Entry) []byte {
	if !d.counted {
		return d.message(out, e)
	}
	message := d.message(nil, e)
	out = append(strconv.AppendInt(out, int64(len(message)), 10), ' ')
	return append(out, message...)
}

// message appends an entry as a message that ends in a newline.
func (d *syslog) message(out []byte, e Entry) []byte {
	severity := severityInfo
	if e.Stream == Stderr {
		severity = severityError
	}
	out = fmt.Appendf(out, "<%d>", d.facility|severity)
	switch d.format {
	case formatUnix:
		out = e.Time.Local().AppendFormat(out, time.Stamp)
		out = fmt.Appendf(out, " %s[%s]: ", d.tag, d.pid)
	case format3164:
		out = e.Time.Local().AppendFormat(out, time.Stamp)
		out = fmt.Appendf(out, " %s %s[%s]: ", d.host, d.tag, d.pid)
	case format5424, format5424Micro:
		stamp := time.RFC3339
		if d.format == format5424Micro {
			stamp = "2006-01-02T15:04:05.000000Z07:00"
		}
		out = e.Time.Local().AppendFormat(append(out, "1 "...), stamp)
		out = fmt.Appendf(out, " %s %s %s %s - ", d.host, d.tag, d.pid, d.tag)
	}
	return append(append(out, e.Text()...), '\n')
}

// Mark is never needed: the queue keeps the place.
func (*syslog) Mark() Mark { return Mark{} }

// Sync has nothing to do.
func (*syslog) Sync(context.Context) error { return nil }

// Close ends the connection.
func (d *syslog) Close(context.Context) error {
	d.link.drop()
	return nil
}
