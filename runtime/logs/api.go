package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// The API on the unix socket; {id} is a container's.
//
//	POST   /v1/containers/{id}/open   adopt the directory of that name; the body,
//	                                  if any, is {"secrets": {name: value}}
//	POST   /v1/containers/{id}/close  drain, sync, finish
//	DELETE /v1/containers/{id}        delete everything about it
//	GET    /v1/containers             status of the open ones
//	GET    /v1/hold                   answers when the process ends
//	GET    /v1/process                which program it is
//	POST   /v1/retire?pid=            the process of that pid ends, for another to take its place
//
// An error is {"error": "…"}: 400 for options that are wrong, 503 from a
// process that is about to end, else 500.

// problem is an error on the wire.
type problem struct {
	Error string `json:"error"`
}

// opening is the body of open. Its map prints, and is no container.SecretOptions
// because that encodes as nothing.
type opening struct {
	Secrets map[string]string `json:"secrets,omitempty"`
}

// maxOpening bounds it, in bytes.
const maxOpening = 1 << 20

// handler is the API.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/containers/{id}/open", s.verb(func(_ context.Context, r *http.Request, id string) error {
		var body opening
		if err := json.NewDecoder(io.LimitReader(r.Body, maxOpening)).Decode(&body); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("cannot read request: %w", err)
		}
		return s.open(id, body.Secrets)
	}))
	mux.HandleFunc("POST /v1/containers/{id}/close", s.verb(func(ctx context.Context, _ *http.Request, id string) error { return s.close(ctx, id) }))
	mux.HandleFunc("DELETE /v1/containers/{id}", s.verb(func(ctx context.Context, _ *http.Request, id string) error { return s.remove(ctx, id) }))
	mux.HandleFunc("GET /v1/containers", func(rw http.ResponseWriter, _ *http.Request) {
		s.answer(rw, http.StatusOK, s.status())
	})
	mux.HandleFunc("GET /v1/process", s.process)
	mux.HandleFunc("POST /v1/retire", s.retire)
	mux.HandleFunc("GET /v1/hold", func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(rw).Flush(); err != nil {
			return
		}
		select {
		case <-s.quit:
		case <-r.Context().Done():
		}
	})
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.clients.Add(1)
		defer func() {
			s.lastSeen.Store(time.Now().UnixNano())
			s.clients.Add(-1)
		}()
		mux.ServeHTTP(rw, r)
	})
}

// verb does something to one container.
func (s *server) verb(do func(context.Context, *http.Request, string) error) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		err := checkID(id)
		if err == nil {
			err = do(r.Context(), r, id)
		}
		switch {
		case err == nil:
			rw.WriteHeader(http.StatusNoContent)
		case errors.Is(err, ErrOptions):
			s.answer(rw, http.StatusBadRequest, problem{err.Error()})
		case errors.Is(err, errStopped):
			s.answer(rw, http.StatusServiceUnavailable, problem{err.Error()})
		default:
			s.answer(rw, http.StatusInternalServerError, problem{err.Error()})
		}
	}
}

// answer writes a body as JSON.
func (s *server) answer(rw http.ResponseWriter, code int, body any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(code)
	if err := json.NewEncoder(rw).Encode(body); err != nil {
		s.cfg.Log.Debug("cannot answer", zap.Error(err))
	}
}
