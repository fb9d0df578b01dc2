package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/ipam"
)

// record is what is written down of a task: what the machine knows, and what
// the task holds of the host.
type record struct {
	State task.State
	// Endpoints are the leased addresses and ports by container name.
	Endpoints map[string]ipam.Endpoint `json:",omitempty"`
}

func (r record) encode() ([]byte, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode record of task %s: %w", r.State.Definition.ID, err)
	}
	return data, nil
}

func decodeRecord(data []byte) (record, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("cannot decode task record: %w", err)
	}
	return r, nil
}

// Definition is what a task record was made for: for whoever cleans up after an
// engine that does not run.
func Definition(recorded []byte) (*task.Definition, error) {
	r, err := decodeRecord(recorded)
	if err != nil {
		return nil, err
	}
	return &r.State.Definition, nil
}

// RuntimeID is the id of a container in the runtime. It follows from the task
// and the name, so that a container that was created just before the agent was
// killed is found again. It is 64 hexadecimal digits, as ECS users know them. The
// first hostnameDigits of them are the host name of a container without another,
// and are never digits alone: a name of digits is taken for an address, and does
// not resolve.
func RuntimeID(taskARN, name string) string {
	sum := sha256.Sum256([]byte(taskARN + "\x00" + name))
	for {
		id := hex.EncodeToString(sum[:])
		if strings.ContainsAny(id[:hostnameDigits], "abcdef") {
			return id
		}
		sum = sha256.Sum256(sum[:])
	}
}

// hostnameDigits is how much of its id a container is called by.
const hostnameDigits = 12
