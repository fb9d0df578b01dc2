package resources

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/berthd/berth/agent/task"
)

// fetched is the part of parts that only fetch: they leave nothing behind.
type fetched struct{}

func (fetched) release(context.Context, *task.Definition) error { return nil }
func (fetched) remove(context.Context, *task.Definition) error  { return nil }

// secretsOf are the secrets of a task's containers in one store.
func secretsOf(d *task.Definition, provider string) iter.Seq[*task.Secret] {
	return func(yield func(*task.Secret) bool) {
		for i := range d.Containers {
			for j := range d.Containers[i].Secrets {
				if s := &d.Containers[i].Secrets[j]; s.Provider == provider && !yield(s) {
					return
				}
			}
		}
	}
}

func wantsSecrets(d *task.Definition, provider string) bool {
	for range secretsOf(d, provider) {
		return true
	}
	return false
}

// hand gives containers the values of their secrets in one store.
func hand(d *task.Definition, provider string, value func(*task.Secret) (string, error)) (outfits, error) {
	all := outfits{}
	for i := range d.Containers {
		c := &d.Containers[i]
		for j := range c.Secrets {
			s := &c.Secrets[j]
			if s.Provider != provider {
				continue
			}
			v, err := value(s)
			if err != nil {
				return nil, err
			}
			if err := all.of(c.Name).keep(s, v); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// keep makes a secret a variable, or an option of the log driver.
func (o *Outfit) keep(s *task.Secret, value string) error {
	switch {
	case !s.LogOption && strings.ContainsRune(value, 0):
		return fmt.Errorf("secret %s: the value has a zero byte, which no environment variable can hold", s.Name)
	case !s.LogOption:
		o.SecretEnv = append(o.SecretEnv, s.Name+"="+value)
	case value != "":
		if o.logSecrets == nil {
			o.logSecrets = map[string]string{}
		}
		o.logSecrets[s.Name] = value
	}
	return nil
}
