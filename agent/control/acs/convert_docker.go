package acs

import (
	"slices"
	"strings"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

const (
	mebibyte = 1 << 20
	// minMemory is the least memory limit there is; less is raised to it.
	minMemory = 4 * mebibyte
	// minShares and maxShares bound the CPU shares of a container.
	minShares, maxShares = 2, 262144
)

// documents are a container's two Docker documents after layering: what the ECS
// members say, with what the documents say over it.
type documents struct {
	config wire.ContainerConfig
	host   wire.HostConfig
}

// documents layers config and hostConfig, spec/task-engine.md §5.1 steps 1 and 2.
func (b *builder) documents(c *wire.Container, path string) (documents, error) {
	overrides, err := wire.ParseOverrides(c.Overrides)
	if err != nil {
		return documents{}, field(path+".overrides", "%v", err)
	}
	d := documents{
		config: wire.ContainerConfig{
			Image: c.Image, Cmd: c.Command, Entrypoint: c.EntryPoint, Env: environment(c),
		},
		host: wire.HostConfig{
			CPUShares: min(max(c.CPU, minShares), maxShares),
			Memory:    memoryBytes(c.Memory),
			Links:     c.Links,
		},
	}
	if overrides.Command != nil {
		d.config.Cmd = overrides.Command
	}
	if d.host.Binds, err = b.binds(c, path); err != nil {
		return documents{}, err
	}
	if c.DockerConfig == nil {
		return d, nil
	}
	if err := d.config.Merge(c.DockerConfig.Config); err != nil {
		return documents{}, setUp(path+".dockerConfig.config", "DockerClientConfigError: Unable decode given docker config: %v", err)
	}
	if err := d.host.Merge(c.DockerConfig.HostConfig); err != nil {
		return documents{}, setUp(path+".dockerConfig.hostConfig", "HostConfigError: Unable to decode given host config: %v", err)
	}
	return d, nil
}

// memoryBytes is a limit in MiB as bytes, raised to the least there is.
func memoryBytes(mib int64) int64 {
	if mib == 0 {
		return 0
	}
	return max(mib*mebibyte, minMemory)
}

// environment is K=V of a container's variables, sorted (spec/task-engine.md §6,
// step 1).
func environment(c *wire.Container) []string {
	env := make([]string, 0, len(c.Environment))
	for k, v := range c.Environment {
		env = append(env, k+"="+v)
	}
	slices.Sort(env)
	return env
}

// withoutRegion says that neither variable of the region is in env, so that both
// are added when the image has neither.
func withoutRegion(env []string) bool {
	return !slices.ContainsFunc(env, func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "AWS_REGION" || name == "AWS_DEFAULT_REGION"
	})
}

// networkMode is the task's. A task that names none may have it in its
// containers' documents.
func networkMode(t *wire.Task, docs []documents, path string) (task.NetworkMode, error) {
	mode := t.NetworkMode
	if mode == "" {
		mode = docs[0].host.NetworkMode
	}
	switch m := task.NetworkMode(mode); m {
	case task.NetworkBridge, task.NetworkHost, task.NetworkNone, task.NetworkAWSVPC:
		return m, nil
	case "", "default":
		return task.NetworkBridge, nil
	}
	return "", field(path+".networkMode", "%q is not a network mode", mode)
}

// namespaceMode is the pidMode or ipcMode of a task. Values that mean nothing
// are ignored, as the ECS agent does.
func namespaceMode(mode string, known ...string) string {
	if slices.Contains(known, mode) {
		return mode
	}
	return ""
}
