package update

import (
	"encoding/json"
	"fmt"
)

// Staged is the update that ECS had this host fetch, and has yet to order.
type Staged struct {
	// MessageID and Signature are ECS's, Version is what they led to.
	MessageID string `json:"messageId"`
	Signature string `json:"signature"`
	Version   string `json:"version"`
}

// Staged is the one kept last; its zero value when there is none.
func (s *State) Staged() (Staged, error) {
	var kept Staged
	if err := s.read("staged.json", &kept); err != nil {
		return Staged{}, fmt.Errorf("cannot read what was staged: %w", err)
	}
	return kept, nil
}

// KeepStaged keeps it over a restart; the zero value keeps none.
func (s *State) KeepStaged(kept Staged) error {
	data, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("cannot keep what was staged: %w", err)
	}
	return s.write("staged.json", data)
}
