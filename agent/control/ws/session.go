package ws

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/berthd/berth/runtime/backoff"
)

// Why a session ended, besides *CloseError and what the network says.
var (
	// ErrIdle: nothing that counts as activity came for too long.
	ErrIdle = errors.New("websocket: no activity")
	// ErrExpired: the session reached its longest life and was closed.
	ErrExpired = errors.New("websocket: connection expired")
)

// CloseError is the peer's close frame. An end without one has code 1006.
type CloseError struct {
	Code   int
	Reason string
}

// Error has code and reason.
func (e *CloseError) Error() string {
	return fmt.Sprintf("websocket: closed with %d %q", e.Code, e.Reason)
}

// The codes of CloseError that matter here.
const (
	CodeNormal      = int(websocket.StatusNormalClosure)
	CodeGoingAway   = int(websocket.StatusGoingAway)
	CodeAbnormal    = int(websocket.StatusAbnormalClosure)
	CodeServerError = int(websocket.StatusInternalError)
)

// expiredReason is the text of the close frame that ends a session's life.
const expiredReason = "ConnectionExpired: Reconnect to continue"

// Times of a session, spec/control-plane.md §4.4 and §8.
const (
	dialTimeout      = 30 * time.Second
	handshakeTimeout = 30 * time.Second
	deadline         = 3 * time.Minute
	activity         = time.Minute
	lifetime         = 30 * time.Minute
	lifetimeJitter   = 5 * time.Minute
	// politeness is how long a peer may take to answer our close frame.
	politeness = 5 * time.Second
	// parting is the same when the agent is stopping.
	parting = 300 * time.Millisecond
	// readLimit is the longest message: many times the largest payload seen.
	readLimit = 32 << 20
)

// Config is how to connect. Its zero value, with a URL, is good.
type Config struct {
	// URL is of scheme ws, wss, http or https.
	URL string
	// Sign answers the headers that sign the upgrade; nil signs nothing.
	Sign func(ctx context.Context, url string) (http.Header, error)
	// Refusal reads the first 1024 bytes of a refused upgrade's body; nil, or a
	// nil error, gives an error with the body as text.
	Refusal func(body []byte) error
	// Proxy is as in http.Transport; nil connects directly.
	Proxy func(*http.Request) (*url.URL, error)
	// Roots are the certificates that servers are trusted by; nil is the host's.
	Roots *x509.CertPool
	// DialContext replaces the dialling of TCP, for services that are elsewhere.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// CloseWhenIdle ends an idle session with a close frame instead of cutting
	// it off.
	CloseWhenIdle bool
	// Activity (1 min) is how long a session may be idle, and Lifetime (30 min)
	// how long it may last; as much as the first, and a sixth of the second, is
	// added by chance.
	Activity, Lifetime time.Duration
}

// Session is an open websocket. Send and Active may be called at once and from
// any goroutine; Run once.
type Session struct {
	conn     *websocket.Conn
	cfg      Config
	activity *time.Timer
	lifetime *time.Timer
}

// Dial connects, signs and upgrades. The error of a refusal is what
// Config.Refusal made of it.
func Dial(ctx context.Context, cfg Config) (*Session, error) {
	if cfg.Activity == 0 {
		cfg.Activity = activity
	}
	if cfg.DialContext == nil {
		cfg.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout+handshakeTimeout, errors.New("the handshake took too long"))
	defer cancel()
	header := http.Header{}
	if cfg.Sign != nil {
		signed, err := cfg.Sign(ctx, cfg.URL)
		if err != nil {
			return nil, fmt.Errorf("cannot connect: %w", err)
		}
		header = signed.Clone()
	}
	header.Set("User-Agent", "") // none of our own
	transport := &http.Transport{
		Proxy:                 cfg.Proxy,
		DialContext:           cfg.DialContext,
		TLSHandshakeTimeout:   handshakeTimeout,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
		ResponseHeaderTimeout: handshakeTimeout,
		DisableKeepAlives:     true, // a refused upgrade leaves nothing behind
	}
	//nolint:bodyclose // The library closes it.
	conn, response, err := websocket.Dial(ctx, cfg.URL, &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: transport},
		HTTPHeader:      header,
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, refusal(cfg, response, err)
	}
	conn.SetReadLimit(readLimit)
	s := &Session{conn: conn, cfg: cfg}
	s.activity = time.NewTimer(s.idleLimit())
	if cfg.Lifetime == 0 {
		s.lifetime = time.NewTimer(backoff.Jittered(lifetime, lifetimeJitter))
	} else {
		s.lifetime = time.NewTimer(backoff.Jittered(cfg.Lifetime, cfg.Lifetime/6))
	}
	return s, nil
}

// refusal is the error for a dial that failed.
func refusal(cfg Config, response *http.Response, err error) error {
	if response == nil || response.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("cannot connect: %w", err)
	}
	// The library has read the first 1024 bytes and closed the rest.
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1024))
	if cfg.Refusal != nil {
		if refused := cfg.Refusal(body); refused != nil {
			return fmt.Errorf("cannot connect: %w", refused)
		}
	}
	return fmt.Errorf("cannot connect: status %d: %.1024q", response.StatusCode, body)
}

func (s *Session) idleLimit() time.Duration { return backoff.Jittered(s.cfg.Activity, s.cfg.Activity) }

// Active says that something came which shows that the peer is well. It starts
// the activity timer again.
func (s *Session) Active() { s.activity.Reset(s.idleLimit()) }

// Send writes one text frame. It fails when the peer takes none for 3 minutes,
// and when ctx has ended. A frame that is half written when it ends is written
// to its end: to break off would cut the connection, and Run is about to say
// goodbye, which closes it if need be.
func (s *Session) Send(ctx context.Context, frame []byte) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("cannot send: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), deadline, errors.New("the peer takes no data"))
	defer cancel()
	if err := s.conn.Write(ctx, websocket.MessageText, frame); err != nil {
		return fmt.Errorf("cannot send: %w", err)
	}
	return nil
}

// Cut ends the session at once, without a close frame; Run then returns.
func (s *Session) Cut() error { return s.conn.CloseNow() }

// Run reads frames and hands them to handle, one at a time, until the session
// ends, and says why it did: never nil. The session is closed then. The context
// handle gets ends with the session.
func (s *Session) Run(ctx context.Context, handle func(ctx context.Context, frame []byte)) error {
	// Reading ends through the watcher, which may say goodbye first, and not
	// with ctx, which would cut the connection.
	reading, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	handling, stopHandling := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	why := make(chan error, 1) // one watcher, which writes once
	watcher.Go(func() { s.watch(ctx, reading, why) })
	err := s.read(reading, handling, handle)
	stop(err)
	stopHandling(err)
	watcher.Wait()
	s.activity.Stop()
	s.lifetime.Stop()
	_ = s.conn.CloseNow() // It has ended already.
	if reason := <-why; reason != nil {
		return reason
	}
	return err
}

// read is the reader's loop. It always answers an error.
func (s *Session) read(reading, handling context.Context, handle func(context.Context, []byte)) error {
	for {
		once, cancel := context.WithTimeoutCause(reading, deadline, errors.New("the peer sends nothing"))
		_, frame, err := s.conn.Read(once)
		if err != nil {
			err = ended(once, err)
			cancel()
			return err
		}
		cancel()
		handle(handling, frame)
	}
}

// ended puts a read error into the words of this package.
func ended(ctx context.Context, err error) error {
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return &CloseError{Code: int(ce.Code), Reason: ce.Reason}
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("websocket: %w", cause)
	}
	if errors.Is(err, io.EOF) {
		return &CloseError{Code: CodeAbnormal, Reason: "the connection was cut off"}
	}
	return fmt.Errorf("websocket: %w", err)
}

// watch ends the session from our side and says why; nil when the reader ended
// first.
func (s *Session) watch(ctx, reading context.Context, why chan<- error) {
	select {
	case <-reading.Done():
		why <- nil
	case <-s.activity.C:
		why <- ErrIdle
		if s.cfg.CloseWhenIdle {
			s.goodbye("", politeness)
		} else {
			_ = s.conn.CloseNow()
		}
	case <-s.lifetime.C:
		why <- ErrExpired
		s.goodbye(expiredReason, politeness)
	case <-ctx.Done():
		why <- context.Cause(ctx)
		s.goodbye("", parting)
	}
}

// goodbye closes with a close frame and, when the peer does not answer in time,
// without.
func (s *Session) goodbye(reason string, patience time.Duration) {
	late := time.AfterFunc(patience, func() { _ = s.conn.CloseNow() })
	defer late.Stop()
	_ = s.conn.Close(websocket.StatusNormalClosure, reason) // Whatever happens, it is closed.
}
