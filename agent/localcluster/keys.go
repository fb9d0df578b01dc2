package localcluster

import "net/http"

// KeyOwner is what GET /_berth/keys/ACCESSKEY answers: whose an access key is that
// this server made up, and its secret half, for what stands in for other services
// beside it. The keys open nothing anywhere else.
type KeyOwner struct {
	SecretAccessKey string `json:"secretAccessKey"`
	SessionToken    string `json:"sessionToken"`
	// Role is the ARN of the role, or "host" for the server's own pair.
	Role string `json:"role"`
}

// serveKeys answers about one access key.
func (s *Server) serveKeys(w http.ResponseWriter, r *http.Request) {
	owner, ok := s.vault.owner(r.PathValue("key"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	s.writeJSON(w, owner)
}

// owner finds whose an access key is that counts at this moment.
func (v *vault) owner(accessKey string) (KeyOwner, bool) {
	secret, ok := v.secret(accessKey)
	if !ok {
		return KeyOwner{}, false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch have := v.secrets[accessKey]; {
	case have == nil:
		return KeyOwner{SecretAccessKey: secret, Role: "host"}, true
	case have.lent: // It is somebody's own, and told to agents only.
		return KeyOwner{}, false
	default:
		return KeyOwner{secret, have.set.SessionToken, have.set.RoleARN}, true
	}
}
