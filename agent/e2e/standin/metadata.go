package standin

import (
	"net/http"
	"strings"
	"time"
)

// metadataToken is the token of instance metadata version 2.
const metadataToken = "standin-token"

// PutMetadata sets a value of instance metadata by its path below /latest/:
// "meta-data/instance-id", "dynamic/instance-identity/document". An empty value
// takes it away.
func (s *Server) PutMetadata(path, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.metadata[path] = value; value == "" {
		delete(s.metadata, path)
	}
}

// serveMetadata is the instance metadata service, version 2 alone.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/latest/")
	switch {
	case r.Method == http.MethodPut && path == "api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		_, _ = w.Write([]byte(metadataToken)) // The client may have left.
		return
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != metadataToken:
		http.Error(w, "a token is needed", http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	s.calls = append(s.calls, Call{Service: "imds", Operation: path, Region: "-", Role: "-"})
	value, ok := s.metadata[path]
	s.mu.Unlock()
	if s.misbehave(w, &request{Request: r, Call: Call{Service: "imds", Operation: path}}) {
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	_, _ = w.Write([]byte(value)) // The client may have left.
}
