package resources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
	"github.com/berthd/berth/runtime/container"
)

const (
	taskARN = "arn:aws:ecs:eu-west-1:111122223333:task/blue/9ab0"
	roleARN = "arn:aws:iam::111122223333:role/execution"
)

// cloud is AWS in memory: what it holds by name, and what it was asked.
type cloud struct {
	mu         sync.Mutex
	parameters map[string]string // by region and name, or ARN
	secrets    map[SecretVersion]string
	objects    map[string]string // by region, bucket and key
	fails      map[string]error  // by what is asked for
	asked      []string
	tokens     int
	tokenLife  time.Duration
	// hold, if set, is read before anything is answered.
	hold chan struct{}
}

func (c *cloud) note(keys *credentials.Set, format string, args ...any) error {
	if c.hold != nil {
		<-c.hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	who := "host"
	if keys != nil {
		who = keys.AccessKeyID
	}
	what := fmt.Sprintf(format, args...)
	c.asked = append(c.asked, who+" "+what)
	return c.fails[what]
}

func (c *cloud) Parameters(_ context.Context, keys credentials.Set, region string, names []string) (map[string]string, error) {
	if len(names) == 0 || len(names) > 10 || len(slices.Compact(slices.Sorted(slices.Values(names)))) != len(names) {
		return nil, fmt.Errorf("ValidationException: %v", names)
	}
	if err := c.note(&keys, "%s %s", region, strings.Join(names, ",")); err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, n := range names {
		if v, ok := c.parameters[region+" "+n]; ok {
			found[n] = v
		}
	}
	return found, nil
}

func (c *cloud) SecretValue(_ context.Context, keys credentials.Set, v SecretVersion) (string, error) {
	if err := c.note(&keys, "%s", v.ID); err != nil {
		return "", err
	}
	if text, ok := c.secrets[v]; ok {
		return text, nil
	}
	return "", missing("ResourceNotFoundException: Secrets Manager can't find the specified secret.")
}

func (c *cloud) BucketRegion(_ context.Context, keys credentials.Set, bucket string) (string, error) {
	return "eu-central-1", c.note(&keys, "%s", bucket)
}

func (c *cloud) Object(_ context.Context, keys credentials.Set, region, bucket, key string) ([]byte, error) {
	if err := c.note(&keys, "%s %s/%s", region, bucket, key); err != nil {
		return nil, err
	}
	if text, ok := c.objects[bucket+"/"+key]; ok {
		return []byte(text), nil
	}
	return nil, missing("NoSuchKey: The specified key does not exist.")
}

func (c *cloud) RegistryToken(_ context.Context, keys *credentials.Set, region, registry, endpoint string) (*container.Auth, time.Time, error) {
	if err := c.note(keys, "%s %s %s", region, registry, endpoint); err != nil {
		return nil, time.Time{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens++
	return &container.Auth{Username: "AWS", Password: fmt.Sprint("token", c.tokens)}, time.Now().Add(c.tokenLife), nil
}

// missing is an error that matches fs.ErrNotExist.
type missing string

func (m missing) Error() string        { return string(m) }
func (m missing) Is(target error) bool { return target == fs.ErrNotExist }

// conduct makes Resources over a cloud, with the execution role's keys there.
func conduct(t *testing.T, c *cloud) (*Resources, *credentials.Store) {
	t.Helper()
	keys := credentials.New()
	keys.Put(credentials.Set{ID: "exec", TaskARN: taskARN, Role: credentials.Execution, RoleARN: roleARN, AccessKeyID: "ASIA1", SecretAccessKey: "s"})
	return New(Config{Keys: keys, Parameters: c, Secrets: c, Objects: c, Tokens: c, Region: "eu-west-1"}), keys
}

// definition is a task of these containers with an execution role.
func definition(containers ...task.Container) *task.Definition {
	for i := range containers {
		if containers[i].Name == "" {
			containers[i].Name = "web"
		}
	}
	return &task.Definition{ID: "9ab0", ARN: taskARN, ExecutionRoleID: "exec", Containers: containers}
}

func withSecrets(secrets ...task.Secret) *task.Definition {
	return definition(task.Container{Fetched: task.Fetched{Secrets: secrets}})
}

func provision(t *testing.T, r *Resources, d *task.Definition) (map[string]Outfit, error) {
	t.Helper()
	return r.Provision(t.Context(), Task{Definition: d})
}

var errDenied = errors.New("operation error: api error AccessDeniedException: no")
