package logs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// The API on the unix socket; {id} is a container's.
//
//	POST   /v1/containers/{id}/open   adopt the directory of that name
//	POST   /v1/containers/{id}/close  drain, sync, finish
//	DELETE /v1/containers/{id}        delete everything about it
//	GET    /v1/containers             status of the open ones
//	GET    /v1/hold                   answers when the process ends
//
// An error is {"error": "…"}: 400 for options that are wrong, 503 from a
// process that is about to end, else 500.

// problem is an error on the wire.
type problem struct {
	Error string `json:"error"`
}

// handler is the API.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/containers/{id}/open", s.verb(func(_ context.Context, id string) error { return s.open(id) }))
	mux.HandleFunc("POST /v1/containers/{id}/close", s.verb(s.close))
	mux.HandleFunc("DELETE /v1/containers/{id}", s.verb(s.remove))
	mux.HandleFunc("GET /v1/containers", func(rw http.ResponseWriter, _ *http.Request) {
		s.answer(rw, http.StatusOK, s.status())
	})
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
func (s *server) verb(do func(context.Context, string) error) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		err := checkID(id)
		if err == nil {
			err = do(r.Context(), id)
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
