package logs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// DriverJournald is the driver that writes to the systemd journal.
const DriverJournald = "journald"

// JournalSocket is where the journal takes entries in its native protocol.
const JournalSocket = "/run/systemd/journal/socket"

// journaldFactory makes drivers of this name, for the journal at a socket.
func journaldFactory(socket string) Factory {
	return Factory{
		Options: []string{optTag, optLabels, optLabelsRegex, optEnv, optEnvRegex},
		Remote:  true,
		Check: func(c Container) error {
			_, err := newJournald(c, socket)
			return err
		},
		Open: func(_ context.Context, cfg DriverConfig) (Driver, error) { return newJournald(cfg.Container, socket) },
	}
}

// journald sends the lines of one container to the journal, with the fields that
// Docker gives them: an entry is a datagram or, where that would be too long, a
// sealed file in memory that is passed on.
type journald struct {
	fields []byte // of every entry
	link   link
}

var _ Driver = (*journald)(nil)

// newJournald makes the driver; nothing is connected before there is a line.
func newJournald(c Container, socket string) (*journald, error) {
	tag, err := tagOf(c)
	if err != nil {
		return nil, err
	}
	attrs, err := extras(c)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{
		"CONTAINER_ID": short(c.ID), "CONTAINER_ID_FULL": c.ID, "CONTAINER_NAME": c.name(), "CONTAINER_TAG": tag,
		"IMAGE_NAME": c.Image, "SYSLOG_IDENTIFIER": tag,
	}
	for name, value := range attrs {
		fields[journalField(name)] = value
	}
	d := &journald{link: link{dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unixgram", socket)
	}}}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "" {
			d.fields = appendField(d.fields, name, []byte(fields[name]))
		}
	}
	return d, nil
}

// journalField makes a name of a field that the journal takes from that of a
// label or variable: upper case, with underlines for what else there is, and not
// beginning with one, for those are the journal's own.
func journalField(name string) string {
	return strings.TrimLeft(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name), "_0123456789")
}

// appendField appends a field in the journal's format.
func appendField(out []byte, name string, value []byte) []byte {
	out = append(out, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		out = append(out, '=')
	} else {
		out = binary.LittleEndian.AppendUint64(append(out, '\n'), uint64(len(value)))
	}
	return append(append(out, value...), '\n')
}

// Write sends an entry at a time.
func (d *journald) Write(ctx context.Context, entries []Entry) (int, error) {
	batch := takeBatch()
	defer batch.giveBack()
	for i, e := range entries {
		if err := d.link.open(ctx); err != nil {
			return i, err
		}
		batch.out = d.entry(batch.out[:0], e)
		if err := d.send(ctx, batch.out); err != nil {
			return i, err
		}
	}
	return len(entries), nil
}

// entry appends all fields of an entry.
func (d *journald) entry(out []byte, e Entry) []byte {
	out = append(out, d.fields...)
	priority := severityInfo
	if e.Stream == Stderr {
		priority = severityError
	}
	out = appendField(out, "PRIORITY", strconv.AppendInt(nil, int64(priority), 10))
	out = appendField(out, "SYSLOG_TIMESTAMP", e.Time.UTC().AppendFormat(nil, time.RFC3339Nano))
	if p := e.Partial; p != nil {
		out = appendField(out, "CONTAINER_PARTIAL_ID", []byte(p.ID))
		out = appendField(out, "CONTAINER_PARTIAL_ORDINAL", strconv.AppendInt(nil, int64(p.Ordinal), 10))
		out = appendField(out, "CONTAINER_PARTIAL_LAST", strconv.AppendBool(nil, p.Last))
		if !p.Last {
			out = appendField(out, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
		}
	}
	return appendField(out, "MESSAGE", e.Text())
}

// send sends one entry.
func (d *journald) send(ctx context.Context, entry []byte) error {
	err := d.link.send(ctx, entry)
	if !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	if err := d.link.open(ctx); err != nil {
		return err
	}
	if err := d.pass(entry); err != nil {
		d.link.drop()
		return fmt.Errorf("cannot pass a long line to the journal: %w", err)
	}
	return nil
}

// pass hands an entry over as a file that cannot change any more.
func (d *journald) pass(entry []byte) error {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // the journal has its own
	for len(entry) > 0 {
		n, err := unix.Write(fd, entry)
		if err != nil {
			return err
		}
		entry = entry[n:]
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	// net does not send with rights over a datagram socket that is connected.
	socket, err := raw(d.link.conn)
	if err != nil {
		return err
	}
	var sent error
	if err := socket.Write(func(to uintptr) bool {
		sent = unix.Sendmsg(int(to), nil, unix.UnixRights(fd), nil, 0)
		return !errors.Is(sent, unix.EAGAIN)
	}); err != nil {
		return err
	}
	return sent
}

// Mark is never needed: the queue keeps the place.
func (*journald) Mark() Mark { return Mark{} }

// Sync has nothing to do.
func (*journald) Sync(context.Context) error { return nil }

// Close ends the connection.
func (d *journald) Close(context.Context) error {
	d.link.drop()
	return nil
}
