package ecs

// The states of an update of a host's agent, as describe-container-instances shows them.
const (
	UpdatePending  = "PENDING"  // asked for; the agent is not told yet
	UpdateStaging  = "STAGING"  // the agent fetches it
	UpdateStaged   = "STAGED"   // the agent has it
	UpdateUpdating = "UPDATING" // the agent makes it
	UpdateUpdated  = "UPDATED"
	UpdateFailed   = "FAILED"
)

// UpdateContainerAgentRequest asks for the update of a host's agent.
type UpdateContainerAgentRequest struct {
	Cluster           string `json:"cluster"`
	ContainerInstance string `json:"containerInstance"`
}

// UpdateContainerAgentResponse answers UpdateContainerAgent.
type UpdateContainerAgentResponse struct {
	ContainerInstance *ContainerInstance `json:"containerInstance,omitempty"`
}
