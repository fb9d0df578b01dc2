package awslogs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/logs"
)

// Name is the driver's.
const Name = "awslogs"

// The service's limits for one call, and how much is offered at once: less than
// it takes, for every container may hold as much in memory.
const (
	maxEvents   = 10000
	maxBytes    = 1 << 20
	eventCost   = 26 // counted beside each event's text
	maxEvent    = 1<<18 - eventCost
	maxSpan     = 24 * time.Hour
	batchBytes  = 256 << 10
	maxBuffered = 4096
	flushEvery  = 5 * time.Second
)

// New makes the driver for a host.
func New(cfg Config) logs.Factory {
	keys := newRings(cfg)
	client := newHTTPClient(cfg)
	return logs.Factory{
		Options: options(),
		Remote:  true,
		Check: func(c logs.Container) error {
			_, err := parse(c, cfg.Region)
			return err
		},
		Batch: func(c logs.Container) logs.Batch {
			b := logs.Batch{Bytes: batchBytes, Linger: flushEvery, MaxLine: maxEvent}
			if s, err := parse(c, cfg.Region); err == nil {
				b.Lines, b.Linger = s.lines, s.flush
				if s.begins != nil {
					b.Begins = s.begins.Match
				}
			}
			return b
		},
		Open: func(_ context.Context, d logs.DriverConfig) (logs.Driver, error) {
			s, err := parse(d.Container, cfg.Region)
			if err != nil {
				return nil, err
			}
			endpoint, err := cfg.endpoint(s)
			if err != nil {
				return nil, err
			}
			ring, release := keys.of(s.credentials)
			if s.credentials != "" && d.Memory != "" {
				ring = &kept{keyring: ring, file: filepath.Join(d.Memory, keysName), log: d.Log}
			}
			caller := &caller{http: client, url: endpoint, region: s.region, keys: ring}
			return &driver{s: s, calls: caller, release: release, rejected: d.Rejected, log: d.Log}, nil
		},
	}
}

// driver puts the events of one container. One goroutine uses it.
type driver struct {
	s        settings
	calls    *caller
	release  func() // lets go of the keys
	rejected func(int, error)
	log      *zap.Logger
	// ready says that the stream exists, as far as we know.
	ready bool
	// most bounds the entries of the next call after one was not understood; zero
	// does not.
	most int
}

var _ logs.Driver = (*driver)(nil)

// event is an event on the wire: milliseconds since 1970, and text.
type event struct {
	Timestamp int64  `json:"timestamp"`
	Message   string `json:"message"`
}

// Write puts as many entries as one call may hold.
func (d *driver) Write(ctx context.Context, entries []logs.Entry) (int, error) {
	if d.most > 0 {
		entries = entries[:min(len(entries), d.most)]
	}
	events, n := d.events(entries)
	if len(events) == 0 {
		return n, nil // empty lines only; the service has no use for them
	}
	if !d.ready && d.s.createStream {
		if err := d.create(ctx); err != nil {
			return 0, err
		}
	}
	d.ready = true
	answer, err := d.calls.put(ctx, d.s, events)
	var refusal *refusal
	switch {
	case err == nil:
		d.most = min(2*d.most, maxEvents)
		if d.most == maxEvents {
			d.most = 0
		}
		d.tell(answer, len(events))
		return n, nil
	case !errors.As(err, &refusal):
		return 0, err
	}
	switch refusal.code {
	case "DataAlreadyAcceptedException":
		return n, nil
	case "ResourceNotFoundException":
		d.ready = false // group or stream were deleted, or never made
	case "InvalidParameterException":
		if strings.Contains(refusal.message, "logGroupName") || strings.Contains(refusal.message, "logStreamName") {
			return 0, err
		}
		if n > 1 { // find the one that it does not like
			d.most = n / 2
			return 0, err
		}
		d.most = 0
		d.rejected(1, err)
		return n, nil
	}
	return 0, err
}

// events are those of the entries at the front that one call may hold, in the
// order of their times, and how many entries they are of.
func (d *driver) events(entries []logs.Entry) (events []event, n int) {
	bytes := 0
	var first, last time.Time
	for _, e := range entries {
		text := e.Line
		if d.s.begins == nil {
			text = e.Text()
		}
		parts := split(valid(text))
		size := 0
		for _, p := range parts {
			size += len(p) + eventCost
		}
		from, to := first, last
		if n == 0 || e.Time.Before(from) {
			from = e.Time
		}
		if n == 0 || e.Time.After(to) {
			to = e.Time
		}
		if n > 0 && (bytes+size > maxBytes || len(events)+len(parts) > maxEvents || to.Sub(from) >= maxSpan) {
			break
		}
		for _, p := range parts {
			events = append(events, event{e.Time.UnixMilli(), p})
		}
		bytes, first, last = bytes+size, from, to
		n++
	}
	slices.SortStableFunc(events, func(a, b event) int { return int(a.Timestamp - b.Timestamp) })
	return events, n
}

// valid is text as UTF-8: each byte that is none becomes U+FFFD, as in JSON.
func valid(text []byte) string {
	if utf8.Valid(text) {
		return string(text)
	}
	var out strings.Builder
	for _, r := range string(text) {
		out.WriteRune(r)
	}
	return out.String()
}

// split cuts text into events that the service takes, between characters.
func split(text string) (parts []string) {
	for len(text) > maxEvent {
		n := maxEvent
		for !utf8.RuneStart(text[n]) {
			n--
		}
		parts = append(parts, text[:n])
		text = text[n:]
	}
	if text != "" {
		parts = append(parts, text)
	}
	return parts
}

// create makes the stream, and the group if that was asked for.
func (d *driver) create(ctx context.Context) error {
	err := d.calls.createStream(ctx, d.s)
	if isRefusal(err, "ResourceNotFoundException") && d.s.createGroup {
		if err := d.calls.createGroup(ctx, d.s); err != nil && !isRefusal(err, "ResourceAlreadyExistsException") {
			return fmt.Errorf("cannot create log group %s: %w", d.s.group, err)
		}
		d.log.Info("log group created", zap.String("group", d.s.group))
		err = d.calls.createStream(ctx, d.s)
	}
	if err != nil && !isRefusal(err, "ResourceAlreadyExistsException") {
		return fmt.Errorf("cannot create log stream %s in log group %s: %w", d.s.stream, d.s.group, err)
	}
	return nil
}

// tell counts events that the service took and threw away.
func (d *driver) tell(answer rejection, sent int) {
	if answer.TooNewStart != nil {
		d.rejected(max(sent-*answer.TooNewStart, 0), errors.New("too new for CloudWatch Logs"))
	}
	old := 0
	for _, end := range []*int{answer.TooOldEnd, answer.ExpiredEnd} {
		if end != nil {
			old = max(old, min(*end, sent))
		}
	}
	if old > 0 {
		d.rejected(old, errors.New("too old for CloudWatch Logs, or for the retention of the log group"))
	}
}

// Mark is never needed: the queue keeps the place.
func (*driver) Mark() logs.Mark { return logs.Mark{} }

// Sync has nothing to do.
func (*driver) Sync(context.Context) error { return nil }

// Close lets go of the keys; connections are shared.
func (d *driver) Close(context.Context) error {
	d.release()
	return nil
}
