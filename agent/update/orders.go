package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
	data, err := os.ReadFile(filepath.Join(s.dir, "staged.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return Staged{}, nil
	}
	var kept Staged
	if err == nil {
		err = json.Unmarshal(data, &kept)
	}
	if err != nil {
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
