package logs

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/runtime/await"
)

// syslogServer takes messages at a socket.
type syslogServer struct {
	address string

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	got   []string
}

// newSyslogServer listens; with conf over TLS, where messages begin with their
// lengths if they begin with a digit.
func newSyslogServer(t *testing.T, network string, conf *tls.Config) *syslogServer {
	t.Helper()
	s := &syslogServer{conns: map[net.Conn]bool{}}
	address := "127.0.0.1:0"
	if strings.HasPrefix(network, "unix") {
		dir, err := os.MkdirTemp("", "syslog-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		address = filepath.Join(dir, "log")
	}
	var group sync.WaitGroup
	if network == "udp" || network == "unixgram" {
		conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), network, address)
		if err != nil {
			t.Fatal(err)
		}
		s.address = conn.LocalAddr().String()
		group.Go(func() { s.datagrams(conn) })
		t.Cleanup(func() { _ = conn.Close(); group.Wait() })
		return s
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	if conf != nil {
		listener = tls.NewListener(listener, conf)
	}
	group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			s.stream(conn) // To its end, so that what comes by the next one comes after it.
		}
	})
	t.Cleanup(func() { _ = listener.Close(); s.hangUp(); group.Wait() })
	return s
}

func (s *syslogServer) take(message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, message)
}

func (s *syslogServer) datagrams(conn net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		s.take(string(buf[:n]))
	}
}

func (s *syslogServer) stream(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for {
		message, err := s.next(r)
		if err != nil {
			return
		}
		s.take(message)
	}
}

func (s *syslogServer) next(r *bufio.Reader) (string, error) {
	first, err := r.Peek(1)
	if err != nil {
		return "", err
	}
	if first[0] == '<' {
		return r.ReadString('\n')
	}
	length, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
	if err != nil {
		return "", err
	}
	message := make([]byte, n)
	_, err = io.ReadFull(r, message)
	return strconv.Itoa(n) + " " + string(message), err
}

// hangUp ends every connection once what came is read.
func (s *syslogServer) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		if c, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		} else {
			_ = conn.Close()
		}
	}
	clear(s.conns)
}

func (s *syslogServer) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// openSyslog opens a driver with options.
func openSyslog(t *testing.T, options map[string]string) Driver {
	t.Helper()
	c := Container{ID: "0123456789abcdef", Name: "web", Driver: DriverSyslog, Options: options}
	f := syslogFactory()
	if err := check(map[string]Factory{DriverSyslog: f}, c); err != nil {
		t.Fatal(err)
	}
	d, err := f.Open(t.Context(), DriverConfig{Container: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// certificate is one for 127.0.0.1, and the file it is in.
func certificate(t *testing.T) (conf *tls.Config, path string) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	s.Close()
	path = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.TLS, path
}

func TestSyslog(t *testing.T) {
	conf, ca := certificate(t)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.Local)
	zone := at.Format("Z07:00")
	pid := strconv.Itoa(os.Getpid())
	for _, tc := range []struct {
		scheme, network string
		options         map[string]string
		want            []string
	}{
		{"tcp", "tcp", nil, []string{
			"<30>Mar  4 05:06:07 0123456789ab[" + pid + "]: out\n", "<27>Mar  4 05:06:07 0123456789ab[" + pid + "]: err\n",
		}},
		{"unix", "unix", map[string]string{"syslog-format": "rfc3164", "tag": "{{.Name}}"}, []string{
			"<30>Mar  4 05:06:07 " + host + " web[" + pid + "]: out\n", "<27>Mar  4 05:06:07 " + host + " web[" + pid + "]: err\n",
		}},
		{"udp", "udp", map[string]string{"syslog-format": "rfc5424", "syslog-facility": "local7"}, []string{
			"<190>1 2026-03-04T05:06:07" + zone + " " + host + " 0123456789ab " + pid + " 0123456789ab - out\n",
			"<187>1 2026-03-04T05:06:07" + zone + " " + host + " 0123456789ab " + pid + " 0123456789ab - err\n",
		}},
		{"unixgram", "unixgram", map[string]string{"syslog-format": "rfc5424micro", "syslog-facility": "2", "tag": "x"}, []string{
			"<22>1 2026-03-04T05:06:07.123456" + zone + " " + host + " x " + pid + " x - out\n",
			"<19>1 2026-03-04T05:06:07.123456" + zone + " " + host + " x " + pid + " x - err\n",
		}},
		{"tcp+tls", "tcp", map[string]string{"syslog-format": "rfc5424", "syslog-tls-ca-cert": ca, "tag": "x"}, []string{
			"<30>1 2026-03-04T05:06:07" + zone + " " + host + " x " + pid + " x - out\n",
			"<27>1 2026-03-04T05:06:07" + zone + " " + host + " x " + pid + " x - err\n",
		}},
	} {
		t.Run(tc.scheme, func(t *testing.T) {
			var secure *tls.Config
			if tc.scheme == "tcp+tls" {
				secure = conf
				for i, m := range tc.want {
					tc.want[i] = strconv.Itoa(len(m)) + " " + m
				}
			}
			s := newSyslogServer(t, tc.network, secure)
			options := map[string]string{"syslog-address": tc.scheme + "://" + s.address}
			maps.Copy(options, tc.options)
			d := openSyslog(t, options)
			entries := []Entry{{Time: at, Stream: Stdout, Line: []byte("out\n")}, {Time: at, Stream: Stderr, Line: []byte("err\n")}}
			if n, err := d.Write(t.Context(), entries); n != 2 || err != nil {
				t.Fatal(n, err)
			}
			await.That(t, "two messages", func() bool { return len(s.messages()) == 2 })
			if got := s.messages(); !slices.Equal(got, tc.want) {
				t.Errorf("%q\nwant %q", got, tc.want)
			}
		})
	}
}

// A server that is restarted gets every line; one that nobody trusts gets none.
func TestSyslogReconnects(t *testing.T) {
	s := newSyslogServer(t, "tcp", nil)
	d := openSyslog(t, map[string]string{"syslog-address": "tcp://" + s.address})
	for round := range 5 {
		line := fmt.Sprintf("line %d\n", round)
		await.That(t, "the write", func() bool {
			n, err := d.Write(t.Context(), []Entry{{Time: time.Now(), Stream: Stdout, Line: []byte(line)}})
			return n == 1 && err == nil
		})
		await.That(t, "the line", func() bool { return len(s.messages()) == round+1 })
		s.hangUp()
	}
	conf, _ := certificate(t)
	secure := newSyslogServer(t, "tcp", conf)
	d = openSyslog(t, map[string]string{"syslog-address": "tcp+tls://" + secure.address})
	_, err := d.Write(t.Context(), []Entry{{Stream: Stdout, Line: []byte("x\n")}})
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); !unknown {
		t.Errorf("a server that nobody knows: %v", err)
	}
	d = openSyslog(t, map[string]string{"syslog-address": "tcp+tls://" + secure.address, "syslog-tls-skip-verify": ""})
	if n, err := d.Write(t.Context(), []Entry{{Stream: Stdout, Line: []byte("x\n")}}); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestSyslogOptions(t *testing.T) {
	for name, want := range map[string]string{
		"syslog-address=tcp":                     "it is like udp://host:514",
		"syslog-address=ftp://x":                 "the scheme is udp, tcp, tcp+tls, unix or unixgram",
		"syslog-address=unix://":                 "it has no path",
		"syslog-address=udp://:514":              "it has no host",
		"syslog-facility=local8":                 "is no facility such as daemon or local0, nor a number from 0 to 23",
		"syslog-facility=24":                     "is no facility",
		"syslog-format=rfc1":                     "must be one of rfc3164, rfc5424, rfc5424micro",
		"tag={{.Nonsense}}":                      "cannot expand",
		"env-regex=(":                            "env-regex",
		"syslog-at=x":                            "unknown log option",
		"syslog-address=tcp+tls://x ca=/nowhere": "syslog-tls-ca-cert",
		"syslog-address=tcp+tls://x cert=/x":     "syslog-tls-cert and syslog-tls-key go together",
	} {
		options := map[string]string{}
		for setting := range strings.FieldsSeq(name) {
			k, v, _ := strings.Cut(setting, "=")
			switch k {
			case "ca":
				k = "syslog-tls-ca-cert"
			case "cert":
				k = "syslog-tls-cert"
			}
			options[k] = v
		}
		err := check(builtin(), Container{ID: "c", Driver: DriverSyslog, Options: options})
		if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for address, want := range map[string]string{
		"": " ", "udp://h": "udp h:514", "tcp://h:1": "tcp h:1", "tcp+tls://[::1]": "tcp+tls [::1]:514", "unixgram:///dev/log": "unixgram /dev/log",
	} {
		network, at, err := syslogAddress(address)
		if got := network + " " + at; err != nil || got != want {
			t.Errorf("%s: %s, %v", address, got, err)
		}
	}
	if !regexp.MustCompile(`^<\d+>`).Match((&syslog{}).message(nil, Entry{})) {
		t.Error("a message without a priority")
	}
}
