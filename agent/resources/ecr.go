package resources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

// TokenService is Amazon ECR's.
type TokenService interface {
	// RegistryToken asks for a login to the registry of an account, and says when it
	// ends. Without keys it asks in the host's name; endpoint may be "". The error
	// matches fs.ErrNotExist when the answer holds none.
	RegistryToken(ctx context.Context, keys *credentials.Set, region, registry, endpoint string) (*container.Auth, time.Time, error)
}

// The cache of tokens, spec/task-engine.md §7.4. A token is asked for again some
// time before its end, and not by all hosts at the same moment.
const (
	tokensKept   = 100
	tokenLife    = 12 * time.Hour
	tokenRefresh = 30 * time.Minute
)

// tokens are logins of Amazon ECR.
type tokens struct {
	keys    Keys
	service TokenService
	region  string // of registries that say none
	flights flights

	mu   sync.Mutex // guards what follows
	kept map[string]*token
}

// token is a login that is good until refresh.
type token struct {
	auth    *container.Auth
	refresh time.Time
	used    time.Time
}

// login is the login for a container's registry.
func (t *tokens) login(ctx context.Context, d *task.Definition, image string, r *task.RegistryECR) (*container.Auth, error) {
	var keys *credentials.Set
	key := []string{"", "", r.Region, r.RegistryID, r.EndpointOverride}
	if r.ExecutionRole {
		set, err := executionKeys(ctx, t.keys, d)
		if errors.Is(err, errNoExecutionRole) {
			return nil, container.Errorf(container.KindPullECR, "engine ecr credentials: not found")
		}
		if err != nil {
			return nil, err
		}
		keys, key[0], key[1] = &set, set.ID, set.RoleARN
	}
	region := r.Region
	if region == "" {
		region = t.region
	}
	id := strings.Join(key, " ")
	if auth := t.known(id); auth != nil {
		return auth, nil
	}
	auth, err := t.flights.do(ctx, id, func(ctx context.Context) (*container.Auth, error) {
		if auth := t.known(id); auth != nil {
			return auth, nil
		}
		auth, ends, err := t.service.RegistryToken(ctx, keys, region, r.RegistryID, r.EndpointOverride)
		if err != nil {
			return nil, err
		}
		t.keep(id, auth, ends)
		return auth, nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w for %s", err, image)
	}
	if err != nil {
		return nil, &container.Error{Kind: container.KindPullECR, Err: err}
	}
	return auth, nil
}

// known is a kept token that need not be refreshed yet.
func (t *tokens) known(id string) *container.Auth {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.kept[id]
	if k == nil {
		return nil
	}
	now := time.Now()
	if !now.Before(k.refresh) {
		delete(t.kept, id)
		return nil
	}
	k.used = now
	return k.auth
}

// keep keeps a token, in place of the one that was not used for longest when
// there are many.
func (t *tokens) keep(id string, auth *container.Auth, ends time.Time) {
	now := time.Now()
	refresh := now.Add(tokenLife)
	if early := ends.Add(-tokenRefresh - rand.N(tokenRefresh)); !ends.IsZero() && early.Before(refresh) {
		refresh = early
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) >= tokensKept {
		oldest := ""
		for other, k := range t.kept {
			if oldest == "" || k.used.Before(t.kept[oldest].used) {
				oldest = other
			}
		}
		delete(t.kept, oldest)
	}
	t.kept[id] = &token{auth: auth, refresh: refresh, used: now}
}

// forget drops the tokens that were got with an execution role.
func (t *tokens) forget(credentialsID string) {
	if credentialsID == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.kept {
		if strings.HasPrefix(id, credentialsID+" ") {
			delete(t.kept, id)
		}
	}
}
