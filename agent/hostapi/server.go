package hostapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"
)

// closing is how long requests get to finish once the server is told to end.
const closing = 2 * time.Second

// Server answers the host API.
type Server struct {
	p     Providers
	log   *zap.Logger
	execs sync.WaitGroup // hijacked connections, which http.Server does not wait for
}

// NewServer makes a server; Serve runs it. A nil logger logs nothing.
func NewServer(p Providers, log *zap.Logger) *Server {
	if log == nil {
		log = zap.NewNop()
	}
	return &Server{p: p, log: log}
}

// Listen opens the socket at path with mode 0660, owned by us (root) and the group; if there is no such group, it stays with ours. A socket
// that a dead agent left is replaced, one that somebody answers at is not. The socket appears under its name only when owner and
// mode are right, so that nobody unfit ever gets in.
func Listen(ctx context.Context, path, group string) (net.Listener, error) {
	var d net.Dialer
	if conn, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot listen at %s: another agent answers there", path)
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot remove old socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", fresh)
	if err != nil {
		return nil, fmt.Errorf("cannot listen at %s: %w", path, err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		// By the time we close, the name may belong to the next agent.
		u.SetUnlinkOnClose(false)
	}
	if err := errors.Join(protect(fresh, group), os.Rename(fresh, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot set up socket %s: %w", path, err), l.Close())
	}
	return l, nil
}

// protect gives the socket to the group, if it exists, and closes it to all others.
func protect(path, group string) error {
	if g, err := user.LookupGroup(group); err == nil {
		gid, err := strconv.Atoi(g.Gid)
		if err != nil {
			return fmt.Errorf("cannot read gid of %s: %w", group, err)
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("cannot give socket to group %s: %w", group, err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("cannot set mode of socket: %w", err)
	}
	return nil
}

// Serve answers on l until ctx ends, then lets requests finish for a moment and returns nil. Streams and exec sessions end with ctx.
// It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withCaller,
		ErrorLog:          zap.NewStdLog(s.log),
	}
	failed := make(chan error, 1) // one slot: the goroutine ends even if nobody asks
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("cannot serve host API: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closing, errors.New("host API is closing"))
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close() // whoever is still talking has had its time
	}
	err := <-failed
	s.execs.Wait()
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve host API: %w", err)
	}
	return nil
}

// Handler is the API without a socket, for Serve and for tests.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answered(s.status))
	mux.HandleFunc("GET /v1/tasks", answered(s.tasks))
	mux.HandleFunc("GET /v1/tasks/{task}", answered(s.task))
	mux.HandleFunc("GET /v1/tasks/{task}/why", answered(s.why))
	mux.HandleFunc("POST /v1/tasks/{task}/stop", s.stop)
	mux.HandleFunc("GET /v1/stats", answered(s.stats))
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/images", answered(s.images))
	mux.HandleFunc("GET /v1/pulls", s.pulls)
	mux.HandleFunc("POST /v1/pull", s.pull)
	mux.HandleFunc("GET /v1/logs", s.logs)
	mux.HandleFunc("POST /v1/exec", s.exec)
	mux.HandleFunc("GET /v1/config", answered(s.settings))
	mux.HandleFunc("GET /v1/checks", answered(s.checks))
	mux.HandleFunc("POST /v1/drain", s.drain)
	mux.HandleFunc("GET /v1/credentials/{id}", s.credentials)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, &Error{
			Code: CodeNotFound, Message: "there is no " + r.Method + " " + r.URL.Path,
			Hint: "the agent may be older or newer than this command: compare `berth version` and `systemctl status berth`",
		})
	})
	return mux
}
