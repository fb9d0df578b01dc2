package localcluster

import (
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/berthd/berth/agent/wire/acs"
	"github.com/berthd/berth/agent/wire/ecs"
)

// state is all that the service knows. It is guarded by the ledger's lock and
// kept as one JSON file. Its methods validate first and change afterwards, so
// that a call that fails changed nothing.
type state struct {
	Clusters    map[string]*ecs.Cluster  `json:"clusters"`    // By name.
	Definitions map[string]*definition   `json:"definitions"` // By ARN.
	Revisions   map[string]int           `json:"revisions"`   // Highest revision by family.
	Instances   map[string]*instance     `json:"instances"`   // By ARN.
	Tasks       map[string]*task         `json:"tasks"`       // By ARN.
	Tokens      map[string]*tokenOutcome `json:"tokens"`      // By operation, cluster and client token.
	Timeline    int64                    `json:"timeline"`    // Last number given to a manifest or payload.

	env *environment
}

// environment is what the state knows of its server; it is not persisted.
type environment struct {
	region, account string
	stoppedFor      time.Duration
	interfaces      InterfaceSource
	// connected tells whether an agent has its ACS connection open.
	connected func(instanceARN string) bool
	// offer is the update that agents are told of.
	offer func() (acs.UpdateInfo, error)
}

// definition is a task definition revision with the tags it was registered with.
type definition struct {
	ecs.TaskDefinition
	Tags []ecs.Tag `json:"tags,omitempty"`
}

// instance is a registered host.
type instance struct {
	ecs.ContainerInstance
	Cluster string               `json:"clusterName"`
	Custom  []ecs.Attribute      `json:"customAttributes,omitempty"` // Set by PutAttributes.
	Devices []ecs.PlatformDevice `json:"platformDevices,omitempty"`
	Update  *agentUpdate         `json:"agentUpdate,omitempty"`
}

// task is a task with what the service keeps beside the public shape.
type task struct {
	ecs.Task
	Cluster string `json:"clusterName"`
	// RoleCredentials and ExecutionCredentials are the ids of the credential sets;
	// the keys themselves are in memory only.
	RoleCredentials      string `json:"roleCredentialsId,omitempty"`
	ExecutionCredentials string `json:"executionCredentialsId,omitempty"`
	RoleARN              string `json:"roleArn,omitempty"`
	ExecutionRoleARN     string `json:"executionRoleArn,omitempty"`
	// Protected until ProtectedUntil, if Protected.
	Protected      bool          `json:"protected,omitempty"`
	ProtectedUntil ecs.Timestamp `json:"protectedUntil,omitzero"`
	// Interface is the network interface of an awsvpc task.
	Interface *acs.ENI `json:"interface,omitempty"`
}

// tokenOutcome remembers what a client token led to, so that a retry gives the
// same answer.
type tokenOutcome struct {
	At    ecs.Timestamp `json:"at"`
	ARNs  []string      `json:"arns"`
	Input string        `json:"input"` // Hash of the request; another request with the token is refused.
}

const tokenLife = 24 * time.Hour

func newState(env *environment) *state {
	return &state{
		Clusters: map[string]*ecs.Cluster{}, Definitions: map[string]*definition{}, Revisions: map[string]int{},
		Instances: map[string]*instance{}, Tasks: map[string]*task{}, Tokens: map[string]*tokenOutcome{}, env: env,
	}
}

// next gives a number that rises over restarts.
func (s *state) next() int64 {
	s.Timeline++
	return s.Timeline
}

// sweep forgets what nobody may ask for any more.
func (s *state) sweep() {
	for arn, t := range s.Tasks {
		if t.LastStatus == ecs.StatusStopped && time.Since(t.StoppedAt.Time) > s.env.stoppedFor {
			delete(s.Tasks, arn)
		}
	}
	for token, outcome := range s.Tokens {
		if time.Since(outcome.At.Time) > tokenLife {
			delete(s.Tokens, token)
		}
	}
}

func (s *state) arn(resource string) string {
	return "arn:aws:ecs:" + s.env.region + ":" + s.env.account + ":" + resource
}

// newID gives the 32 hex digits that ECS uses in ARNs.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // Never fails; see crypto/rand.
	return hex.EncodeToString(b[:])
}

// lastPart is what follows the last slash of an ARN, or the whole of a bare id.
func lastPart(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

func now() ecs.Timestamp { return ecs.At(time.Now()) }

func hasTag(include []string) bool { return slices.Contains(include, ecs.IncludeTags) }

// pageAfter cuts a list: it gives the part after the element that the token
// names, and the next token. A token whose element is gone starts anew, which
// repeats elements but never loses one.
func pageAfter(all []string, token string, size int) ([]string, string, error) {
	if size < 0 || size > 100 {
		return nil, "", invalid("maxResults: must be between 1 and 100")
	}
	setDefault(&size, 100)
	if token != "" {
		raw, err := hex.DecodeString(token)
		if err != nil {
			return nil, "", invalid("Invalid token")
		}
		all = all[slices.Index(all, string(raw))+1:]
	}
	if len(all) <= size {
		return emptyNotNil(all), "", nil
	}
	return all[:size], hex.EncodeToString([]byte(all[size-1])), nil
}

func emptyNotNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func invalid(message string) error {
	return &ecs.Error{Type: ecs.ErrTypeInvalidParameter, Message: message}
}

func client(message string) error {
	return &ecs.Error{Type: ecs.ErrTypeClient, Message: message}
}

func setTags(have []ecs.Tag, add []ecs.Tag) []ecs.Tag {
	for _, tag := range add {
		have = slices.DeleteFunc(have, func(t ecs.Tag) bool { return t.Key == tag.Key })
		have = append(have, tag)
	}
	return have
}
