package resources

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// registryLogins are user names and passwords in Secrets Manager, for private
// registries (spec/task-engine.md §5.8). They are read once for a task, and
// dropped at its clean-up. The pull does not wait for the task's other resources:
// whoever comes first reads, and the other one waits for the same answer.
type registryLogins struct {
	keys    Keys
	store   SecretsManager
	region  string // of secrets that say none
	flights flights

	mu   sync.Mutex                                   // guards kept
	kept map[string]map[SecretVersion]*container.Auth // by task ARN
}

func (r *registryLogins) wants(d *task.Definition) bool {
	for i := range d.Containers {
		if reg := d.Containers[i].Registry; reg != nil && reg.ASM != nil {
			return true
		}
	}
	return false
}

// provision reads the logins, so that a task whose login cannot be read says so
// itself.
func (r *registryLogins) provision(ctx context.Context, t *Task) (outfits, error) {
	for i := range t.Definition.Containers {
		if reg := t.Definition.Containers[i].Registry; reg != nil && reg.ASM != nil {
			if _, err := r.login(ctx, t.Definition, reg.ASM); err != nil {
				return nil, err
			}
		}
	}
	return nil, nil
}

func (r *registryLogins) release(context.Context, *task.Definition) error { return nil }

func (r *registryLogins) remove(_ context.Context, d *task.Definition) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.kept, d.ARN)
	return nil
}

// login is a login of the task, read when it is not known.
func (r *registryLogins) login(ctx context.Context, d *task.Definition, asm *task.RegistryASM) (*container.Auth, error) {
	v := SecretVersion{Region: asm.Region, ID: asm.CredentialsParameter}
	if v.Region == "" {
		v.Region = r.region
	}
	if auth := r.known(d.ARN, v); auth != nil {
		return auth, nil
	}
	return r.flights.do(ctx, d.ARN+" "+v.Region+" "+v.ID, func(ctx context.Context) (*container.Auth, error) {
		if auth := r.known(d.ARN, v); auth != nil {
			return auth, nil
		}
		auth, err := r.read(ctx, d, v)
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.kept[d.ARN] == nil {
			r.kept[d.ARN] = map[SecretVersion]*container.Auth{}
		}
		r.kept[d.ARN][v] = auth
		return auth, nil
	})
}

func (r *registryLogins) known(arn string, v SecretVersion) *container.Auth {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kept[arn][v]
}

// read asks Secrets Manager.
func (r *registryLogins) read(ctx context.Context, d *task.Definition, v SecretVersion) (*container.Auth, error) {
	keys, err := executionKeys(ctx, r.keys, d)
	if err != nil {
		return nil, fmt.Errorf("asm resource: %w", err)
	}
	text, err := r.store.SecretValue(ctx, keys, v)
	if err != nil {
		return nil, fmt.Errorf("asm fetching secret from the service for %s: %w", v.ID, err)
	}
	return loginOf(text)
}

// loginOf reads {"username": …, "password": …}. Its errors hold nothing of the
// text.
func loginOf(text string) (*container.Auth, error) {
	const data = "asm fetching authorization data: "
	if text == "" {
		return nil, errors.New(data + "empty secrets value")
	}
	var login struct{ Username, Password string }
	if err := json.Unmarshal([]byte(text), &login); err != nil {
		return nil, errors.New(data + "unable to unmarshal secret value, invalid schema")
	}
	switch {
	case login.Username == "":
		return nil, errors.New("asm fetching username: AuthorizationData is malformed, empty field")
	case login.Password == "":
		return nil, errors.New("asm fetching password: AuthorizationData is malformed, empty field")
	}
	return &container.Auth{Username: login.Username, Password: login.Password}, nil
}
