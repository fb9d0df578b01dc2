package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// DriverSplunk is the driver for Splunk's HTTP event collector.
const DriverSplunk = "splunk"

// splunk posts lines as events, in Docker's formats: inline and json wrap the
// line with its stream, tag and attributes, raw writes them before it.
type splunk struct {
	splunkSettings

	client   *http.Client
	rejected func(lines int, why error)
	channel  string // of the acknowledgements
	before   []byte // raw: what stands before the line; else the JSON that stands behind it
	after    []byte // the fields of the event that never change
}

var _ Driver = (*splunk)(nil)

// Splunk makes drivers of this name; env reads the variables by which Docker's is
// tuned (SPLUNK_LOGGING_DRIVER_POST_MESSAGES_BATCH_SIZE and _FREQUENCY), nil has
// none.
func Splunk(env func(string) string) Factory {
	return Factory{
		Remote:  true,
		Options: splunkOptions(),
		Check: func(c Container) error {
			_, err := newSplunk(c, nil)
			return err
		},
		Open: func(_ context.Context, cfg DriverConfig) (Driver, error) {
			return newSplunk(cfg.Container, cfg.Rejected)
		},
		Batch: func(Container) Batch { return splunkTuning(env) },
	}
}

// newSplunk makes the driver; nothing is connected before there is a line.
func newSplunk(c Container, rejected func(int, error)) (*splunk, error) {
	settings, err := parseSplunk(c)
	if err != nil {
		return nil, err
	}
	client, err := splunkClient(c.Options)
	if err != nil {
		return nil, err
	}
	d := &splunk{splunkSettings: settings, client: client, rejected: rejected}
	if settings.ack {
		d.channel = uuid()
	}
	attrs, err := extras(c)
	if err != nil {
		return nil, err
	}
	if err := d.frame(attrs); err != nil {
		return nil, err
	}
	d.after = d.member(d.after, "host", settings.host)
	for name, option := range map[string]string{"source": optSplunkSource, "sourcetype": optSplunkSourceType, "index": optSplunkIndex} {
		if value := c.Options[option]; value != "" {
			d.after = d.member(d.after, name, value)
		}
	}
	return d, nil
}

// frame makes what stands before an event's line, and for formats other than raw
// what of the event stands after it.
func (d *splunk) frame(attrs map[string]string) error {
	if d.format == "raw" {
		prefix := ""
		if d.tag != "" {
			prefix = d.tag + " "
		}
		for _, name := range slices.Sorted(maps.Keys(attrs)) {
			prefix += name + "=" + attrs[name] + " "
		}
		d.before = []byte(prefix)
		return nil
	}
	if d.tag != "" {
		d.before = d.member(d.before, "tag", d.tag)
	}
	if len(attrs) > 0 {
		text, err := json.Marshal(attrs)
		if err != nil {
			return fmt.Errorf("cannot encode log attributes: %w", err)
		}
		d.before = append(append(d.before, `,"attrs":`...), text...)
	}
	return nil
}

// member appends a member of a JSON object that is not the first.
func (d *splunk) member(out []byte, name, value string) []byte {
	out = appendString(append(out, ','), []byte(name))
	return appendString(append(out, ':'), []byte(value))
}

// event appends an entry's event, or nothing for one that Splunk would refuse.
func (d *splunk) event(out []byte, e Entry) []byte {
	line := e.Text()
	switch {
	case d.format == "raw" && len(bytes.TrimSpace(line)) == 0:
		return out
	case d.format == "raw":
		out = appendString(append(out, `{"event":`...), slices.Concat(d.before, line))
	default:
		out = append(out, `{"event":{"line":`...)
		if d.format == "json" && json.Valid(line) {
			out = append(out, line...)
		} else {
			out = appendString(out, line)
		}
		out = append(append(d.member(out, "source", string(e.Stream)), d.before...), '}')
	}
	out = append(out, `,"time":"`...)
	out = strconv.AppendInt(out, e.Time.Unix(), 10)
	out = append(out, '.')
	micros := strconv.Itoa(1_000_000 + e.Time.Nanosecond()/1000)
	out = append(append(out, micros[1:]...), '"')
	return append(append(out, d.after...), '}')
}

// Write posts a batch. What Splunk calls bad is halved until the entry is found
// that it does not take, and that one is given up: offered again it would be no
// better, and everything behind it would wait.
func (d *splunk) Write(ctx context.Context, entries []Entry) (int, error) {
	for {
		err := d.post(ctx, entries)
		bad, is := errors.AsType[*refusal](err)
		switch {
		case err == nil:
			return len(entries), nil
		case !is || !bad.data():
			return 0, err
		case len(entries) > 1:
			entries = entries[:len(entries)/2]
		default:
			d.rejected(1, err)
			return 1, nil
		}
	}
}

// post sends entries in one request.
func (d *splunk) post(ctx context.Context, entries []Entry) error {
	var out []byte
	for _, e := range entries {
		out = d.event(out, e)
	}
	if len(out) == 0 {
		return nil
	}
	if !d.gzip {
		return d.request(ctx, out)
	}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, d.level)
	if err != nil {
		return fmt.Errorf("cannot compress events: %w", err)
	}
	_, err = w.Write(out)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("cannot compress events: %w", err)
	}
	return d.request(ctx, zipped.Bytes())
}

// request posts a body.
func (d *splunk) request(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot ask Splunk: %w", err)
	}
	req.Header.Set("Authorization", "Splunk "+d.token)
	if d.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if d.channel != "" {
		req.Header.Set("X-Splunk-Request-Channel", d.channel)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach Splunk: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if resp.StatusCode == http.StatusOK {
		return nil // whatever else it says
	}
	if err != nil {
		return fmt.Errorf("cannot read Splunk's answer %s: %w", resp.Status, err)
	}
	r := &refusal{status: resp.Status, text: string(bytes.TrimSpace(answer))}
	_ = json.Unmarshal(answer, r) // an answer of another form has no code
	return r
}

// refusal is an answer of Splunk other than yes.
type refusal struct {
	status, text string
	Code         int `json:"code"`
}

func (r *refusal) Error() string { return "Splunk answers " + r.status + ": " + r.text }

// data says that the events themselves are refused, and not their sender: no
// data, invalid data, no event, a blank event, an error in its fields.
func (r *refusal) data() bool { return slices.Contains([]int{5, 6, 12, 13, 15}, r.Code) }

// uuid is a random UUID.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Mark is not needed: what was taken is the log service's.
func (d *splunk) Mark() Mark { return Mark{} }

// Sync has nothing to do.
func (d *splunk) Sync(context.Context) error { return nil }

// Close closes the connections.
func (d *splunk) Close(context.Context) error {
	d.client.CloseIdleConnections()
	return nil
}
