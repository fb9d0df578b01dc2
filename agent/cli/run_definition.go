package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// maxDefinition is how long a task definition may be, in bytes. ECS takes 64 KiB.
const maxDefinition = 1 << 20

// definitionFile is what a file may hold: what register-task-definition takes, and what describe-task-definition adds to it.
type definitionFile struct {
	ecs.RegisterTaskDefinitionRequest

	TaskDefinitionARN  json.RawMessage `json:"taskDefinitionArn"`
	Revision           json.RawMessage `json:"revision"`
	Status             json.RawMessage `json:"status"`
	RequiresAttributes json.RawMessage `json:"requiresAttributes"`
	Compatibilities    json.RawMessage `json:"compatibilities"`
	RegisteredAt       json.RawMessage `json:"registeredAt"`
	RegisteredBy       json.RawMessage `json:"registeredBy"`
	DeregisteredAt     json.RawMessage `json:"deregisteredAt"`
	DeleteRequestedAt  json.RawMessage `json:"deleteRequestedAt"`
}

// loadDefinition reads the task definition in a file, or from stdin if the file is "-". The notes say what in it is passed over.
func loadDefinition(stdin io.Reader, file string) (*ecs.RegisterTaskDefinitionRequest, []string, error) {
	family := "run"
	from := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, nil, fmt.Errorf("cannot read task definition: %w", err)
		}
		defer f.Close() //nolint:errcheck // It was read only.
		from, family = f, familyOf(file)
	}
	text, err := io.ReadAll(io.LimitReader(from, maxDefinition))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read task definition: %w", err)
	}
	d, notes, err := readDefinition(text)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read task definition %s: %w", file, err)
	}
	if d.Family == "" {
		d.Family = family
	}
	return d, notes, nil
}

// familyOf makes a family of a file's name; ECS takes letters, digits, - and _.
func familyOf(file string) string {
	name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
}

// readDefinition reads a task definition in either form: as it is registered, or as it is described.
func readDefinition(text []byte) (*ecs.RegisterTaskDefinitionRequest, []string, error) {
	var described struct {
		TaskDefinition json.RawMessage `json:"taskDefinition"`
	}
	if err := ecs.Decode(text, &described); err != nil {
		return nil, nil, err
	}
	if len(described.TaskDefinition) > 0 {
		text = described.TaskDefinition
	}
	var d definitionFile
	if err := ecs.Decode(text, &d); err != nil {
		return nil, nil, err
	}
	if len(d.ContainerDefinitions) == 0 {
		return nil, nil, errors.New("it has no containerDefinitions")
	}
	// A word that nobody knows is a slip of the pen, or newer than we are: it is said, and does not stop anybody.
	var notes []string
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(definitionFile)); err != nil {
		notes = append(notes, strings.TrimPrefix(err.Error(), "json: ")+" in the task definition is passed over")
	}
	return &d.RegisterTaskDefinitionRequest, notes, nil
}

// runOverrides are the changes of one run: variables for all containers or the named one, and a command for the named one, or the
// only one.
func runOverrides(d *ecs.RegisterTaskDefinitionRequest, f *runFlags, command []string) (*ecs.TaskOverride, error) {
	if len(f.env) == 0 && len(command) == 0 {
		if f.container != "" {
			return nil, usage("--container names whom --env or a command is for: give one of them")
		}
		return nil, nil
	}
	var names []string
	for _, c := range d.ContainerDefinitions {
		names = append(names, c.Name)
	}
	chosen := names
	if f.container != "" {
		if !slices.Contains(names, f.container) {
			return nil, usage("the task definition has no container %q: it has %s", f.container, strings.Join(names, ", "))
		}
		chosen = []string{f.container}
	}
	if len(command) > 0 && len(chosen) > 1 {
		return nil, usage("a command is for one container: --container is one of %s", strings.Join(names, ", "))
	}
	var env []ecs.KeyValuePair
	for _, kv := range f.env {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			return nil, usage("cannot use --env %q: want NAME=VALUE", kv)
		}
		env = append(env, ecs.KeyValuePair{Name: name, Value: value})
	}
	o := &ecs.TaskOverride{}
	for _, name := range chosen {
		o.ContainerOverrides = append(o.ContainerOverrides, ecs.ContainerOverride{Name: name, Command: command, Environment: env})
	}
	return o, nil
}
