package logs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"github.com/berthd/berth/runtime/backoff"
	"github.com/berthd/berth/runtime/logs/forwardtest"
)

// at is when the entries of these tests were read.
var at = time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)

func entry(stream Stream, line string) Entry {
	return Entry{Time: at, Stream: stream, Line: []byte(line)}
}

// someContainer is a container with a driver and options.
func someContainer(driver string, options map[string]string) Container {
	return Container{
		ID: "0123456789abcdef0123456789abcdef", Name: "ecs-web-7-app", Image: "shop:7", ImageID: "sha256:" + strings.Repeat("ab", 32),
		Command: []string{"/serve", "--port", "80"}, Created: time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC),
		Driver: driver, Options: options, Labels: map[string]string{"team": "red"}, Env: []string{"MODE=prod"},
	}
}

// openDriver opens a driver of a factory and closes it at the end of the test.
func openDriver(t *testing.T, f Factory, c Container) Driver {
	t.Helper()
	if err := f.Check(c); err != nil {
		t.Fatal(err)
	}
	d, err := f.Open(t.Context(), DriverConfig{Container: c, DataDir: t.TempDir(), Log: zap.NewNop(), Rejected: rejected(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return d
}

// rejected fails the test for each line that a driver gives up.
func rejected(t *testing.T) func(int, error) {
	t.Helper()
	return func(lines int, why error) { t.Errorf("%d lines are given up: %v", lines, why) }
}

// writeAll gives a driver entries until it has taken all of them.
func writeAll(t *testing.T, d Driver, entries ...Entry) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("the driver does not take its lines"))
	defer cancel()
	for len(entries) > 0 {
		n, err := d.Write(ctx, entries)
		if err != nil {
			if !backoff.Wait(ctx, 5*time.Millisecond) {
				t.Fatal(err)
			}
		}
		entries = entries[n:]
	}
}

// receiver is a forward server that keeps what it gets.
type receiver struct {
	address string
	stop    func()

	mu      sync.Mutex // guards records
	records []forwardtest.Record
	came    chan struct{}
}

// receive serves until the end of the test, or until stop.
func receive(t *testing.T, listener net.Listener) *receiver {
	t.Helper()
	r := &receiver{address: listener.Addr().String(), came: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- forwardtest.Serve(ctx, listener, r.take) }()
	r.stop = sync.OnceFunc(func() {
		cancel(errors.New("the test is over"))
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *receiver) take(record forwardtest.Record) {
	r.mu.Lock()
	r.records = append(r.records, record)
	r.mu.Unlock()
	select {
	case r.came <- struct{}{}:
	default:
	}
}

// wait answers the first n records.
func (r *receiver) wait(t *testing.T, n int) []forwardtest.Record {
	t.Helper()
	timeout := time.NewTimer(time.Minute)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		got := r.records
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-r.came:
		case <-timeout.C:
			t.Fatalf("only %d of %d records came", len(got), n)
		}
	}
}

func listenOn(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestFluentdRecords(t *testing.T) {
	r := receive(t, listenOn(t, "tcp", "127.0.0.1:0"))
	for _, tt := range []struct {
		name    string
		options map[string]string
		tag     string
		extra   map[string]string
		when    time.Time
	}{
		{"defaults", nil, "0123456789ab", nil, at.Truncate(time.Second)},
		{
			"all",
			map[string]string{
				"tag": "{{.Name}}/{{.ImageName}}", "labels": "team", "env": "MODE", "fluentd-sub-second-precision": "true",
				"fluentd-request-ack": "true", "fluentd-read-timeout": "10s",
				"fluentd-async": "true", "fluentd-buffer-limit": "2m", "fluentd-retry-wait": "100ms", "fluentd-max-retries": "3",
			},
			"ecs-web-7-app/shop:7",
			map[string]string{"team": "red", "MODE": "prod"},
			at,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := map[string]string{"fluentd-address": r.address}
			maps.Copy(options, tt.options)
			before := len(r.wait(t, 0))
			d := openDriver(t, fluentdFactory(nil), someContainer(DriverFluentd, options))
			writeAll(t, d, entry(Stdout, "hello <world>\n"), entry(Stderr, "\n"))
			want := func(source, log string) forwardtest.Record {
				fields := map[string]string{
					"container_id": "0123456789abcdef0123456789abcdef", "container_name": "/ecs-web-7-app", "source": source, "log": log,
				}
				maps.Copy(fields, tt.extra)
				return forwardtest.Record{Tag: tt.tag, Time: tt.when.Local(), SubSecond: tt.when.Equal(at), Fields: fields}
			}
			got := r.wait(t, before+2)[before:]
			if diff := cmp.Diff([]forwardtest.Record{want("stdout", "hello <world>"), want("stderr", "")}, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFluentdBytes compares a message with what Docker's own client sends.
func TestFluentdBytes(t *testing.T) {
	c := Container{ID: "abc", Name: "n", Options: map[string]string{"tag": "t", "fluentd-sub-second-precision": "true"}}
	d, err := newFluentd(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := hex.EncodeToString(d.pack(nil, entry(Stdout, "hi\n"), ""))
	want := "94" + "a174" + "d70069a7bdbf075bcd15" + "84" +
		"ac636f6e7461696e65725f6964" + "a3616263" +
		"ae636f6e7461696e65725f6e616d65" + "a22f6e" +
		"a6736f75726365" + "a67374646f7574" + "a36c6f67" + "a26869" + "80"
	if got != want {
		t.Errorf("message\n%s, want\n%s", got, want)
	}
}

func TestFluentdLongLines(t *testing.T) {
	r := receive(t, listenOn(t, "tcp", "127.0.0.1:0"))
	d := openDriver(t, fluentdFactory(nil), someContainer(DriverFluentd, map[string]string{"fluentd-address": "tcp://" + r.address}))
	long := entry(Stdout, strings.Repeat("x", maxLine))
	long.Partial = &Partial{ID: "0af3", Ordinal: 1}
	end := entry(Stdout, "end\n")
	end.Partial = &Partial{ID: "0af3", Ordinal: 2, Last: true}
	writeAll(t, d, long, entry(Stderr, "whole\n"), end)
	for i, want := range []map[string]string{
		{"partial_message": "true", "partial_id": "0af3", "partial_ordinal": "1", "partial_last": "false"},
		{},
		{"partial_message": "true", "partial_id": "0af3", "partial_ordinal": "2", "partial_last": "true"},
	} {
		fields := maps.Clone(r.wait(t, 3)[i].Fields)
		maps.DeleteFunc(fields, func(name, _ string) bool { return !strings.HasPrefix(name, "partial") })
		if diff := cmp.Diff(want, fields); diff != "" {
			t.Errorf("record %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestFluentdOutage writes through the death and the return of the far end: what
// was taken has arrived, and nothing is out of order.
func TestFluentdOutage(t *testing.T) {
	for _, tt := range []struct {
		name, network, scheme string
		options               map[string]string
	}{
		{"unix", "unix", "unix://", nil},
		{"tcp with acknowledgements", "tcp", "", map[string]string{"fluentd-request-ack": "true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := "127.0.0.1:0"
			if tt.network == "unix" {
				dir, err := os.MkdirTemp("/tmp", "fl") // a socket's path is short
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = os.RemoveAll(dir) })
				address = filepath.Join(dir, "s")
			}
			first := receive(t, listenOn(t, tt.network, address))
			options := map[string]string{"fluentd-address": tt.scheme + first.address}
			maps.Copy(options, tt.options)
			d := openDriver(t, fluentdFactory(nil), someContainer(DriverFluentd, options))
			writeAll(t, d, entry(Stdout, "one\n"))
			first.wait(t, 1)
			first.stop()
			if n, err := d.Write(t.Context(), []Entry{entry(Stdout, "two\n")}); n != 0 || err == nil {
				t.Fatalf("while nobody listens %d are taken, with the error %v", n, err)
			}
			second := receive(t, listenOn(t, tt.network, first.address))
			writeAll(t, d, entry(Stdout, "two\n"), entry(Stdout, "three\n"))
			var lines []string
			for _, record := range second.wait(t, 2) {
				lines = append(lines, record.Fields["log"])
			}
			if diff := cmp.Diff([]string{"two", "three"}, lines); diff != "" {
				t.Errorf("lines (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFluentdLongPath connects to a socket whose path is longer than the kernel
// takes.
func TestFluentdLongPath(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "fl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := receive(t, listenOn(t, "unix", filepath.Join(dir, "s")))
	deep := filepath.Join(dir, strings.Repeat("d", 60), strings.Repeat("e", 60))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.address, filepath.Join(deep, "s")); err != nil {
		t.Fatal(err)
	}
	d := openDriver(t, fluentdFactory(nil), someContainer(DriverFluentd, map[string]string{"fluentd-address": "unix://" + deep + "/s"}))
	writeAll(t, d, entry(Stdout, "far away\n"))
	if got := r.wait(t, 1)[0].Fields["log"]; got != "far away" {
		t.Errorf("log is %q", got)
	}
}

// TestFluentdReaderDies kills a far end that has accepted lines and not read
// them: they are not counted as taken.
func TestFluentdReaderDies(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "fl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener := listenOn(t, "unix", filepath.Join(dir, "s"))
	d := openDriver(t, fluentdFactory(nil), someContainer(DriverFluentd, map[string]string{"fluentd-address": "unix://" + listener.Addr().String()}))
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() {
		n, err := d.Write(t.Context(), []Entry{entry(Stdout, "one\n")})
		done <- result{n, err}
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1) // something has come, and most of it is not read
	if _, err := conn.Read(one); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-done:
		t.Fatalf("taken before it was read: %d, %v", r.n, r.err)
	default:
	}
	if err := errors.Join(conn.Close(), listener.Close()); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.n != 0 || r.err == nil {
		t.Errorf("lines that were not read: %d taken, error %v", r.n, r.err)
	}
}

// TestFluentdNoAcknowledgement has a far end that acknowledges something else.
func TestFluentdNoAcknowledgement(t *testing.T) {
	listener := listenOn(t, "tcp", "127.0.0.1:0")
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte("\x81\xa3ack\xa5wrong"))
		_, _ = conn.Read(make([]byte, 1<<16))
		_ = conn.Close()
	}()
	d := openDriver(t, fluentdFactory(nil), someContainer(DriverFluentd, map[string]string{
		"fluentd-address": listener.Addr().String(), "fluentd-request-ack": "true",
	}))
	n, err := d.Write(t.Context(), []Entry{entry(Stdout, "one\n")})
	if n != 0 || err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("%d taken, error %v", n, err)
	}
}

func TestFluentdTLS(t *testing.T) {
	cert, roots, _ := authority(t)
	r := receive(t, tls.NewListener(listenOn(t, "tcp", "127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
	c := someContainer(DriverFluentd, map[string]string{"fluentd-address": "tls://" + r.address})
	writeAll(t, openDriver(t, fluentdFactory(roots), c), entry(Stdout, "secret\n"))
	if got := r.wait(t, 1)[0].Fields["log"]; got != "secret" {
		t.Errorf("log is %q", got)
	}
	stranger := openDriver(t, fluentdFactory(x509.NewCertPool()), c)
	if n, err := stranger.Write(t.Context(), []Entry{entry(Stdout, "x\n")}); n != 0 || err == nil {
		t.Errorf("a far end that nobody vouches for took %d lines", n)
	}
}

func TestFluentdOptions(t *testing.T) {
	for _, tt := range []struct{ options, want string }{
		{"fluentd-address=udp://h:1", `invalid log configuration: fluentd-address="udp://h:1": the scheme is tcp, tls or unix`},
		{"fluentd-address=tcp://h:1/path", `invalid log configuration: fluentd-address="tcp://h:1/path": only a host and a port may follow the scheme`},
		{"fluentd-address=unix://", `invalid log configuration: fluentd-address="unix://": write unix:///path`},
		{"fluentd-address=h:0", `invalid log configuration: fluentd-address="h:0": the port is not a number from 1 to 65535`},
		{"fluentd-async=maybe", `invalid log configuration: fluentd-async="maybe" is not true or false`},
		{"fluentd-async=true fluentd-async-connect=true", `invalid log configuration: fluentd-async and fluentd-async-connect cannot be set together`},
		{"fluentd-async-reconnect-interval=1h", `invalid log configuration: fluentd-async-reconnect-interval="1h" must be between 100ms and 10s`},
		{"fluentd-retry-wait=5", `invalid log configuration: fluentd-retry-wait="5" is not a time such as 500ms`},
		{"fluentd-max-retries=-1", `invalid log configuration: fluentd-max-retries="-1" is not a number of 0 or more`},
		{"fluentd-buffer-limit=lots", `invalid log configuration: fluentd-buffer-limit="lots" is not a size such as 10m`},
		{"tag={{.Nonsense}}", `invalid log configuration: tag="{{.Nonsense}}": cannot expand {{.Nonsense}}`},
	} {
		c := someContainer(DriverFluentd, optionsOf(tt.options))
		err := check(map[string]Factory{DriverFluentd: fluentdFactory(nil)}, c)
		if !errors.Is(err, ErrOptions) || err.Error() != tt.want {
			t.Errorf("%s: %v, want %s", tt.options, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"": "tcp 127.0.0.1:24224", "h": "tcp h:24224", "h:1": "tcp h:1", "tls://h": "tls h:24224", "tcp://[::1]:5": "tcp [::1]:5",
		"unix:///run/s": "unix /run/s", ":5": "tcp 127.0.0.1:5",
	} {
		network, address, err := fluentdAddress(text)
		if err != nil || network+" "+address != want {
			t.Errorf("%q is %s %s, %v; want %s", text, network, address, err, want)
		}
	}
}

// optionsOf reads "name=value name=value".
func optionsOf(text string) map[string]string {
	options := map[string]string{}
	for field := range strings.FieldsSeq(text) {
		name, value, _ := strings.Cut(field, "=")
		options[name] = value
	}
	return options
}

// authority makes a certificate for 127.0.0.1 and splunk.test, which vouches for
// itself, and the path of a file that holds it.
func authority(t *testing.T) (tls.Certificate, *x509.CertPool, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"splunk.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, path
}

// BenchmarkFluentdUnix sends batches of lines to a router over its socket, each
// of which is read before the next is sent.
func BenchmarkFluentdUnix(b *testing.B) {
	dir, err := os.MkdirTemp("/tmp", "fl")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(b.Context())
	done := make(chan error, 1)
	go func() { done <- forwardtest.Serve(ctx, listener, func(forwardtest.Record) {}) }()
	d, err := newFluentd(someContainer(DriverFluentd, map[string]string{"fluentd-address": "unix://" + filepath.Join(dir, "s")}), nil)
	if err != nil {
		b.Fatal(err)
	}
	batch := make([]Entry, batchLines)
	for i := range batch {
		batch[i] = entry(Stdout, strings.Repeat("x", 99)+"\n")
	}
	for b.Loop() {
		for left := batch; len(left) > 0; {
			n, err := d.Write(b.Context(), left)
			if err != nil {
				b.Fatal(err)
			}
			left = left[n:]
		}
	}
	b.ReportMetric(float64(batchLines*b.N)/b.Elapsed().Seconds(), "lines/s")
	cancel(errors.New("the benchmark is over"))
	if err := errors.Join(<-done, d.Close(b.Context())); err != nil {
		b.Fatal(err)
	}
}
