package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/berthd/berth/agent/wire/ecs"
)

// awsfirelens is the log driver that hands output to the task's log router.
const awsfirelens = "awsfirelens"

// runRole is the execution role of a run whose task definition needs one and has none. Nobody assumes it: the credentials behind it are
// those of whoever runs.
const runRole = "arn:aws:iam::000000000000:role/berth-run"

// adaptDefinition makes a task definition one that can be run and followed here and now, and says in words what it changed: logs come
// to this terminal instead of a service, nobody assumes roles, and a task with a network interface of its own gets by without. With
// credentials, the containers are to have what stands in for those of the task role; lender says whose they are.
func adaptDefinition(d *ecs.RegisterTaskDefinitionRequest, credentials bool, lender string) (notes []string) {
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	d.RequiresCompatibilities = nil
	if d.EphemeralStorage != nil {
		note("ephemeralStorage: there is as much as this host's disk has")
		d.EphemeralStorage = nil
	}
	if len(d.PlacementConstraints) > 0 {
		note("placementConstraints: this host is the only one there is")
		d.PlacementConstraints = nil
	}
	if role := adaptRoles(d, credentials, lender); role != "" {
		note("%s", role)
	}
	d.ContainerDefinitions = slices.Clone(d.ContainerDefinitions)
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		switch l := c.LogConfiguration; {
		case l == nil || l.LogDriver == "json-file" || l.LogDriver == "none":
		case l.LogDriver == awsfirelens:
			note("container %s: its output comes here, and goes to the log router", c.Name)
		default:
			note("container %s: its output comes here instead of to the log driver %s", c.Name, l.LogDriver)
			c.LogConfiguration = nil
		}
	}
	if d.NetworkMode == ecs.NetworkAWSVPC {
		note("%s", withoutInterface(d))
	}
	return notes
}

// adaptRoles leaves a task the roles that credentials are lent for, and says what became of the others.
func adaptRoles(d *ecs.RegisterTaskDefinitionRequest, credentials bool, lender string) string {
	var dropped, lent []string
	switch {
	case credentials:
		lent = append(lent, "taskRoleArn")
		if d.TaskRoleARN == "" {
			d.TaskRoleARN = runRole
		}
	case d.TaskRoleARN != "":
		dropped = append(dropped, "taskRoleArn")
		d.TaskRoleARN = ""
	}
	switch {
	case len(signedMembers(d)) > 0:
		lent = append(lent, "executionRoleArn")
		if d.ExecutionRoleARN == "" {
			d.ExecutionRoleARN = runRole
		}
	case d.ExecutionRoleARN != "":
		dropped = append(dropped, "executionRoleArn")
		d.ExecutionRoleARN = ""
	}
	var notes []string
	if len(dropped) > 0 {
		notes = append(notes, strings.Join(dropped, ", ")+": roles are not assumed here")
	}
	if len(lent) > 0 {
		notes = append(notes, strings.Join(lent, ", ")+": "+lender+" stand in for the role")
	}
	return strings.Join(notes, "; ")
}

// withoutInterface gives a task that was to have a network interface of its own another network: a single container the bridge, with
// its ports published under their own numbers; several, which expect each other on localhost, that of the host.
func withoutInterface(d *ecs.RegisterTaskDefinitionRequest) string {
	if len(d.ContainerDefinitions) > 1 {
		d.NetworkMode = ecs.NetworkHost
		return "network mode awsvpc: the containers share this host's network instead"
	}
	d.NetworkMode = ecs.NetworkBridge
	c := &d.ContainerDefinitions[0]
	c.PortMappings = slices.Clone(c.PortMappings)
	for i := range c.PortMappings {
		if p := &c.PortMappings[i]; p.HostPort == 0 && p.ContainerPortRange == "" {
			p.HostPort = p.ContainerPort
		}
	}
	return "network mode awsvpc: the container is on a bridge of this host instead"
}

// signedMembers are the members that AWS has to be asked about before the task can start, in the name of its execution role.
func signedMembers(d *ecs.RegisterTaskDefinitionRequest) (members []string) {
	for i := range d.ContainerDefinitions {
		c := &d.ContainerDefinitions[i]
		at := fmt.Sprintf("containerDefinitions[%d].", i)
		host, _, _ := strings.Cut(c.Image, "/")
		l, f := c.LogConfiguration, c.FirelensConfiguration
		for _, m := range []struct {
			name string
			used bool
		}{
			{"image", strings.Contains(host, ".dkr.ecr.") || strings.Contains(host, ".dkr-ecr.")},
			{"repositoryCredentials", c.RepositoryCredentials != nil},
			{"secrets", len(c.Secrets) > 0},
			{"environmentFiles", len(c.EnvironmentFiles) > 0},
			// The options of other drivers are not used here.
			{"logConfiguration.secretOptions", l != nil && l.LogDriver == awsfirelens && len(l.SecretOptions) > 0},
			{"firelensConfiguration.options", f != nil && f.Options["config-file-type"] == "s3"},
		} {
			if m.used {
				members = append(members, at+m.name)
			}
		}
	}
	return members
}
