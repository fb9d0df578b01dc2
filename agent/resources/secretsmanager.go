package resources

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
)

// SecretsManager is AWS's.
type SecretsManager interface {
	// SecretValue is the text of a secret. The error matches fs.ErrNotExist when
	// there is no such secret, or no such version of it.
	SecretValue(ctx context.Context, keys credentials.Set, v SecretVersion) (string, error)
}

// SecretVersion says where a secret is. An empty Stage and Version are the current
// one.
type SecretVersion struct{ Region, ID, Stage, Version string }

// providerASM is task.Secret.Provider for Secrets Manager.
const providerASM = "asm"

// callsAtOnce bounds the questions that one task asks of a service at a time.
const callsAtOnce = 10

// managed are the secrets in Secrets Manager, spec/task-engine.md §5.7.
type managed struct {
	fetched
	keys   Keys
	store  SecretsManager
	region string // of secrets that say none
}

func (m *managed) wants(d *task.Definition) bool { return wantsSecrets(d, providerASM) }

// provision fetches every secret of the task once, however many of its JSON keys
// are wanted, with its execution role.
func (m *managed) provision(ctx context.Context, t *Task) (outfits, error) {
	keys, err := executionKeys(ctx, m.keys, t.Definition)
	if err != nil {
		return nil, fmt.Errorf("ASM secret resource: %w", err)
	}
	texts := map[SecretVersion]*secretText{}
	for s := range secretsOf(t.Definition, providerASM) {
		if v, _, err := m.parse(s); err == nil {
			texts[v] = &secretText{}
		}
	}
	var group errgroup.Group
	group.SetLimit(callsAtOnce)
	for v, text := range texts {
		group.Go(func() error {
			text.value, text.err = m.store.SecretValue(ctx, keys, v)
			return nil
		})
	}
	_ = group.Wait() // Each answer has its own error.
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return m.hand(t.Definition, texts)
}

// secretText is an answer of Secrets Manager.
type secretText struct {
	value string
	err   error
}

// hand gives containers their values, or says everything that is wrong.
func (m *managed) hand(d *task.Definition, texts map[SecretVersion]*secretText) (outfits, error) {
	var wrong []string
	told := map[string]bool{}
	all, err := hand(d, providerASM, func(s *task.Secret) (string, error) {
		value, err := m.value(s, texts)
		if err != nil && !told[err.Error()] {
			told[err.Error()] = true
			wrong = append(wrong, err.Error())
		}
		return value, nil
	})
	if len(wrong) > 0 {
		return nil, errors.New(strings.Join(wrong, ";"))
	}
	return all, err
}

// value is that of one secret.
func (m *managed) value(s *task.Secret, texts map[SecretVersion]*secretText) (string, error) {
	v, key, err := m.parse(s)
	if err != nil {
		return "", fmt.Errorf("trying to retrieve secret with value %s resulted in error: %w", s.ValueFrom, err)
	}
	text := texts[v]
	switch {
	case errors.Is(text.err, fs.ErrNotExist):
		return "", fmt.Errorf("ResourceNotFoundException: The task can't retrieve the secret with ARN '%s' from AWS Secrets Manager. "+
			"Check whether the secret exists in the specified Region: %w", v.ID, text.err)
	case text.err != nil:
		return "", fmt.Errorf("secret %s: %w", v.ID, text.err)
	case key == "":
		return text.value, nil
	}
	value, err := jsonValue(text.value, key)
	if err != nil {
		return "", fmt.Errorf("trying to retrieve secret with value %s resulted in error: %w", s.ValueFrom, err)
	}
	return value, nil
}

//nolint:staticcheck // The full stop is ECS's.
var errSecretARN = errors.New("an invalid ARN format for the AWS Secrets Manager secret was specified. Specify a valid ARN and try again.")

// The fields of arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:ID, and of what
// ECS lets stand behind it: :KEY:STAGE:VERSION.
const (
	arnFields     = 7
	arnAllFields  = arnFields + 3
	arnRegion     = 3
	arnResource   = 5
	arnResourceID = 6
)

// parse reads valueFrom.
func (m *managed) parse(s *task.Secret) (v SecretVersion, key string, err error) {
	fields := strings.Split(s.ValueFrom, ":")
	if len(fields) != arnFields && len(fields) != arnAllFields || fields[0] != "arn" ||
		fields[arnResource] != "secret" || fields[arnResourceID] == "" {
		return v, "", errSecretARN
	}
	v = SecretVersion{Region: s.Region, ID: strings.Join(fields[:arnFields], ":")}
	if v.Region == "" {
		v.Region = fields[arnRegion]
	}
	if v.Region == "" {
		v.Region = m.region
	}
	if len(fields) == arnAllFields {
		key, v.Stage, v.Version = fields[arnFields], fields[arnFields+1], fields[arnFields+2]
	}
	return v, key, nil
}

// jsonValue is the value of a key of a JSON object: a string as it is, anything
// else as it is written there. null is no value.
func jsonValue(text, key string) (string, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
		return "", errors.New("the secret is not a JSON object") // The text of err could hold a part of it.
	}
	raw, ok := object[key]
	if !ok || bytes.Equal(raw, []byte("null")) {
		return "", fmt.Errorf("retrieved secret from Secrets Manager did not contain json key %s", key)
	}
	if raw[0] != '"' {
		return string(raw), nil
	}
	var value string
	if err := json.Unmarshal(raw, &value); err != nil {
		return "", errors.New("the secret is not a JSON object")
	}
	return value, nil
}
