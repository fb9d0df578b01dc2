package resources

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berthd/berth/agent/credentials"
	"github.com/berthd/berth/agent/task"
)

// ParameterStore is Systems Manager's.
type ParameterStore interface {
	// Parameters asks for up to ten parameters, each by its name or ARN. What is not
	// in the answer does not exist.
	Parameters(ctx context.Context, keys credentials.Set, region string, names []string) (map[string]string, error)
}

// providerSSM is task.Secret.Provider for Parameter Store.
const providerSSM = "ssm"

// parametersPerCall is how many the service answers at once.
const parametersPerCall = 10

// parameters are the secrets in Parameter Store, spec/task-engine.md §5.7.
type parameters struct {
	fetched
	keys   Keys
	store  ParameterStore
	region string // of secrets that say none
}

func (p *parameters) wants(d *task.Definition) bool { return wantsSecrets(d, providerSSM) }

// provision fetches every parameter of the task once, with its execution role.
func (p *parameters) provision(ctx context.Context, t *Task) (outfits, error) {
	keys, err := executionKeys(ctx, p.keys, t.Definition)
	if err != nil {
		return nil, fmt.Errorf("ssm secret resource: %w", err)
	}
	byRegion := map[string][]parameter{}
	for secret := range secretsOf(t.Definition, providerSSM) {
		ref := parameterOf(secret, t.Definition.ARN, p.region)
		if !slices.Contains(byRegion[ref.region], ref) {
			byRegion[ref.region] = append(byRegion[ref.region], ref)
		}
	}
	var mu sync.Mutex // guards values
	values := map[parameter]string{}
	group, ctx := errgroup.WithContext(ctx)
	for region, refs := range byRegion {
		for batch := range slices.Chunk(refs, parametersPerCall) {
			group.Go(func() error {
				found, err := p.fetch(ctx, keys, region, batch)
				if err != nil {
					return fmt.Errorf("fetching secret data from SSM Parameter Store in %s: %w", region, err)
				}
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(values, found)
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return hand(t.Definition, providerSSM, func(s *task.Secret) (string, error) {
		return values[parameterOf(s, t.Definition.ARN, p.region)], nil
	})
}

// fetch asks for one batch. A name that was cut out of an ARN may be wrong by a
// slash in front, which the ARN does not tell: what is not found is asked for
// again by the ARN itself.
func (p *parameters) fetch(ctx context.Context, keys credentials.Set, region string, batch []parameter) (map[parameter]string, error) {
	found := make(map[parameter]string, len(batch))
	ask := func(wanted []parameter, id func(parameter) string) ([]parameter, error) {
		if len(wanted) == 0 {
			return nil, nil
		}
		ids := make([]string, 0, len(wanted))
		for _, ref := range wanted {
			if !slices.Contains(ids, id(ref)) { // The service refuses a name that comes twice.
				ids = append(ids, id(ref))
			}
		}
		got, err := p.store.Parameters(ctx, keys, region, ids)
		var missing []parameter
		for _, ref := range wanted {
			value, ok := got[id(ref)]
			if !ok {
				missing = append(missing, ref)
				continue
			}
			found[ref] = value
		}
		return missing, err
	}
	missing, err := ask(batch, func(ref parameter) string { return ref.name })
	if err != nil {
		return nil, err
	}
	invalid, byARN := divide(missing, func(ref parameter) bool { return ref.arn == "" || ref.arn == ref.name })
	still, err := ask(byARN, func(ref parameter) string { return ref.arn })
	if err != nil {
		return nil, err
	}
	var names []string
	for _, ref := range append(invalid, still...) {
		names = append(names, ref.name)
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("invalid parameters: %s", strings.Join(names, ","))
	}
	return found, nil
}

// divide parts those for which f is true from the others.
func divide(all []parameter, f func(parameter) bool) (yes, no []parameter) {
	for _, ref := range all {
		if f(ref) {
			yes = append(yes, ref)
		} else {
			no = append(no, ref)
		}
	}
	return yes, no
}

// parameter says where a parameter is; arn is "" when the task gave a name.
type parameter struct{ region, name, arn string }

// parameterOf reads a secret's valueFrom: a name, or an ARN that ECS has not cut
// apart. One of another account is asked for by its whole ARN, and can be by
// nothing else.
func parameterOf(s *task.Secret, taskARN, region string) parameter {
	ref := parameter{region: s.Region, name: s.ValueFrom}
	fields := strings.SplitN(s.ValueFrom, ":", 6)
	if path, ok := strings.CutPrefix(last(fields), "parameter/"); ok && len(fields) == 6 && fields[0] == "arn" {
		ref.arn = s.ValueFrom
		if ref.region == "" {
			ref.region = fields[3]
		}
		if fields[4] == account(taskARN) {
			ref.name = path
			if strings.Contains(path, "/") {
				ref.name = "/" + path
			}
		}
	}
	if ref.region == "" {
		ref.region = region
	}
	return ref
}

// account is the account in an ARN.
func account(arn string) string {
	if fields := strings.SplitN(arn, ":", 6); len(fields) == 6 {
		return fields[4]
	}
	return ""
}

func last(fields []string) string { return fields[len(fields)-1] }
