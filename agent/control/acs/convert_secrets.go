package acs

import (
	"fmt"
	"strings"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// The words of a Secret (spec/control-plane.md §4.6).
const (
	secretMountPoint = "MOUNT_POINT"
	secretLogDriver  = "LOG_DRIVER"
	providerSSM      = "ssm"
	providerASM      = "asm"
)

// secrets are where the container's secrets are found. Their values never pass
// here.
func (b *builder) secrets(out *task.Container, c *wire.Container, _ documents, path string) error {
	for i, s := range c.Secrets {
		spath := fmt.Sprintf("%s.secrets[%d]", path, i)
		switch {
		case s.Name == "" || strings.ContainsAny(s.Name, "=\x00"):
			return field(spath+".name", "%q is no name of a variable", s.Name)
		case s.ValueFrom == "":
			return field(spath+".valueFrom", "is missing")
		case s.Type == secretMountPoint:
			return &UnsupportedError{spath + ".type", "a secret in a file"}
		}
		provider := s.Provider
		if provider == "" {
			provider = storeOf(s.ValueFrom)
		}
		if provider != providerSSM && provider != providerASM {
			return &UnsupportedError{spath + ".provider", "the secret store " + provider}
		}
		out.Secrets = append(out.Secrets, task.Secret{
			Name: s.Name, Provider: provider, ValueFrom: s.ValueFrom, Region: s.Region, LogOption: s.Target == secretLogDriver,
		})
	}
	return nil
}

// storeOf is the store that an ARN belongs to; a bare name is a parameter's.
func storeOf(valueFrom string) string {
	if fields := strings.SplitN(valueFrom, ":", 4); len(fields) == 4 && fields[0] == "arn" && fields[2] == "secretsmanager" {
		return providerASM
	}
	return providerSSM
}

// environmentFiles are where the container's files of variables are found.
func (b *builder) environmentFiles(out *task.Container, c *wire.Container, _ documents, path string) error {
	for i, f := range c.EnvironmentFiles {
		fpath := fmt.Sprintf("%s.environmentFiles[%d]", path, i)
		if f.Type != "s3" && f.Type != "" {
			return &UnsupportedError{fpath + ".type", "an environment file in " + f.Type}
		}
		if f.Value == "" {
			return field(fpath+".value", "is missing")
		}
		out.EnvironmentFiles = append(out.EnvironmentFiles, f.Value)
	}
	return nil
}

// registry is where the login for the container's image comes from.
func (b *builder) registry(out *task.Container, c *wire.Container, _ documents, path string) error {
	r := c.RegistryAuthentication
	if r == nil {
		return nil
	}
	path += ".registryAuthentication"
	switch r.Type {
	case "ecr":
		if r.ECR == nil {
			return field(path+".ecrAuthData", "is missing")
		}
		out.Registry = &task.Registry{ECR: &task.RegistryECR{
			RegistryID: r.ECR.RegistryID, Region: r.ECR.Region,
			EndpointOverride: r.ECR.EndpointOverride, ExecutionRole: r.ECR.UseExecutionRole,
		}}
	case "asm":
		if r.ASM == nil || r.ASM.CredentialsParameter == "" {
			return field(path+".asmAuthData.credentialsParameter", "is missing")
		}
		out.Registry = &task.Registry{ASM: &task.RegistryASM{
			CredentialsParameter: r.ASM.CredentialsParameter, Region: r.ASM.Region,
		}}
	default:
		return &UnsupportedError{path + ".type", "registry authentication of type " + r.Type}
	}
	return nil
}
