package standin

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// Login lets a user pull from a host's registry. A registry with a login lets
// nobody in without one.
func (s *Server) Login(host, user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logins[host] == nil {
		s.logins[host] = map[string]string{}
	}
	s.logins[host][password] = user
}

// tokenLife is how long a token of ECR is good.
const tokenLife = 12 * time.Hour

// getAuthorizationToken issues a token for the registry of an account. Every one
// is new: whoever asks twice is seen to.
func (s *Server) getAuthorizationToken(w http.ResponseWriter, r *request) {
	var in struct{ RegistryIDs []string }
	if err := r.decode(&in); err != nil || len(in.RegistryIDs) > 1 {
		refuse(w, r.Service, http.StatusBadRequest, "InvalidParameterException", "one registry, please")
		return
	}
	account := Account
	if len(in.RegistryIDs) == 1 {
		account = in.RegistryIDs[0]
	}
	s.mu.Lock()
	s.issued++
	token := fmt.Sprintf("token-%d-%s-%s", s.issued, account, r.Region)
	s.mu.Unlock()
	host := account + ".dkr.ecr." + r.Region + ".amazonaws.com"
	s.Login(host, "AWS", token)
	answer(w, map[string]any{"authorizationData": []map[string]any{{
		"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + token)),
		"expiresAt":          float64(time.Now().Add(tokenLife).Unix()),
		"proxyEndpoint":      "https://" + host,
	}}})
}

// serveRegistry lets those in who have a login.
func (s *Server) serveRegistry(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, port, err := net.SplitHostPort(host); err == nil && port == "443" {
		host = name
	}
	user, password, given := r.BasicAuth()
	s.mu.Lock()
	logins := s.logins[host]
	good := given && logins[password] == user && user != ""
	s.mu.Unlock()
	if closed := len(logins) > 0 || strings.Contains(host, ".dkr.ecr."); closed && !good {
		w.Header().Set("WWW-Authenticate", `Basic realm="`+host+`"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"no basic auth credentials"}]}`)) // The client may have left.
		return
	}
	s.registry.ServeHTTP(w, r)
}
