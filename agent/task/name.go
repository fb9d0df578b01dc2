package task

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// RuntimeName is the name by which ECS users know a container on its host:
// ecs-<family>-<version>-<name>-<20 hex digits> (spec/task-engine.md §6). It
// follows from the task and the container, so nothing has to remember it.
func (d *Definition) RuntimeName(name string) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return -1
	}, name)
	sum := sha256.Sum256([]byte("name\x00" + d.ARN + "\x00" + name))
	return "ecs-" + d.Family + "-" + d.Version + "-" + plain + "-" + hex.EncodeToString(sum[:10])
}
