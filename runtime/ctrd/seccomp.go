package ctrd

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// dockerSeccomp is a seccomp profile as Docker's users write it: OCI's form,
// with names of architectures by host and rules that hold for some
// capabilities only.
type dockerSeccomp struct {
	specs.LinuxSeccomp

	ArchMap []struct {
		Architecture     specs.Arch   `json:"architecture"`
		SubArchitectures []specs.Arch `json:"subArchitectures"`
	} `json:"archMap"`
	Syscalls []dockerSyscall `json:"syscalls"`
}

type dockerSyscall struct {
	specs.LinuxSyscall

	Name     string        `json:"name"` // the oldest form
	Includes seccompFilter `json:"includes"`
	Excludes seccompFilter `json:"excludes"`
}

type seccompFilter struct {
	Caps   []string `json:"caps"`
	Arches []string `json:"arches"`
}

// seccompProfile reads a profile in JSON and resolves what of it holds for the
// container and this host.
func seccompProfile(text string, s *specs.Spec) (*specs.LinuxSeccomp, error) {
	var in dockerSeccomp
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return nil, err
	}
	if in.DefaultAction == "" {
		return nil, fmt.Errorf("it has no defaultAction")
	}
	out := in.LinuxSeccomp
	native := map[string]specs.Arch{"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64}[runtime.GOARCH]
	for _, m := range in.ArchMap {
		if m.Architecture == native {
			out.Architectures = append([]specs.Arch{m.Architecture}, m.SubArchitectures...)
		}
	}
	out.Syscalls = nil
	for _, rule := range in.Syscalls {
		if !rule.holds(s) {
			continue
		}
		if rule.Name != "" {
			rule.Names = append(rule.Names, rule.Name)
		}
		out.Syscalls = append(out.Syscalls, rule.LinuxSyscall)
	}
	return &out, nil
}

func (r dockerSyscall) holds(s *specs.Spec) bool {
	var caps []string
	if s.Process.Capabilities != nil {
		caps = s.Process.Capabilities.Bounding
	}
	has := func(c string) bool { return slices.Contains(caps, c) }
	switch {
	case len(r.Includes.Arches) > 0 && !slices.Contains(r.Includes.Arches, runtime.GOARCH):
		return false
	case slices.Contains(r.Excludes.Arches, runtime.GOARCH):
		return false
	case slices.ContainsFunc(r.Excludes.Caps, has):
		return false
	}
	return !slices.ContainsFunc(r.Includes.Caps, func(c string) bool { return !has(c) })
}
