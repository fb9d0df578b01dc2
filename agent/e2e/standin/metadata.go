package standin

import (
	"net/http"
	"slices"
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

// metadataPath is the path of a request below /latest/, or below the date that a version is called by.
func metadataPath(url string) (path string, ok bool) {
	version, path, _ := strings.Cut(strings.TrimPrefix(url, "/"), "/")
	_, err := time.Parse(time.DateOnly, version)
	return path, version == "latest" || err == nil
}

// serveMetadata is the instance metadata service, version 2 alone.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request, path string) {
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
	if !ok {
		value = s.listMetadata(path)
	}
	s.mu.Unlock()
	if s.misbehave(w, &request{Request: r, Call: Call{Service: "imds", Operation: path}}) {
		return
	}
	if value == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	_, _ = w.Write([]byte(value)) // The client may have left.
}

// listMetadata is what there is below a path, a name a line; those with more below them end with a slash. The lock is held.
func (s *Server) listMetadata(path string) string {
	var names []string
	for p := range s.metadata {
		rest, ok := strings.CutPrefix(p, strings.TrimSuffix(path, "/")+"/")
		if !ok || rest == "" {
			continue
		}
		name, _, more := strings.Cut(rest, "/")
		if more {
			name += "/"
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "\n")
}
