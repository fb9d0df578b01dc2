package taskmeta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
)

const (
	// readTimeout and writeTimeout are the ECS agent's, spec/host.md §1.1.
	readTimeout, writeTimeout = 5 * time.Second, 5 * time.Second
	// closing is how long requests get to finish once the server is told to end.
	closing = 2 * time.Second
)

// Host is what the metadata says of the host. What is not known is empty.
type Host struct {
	// Cluster is as it was configured.
	Cluster, ContainerInstanceARN string
	// Zone is the availability zone, "" also where it is not to be told.
	Zone, ZoneID string
	VPC          string
}

// Config is what a Server is made of. Index, Host, Credentials and Log are
// needed; a part of the API whose dependency is nil is not there.
type Config struct {
	Index       *Index
	Host        func() Host
	Credentials *credentials.Store
	Log         *zap.Logger

	// Peers knows callers from the host's network namespace; without it they are
	// nobody.
	Peers Peers
	// Stats are nil where metrics are disabled.
	Stats Stats
	// HostMemory is the limit that is shown of containers without one, in bytes.
	HostMemory uint64
	// Volumes are those that a container sees.
	Volumes    func(d *task.Definition, container string) []Volume
	Tags       TagLister
	Protection Protection
	Faults     Faults
	Audit      AuditConfig
	// Rate and Burst limit the requests of a container, per second; zero is 40 and
	// 60.
	Rate, Burst int
}

// Server answers containers.
type Server struct {
	cfg      Config
	log      *zap.Logger
	tags     *tagCache
	limiter  *limiter
	auditLog *auditLog
	// faultLimiter is for what is asked about faults, besides limiter.
	faultLimiter *limiter
}

// New makes a server; Serve runs it.
func New(c Config) *Server {
	if c.Rate <= 0 || c.Burst <= 0 {
		c.Rate, c.Burst = 40, 60
	}
	s := &Server{cfg: c, log: c.Log, limiter: newLimiter(rate.Limit(c.Rate), c.Burst), auditLog: newAuditLog(c.Audit, c.Log)}
	s.faultLimiter = newLimiter(faultsPerSecond, 1)
	if c.Tags != nil {
		s.tags = newTagCache(c.Tags)
	}
	return s
}

// Serve answers on l until ctx ends, then lets requests finish for a moment and
// returns nil. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: time.Minute,
		ConnContext: withCaller(s.cfg.Peers), ErrorLog: zap.NewStdLog(s.log),
	}
	failed := make(chan error, 1) // The server's end, heard once.
	go func() { failed <- srv.Serve(newGuardedListener(l, s.cfg.Index)) }()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		grace, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closing, errors.New("the metadata server is closing"))
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close() // Whoever is still talking has had its time.
		}
		err = <-failed
	}
	if s.tags != nil {
		s.tags.asking.Wait()
	}
	closed := s.auditLog.close()
	if !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(fmt.Errorf("cannot serve task metadata: %w", err), closed)
	}
	return closed
}

// ServeHTTP answers one request: the limit first, then the path.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Rate-Limit-Limit"] = []string{fmt.Sprintf("%.2f", float64(s.cfg.Rate))}
	h["X-Rate-Limit-Duration"] = []string{"1"}
	h["X-Rate-Limit-Request-Forwarded-For"] = []string{r.Header.Get("X-Forwarded-For")}
	h["X-Rate-Limit-Request-Remote-Addr"] = []string{r.RemoteAddr}
	if clean := cleaned(r.URL.Path); clean != r.URL.Path {
		u := *r.URL
		u.Path = clean
		http.Redirect(w, r, u.String(), http.StatusMovedPermanently)
		return
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case first == "v1" && rest == "credentials":
		s.credentialsV1(w, r)
		return
	case first == "v2" && strings.HasPrefix(rest, "credentials/"):
		s.credentials(w, r, strings.TrimPrefix(rest, "credentials/"), "CredentialsV2Request: ")
		return
	}
	id, tail, slash := strings.Cut(rest, "/")
	if slash {
		tail = "/" + tail
	}
	if !s.limiter.allow(callerOf(r).bucket(s, id), time.Now()) {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte("You have reached maximum request limit."))
		s.audit(r, http.StatusTooManyRequests, "", "")
		return
	}
	switch {
	case first == "v2":
		s.serveV2(w, r, rest)
	case first == "v3" && id != "":
		s.serveID(w, r, request{id: id, version: v3}, tail)
	case first == "v4" && id != "":
		s.serveID(w, r, request{id: id, version: v4}, tail)
	case first == "api" && id != "":
		s.serveAPI(w, r, id, tail)
	default:
		http.NotFound(w, r)
	}
}

// cleaned is a path without double slashes and dots; a slash at its end stays.
func cleaned(p string) string {
	if p == "" {
		return "/"
	}
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// describer is for one answer.
func (s *Server) describer(v version) describer {
	return describer{host: s.cfg.Host(), volumes: s.cfg.Volumes, version: v}
}

// writeJSON answers without a line end, as the ECS agent does.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // The caller may have gone.
}
