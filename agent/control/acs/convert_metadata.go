package acs

import (
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/berthd/berth/agent/task"
	wire "github.com/berthd/berth/agent/wire/acs"
)

// metadataHost is where containers find the agent.
const metadataHost = "169.254.170.2"

// metadata tells a container where it finds its role's credentials and its
// metadata (spec/task-engine.md §6, steps 3 and 5). Both go over what the task
// definition says.
func (b *builder) metadata(out *task.Container, _ *wire.Container, _ documents, _ string) error {
	env, d := &out.Spec.Process.Env, b.definition
	roles, host := b.TaskRoles, metadataHost
	if d.Network == task.NetworkHost {
		roles = b.TaskRolesHost
		if b.MetadataHost != "" {
			// Whose address is not 169.254.170.2 in the host's namespace has no
			// credentials there either: SDKs take them from that address only.
			roles, host = false, b.MetadataHost
		}
	}
	if d.RoleID != "" && roles {
		setVariable(env, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/"+d.RoleID)
	}
	if !b.Metadata {
		return nil
	}
	out.MetadataID = uuid.NewString()
	setVariable(env, "ECS_CONTAINER_METADATA_URI", "http://"+host+"/v3/"+out.MetadataID)
	setVariable(env, "ECS_CONTAINER_METADATA_URI_V4", "http://"+host+"/v4/"+out.MetadataID)
	setVariable(env, "ECS_AGENT_URI", "http://"+host+"/api/"+out.MetadataID)
	return nil
}

// setVariable sets one in a list of K=V, in place of any of that name.
func setVariable(env *[]string, name, value string) {
	others := slices.DeleteFunc(slices.Clone(*env), func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
	*env = append(others, name+"="+value)
}
