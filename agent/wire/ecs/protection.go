package ecs

// GetTaskProtectionRequest asks for the scale-in protection of tasks.
type GetTaskProtectionRequest struct {
	Cluster string   `json:"cluster"`
	Tasks   []string `json:"tasks,omitzero"`
}

// GetTaskProtectionResponse answers GetTaskProtection.
type GetTaskProtectionResponse struct {
	ProtectedTasks []ProtectedTask `json:"protectedTasks"`
	Failures       []Failure       `json:"failures"`
}

// UpdateTaskProtectionRequest sets or clears scale-in protection; without
// ExpiresInMinutes it lasts two hours.
type UpdateTaskProtectionRequest struct {
	Cluster           string   `json:"cluster"`
	Tasks             []string `json:"tasks"`
	ProtectionEnabled bool     `json:"protectionEnabled"`
	ExpiresInMinutes  *int     `json:"expiresInMinutes,omitempty"`
}

// UpdateTaskProtectionResponse answers UpdateTaskProtection.
type UpdateTaskProtectionResponse struct {
	ProtectedTasks []ProtectedTask `json:"protectedTasks"`
	Failures       []Failure       `json:"failures"`
}

// ProtectedTask is the protection of one task.
type ProtectedTask struct {
	TaskARN           string    `json:"taskArn,omitempty"`
	ProtectionEnabled bool      `json:"protectionEnabled"`
	ExpirationDate    Timestamp `json:"expirationDate,omitzero"`
}
