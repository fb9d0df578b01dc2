package standin

import "context"

// PutKey makes an access key known besides those of Config.Keys, such as that of an instance's role.
func (s *Server) PutKey(accessKey string, k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[string]Key{}
	}
	s.keys[accessKey] = k
}

// key finds an access key.
func (s *Server) key(ctx context.Context, accessKey string) (Key, bool) {
	s.mu.Lock()
	k, known := s.keys[accessKey]
	s.mu.Unlock()
	if !known && s.cfg.Keys != nil {
		return s.cfg.Keys(ctx, accessKey)
	}
	return k, known
}
