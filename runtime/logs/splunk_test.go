package logs

import (
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthd/berth/runtime/container"
)

const splunkToken = "11111111-2222-3333-4444-555555555555"

// collector is an HTTP event collector that keeps what it gets.
type collector struct {
	t       *testing.T
	mu      sync.Mutex // guards what follows
	events  []map[string]any
	sizes   []int // events of each request
	status  int   // to answer with; 0 is yes
	bad     string
	header  http.Header
	refused int
}

// ServeHTTP takes events, all of a request or none.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.Method != http.MethodPost || r.URL.Path != "/services/collector/event/1.0" {
		c.t.Errorf("%s %s", r.Method, r.URL)
	}
	if c.status != 0 {
		w.WriteHeader(c.status)
		_, _ = io.WriteString(w, `{"text":"Server is busy","code":9}`)
		return
	}
	if r.Header.Get("Authorization") != "Splunk "+splunkToken {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"text":"Invalid token","code":4}`)
		return
	}
	c.header = r.Header
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			c.t.Error(err)
			return
		}
	}
	var events []map[string]any
	for decoder := json.NewDecoder(body); ; {
		event := map[string]any{}
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			c.t.Error(err)
			return
		}
		if c.bad != "" && strings.Contains(fmt.Sprint(event), c.bad) {
			c.refused++
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"text":"Invalid data format","code":6,"invalid-event-number":0}`)
			return
		}
		events = append(events, event)
	}
	c.events, c.sizes = append(c.events, events...), append(c.sizes, len(events))
	_, _ = io.WriteString(w, `{"text":"Success","code":0}`)
}

func (c *collector) set(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func TestSplunkFormats(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	lines := []Entry{entry(Stdout, "plain \"text\"\n"), entry(Stderr, `{"a": [1, "b"]}`+"\n"), entry(Stdout, "  \n")}
	inline := func(line any, source string, more map[string]any) map[string]any {
		event := map[string]any{"line": line, "source": source, "tag": "0123456789ab"}
		maps.Copy(event, more)
		return event
	}
	attrs := map[string]any{"attrs": map[string]any{"team": "red", "MODE": "prod"}}
	parsed := map[string]any{"a": []any{1.0, "b"}}
	for _, tt := range []struct {
		name    string
		options map[string]string
		events  []any
		more    map[string]any
	}{
		{"inline by default", nil, []any{
			inline(`plain "text"`, "stdout", nil), inline(`{"a": [1, "b"]}`, "stderr", nil), inline("  ", "stdout", nil),
		}, nil},
		{"json with everything", map[string]string{
			"splunk-format": "json", "labels": "team", "env": "MODE", "splunk-source": "shop", "splunk-sourcetype": "web",
			"splunk-index": "main", "splunk-gzip": "true", "splunk-gzip-level": "1", "splunk-verify-connection": "false",
		}, []any{
			inline(`plain "text"`, "stdout", attrs), inline(parsed, "stderr", attrs), inline("  ", "stdout", attrs),
		}, map[string]any{"source": "shop", "sourcetype": "web", "index": "main"}},
		{"raw", map[string]string{"splunk-format": "raw", "labels": "team", "env": "MODE"}, []any{
			`0123456789ab MODE=prod team=red plain "text"`, `0123456789ab MODE=prod team=red {"a": [1, "b"]}`,
		}, nil},
		{"raw without a tag", map[string]string{"splunk-format": "raw", "tag": ""}, []any{`plain "text"`, `{"a": [1, "b"]}`}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &collector{t: t}
			server := httptest.NewServer(c)
			t.Cleanup(server.Close)
			options := map[string]string{"splunk-url": server.URL, "splunk-token": splunkToken}
			maps.Copy(options, tt.options)
			writeAll(t, openDriver(t, Splunk(nil), someContainer(DriverSplunk, options)), lines...)
			var want []map[string]any
			for _, event := range tt.events {
				e := map[string]any{"event": event, "time": "1772600767.123456", "host": host}
				maps.Copy(e, tt.more)
				want = append(want, e)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if diff := cmp.Diff(want, c.events); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if zipped := c.header.Get("Content-Encoding") == "gzip"; zipped != (tt.options["splunk-gzip"] != "") {
				t.Errorf("compressed: %t", zipped)
			}
		})
	}
}

// TestSplunkOutage: a busy, a lost and a returned Splunk get every line once.
func TestSplunkOutage(t *testing.T) {
	c := &collector{t: t, status: http.StatusServiceUnavailable}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	d := openDriver(t, Splunk(nil), someContainer(DriverSplunk, map[string]string{
		"splunk-url": server.URL + "/", "splunk-token": splunkToken, "splunk-index-acknowledgment": "true",
	}))
	n, err := d.Write(t.Context(), []Entry{entry(Stdout, "one\n")})
	if want := `Splunk answers 503 Service Unavailable: {"text":"Server is busy","code":9}`; n != 0 || err == nil || err.Error() != want {
		t.Errorf("%d taken, error %v, want %s", n, err, want)
	}
	c.set(0)
	writeAll(t, d, entry(Stdout, "one\n"), entry(Stdout, "two\n"))
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := cmp.Diff([]int{2}, c.sizes); diff != "" {
		t.Errorf("events of the requests (-want +got):\n%s", diff)
	}
	if channel := c.header.Get("X-Splunk-Request-Channel"); len(channel) != 36 || channel[14] != '4' {
		t.Errorf("the channel is %q", channel)
	}
}

// TestSplunkRefusals: bad events are given up one by one, a bad sender's wait.
func TestSplunkRefusals(t *testing.T) {
	c := &collector{t: t, bad: "poison"}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	var gaveUp []string
	d, err := newSplunk(someContainer(DriverSplunk, map[string]string{"splunk-url": server.URL, "splunk-token": splunkToken}),
		func(n int, why error) { gaveUp = append(gaveUp, fmt.Sprintf("%d: %v", n, why)) })
	if err != nil {
		t.Fatal(err)
	}
	writeAll(t, d, entry(Stdout, "one\n"), entry(Stdout, "two\n"), entry(Stdout, "poison\n"), entry(Stdout, "three\n"))
	var lines []any
	for _, e := range c.events {
		lines = append(lines, e["event"].(map[string]any)["line"])
	}
	if diff := cmp.Diff([]any{"one", "two", "three"}, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if len(gaveUp) != 1 || !strings.HasPrefix(gaveUp[0], "1: Splunk answers 400") {
		t.Errorf("given up: %q", gaveUp)
	}
	stranger := openDriver(t, Splunk(nil), someContainer(DriverSplunk, map[string]string{"splunk-url": server.URL, "splunk-token": "another"}))
	n, err := stranger.Write(t.Context(), []Entry{entry(Stdout, "x\n")})
	if n != 0 || err == nil || strings.Contains(err.Error(), "another") {
		t.Errorf("a stranger has %d lines taken, error %v", n, err)
	}
}

func TestSplunkTLS(t *testing.T) {
	cert, _, ca := authority(t)
	c := &collector{t: t}
	server := httptest.NewUnstartedServer(c)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // strangers are turned away on purpose
	server.StartTLS()
	t.Cleanup(server.Close)
	for _, tt := range []struct {
		options string
		ok      bool
	}{
		{"splunk-capath=" + ca, true},
		{"splunk-capath=" + ca + " splunk-caname=splunk.test", true},
		{"splunk-capath=" + ca + " splunk-caname=other.test", false},
		{"splunk-insecureskipverify=true", true},
		{"", false},
	} {
		options := optionsOf(tt.options)
		options["splunk-url"], options["splunk-token"] = server.URL, splunkToken
		d := openDriver(t, Splunk(nil), someContainer(DriverSplunk, options))
		if n, err := d.Write(t.Context(), []Entry{entry(Stdout, "x\n")}); (err == nil && n == 1) != tt.ok {
			t.Errorf("%s: %d taken, error %v", tt.options, n, err)
		}
	}
}

func TestSplunkTuning(t *testing.T) {
	env := map[string]string{
		"SPLUNK_LOGGING_DRIVER_POST_MESSAGES_BATCH_SIZE": "10", "SPLUNK_LOGGING_DRIVER_POST_MESSAGES_FREQUENCY": "250ms",
	}
	f := Splunk(func(name string) string { return env[name] })
	got := f.Batch(Container{})
	if got.Lines != 10 || got.Linger != 250*time.Millisecond {
		t.Errorf("batches are %+v", got)
	}
	env = map[string]string{"SPLUNK_LOGGING_DRIVER_POST_MESSAGES_BATCH_SIZE": "none", "SPLUNK_LOGGING_DRIVER_POST_MESSAGES_FREQUENCY": "-1s"}
	if got := f.Batch(Container{}); got.Lines != 1000 || got.Linger != time.Second {
		t.Errorf("nonsense makes batches %+v", got)
	}
}

// TestSplunkTokenWrittenOpenly: it is treated as the secret it is.
func TestSplunkTokenWrittenOpenly(t *testing.T) {
	given := map[string]string{"splunk-url": "http://h", "splunk-token": "open"}
	for _, tt := range []struct {
		secrets container.SecretOptions
		want    string
	}{{nil, "open"}, {container.SecretOptions{"splunk-token": "secret"}, "secret"}} {
		options, secrets := concealed(given, tt.secrets)
		if _, there := options["splunk-token"]; there || secrets["splunk-token"] != tt.want || given["splunk-token"] != "open" {
			t.Errorf("options %v of %v, and the secret %q", options, given, secrets["splunk-token"])
		}
	}
}

func TestSplunkOptions(t *testing.T) {
	notPEM := t.TempDir() + "/not.pem"
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	const base = "splunk-token=t splunk-url=https://h:8088 "
	for _, tt := range []struct{ options, want string }{
		{"splunk-token=t", `splunk-url is missing`},
		{"splunk-url=https://h:8088", `splunk-token is missing`},
		{"splunk-token=t splunk-url=h:8088", `splunk-url="h:8088"; write scheme://dns_name_or_ip:port`},
		{"splunk-token=t splunk-url=http://h/path", `splunk-url="http://h/path"; write scheme://dns_name_or_ip:port`},
		{base + "splunk-format=xml", `splunk-format="xml"; it is inline, json or raw`},
		{base + "splunk-gzip=yep", `splunk-gzip="yep" is not true or false`},
		{base + "splunk-gzip-level=12", `splunk-gzip-level="12" is not a number from -1 to 9`},
		{base + "splunk-insecureskipverify=x", `splunk-insecureskipverify="x" is not true or false`},
		{base + "splunk-capath=" + notPEM, `splunk-capath="` + notPEM + `" holds no certificate`},
		{base + "splunk-capath=/nowhere", `splunk-capath: open /nowhere: no such file or directory`},
	} {
		err := check(map[string]Factory{DriverSplunk: Splunk(nil)}, someContainer(DriverSplunk, optionsOf(tt.options)))
		if want := ErrOptions.Error() + ": " + tt.want; !errors.Is(err, ErrOptions) || err.Error() != want {
			t.Errorf("%s: %v, want %s", tt.options, err, want)
		}
	}
}
